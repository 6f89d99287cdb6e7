"""Runs a program of an example, and watches it: `watched.py -m uvicorn app:app`.

It prints how each request ends and which spans there are. A request of somebody whose name is one
of `ERRORS` fails with that error, since not each of them can be provoked from outside.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from sqs_orchestrator import Publisher, errors

_TREE: list[BaseException] = [getattr(errors, name)("secret") for name in errors.__all__]
_TREE += [errors.QueueError("secret", transient=True), errors.SendError("secret", maybe_sent=True)]
_TREE += [errors.SendError("secret", code="InvalidParameterValue")]
ERRORS = {f"error {number}": error for number, error in enumerate(_TREE)}


class Printer(SpanExporter):
    """Prints one line for each span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            context = span.get_span_context()
            assert context is not None
            print(f"span {trace.format_trace_id(context.trace_id)} {span.name}")
        return SpanExportResult.SUCCESS


def watch_requests() -> None:
    request = Publisher.request

    @functools.wraps(request)
    async def watched(self: Publisher, queue: str, body: Any, **options: Any) -> Any:
        name = body.get("name") if isinstance(body, dict) else getattr(body, "name", None)
        if name in ERRORS:
            raise ERRORS[name]
        outcome = "reply"
        try:
            return await request(self, queue, body, **options)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            print(f"the request of {name} ended: {outcome}")

    Publisher.request = watched  # type: ignore[method-assign]


def main() -> None:
    watch_requests()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Printer()))
    trace.set_tracer_provider(provider)
    if os.environ.get("HANDLER_CANCELLATION"):
        web.run_app = functools.partial(web.run_app, handler_cancellation=True)
    # As if it had been started without this: its directory is where it looks first.
    sys.path[0] = str(Path.cwd())
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(Path.cwd() / sys.argv[0]), run_name="__main__")


if __name__ == "__main__":
    main()
