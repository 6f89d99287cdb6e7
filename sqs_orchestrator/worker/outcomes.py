"""What becomes of a message: decided here, as values, and carried out by the engine.

This is the contract's table of outcomes, and nothing in it does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..codecs import Codec, encode
from ..core import wire
from ..core.checks import check_body, check_size, message_bytes, text_of
from ..errors import MessageTooLarge
from ..results import NO_REPLY, Reject, Retry
from ..sqs.port import Attributes
from ..tasks import unwrap_group


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply with a value, then delete."""

    value: Any


@dataclass(frozen=True, slots=True)
class Fail:
    """Reply with an error, then delete."""

    code: str
    kind: str | None = None
    message: str = ""
    details: Any = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete; nobody wants a reply, or somebody else gives it."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let it come back after a delay, or when its visibility runs out."""

    delay: float | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """To the dead-letter queue. Where there is none it is deleted if a handler has *judged*
    it, and left otherwise."""

    code: str
    reason: str
    judged: bool


Decision: TypeAlias = Answer | Fail | Delete | Abandon | DeadLetter

DELETE: Final = Delete()
ABANDON: Final = Abandon()


class BadBody(Exception):
    """The body is not what the handler takes."""


class Exited(Exception):
    """The handler called `sys.exit()`."""


def of_result(result: Any, *, wanted: bool) -> Decision:
    """What a handler's return means, where a reply is *wanted* or is not."""
    return Answer(result) if wanted and result is not NO_REPLY else DELETE


def of_error(error: BaseException, *, wanted: bool, expose: bool) -> Decision:
    """What a handler's exception means; its text travels only where that is *exposed*."""
    error = asked(error)
    if isinstance(error, Retry):
        return Abandon(error.delay)
    if isinstance(error, Reject):
        if wanted:
            return Fail(error.code, type(error).__name__, error.message, error.details)
        return DeadLetter(error.code, text_of(error), judged=True)
    if wanted:
        return Fail("handler_error", type(error).__name__, text_of(error) if expose else "")
    return ABANDON


def asked(error: BaseException) -> BaseException:
    """*error*, or the `Reject` or `Retry` that a task group of the handler has wrapped."""
    inner = unwrap_group(error)
    return inner if isinstance(inner, (Reject, Retry)) else error


def of_fault(code: str, reason: str, *, wanted: bool, expose: bool) -> Decision:
    """What it means that the library itself rejects a message."""
    if wanted:
        return Fail(code, None, reason if expose else "")
    return DeadLetter(code, reason, judged=False)


def unsendable(error: Exception, *, expose: bool) -> Fail:
    """What it means that a result cannot be sent."""
    code = "reply_too_large" if isinstance(error, MessageTooLarge) else "bad_reply"
    return Fail(code, type(error).__name__, text_of(error) if expose else "")


def reply_to_send(codec: Codec, reply_to: wire.ReplyTo, value: Any) -> tuple[str, Attributes, int]:
    """Body, attributes and size of a reply.

    Raises:
        Exception: It cannot be sent; the codec is the user's own, and so are its errors.
    """
    body, content_type = encode(codec, value)
    check_body(body)
    if content_type is not None:
        wire.one_way_attributes(content_type=content_type)  # checks it
    attributes = wire.reply_attributes(reply_to, content_type=content_type)
    size = message_bytes(body, attributes)
    check_size(size)
    return body, attributes, size


def failure_to_send(reply_to: wire.ReplyTo, failure: Fail) -> tuple[str, Attributes, int]:
    """Body, attributes and size of an error reply. There always is one that can be sent."""
    body = wire.error_body(failure.code, failure.kind, failure.message, failure.details)
    attributes = wire.reply_attributes(reply_to, error_code=failure.code)
    return body, attributes, message_bytes(body, attributes)
