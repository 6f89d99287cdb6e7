"""The one door to SQS: the port, the values that pass through it, and what stands behind.

`port` has the interface. `calls` is the port to an SQS elsewhere, by one of the `transports`;
`sqs_orchestrator.testing.memory` is one in this process. `wrapping` is a port around another.
`clock` is SQS's clock as its responses show it.
"""
