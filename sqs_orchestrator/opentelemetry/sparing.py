"""Who measures must not break what is measured.

Propagators, samplers and span processors are the program's own, and OpenTelemetry hands on what
they raise. A message that a propagator cannot read would fail each of its receives, and a handler
that has done its work would do it again. So that is logged here, and goes no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import INVALID_SPAN, Span, Tracer

from ..logs import about, get_logger

__all__ = ["begin", "end", "extracted", "injected", "record"]

logger = get_logger(__name__)


def begin(tracer: Tracer, *arguments: Any, **more: Any) -> Span:
    """A span of *tracer*; one that records nothing where that fails."""
    try:
        return tracer.start_span(*arguments, **more)
    except Exception:
        logger.exception(
            "a span could not be started: a sampler or processor failed", extra=about()
        )
        return INVALID_SPAN


def end(span: Span) -> None:
    """End *span*."""
    try:
        span.end()
    except Exception:
        logger.exception("a span could not be ended: a span processor failed", extra=about())


def record(span: Span, error: BaseException) -> None:
    """Record *error*, whose text its class makes as it likes."""
    try:
        span.record_exception(error)
    except Exception:
        logger.warning("a %s has no text to record", type(error).__name__, extra=about())


def extracted(carrier: Mapping[str, Any], getter: Getter[Mapping[str, Any]]) -> Context:
    """The context in *carrier*; an empty one where no propagator can read it."""
    try:
        return propagate.extract(carrier, Context(), getter)
    except Exception:
        logger.exception("a propagator could not read a message's attributes", extra=about())
        return Context()


def injected(context: Context) -> dict[str, Any]:
    """*context* in the form in which it travels; nothing where the propagators fail."""
    carrier: dict[str, Any] = {}
    try:
        propagate.inject(carrier, context)
    except Exception:
        logger.exception("a propagator could not write the trace context", extra=about())
    return carrier
