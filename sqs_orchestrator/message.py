"""What passes between requester and worker: `Message`, `Reply`, `ReplyTo`. Frozen values.

Ten thousand of them may be made in a second, and most of what they could tell is never
asked. So each holds what SQS handed out, and works out the rest when it is asked for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from .codecs import CodecError
from .core.attributes import PlainValue, labelled, plain_attributes
from .core.checks import check_seconds, check_type, shown
from .core.sns import TOPIC_ARN
from .core.wire import RESERVED, ReplyHead, ReplyTo, Request
from .jsontext import loads
from .sqs.clock import Clock
from .sqs.port import Received
from .texts import excerpt

__all__ = ["Message", "Reply", "ReplyTo"]

_SHOWN_CHARACTERS = 60


class _Frozen:
    """What `Message` and `Reply` have in common: a body and attributes, never changed."""

    __slots__ = ("_attributes", "_received")

    _attributes: dict[str, PlainValue] | None
    _received: Received

    @property
    def body(self) -> str:
        """The body, as it travelled."""
        return self._received.body

    @property
    def message_id(self) -> str:
        """The id that SQS gave the message."""
        return self._received.message_id

    @property
    def attributes(self) -> Mapping[str, PlainValue]:
        """The message attributes as plain values, without those of the library itself.

        A number is an `int` where it is written as one, a `float` where that is written with
        the same value, and otherwise a `Decimal`, so that no digit is lost: SQS keeps 38. A
        `Decimal` such as 0.1 was sent as the same text as the `float`, and comes as that.
        """
        if self._attributes is None:
            _set(self, "_attributes", plain_attributes(self._received.attributes, RESERVED))
        assert self._attributes is not None
        return self._attributes

    @property
    def attribute_labels(self) -> Mapping[str, str]:
        """The labels of those attributes whose type has one: `{"id": "uuid"}` where the type of
        `id` is `String.uuid`. SQS lets senders add them, and does not read them."""
        found = labelled(self.attributes, self._received.attributes)
        return {name: value["DataType"].partition(".")[2] for name, value in found.items()}

    def json(self) -> Any:
        """The body, read as JSON; decoded anew by each call.

        Raises:
            ValueError: It is not JSON. Where a handler lets that pass, its message is rejected
                as one with a `bad_body`.
        """
        try:
            return loads(self._received.body)
        except (ValueError, RecursionError) as error:
            fault = CodecError(f"the body is not JSON: {error}")
            fault.source = self
            raise fault from error

    def _facts(self) -> dict[str, Any]:
        """The arguments that make an equal value."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self._facts()
        facts["body"] = _Shown(self.body)
        shown = (
            f"{name}={excerpt(repr(value), _SHOWN_FACT)}" for name, value in facts.items() if value
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash((self.message_id, self.body))

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), self._facts())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name!r} cannot be deleted")


_set = object.__setattr__

_SHOWN_FACT: Final = 1_000
"""Characters of each fact that a `repr` shows: attributes may be as long as a message."""


def _make(kind: Callable[..., Any], facts: dict[str, Any]) -> Any:
    return kind(**facts)


