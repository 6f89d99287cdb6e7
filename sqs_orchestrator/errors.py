"""The errors of the library, in one tree.

```
SQSOrchestratorError
├─ RequestError             it was sent, but there is no good reply
│  ├─ ReplyTimeout          also a TimeoutError
│  ├─ RemoteError           the handler failed
│  ├─ ReplyQueueLost        the reply queue vanished under the request
│  └─ ReplyQueueClosed      the publisher closed while it waited
├─ SendError                SQS refused the message, or did not confirm it
│  ├─ MessageTooLarge
│  └─ InvalidMessage
└─ QueueError               an operation on SQS failed
   ├─ QueueNotFound
   ├─ AccessDenied
   └─ Throttled
```

Each error carries its facts as attributes, so that no program has to read its text.
"""

from __future__ import annotations

import copy
from typing import Any, Final, TypeVar

from .texts import excerpt

__all__ = [
    "AccessDenied",
    "InvalidMessage",
    "MessageTooLarge",
    "QueueError",
    "QueueNotFound",
    "RemoteError",
    "ReplyQueueClosed",
    "ReplyQueueLost",
    "ReplyTimeout",
    "RequestError",
    "SQSOrchestratorError",
    "SendError",
    "Throttled",
]

_E = TypeVar("_E", bound="SQSOrchestratorError")


class SQSOrchestratorError(Exception):
    """Base of every error that the library raises on purpose.

    An argument that cannot be right is a `ValueError`, or `InvalidMessage` where it is part
    of a message; using a thing that is closed is a `RuntimeError`. The first and the last are
    mistakes in a program, not conditions to handle.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __repr__(self) -> str:
        facts = [repr(self.message)] if self.message else []
        facts += [
            f"{name}={value!r}"
            for name, value in self.__dict__.items()
            if name != "message" and not name.startswith("_") and value not in (None, "")
        ]
        return f"{type(self).__name__}({', '.join(facts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Facts are keyword-only, so an error crosses a process pool by its state alone.
        state = self.__dict__.copy()
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return (_rebuild, (type(self), self.args, state))


def _rebuild(kind: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def fresh_copy(error: _E) -> _E:
    """A fresh instance of *error*, with the same cause.

    One failure may end a thousand waiting requests. Each must raise an instance of its
    own: a shared one would collect the tracebacks of all. Raise it outside of the `except`
    that caught *error*, or that becomes its context: the same text twice in a traceback.
    """
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    fresh.__context__ = error.__context__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh


# --------------------------------------------------------------------- requests


class RequestError(SQSOrchestratorError):
    """A request was sent, but there is no good reply.

    Attributes:
        queue: The request queue, as the caller named it.
        correlation_id: The id that ties the request to its reply.
    """

    def __init__(
        self, message: str = "", *, queue: str | None = None, correlation_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.queue = queue
        self.correlation_id = correlation_id


class ReplyTimeout(RequestError, TimeoutError):
    """No reply came within the timeout.

    Attributes:
        timeout: The timeout, in seconds.
        confirmed: Whether SQS had confirmed the request by then.
    """

    def __init__(
        self,
        message: str = "",
        *,
        queue: str | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
        confirmed: bool = True,
    ) -> None:
        super().__init__(message, queue=queue, correlation_id=correlation_id)
        self.timeout = timeout
        self.confirmed = confirmed


class RemoteError(RequestError):
    """The handler, or the library on its behalf, answered with a failure.

    Attributes:
        code: What kind of failure: `handler_error`, `bad_body`, `bad_attribute`,
            `unknown_route`, `reply_too_large`, `bad_reply`, or what the handler chose.
        type: The name of the exception's class on the worker, if there was one.
        message: The handler's own words. Empty unless it raised `Reject`, or the
            worker exposes its errors.
        details: What `Reject(details=…)` carried: any JSON value, or `None`.

    The attributes are as they came, whoever wrote them. The error's text, which tracebacks and
    logs show, is on one line: what is not printable is escaped, and what is long is cut.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "handler_error",
        type: str | None = None,  # noqa: A002 - the name is part of the contract
        details: Any = None,
        queue: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        super().__init__(message, queue=queue, correlation_id=correlation_id)
        self.code = code
        self.type = type
        self.details = details

    def __repr__(self) -> str:
        # The message alone would be empty as often as not.
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        kind = f" ({excerpt(self.type, _NAME)})" if self.type else ""
        said = ""
        if self.message:
            said = f": {excerpt(self.message, _WORDS)}"
        elif self.code in _LOGGED:
            said = ": the worker's log says why"
        return f"{excerpt(self.code, _NAME)}{kind}{said}"


_LOGGED: Final = frozenset(
    (
        "bad_attribute",
        "bad_body",
        "bad_reply",
        "handler_error",
        "reply_too_large",
        "unknown_route",
    )
)
"""Codes of the library's own, which come without words unless the worker exposes its errors."""

_NAME: Final = 100
_WORDS: Final = 500
"""Characters of what the other side said that the text of a `RemoteError` repeats."""


class ReplyQueueLost(RequestError):
    """The reply queue vanished while the request waited on it: try again.

    The next request makes a new queue. Whether the handler ran is unknown.
    """


class ReplyQueueClosed(RequestError):
    """The publisher, or its reply queue, was closed while the request waited."""


# ---------------------------------------------------------------------- sending


class SendError(SQSOrchestratorError):
    """SQS refused the message, or did not confirm it in time.

    Attributes:
        queue: The queue, as the caller named it.
        code: SQS's own code where it gave one.
        maybe_sent: Whether the message may have arrived all the same: the answer got
            lost, or did not come in time.
    """

    def __init__(
        self,
        message: str = "",
        *,
        queue: str | None = None,
        code: str | None = None,
        maybe_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.queue = queue
        self.code = code
        self.maybe_sent = maybe_sent


class MessageTooLarge(SendError):
    """The message is larger than SQS takes, or than its queue does.

    What is larger than any queue takes is raised before anything is sent. A queue may have a
    limit of its own (`MaximumMessageSize`), and so may a server that imitates SQS or a proxy:
    that shows when the message is refused, alone and not for the others of its batch.

    Attributes:
        size: The size of the message in bytes, attributes included.
        limit: The most that is taken, in bytes; 0 where the refusal did not say it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        queue: str | None = None,
        code: str | None = None,
        size: int = 0,
        limit: int = 0,
    ) -> None:
        super().__init__(message, queue=queue, code=code)
        self.size = size
        self.limit = limit


class InvalidMessage(SendError):
    """The message has characters, attributes or counts that SQS refuses.

    Raised before anything is sent.
    """


# ----------------------------------------------------------------------- queues


class QueueError(SQSOrchestratorError):
    """An operation on SQS failed.

    Attributes:
        operation: The SQS operation, such as `ReceiveMessage`.
        queue: The queue's name or URL, where there is one.
        code: SQS's own error code, or the name of the transport's exception.
        transient: Whether the same call may well succeed later.
        maybe_done: Whether SQS may have carried it out although it failed here.
    """

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        queue: str | None = None,
        code: str | None = None,
        transient: bool = False,
        maybe_done: bool = False,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.queue = queue
        self.code = code
        self.transient = transient
        self.maybe_done = maybe_done


class QueueNotFound(QueueError):
    """There is no such queue, in this account and region."""


class AccessDenied(QueueError):
    """A permission is missing, or the credentials are wrong, expired or absent."""


class Throttled(QueueError):
    """SQS asked to slow down, and trying again did not help."""
