"""What a handler may do beside returning a value: `NO_REPLY`, `Reject`, `Retry`."""

from __future__ import annotations

import enum
import math
from typing import Any, Final, Literal

from .core.checks import NOT_FOR_SQS, check_seconds, check_type, shown, text_of
from .core.wire import ERROR_CODE_CHARACTERS

__all__ = ["NO_REPLY", "NoReply", "Reject", "Retry"]


class _NoReply(enum.Enum):
    NO_REPLY = "NO_REPLY"

    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply.NO_REPLY
"""Returned by a handler that does not answer: somebody will later, by `Message.reply_to`."""

NoReply = Literal[_NoReply.NO_REPLY]
"""The type of `NO_REPLY`, for annotations."""


class Reject(Exception):
    """Raised by a handler that refuses a message for good.

    The requester gets a `RemoteError`; a one-way message goes to the dead-letter queue.

    Args:
        message: What to tell the requester; anything but a `str`, such as an exception, as
            `str()` writes it.
        code: What kind of failure it is, for programs: 1 to 256 characters.
        details: Any JSON value, for programs too. What JSON does not have travels as its
            `repr`.

    Raises:
        ValueError: If *code* is no such text, or has a character that SQS refuses.
    """

    def __init__(self, message: object = "", code: str = "rejected", details: Any = None) -> None:
        super().__init__(message)
        check_type("the code of a Reject", code, str, "a str such as 'sold_out'")
        if not 0 < len(code) <= ERROR_CODE_CHARACTERS or NOT_FOR_SQS.search(code):
            raise ValueError(
                f"the code of a Reject is 1 to {ERROR_CODE_CHARACTERS} characters that SQS takes,"
                f" such as 'sold_out', not {shown(code)}"
            )
        self.message = message if isinstance(message, str) else text_of(message)
        self.code = str.__str__(code)
        self.details = details
        self.type: str | None = type(self).__name__
        """What the requester's `RemoteError` names as the type of the failure."""

    def __repr__(self) -> str:
        details = "" if self.details is None else f", details={self.details!r}"
        return f"{type(self).__name__}({self.message!r}, code={self.code!r}{details})"


class Retry(Exception):
    """Raised by a handler that wants the message again.

    It counts towards the queue's `maxReceiveCount`.

    Args:
        delay: Seconds until it comes back, rounded up to whole ones, the only ones that SQS
            knows. It hides a message for at most 12 hours since it was received.

    Raises:
        ValueError: If *delay* is no number of seconds, or is negative or infinite.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(delay)
        check_seconds("the delay of a Retry", delay)
        if not 0 <= delay < math.inf:
            raise ValueError(
                f"the delay of a Retry is 0 s or more, and not infinite: {shown(delay)}"
            )
        self.delay = delay
