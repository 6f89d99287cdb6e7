"""Messages whose senders wait: for SQS's answer, or for the reply.

Each is an entry in a lane and, where a reply is wanted, a waiter in the reply queue's table.
Whatever ends it first resolves its one `future`; `end` then takes it out of both.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from ..connection import Connection
from ..core import wire
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
from ..sending.lanes import Lanes
from ..sqs.port import NO_ATTRIBUTES, Attributes, Received
from ..tasks import TaskOwner
from .reply_queue import Live, Waiter


class PublisherSession:
    """What all the messages of one publisher share."""

    __slots__ = ("context", "lanes", "requests", "sends", "sent", "sqs")

    def __init__(self, owner: TaskOwner, sqs: Connection, lanes: Lanes[Outgoing]) -> None:
        self.context = owner.context
        """For timers: one that was cancelled keeps its context until it would have rung."""
        self.sqs = sqs
        self.lanes = lanes
        self.requests: set[PendingRequest] = set()
        self.sends: set[PendingSend] = set()
        self.sent = 0
        """One-way messages that SQS confirmed."""


class PendingSend(Outgoing):
    """A one-way message in a lane, and who awaits SQS's answer to it."""

    __slots__ = ("_queue", "_session", "_timer", "_url", "future")

    future: asyncio.Future[str]

    def __init__(
        self, outbox: PublisherSession, queue: str, url: str, *rest: Any, **more: Any
    ) -> None:
        super().__init__(*rest, **more)
        self._session = outbox
        self._queue = queue
        self._url = url
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Join the lane; `future` gets the message id once SQS has the message."""
        self.future = loop.create_future()
        if self.expires != math.inf:
            context = self._session.context
            self._timer = loop.call_at(self.expires, self.expire, "in time", context=context)
        self._session.sends.add(self)
        self._session.lanes.add(self._url, self)

    def end(self) -> None:
        """The caller has its answer, or was cancelled: leave nothing behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.sends.discard(self)
        if self.future.cancelled():
            self._session.lanes.withdraw(self._url, self)

    def expire(self, why: str) -> None:
        """End the wait: SQS has not confirmed the message."""
        if self.future.done():
            return
        left = not self._session.lanes.withdraw(self._url, self)
        self.future.set_exception(unconfirmed(self, self._queue, why, left=left))

    def done(self, result: str | None) -> None:
        if not self.future.done():
            self._session.sent += 1
            self.future.set_result(result or "")

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound):
            self._session.sqs.queues.forget_url(self._queue)
        if not self.future.done():
            self.future.set_exception(refused(self, error, self._queue))


class PendingRequest(Outgoing, Waiter):
    """A request: a message in a lane, and a waiter in the reply queue's table."""

    __slots__ = (
        "_confirmed",
        "_live",
        "_queue",
        "_session",
        "_timeout",
        "_timer",
        "_url",
        "correlation_id",
        "future",
    )

    future: asyncio.Future[Reply]

    def __init__(
        self,
        outbox: PublisherSession,
        queue: str,
        url: str,
        live: Live,
        correlation_id: str,
        body: str,
        attributes: Attributes,
        size: int,
        *,
        timeout: float,
        deadline: float,
        group_id: str | None,
        deduplication_id: str | None,
    ) -> None:
        if deduplication_id is None and url.endswith(".fifo"):
            deduplication_id = correlation_id
        super().__init__(
            body,
            attributes,
            size=size,
            expires=deadline,
            deadline=deadline,
            group_id=group_id,
            deduplication_id=deduplication_id,
        )
        self.correlation_id = correlation_id
        self._session = outbox
        self._queue = queue
        self._url = url
        self._live = live
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._confirmed = False

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Register and join the lane; `future` gets whatever ends the request first."""
        self.future = loop.create_future()
        if self.deadline != math.inf:
            context = self._session.context
            self._timer = loop.call_at(self.deadline, self._time_out, context=context)
        self._session.requests.add(self)
        self._live.register(self)
        self._session.lanes.add(self._url, self)

    def end(self) -> None:
        """It has ended, however that was: leave nothing behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.requests.discard(self)
        self._live.forget(self)
        if not self._confirmed:
            self._session.lanes.withdraw(self._url, self)

    # What its lane says.

    def done(self, result: str | None) -> None:
        self._confirmed = True
        # Ten thousand may wait for their replies: what has left is not kept.
        self.body, self.attributes = "", NO_ATTRIBUTES

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound):
            self._session.sqs.queues.forget_url(self._queue)
        self._fail(refused(self, error, self._queue))

    # What its reply queue says.

    def resolve(self, head: wire.ReplyHead, received: Received) -> bool:
        if self.future.done():
            return True
        if head.error_code is None:
            self.future.set_result(Reply.received(received, head))
            return True
        code, kind, message, details = wire.parse_error(received.body, head.error_code)
        error = RemoteError(
            message,
            code=code,
            type=kind,
            details=details,
            queue=self._queue,
            correlation_id=self.correlation_id,
        )
        self._fail(error)
        return True

    def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        error = kind(
            f"the request to {self._queue!r} got no reply: {why}",
            queue=self._queue,
            correlation_id=self.correlation_id,
        )
        self._fail(error)

    def fail(self, error: QueueError) -> None:
        self._fail(fresh_copy(error))

    # What the clock says.

    def _time_out(self) -> None:
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
                    self._fail(refused(self, trouble, self._queue))
                    return
                why = f"{why}: {trouble}"
        error = ReplyTimeout(
            f"no reply from {self._queue!r} within {self._timeout} s: {why}",
            queue=self._queue,
            correlation_id=self.correlation_id,
            timeout=self._timeout,
            confirmed=self._confirmed,
        )
        error.__cause__ = trouble
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def not_sent(queue: str, timeout: float) -> ReplyTimeout:
    return ReplyTimeout(
        f"the request to {queue!r} was not sent within {timeout} s",
        queue=queue,
        timeout=timeout,
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
