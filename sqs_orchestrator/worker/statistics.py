"""What a poller counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerStatistics:
    """A snapshot of a `Poller`. Counters count from when it started.

    Attributes:
        received: Messages received.
        redelivered: Of those, how many had been received before, here or elsewhere.
        duplicates: Of those, how many were in work here already, or dealt with and about to be
            deleted: they were not begun again.
        handled: Handlers that returned.
        failed: Handlers that raised, `Reject` and `Retry` apart; and replies that could not be
            sent, because of what the handler returned or what their middleware raised.
        rejected: Messages that handlers rejected, and those that the library itself did.
        retried: Messages that handlers wanted again later.
        expired: Requests deleted unhandled, since nobody waits for their reply any more.
        released: Messages that went back unhandled, or whose handler the drain cancelled.
        dead_lettered: Messages moved to the dead-letter queue, by the library itself.
        replies: Replies that SQS confirmed.
        replies_dropped: Replies that came too late, or that SQS refused for good.
        deleted: Messages for whose delete SQS was asked.
        extensions: Extensions of visibility that SQS confirmed.
        extensions_failed: Extensions that failed while their message was in work: it may have
            been handed out again. What had been deleted or let go meanwhile is not among them.
        receives: ReceiveMessage calls made.
        running: Handlers that run now.
        waiting: Messages that wait for a place now.
        answering: Replies on their way now.
        seconds_since_poll: Seconds since a receive last succeeded; `None` before the first.
        consecutive_failures: Receives that have failed since; before the first, attempts
            to find the queue, too.
        failure: Why it stopped by itself; `None` while it has not.
    """

    received: int = 0
    redelivered: int = 0
    duplicates: int = 0
    handled: int = 0
    failed: int = 0
    rejected: int = 0
    retried: int = 0
    expired: int = 0
    released: int = 0
    dead_lettered: int = 0
    replies: int = 0
    replies_dropped: int = 0
    deleted: int = 0
    extensions: int = 0
    extensions_failed: int = 0
    receives: int = 0
    running: int = 0
    waiting: int = 0
    answering: int = 0
    seconds_since_poll: float | None = None
    consecutive_failures: int = 0
    failure: BaseException | None = None


Counted: TypeAlias = Literal[
    "received",
    "redelivered",
    "duplicates",
    "handled",
    "failed",
    "rejected",
    "retried",
    "expired",
    "released",
    "dead_lettered",
    "replies",
    "replies_dropped",
    "deleted",
    "extensions",
    "extensions_failed",
    "receives",
]


class Counts(dict[Counted, int]):
    """The counters behind it."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(get_args(Counted), 0))
