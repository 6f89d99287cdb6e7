"""Messages whose senders wait: for SQS's answer, or for the reply.

Each is an entry in the lane of its queue. A request is in the table of the reply queue, too.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ..core import wire
from ..drafts import Draft, Sealed
from ..errors import (
    QueueError,
    QueueNotFound,
    RemoteError,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    SendError,
    fresh_copy,
)
from ..message import Reply
from ..sending.entries import Outgoing
from ..sqs.port import NO_ATTRIBUTES, Received

if TYPE_CHECKING:
    from .live_queue import LiveQueue
    from .session import PublisherSession


T = TypeVar("T")


class Pending(Outgoing, Generic[T]):
    """A message, and the sender that waits for its message id, or for its reply.

    Entering it sends it: it sets a timer, and joins the lane of its queue. `future` gets what ends
    the wait first. Leaving it leaves nothing behind, whatever that was.
    """

    __slots__ = ("_confirmed", "_session", "_timer", "future", "queue", "url")

    def __init__(
        self,
        session: PublisherSession,
        draft: Draft,
        sealed: Sealed,
        url: str,
        expires: float,
        deadline: float = math.inf,
    ) -> None:
        super().__init__(
            sealed.body,
            sealed.attributes,
            size=sealed.size,
            expires=expires,
            deadline=deadline,
            delay=sealed.delay,
            group_id=draft.group_id,
            deduplication_id=draft.deduplication_id,
        )
        self.queue = draft.queue
        """The queue as the sender named it."""
        self.url = url
        self.future: asyncio.Future[T] = session.loop.create_future()
        self._session = session
        self._timer: asyncio.TimerHandle | None = None
        self._confirmed = False

    def __enter__(self) -> Self:
        session = self._session
        if self.expires != math.inf:
            self._timer = session.loop.call_at(self.expires, self.time_out, context=session.context)
        session.pending.add(self)
        session.lanes.add(self.url, self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._session.pending.discard(self)
        if not self._confirmed:
            self._session.lanes.withdraw(self.url, self)
        # It may hold the exception that holds the frame that holds this.
        del self.future

    def time_out(self) -> None:
        """Its time is up."""
        raise NotImplementedError

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound):
            self._session.sqs.queues.forget_url(self.queue)
        self._fail(refused(self, error, self.queue))

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class PendingSend(Pending[str]):
    """A one-way message: `future` gets its message id once SQS has it."""

    __slots__ = ()

    def done(self, result: str | None) -> None:
        self._confirmed = True
        if not self.future.done():
            self._session.sent += 1
            self.future.set_result(result or "")

    def time_out(self) -> None:
        self.give_up("in time")

    def give_up(self, why: str) -> None:
        """End the wait: SQS has not confirmed the message."""
        if not self.future.done():
            left = not self._session.lanes.withdraw(self.url, self)
            self._fail(unconfirmed(self, self.queue, why, left=left))


class PendingRequest(Pending[Reply]):
    """A request: its timer, its place in the reply queue's table, and its outcome."""

    __slots__ = ("_live", "_timeout", "correlation_id")

    def __init__(
        self,
        session: PublisherSession,
        draft: Draft,
        sealed: Sealed,
        url: str,
        live: LiveQueue,
        deadline: float,
    ) -> None:
        super().__init__(session, draft, sealed, url, deadline, deadline)
        assert draft.correlation_id is not None
        self.correlation_id = draft.correlation_id
        self._timeout = draft.timeout
        self._live = live
        if self.deduplication_id is None and url.endswith(".fifo"):
            # Two equal questions are two questions.
            self.deduplication_id = draft.correlation_id

    def __enter__(self) -> Self:
        self._live.register(self)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self._live.waiters.pop(self.correlation_id, None)
        super().__exit__()

    @property
    def began(self) -> float | None:
        """The loop time at which its caller began; `None` if it has no limit to count back from."""
        if self._timeout is None or self._timeout == math.inf:
            return None
        return self.expires - self._timeout

    # What its lane says.

    def done(self, result: str | None) -> None:
        self._confirmed = True
        # Ten thousand may wait for their replies: what has left is not kept.
        self.body, self.attributes = "", NO_ATTRIBUTES

    # What its reply queue says.

    def resolve(self, head: wire.ReplyHead, received: Received) -> None:
        """Its reply has come."""
        if self.future.done():
            return
        if head.error_code is None:
            self.future.set_result(Reply.received(received, head))
            return
        code, kind, message, details = wire.parse_error(received.body, head.error_code)
        error = RemoteError(
            message,
            code=code,
            type=kind,
            details=details,
            queue=self.queue,
            correlation_id=self.correlation_id,
        )
        self._fail(error)

    def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """No reply can come any more."""
        error = kind(
            f"the request to {self.queue!r} got no reply: {why}",
            queue=self.queue,
            correlation_id=self.correlation_id,
        )
        self._fail(error)

    def fail(self, error: QueueError) -> None:
        """Its reply queue cannot be read."""
        self._fail(fresh_copy(error))

    # What the clock says.

    def time_out(self) -> None:
        if self.future.done():
            return
        trouble: QueueError | SendError | None
        if self._confirmed:
            why = (
                "SQS has the request. Either no worker took it in time, or the worker is"
                " slower than the timeout, or it may not answer: its log says so where it"
                " refuses the reply address (reply_queue_prefixes, reply_accounts, region)"
            )
            trouble = self._live.trouble
            if trouble is not None:
                why = f"SQS has the request, but the reply queue cannot be read: {trouble}"
        else:
            why = "SQS had not confirmed the request by then"
            trouble = self.last_error
            if trouble is not None:
                if is_answer(trouble):
                    # It was tried, and SQS's own words say more than that time is up.
                    self._fail(refused(self, trouble, self.queue))
                    return
                why = f"{why}: {trouble}"
        error = ReplyTimeout(
            f"no reply from {self.queue!r} within {self._timeout} s: {why}",
            queue=self.queue,
            correlation_id=self.correlation_id,
            timeout=self._timeout,
            confirmed=self._confirmed,
        )
        error.__cause__ = trouble
        self._fail(error)


