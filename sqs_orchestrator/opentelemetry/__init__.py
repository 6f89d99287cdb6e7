"""Traces and metrics by OpenTelemetry, with its messaging conventions.

```python
telemetry = Telemetry()
async with connect(wrap=telemetry.wrap) as sqs, Publisher(sqs, middleware=[telemetry]) as publisher:
    ...
```

It stands on the two doors that anybody may use, `middleware=` and `wrap=`, and needs the extra
`[opentelemetry]`, which is OpenTelemetry's API alone. Without an SDK it does nothing.
"""

from __future__ import annotations

try:
    import opentelemetry.metrics
    import opentelemetry.propagate
    import opentelemetry.trace  # noqa: F401 - to see whether it is there
except ImportError as error:
    raise ImportError(
        "sqs_orchestrator.opentelemetry needs OpenTelemetry's API:"
        " pip install 'sqs-orchestrator[opentelemetry]'",
        name=error.name,
    ) from error

from .telemetry import Telemetry

__all__ = ["Telemetry"]
