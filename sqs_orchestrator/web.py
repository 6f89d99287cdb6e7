"""For web applications: what an error of the library is in HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core.checks import shown
from .errors import (
    InvalidMessage,
    MessageTooLarge,
    QueueError,
    RemoteError,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    RequestError,
    SendError,
    Throttled,
)

__all__ = ["http_status"]


def http_status(error: BaseException, *, codes: Mapping[str, int] | None = None) -> int:
    """The HTTP status of a response whose work ended with *error*.

    A 5xx says whose turn it is: 500, the application's own (a queue, a permission or a setting
    is wrong, and will be so the next time); 502, the worker's, which answered with a failure; 503,
    nobody's (it passes: answer with `Retry-After`); 504, the worker's or SQS's, which did not
    answer in time. Any error that is none of the library's is a 500.

    After 502, 503 and 504 the work may have been done all the same.

    Args:
        error: What `request()`, `send()` or another call raised.
        codes: The status for a `RemoteError` by its `code`, such as `{"sold_out": 409}`. A code
            that is not in it is 502.

    Raises:
        ValueError: If *error* is no exception, or *codes* no mapping of text to statuses.
    """
    if not isinstance(error, BaseException):
        raise ValueError(f"error is {shown(error)}: pass the exception that was raised")
    known = {} if codes is None else _checked(codes)
    match error:
        case RemoteError():
            return known.get(error.code, 502)
        case ReplyTimeout():
            return 504
        case ReplyQueueLost() | ReplyQueueClosed():
            return 503
        case RequestError():
            return 502
        case MessageTooLarge():
            return 413
        case InvalidMessage():
            return 422
        case SendError():
            if error.maybe_sent:
                return 504
            # A code is SQS's: it has refused the message, and would again.
            return 503 if error.code is None else 500
        case Throttled():
            return 503
        case QueueError():
            return 503 if error.transient else 500
        case _:
            return 500


def _checked(codes: Any) -> Mapping[str, int]:
    if not isinstance(codes, Mapping):
        raise ValueError(f"codes is {shown(codes)}: pass a mapping such as {{'sold_out': 409}}")
    for code, status in codes.items():
        if not isinstance(code, str) or not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(
                f"codes has {shown(code)}: {shown(status)}: pass codes of errors and the HTTP"
                " status of each, from 200 to 599"
            )
    return codes
