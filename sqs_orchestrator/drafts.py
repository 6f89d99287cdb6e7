"""Messages on their way out: a *draft* is what is to be said, a *sealed* message what is sent.

All that goes out is a draft first: sends, requests, replies. The middleware sees drafts. Then
`seal` encodes the body, puts the attributes together, and checks all that SQS would refuse:
characters, names, counts, sizes, and the rules of FIFO queues. So these checks stand in one
place, and what is wrong is said before anything is sent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from .codecs import Codec, encode
from .core import wire
from .core.attributes import AttributeValue, check_count, to_attributes
from .core.checks import (
    check_deduplication_id,
    check_delay,
    check_group_id,
    checked,
    message_bytes,
    quoted,
)
from .core.limits import MESSAGE_BYTES
from .errors import InvalidMessage, MessageTooLarge, SendError
from .queues import check_is_text
from .results import Reject

__all__ = ["Draft", "Sealed", "seal"]

_FIXED: Final = ("kind", "correlation_id")


@dataclass(frozen=True, kw_only=True, init=False)
class Draft:
    """A message that is to be sent, as middleware sees it. Frozen; `replace` makes another.

    Attributes:
        kind: What it is: a one-way message (`"send"`), a request, or a reply.
        queue: Where it goes: a queue's name or URL, as the caller gave it; of a reply, the URL
            of the requester's queue.
        body: What the codec encodes; a `str` travels as it is. Of a reply it may be a `Reject`,
            which travels as an error.
        attributes: The caller's message attributes, by name: text, numbers or bytes. Those that
            the library adds are not among them.
        message_type: The route, of a send or a request.
        group_id: The message group, on a FIFO queue.
        deduplication_id: On a FIFO queue, what makes two messages the same one.
        delay: Seconds before a send, or a request, becomes visible.
        timeout: Seconds for a request, counted from when it was asked for; `math.inf` for no
            limit. With 0 or less it is over: a `ReplyTimeout`, and nothing is sent.
        correlation_id: The id that ties a reply to its request; `None` for a send.
    """

    kind: Literal["send", "request", "reply"]
    queue: str
    body: Any
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    message_type: str | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    delay: float = 0
    timeout: float | None = None
    correlation_id: str | None = None

    def __init__(
        self,
        *,
        kind: Literal["send", "request", "reply"],
        queue: str,
        body: Any,
        attributes: Mapping[str, Any] | None = None,
        message_type: str | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        delay: float = 0,
        timeout: float | None = None,
        correlation_id: str | None = None,
    ) -> None:
        # One is made for each message. What a frozen dataclass does by itself, a call for each
        # field, takes four times as long.
        fields = self.__dict__
        fields["kind"] = kind
        fields["queue"] = queue
        fields["body"] = body
        fields["attributes"] = {} if attributes is None else attributes
        fields["message_type"] = message_type
        fields["group_id"] = group_id
        fields["deduplication_id"] = deduplication_id
        fields["delay"] = delay
        fields["timeout"] = timeout
        fields["correlation_id"] = correlation_id

    def replace(self, **changes: Any) -> Draft:
        """A draft like this one, but for *changes*.

        Raises:
            ValueError: If there is no such field, or it is one that cannot be changed: `kind`,
                `correlation_id`, and where a reply goes.
        """
        for name in changes:
            if name not in _CHANGEABLE:
                what = "cannot be changed" if name in _FIELDS else f"is none of {_CHANGEABLE}"
                raise ValueError(f"{quoted(name)} {what}, in a draft")
        if self.kind == "reply" and changes.get("queue", self.queue) != self.queue:
            raise ValueError("a reply goes to the queue of its request: 'queue' cannot be changed")
        return dataclasses.replace(self, **changes)


_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Draft))
_CHANGEABLE: Final = tuple(name for name in _FIELDS if name not in _FIXED)


class Sealed(NamedTuple):
    """A message that SQS would take."""

    body: str
    attributes: dict[str, AttributeValue]
    size: int
    """Bytes, by SQS's count, with all that may be added before it leaves."""
    delay: int | None
    """Seconds; `None` where the queue's own delay holds."""


def seal(
    draft: Draft,
    codec: Codec,
    *,
    reply_queue_url: str | None = None,
    legacy: bool = False,
    reply_to: wire.ReplyTo | None = None,
) -> Sealed:
    """The message that says what *draft* says.

    A request is answered at *reply_queue_url*, *legacy* for workers of the older kind too; a
    reply goes to *reply_to*.

    Raises:
        InvalidMessage: SQS would refuse it. The error names the draft's queue.
        MessageTooLarge: It is larger than SQS takes.
        ValueError: The draft's queue is not even text.
        Exception: The codec is the user's own, and so are its errors.
    """
    body, kind = draft.body, draft.kind
    queue: object = draft.queue
    time_to_live = kind == "request" and draft.timeout != math.inf
    try:
        delay = 0
        if kind != "reply":
            if kind == "send" or draft.delay != 0:
                delay = check_delay(draft.delay)
            if (
                not isinstance(queue, str)
                or queue.endswith(".fifo")
                or draft.group_id is not None
                or draft.deduplication_id is not None
            ):
                _check_fifo(queue, delay, draft.group_id, draft.deduplication_id)
        if kind == "reply" and isinstance(body, Reject):
            assert reply_to is not None
            text = wire.error_body(body.code, body.type, body.message, body.details)
            attributes = wire.reply_attributes(reply_to, error_code=body.code)
        else:
            text, content_type = encode(codec, body)
            checked(text, "body")
            if kind == "request":
                assert reply_queue_url is not None
                assert draft.correlation_id is not None
                attributes = wire.request_attributes(
                    reply_queue_url=reply_queue_url,
                    correlation_id=draft.correlation_id,
                    message_type=draft.message_type,
                    content_type=content_type,
                    legacy=legacy,
                )
            elif kind == "send":
                attributes = wire.one_way_attributes(draft.message_type, content_type)
            else:
                assert reply_to is not None
                if content_type is not None:
                    checked(content_type, "content type")
                attributes = wire.reply_attributes(reply_to, content_type=content_type)
        if draft.attributes != {}:
            attributes |= to_attributes(draft.attributes, wire.RESERVED)
            # The library's own alone are never too many.
            check_count(attributes, wire.RESERVED, time_to_live=time_to_live)
        size = message_bytes(text, attributes)
        if time_to_live:
            size += wire.TIME_TO_LIVE_BYTES
        if size > MESSAGE_BYTES:
            raise MessageTooLarge(
                f"the message has {size} bytes with its attributes, and SQS takes {MESSAGE_BYTES}",
                size=size,
                limit=MESSAGE_BYTES,
            )
    except SendError as error:
        error.queue = draft.queue
        raise
    return Sealed(text, attributes, size, delay or None)


def _check_fifo(queue: Any, delay: int, group_id: object, deduplication_id: object) -> None:
    check_is_text(queue)
    if group_id is not None:
        check_group_id(group_id)
    if deduplication_id is not None:
        check_deduplication_id(deduplication_id)
    if queue.endswith(".fifo"):
        if group_id is None:
            raise InvalidMessage("a message to a FIFO queue needs a group_id")
        if delay:
            raise InvalidMessage("a FIFO queue takes no delay for one message: set the queue's")
    elif deduplication_id is not None:
        raise InvalidMessage("deduplication_id is for FIFO queues, whose names end in '.fifo'")
