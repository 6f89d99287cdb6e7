"""What a publisher has from entering to leaving: it carries drafts out.

The way of a request: its draft is sealed and becomes a `PendingRequest`. That joins the lane of its
queue, and the table of the reply queue. The caller awaits its future. What comes first resolves
the future: the reply, an error of the lane, the loss of the reply queue, the timer, or the end of
the publisher. Then the request leaves lane and table. It needs no task, and nothing is left of it.

The first request to a queue waits before that, until the queue's URL is known and there is a reply
queue. All who need one of these share one wait (`SingleFlight`), so who gives up disturbs no other.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio

from ..codecs import Codec
from ..connection import Connection
from ..core import wire
from ..core.addresses import DEFAULT_PREFIXES, Refused, check_reply_address
from ..core.checks import check_seconds, shown
from ..core.names import account_of, queue_name_of
from ..drafts import Draft, seal
from ..errors import InvalidMessage, QueueError, ReplyQueueClosed, SendError, fresh_copy
from ..message import Reply
from ..middleware import Middleware, around
from ..sending.entries import send_lanes
from ..sending.reply_sender import ReplySender
from ..tasks import Changed, TaskOwner
from .pending import Pending, PendingRequest, PendingSend, not_sent, refused, unconfirmed
from .reply_queue import ReplyQueue

T = TypeVar("T")

FLUSH_PATIENCE = 5.0
"""Seconds for which sends that wait are still tried on leaving."""

_SOME_URL: Final = f"https://sqs.eu-central-1.amazonaws.com/123456789012/{'-' * 80}"
"""Stands for the URL of a reply queue that does not exist yet."""


class PublisherSession:
    """What a publisher has from entering to leaving.

    Args:
        owner: Owns the tasks of the publisher.
        sqs: The connection.
        replies: The reply queue.
        codec: Encodes and decodes bodies.
        middleware: Stands around each message.
        patience: Seconds for which sends and replies are tried.
        accounts: AWS accounts to answer to, beside the connection's own.
    """

    def __init__(
        self,
        owner: TaskOwner,
        sqs: Connection,
        replies: ReplyQueue,
        *,
        codec: Codec,
        middleware: Sequence[Middleware],
        patience: float,
        accounts: frozenset[str],
    ) -> None:
        self._owner = owner
        self._replies = replies
        self._legacy = replies.settings.legacy
        self._codec = codec
        self._patience = patience
        self._accounts = accounts
        self.middleware = middleware
        self.sqs = sqs
        self.loop = asyncio.get_running_loop()
        self.context = owner.context
        """For timers: one that was cancelled keeps its context until it would have rung."""
        self.lanes = send_lanes(owner, sqs.port)
        self.lanes.leaving = replies.receive_soon.hurry
        self.reply_sender = ReplySender(self.lanes)
        self.pending: set[Pending[Any]] = set()
        """Messages whose senders wait."""
        self.waits: set[anyio.CancelScope] = set()
        """Waits to which leaving gives time to end."""
        self._wait_ended = Changed()
        self.sent = 0
        """One-way messages that SQS confirmed."""
        self.replies_sent = 0
        """Replies that SQS confirmed."""

    async def close(self) -> None:
        """Fail the requests, flush the rest, and give up what is left then."""
        for request in [each for each in self.pending if isinstance(each, PendingRequest)]:
            request.lose(ReplyQueueClosed, "the publisher was closed while it waited")
        with anyio.move_on_after(FLUSH_PATIENCE):
            await self._wait_ended.until(lambda: not self.waits)
            await self.lanes.flush()
        for scope in list(self.waits):
            scope.cancel()
        for send in [each for each in self.pending if isinstance(each, PendingSend)]:
            send.give_up("the publisher was closed")

    # ------------------------------------------------------------------ carrying out drafts

    async def through_middleware(
        self, draft: Draft, began: float, to: wire.ReplyTo | None = None
    ) -> Any:
        """What the middleware makes of *draft*, for a call that began at loop time *began*; a
        reply is one to *to*."""
        step = LastStep(self, draft, began, to)
        result = await around(self.middleware, "outgoing", step)(draft)
        wanted = _RESULTS.get(draft.kind, object)
        if not isinstance(result, wanted):
            raise TypeError(
                f"the middleware has returned {shown(result)} for a {draft.kind}: outgoing()"
                f" returns what call_next() gave, or another {wanted.__name__}"
            )
        return result

    def check_in_time(self, draft: Draft, began: float) -> None:
        """Raise where *draft* comes out of the middleware too late to be sent, for a call that
        began at loop time *began*. A request looks at its own deadline itself."""
        if self._owner.stopping:
            if draft.kind == "request":
                raise self._unready(draft, draft.queue)
            why = "the publisher was closed"
        elif draft.kind != "request" and began + self._patience <= self.loop.time():
            why = f"the middleware took {self._patience} s or more"
        else:
            return
        raise SendError(f"the message to {draft.queue!r} was not sent: {why}", queue=draft.queue)

    async def pending_send(self, draft: Draft, began: float) -> PendingSend:
        """The one-way message that *draft* becomes, sealed and with its queue found, for a call
        that began at loop time *began*. Entering it sends it."""
        sealed = seal(draft, self._codec)
        expires = began + self._patience
        url = self.sqs.queues.known.get(draft.queue)
        if url is None:
            url = await self._resolved(draft.queue, self.sqs.queue_url(draft.queue), expires)
        return PendingSend(self, draft, sealed, url, expires)

    async def pending_request(self, draft: Draft, began: float) -> PendingRequest:
        """The same for a request."""
        queue: Any = draft.queue
        timeout = draft.timeout
        assert timeout is not None
        deadline = began + timeout
        live = self._replies.current
        url = self.sqs.queues.known.get(queue) if isinstance(queue, str) else None
        if url is None or live is None or deadline <= self.loop.time():
            # What SQS would refuse should cost neither a call nor a reply queue; then the
            # request queue first, since neither should a wrong name.
            seal(draft, self._codec, reply_queue_url=_SOME_URL, legacy=self._legacy)
            if deadline <= self.loop.time():
                raise not_sent(draft)
            url = await self._before(draft, deadline, self.sqs.queue_url(queue), queue)
            live = await self._before(
                draft, deadline, self._replies.live(), self._replies.settings.prefix
            )
        sealed = seal(draft, self._codec, reply_queue_url=live.url, legacy=self._legacy)
        return PendingRequest(self, draft, sealed, url, live, deadline)

    async def reply(self, draft: Draft, began: float, to: wire.ReplyTo) -> str:
        """Send a reply to *to*, of a call that began at loop time *began*; gives the message id
        once SQS has it."""
        expires = began + self._patience
        sealed = seal(draft, self._codec, reply_to=to)
        url = await self._checked_address(to, expires)
        future: asyncio.Future[str] = self.loop.create_future()

        def ended(message_id: str, error: QueueError | SendError | None) -> None:
            if future.done():
                return
            if error is None:
                self.replies_sent += 1
                future.set_result(message_id)
            else:
                future.set_exception(refused(answer, error, url))

        answer = self.reply_sender.post(
            url,
            sealed.body,
            sealed.attributes,
            size=sealed.size,
            expires=expires,
            on_end=ended,
        )
        with self._awaited_when_leaving(expires):
            try:
                return await future
            finally:
                if future.cancelled():
                    self.reply_sender.withdraw(answer)
        raise unconfirmed(answer, url, self._out_of_time(), left=True)

    def checked_reply_to(self, reply_to: wire.ReplyTo | str) -> wire.ReplyTo:
        """*reply_to*, which may be an address to answer at, as far as that shows without a call.

        Raises:
            InvalidMessage: It is none.
        """
        try:
            to = _address(reply_to)
            check_reply_address(to, to.queue_url, region=None, prefixes=self._prefixes)
        except (ValueError, Refused) as error:
            raise _no_address(error) from error
        return to

    async def _checked_address(self, to: wire.ReplyTo, expires: float) -> str:
        """The URL to answer at."""
        name, account = queue_name_of(to.queue_url), account_of(to.queue_url)
        foreign = account if account in self._accounts else None
        home = await self._resolved(name, self.sqs.queues.home_url(name, foreign), expires)
        try:
            return check_reply_address(
                to,
                home,
                region=self.sqs.port.region,
                prefixes=self._prefixes,
                accounts=self._accounts,
            )
        except Refused as error:
            raise _no_address(error) from error

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return (*DEFAULT_PREFIXES, self._replies.settings.prefix)

    # ------------------------------------------------------------------------------ waits

    async def _before(self, draft: Draft, deadline: float, work: Awaitable[T], about: str) -> T:
        """What *work* gives, or why a request cannot wait for it any longer."""
        with self._owner.until_stop(deadline):
            return await work
        raise self._unready(draft, about)

    def _unready(self, draft: Draft, about: str) -> Exception:
        if self._owner.stopping:
            return ReplyQueueClosed(
                f"the request to {draft.queue!r} was not sent: the publisher was closed",
                queue=draft.queue,
            )
        trouble = self.sqs.trouble(about)
        return not_sent(draft) if trouble is None else fresh_copy(trouble)

    async def _resolved(self, queue: str, work: Awaitable[str], expires: float) -> str:
        """What *work* gives, the URL of *queue*, for a message that awaits no reply."""
        with self._awaited_when_leaving(expires):
            return await work
        raise self._unresolved(queue)

    def _unresolved(self, queue: str) -> Exception:
        trouble = self.sqs.trouble(queue)
        if trouble is not None:
            return fresh_copy(trouble)
        why = self._out_of_time()
        return SendError(f"the message to {queue!r} was not sent: {why}", queue=queue)

    @contextmanager
    def _awaited_when_leaving(self, expires: float) -> Iterator[None]:
        """A scope for a wait to which leaving the publisher gives time to end."""
        with anyio.CancelScope() as scope:
            self._owner.limit(scope, expires)
            self.waits.add(scope)
            try:
                yield
            finally:
                self.waits.discard(scope)
                self._wait_ended.set()

    def _out_of_time(self) -> str:
        if self._owner.stopping:
            return "the publisher was closed"
        return f"SQS did not answer within {self._patience} s"


_RESULTS: Final[dict[str, type]] = {"send": str, "request": Reply}


class LastStep:
    """The innermost `call_next`: sends a draft, each time that it is called a message."""

    def __init__(
        self, session: PublisherSession, first: Draft, began: float, to: wire.ReplyTo | None
    ) -> None:
        self._session = session
        self._first = first
        self._began = began
        self._to = to
        self._used = False

    async def __call__(self, draft: Draft) -> Any:
        first = self._first
        if draft.kind != first.kind:
            raise ValueError(f"a {first.kind} cannot become a {draft.kind} on its way")
        self._session.check_in_time(draft, self._began)
        if self._to is not None:
            if draft.queue != first.queue:
                raise ValueError("a reply goes to the queue of its request, and to no other")
            return await self._session.reply(draft, self._began, self._to)
        begin: Callable[[Draft, float], Awaitable[Pending[Any]]] = self._session.pending_send
        if draft.kind == "request":
            begin = self._session.pending_request
            timeout = first.timeout if draft.timeout is None else draft.timeout
            check_seconds("timeout", timeout)
            # Two that are under way at once must not wait for the same reply.
            correlation_id = wire.new_correlation_id() if self._used else first.correlation_id
            self._used = True
            draft = dataclasses.replace(draft, timeout=timeout, correlation_id=correlation_id)
        with await begin(draft, self._began) as pending:
            return await pending.future


def _address(reply_to: object) -> wire.ReplyTo:
    if not isinstance(reply_to, wire.ReplyTo):
        return wire.ReplyTo.parse(reply_to)
    try:
        # By way of its text: that shows whether it has what an address is made of.
        text = str(reply_to)
    except TypeError:
        raise ValueError(f"it is made of more than text: {shown(reply_to)}") from None
    return wire.ReplyTo.parse(text)


def _no_address(error: Exception) -> InvalidMessage:
    return InvalidMessage(f"not a reply address to answer at: {error}")
