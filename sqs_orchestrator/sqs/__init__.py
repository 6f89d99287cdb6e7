"""The one door to SQS: the port, the values that pass through it, and what stands behind.

`port` has the interface, `clock` SQS's clock as its responses show it, and `client` the
aiobotocore client behind the port. `sqs_orchestrator.testing.memory` is another.
"""
