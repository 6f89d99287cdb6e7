"""The trace context in message attributes, by the propagator that the program has configured.

SQS takes ten attributes, and the library uses two to six of them: how many, only the message that
is about to leave shows. So `attempts` gives what to try, the whole context first. What SQS would
refuse is refused before anything is sent, so that trying costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from ..core.attributes import to_attributes
from ..core.limits import MESSAGE_ATTRIBUTES
from ..core.wire import RESERVED
from ..drafts import Draft
from ..errors import InvalidMessage, MessageTooLarge
from .sparing import extracted, injected

MOST_OWN: Final = 6
"""The most that the library itself uses of them."""


class _Getter(Getter[Mapping[str, Any]]):
    """Reads text from attributes, as plain values or in the shape of the SQS API."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        if isinstance(value, Mapping):
            value = value.get("StringValue")
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_GETTER: Final = _Getter()


def context_in(attributes: Mapping[str, Any]) -> Context:
    """The context that a message carries; an empty one where it carries none."""
    if not attributes:
        return Context()
    return extracted(attributes, _GETTER)


def span_context_in(attributes: Mapping[str, Any]) -> trace.SpanContext | None:
    """The creation context of a message; `None` where it carries none."""
    if not attributes:
        return None
    found = trace.get_current_span(context_in(attributes)).get_span_context()
    return found if found.is_valid else None


def attributes_for(context: Context) -> dict[str, str]:
    """The attributes that carry *context*, as far as SQS takes them."""
    return {name: value for name, value in injected(context).items() if _fits(name, value)}


def _fits(name: str, value: Any) -> bool:
    """Whether it can be an attribute. Some propagators make names of the keys of baggage, with
    spaces for example, for which SQS would refuse the message."""
    if not isinstance(value, str) or not value:
        return False
    try:
        to_attributes({name: value}, RESERVED)
    except InvalidMessage:
        return False
    return True


def without_context(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """*attributes* without those of a context."""
    fields = propagate.get_global_textmap().fields
    return {name: value for name, value in attributes.items() if name not in fields}


def attempts(draft: Draft, carrier: Mapping[str, str]) -> Iterator[tuple[Draft, dict[str, str]]]:
    """*draft* with the context in it, and with less and less of that: all, what the trace needs
    (`traceparent`), nothing. Each with the part that is in it."""
    yield draft.replace(attributes={**draft.attributes, **carrier}), dict(carrier)
    part = _needed(carrier)
    if 0 < len(part) < len(carrier):
        yield draft.replace(attributes={**draft.attributes, **part}), part
    yield draft, {}


def _needed(carrier: Mapping[str, str]) -> dict[str, str]:
    """The part of *carrier* without which the trace would break: of `baggage` and `traceparent`
    the latter, whichever comes first. Where each of several propagators has it, the first has."""
    part = dict(carrier)
    whole = _identity(part)
    if whole is None:
        return {}
    for name in reversed(list(carrier)):
        rest = {each: value for each, value in part.items() if each != name}
        if _identity(rest) == whole:
            part = rest
    return part


def _identity(attributes: Mapping[str, Any]) -> tuple[int, int, int] | None:
    found = span_context_in(attributes)
    return None if found is None else (found.trace_id, found.span_id, found.trace_flags)


def for_want_of_room(error: Exception, draft: Draft, part: Mapping[str, str]) -> bool:
    """Whether *draft* may have been refused for the *part* of a context that was added to it."""
    if not part:
        return False
    if isinstance(error, MessageTooLarge):
        added = sum(len(name) + len("String") + len(value) for name, value in part.items())
        return 0 < error.limit < error.size <= error.limit + added
    # The library does not say which of its checks it was.
    most = len(draft.attributes) + len(part) + MOST_OWN
    return isinstance(error, InvalidMessage) and most > MESSAGE_ATTRIBUTES