class _Shown(str):
    """A body, cut short where it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        if len(self) <= _SHOWN_CHARACTERS:
            return str.__repr__(self)
        return f"{self[:_SHOWN_CHARACTERS]!r}... ({len(self)} characters)"


class Message(_Frozen):
    """A message that a handler gets.

    The poller makes them. A test of a handler makes its own:
    `Message('{"id": 1}', attributes={"tenant": "a"})`.

    Args:
        body: The body.
        attributes: The message attributes, as plain values.
        message_id: The id that SQS gave it.
        message_type: The route that the sender named.
        receive_count: How often it was received by now, this time included.
        sent_at: When SQS took it, by SQS's clock.
        group_id: The message group, on a FIFO queue.
        reply_to: Where a reply is wanted; `None` for a one-way message.
        content_type: The media type of the body, where it is neither plain text nor JSON.
        time_remaining: Seconds for which the requester will wait from now on.
        queue_url: The URL of the queue that it came from.
        topic_arn: The SNS topic that it came through, where its envelope named one.

    Raises:
        ValueError: If an argument is of a wrong type.
    """

    __slots__ = ("_expires", "_queue_url", "_reply_attributes", "_request", "_time")

    _queue_url: str | None
    _reply_attributes: dict[str, Any] | None
    _request: Request
    _expires: float
    _time: Callable[[], float]

    def __init__(
        self,
        body: str,
        *,
        attributes: Mapping[str, PlainValue] | None = None,
        message_id: str = "",
        message_type: str | None = None,
        receive_count: int = 1,
        sent_at: datetime | None = None,
        group_id: str | None = None,
        reply_to: ReplyTo | None = None,
        content_type: str | None = None,
        time_remaining: float = math.inf,
        queue_url: str | None = None,
        topic_arn: str | None = None,
    ) -> None:
        _check_made(body, attributes, message_id, content_type)
        _check_text("message_type", message_type)
        _check_text("group_id", group_id)
        _check_text("queue_url", queue_url)
        _check_text("topic_arn", topic_arn)
        check_type("receive_count", receive_count, int, "an int from 1 on")
        if isinstance(receive_count, bool) or not 1 <= receive_count < 2**31:
            raise ValueError(f"receive_count is an int from 1 on, not {shown(receive_count)}")
        if reply_to is not None:
            check_type("reply_to", reply_to, ReplyTo, "what ReplyTo.parse() makes of text")
        check_seconds("time_remaining", time_remaining)
        system = {"ApproximateReceiveCount": str(receive_count)}
        if sent_at is not None:
            check_type("sent_at", sent_at, datetime, "a datetime")
            system["SentTimestamp"] = str(round(sent_at.timestamp() * 1000))
        if group_id is not None:
            system["MessageGroupId"] = group_id
        if topic_arn is not None:
            system[TOPIC_ARN] = topic_arn
        _set(self, "_received", Received(message_id, "", body, {}, system))
        _set(self, "_request", Request(reply_to, None, message_type, content_type))
        _set(self, "_attributes", dict(attributes or {}))
        _set(self, "_reply_attributes", None)
        _set(self, "_queue_url", queue_url)
        _expire(self, time_remaining)

    @classmethod
    def received(
        cls, received: Received, request: Request, clock: Clock, queue_url: str | None = None
    ) -> Message:
        """The message that has just been received, and whose attributes say *request*."""
        message = cls.__new__(cls)
        _set(message, "_received", received)
        _set(message, "_request", request)
        _set(message, "_attributes", None)
        _set(message, "_reply_attributes", None)
        _set(message, "_queue_url", queue_url)
        if request.time_to_live is None:
            _set(message, "_expires", math.inf)
            return message
        now, sent = clock.now(), _milliseconds(received)
        # Where either is unknown no time counts as gone: nothing expires early.
        age = 0.0 if now is None or sent is None else max(0.0, now - sent / 1000)
        _expire(message, request.time_to_live - age)
        return message

    def replace(
        self, *, body: str | None = None, attributes: Mapping[str, PlainValue] | None = None
    ) -> Message:
        """A message like this one, but with another *body*, other *attributes*, or both: what a
        middleware may hand on in its place. It shares `reply_attributes` with this one.

        Raises:
            ValueError: If an argument is of a wrong type.
        """
        _check_made(self.body if body is None else body, attributes, "", None)
        received = self._received
        if body is not None:
            received = received._replace(body=body)
        message = Message.__new__(Message)
        _set(message, "_received", received)
        _set(message, "_request", self._request)
        _set(message, "_attributes", self._attributes if attributes is None else dict(attributes))
        _set(message, "_reply_attributes", self.reply_attributes)
        _set(message, "_queue_url", self._queue_url)
        _set(message, "_expires", self._expires)
        if self._expires != math.inf:
            _set(message, "_time", self._time)
        return message

    @property
    def reply_attributes(self) -> dict[str, Any]:
        """The attributes that the reply will carry, by name: text, numbers or bytes. Empty at
        first; handlers and middleware may add to it. Error replies carry them too. Attributes
        that SQS refuses make the reply an error reply, `bad_reply`, without them. One of the
        message's own that goes back with the same name and value keeps the label of its type."""
        if self._reply_attributes is None:
            _set(self, "_reply_attributes", {})
        assert self._reply_attributes is not None
        return self._reply_attributes

    @property
    def queue_url(self) -> str | None:
        """The URL of the queue that the message came from; `None` where a test made it."""
        return self._queue_url

    @property
    def topic_arn(self) -> str | None:
        """The ARN of the SNS topic that the message came through; `None` where it came without an
        envelope, as with raw delivery, or the poller's `sns_topics` does not have its topic."""
        return self._received.system.get(TOPIC_ARN)

    @property
    def message_type(self) -> str | None:
        """The route that the sender named."""
        return self._request.message_type

    @property
    def content_type(self) -> str | None:
        """The media type of the body, where it is neither plain text nor JSON."""
        return self._request.content_type

    @property
    def reply_to(self) -> ReplyTo | None:
        """Where a reply is wanted; `None` for a one-way message. It turns into a string
        that `Publisher.reply` takes in any process."""
        return self._request.reply_to

    @property
    def correlation_id(self) -> str | None:
        """The id that ties the reply to its request; `None` where there is none."""
        reply_to = self._request.reply_to
        return None if reply_to is None else reply_to.id

    @property
    def receive_count(self) -> int:
        """How often the message was received by now, as SQS counts: 1 the first time."""
        count = self._received.system.get("ApproximateReceiveCount", "")
        return int(count) if count.isdecimal() else 1

    @property
    def sent_at(self) -> datetime | None:
        """When SQS took the message, by SQS's clock, in UTC."""
        sent = _milliseconds(self._received)
        return None if sent is None else datetime.fromtimestamp(sent / 1000, UTC)

    @property
    def group_id(self) -> str | None:
        """The message group, on a FIFO queue."""
        return self._received.system.get("MessageGroupId")

    def time_remaining(self) -> float:
        """Seconds for which the requester still waits, by SQS's clock; negative once it has
        given up, `math.inf` where it waits for ever or wants no reply."""
        return self._expires if self._expires == math.inf else self._expires - self._time()

    def _facts(self) -> dict[str, Any]:
        return {
            "body": self.body,
            "attributes": self.attributes,
            "message_id": self.message_id,
            "message_type": self.message_type,
            "receive_count": self.receive_count,
            "sent_at": self.sent_at,
            "group_id": self.group_id,
            "reply_to": self.reply_to,
            "content_type": self.content_type,
            "queue_url": self.queue_url,
            "topic_arn": self.topic_arn,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), {**self._facts(), "time_remaining": self.time_remaining()})