def not_sent(draft: Draft) -> ReplyTimeout:
    return ReplyTimeout(
        f"the request to {draft.queue!r} was not sent within {draft.timeout} s",
        queue=draft.queue,
        timeout=draft.timeout,
        confirmed=False,
    )


def unconfirmed(entry: Outgoing, queue: str, why: str, *, left: bool) -> QueueError | SendError:
    """The error for a message that SQS has not confirmed; *left* where its last try may have
    reached SQS."""
    error = entry.last_error
    if error is not None and is_answer(error):
        return refused(entry, error, queue)
    lost = SendError(
        f"SQS has not confirmed the message to {queue!r}: {error or why}",
        queue=queue,
        code=error.code if error is not None else None,
        maybe_sent=left or entry.maybe_done,
    )
    lost.__cause__ = error
    return lost


def refused(entry: Outgoing, error: QueueError | SendError, queue: str) -> QueueError | SendError:
    """The error of the last try, which knows of the tries before: one may have arrived."""
    last = for_caller(error, queue)
    if isinstance(last, QueueError):
        last.maybe_done |= entry.maybe_done
    else:
        last.maybe_sent |= entry.maybe_done
    return last


_SERVICE_FAULTS = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)


def is_answer(error: QueueError | SendError) -> bool:
    """Whether *error* says for sure how SQS stands to a message, or that it cannot be reached:
    not that its answer got lost."""
    if isinstance(error, SendError) or not error.maybe_done:
        return True
    code = error.code or ""
    return code in _SERVICE_FAULTS or code.isdecimal()


def for_caller(error: QueueError | SendError, queue: str) -> QueueError | SendError:
    """An instance of *error* for one caller, naming the queue as the caller does."""
    mine = fresh_copy(error)
    mine.queue = queue
    return mine