def _check_made(body: object, attributes: object, message_id: object, content_type: object) -> None:
    """Check what somebody makes a message of; what SQS hands out needs no check."""
    check_type("body", body, str, "a str, as json.dumps() makes one")
    if attributes is not None:
        check_type("attributes", attributes, Mapping, "a dict of names and values")
    check_type("message_id", message_id, str, "a str")
    _check_text("content_type", content_type)


def _check_text(name: str, value: object) -> None:
    if value is not None:
        check_type(name, value, str, "a str or None")


def _expire(message: Message, seconds: float) -> None:
    """Let the requester of *message* give up in *seconds*."""
    if seconds != math.inf:
        # The loop's time, kept at hand for handlers that ask from a thread. Without a loop,
        # as in a plain test, there is only the clock that loops themselves go by.
        try:
            now = asyncio.get_running_loop().time
        except RuntimeError:
            now = time.monotonic
        _set(message, "_time", now)
        seconds += now()
    _set(message, "_expires", seconds)


def _milliseconds(received: Received) -> int | None:
    sent = received.system.get("SentTimestamp", "")
    return int(sent) if sent.isdecimal() and len(sent) < 15 else None


class Reply(_Frozen):
    """The reply to a request.

    Args:
        body: The body.
        attributes: The message attributes, as plain values.
        message_id: The id that SQS gave it.
        content_type: The media type of the body, where it is neither plain text nor JSON.
    """

    __slots__ = ("_head",)

    _head: ReplyHead

    def __init__(
        self,
        body: str,
        *,
        attributes: Mapping[str, PlainValue] | None = None,
        message_id: str = "",
        content_type: str | None = None,
    ) -> None:
        _check_made(body, attributes, message_id, content_type)
        _set(self, "_received", Received(message_id, "", body))
        _set(self, "_attributes", dict(attributes or {}))
        _set(self, "_head", ReplyHead(content_type=content_type))

    @classmethod
    def received(cls, received: Received, head: ReplyHead) -> Reply:
        """The reply that has just been received, and whose attributes say *head*."""
        reply = cls.__new__(cls)
        _set(reply, "_received", received)
        _set(reply, "_attributes", None)
        _set(reply, "_head", head)
        return reply

    def replace(
        self, *, body: str | None = None, attributes: Mapping[str, PlainValue] | None = None
    ) -> Reply:
        """A reply like this one, but with another *body*, other *attributes*, or both: what a
        middleware may return in its place.

        Raises:
            ValueError: If an argument is of a wrong type.
        """
        _check_made(self.body if body is None else body, attributes, "", None)
        received = self._received
        if body is not None:
            received = received._replace(body=body)
        reply = Reply.received(received, self._head)
        _set(reply, "_attributes", self._attributes if attributes is None else dict(attributes))
        return reply

    @property
    def content_type(self) -> str | None:
        """The media type of the body, where it is neither plain text nor JSON."""
        return self._head.content_type

    def _facts(self) -> dict[str, Any]:
        return {
            "body": self.body,
            "attributes": self.attributes,
            "message_id": self.message_id,
            "content_type": self.content_type,
        }
