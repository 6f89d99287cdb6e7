"""Sends the replies of a worker, and says when their requests are done with.

A reply without middleware around it takes no task: it joins its lane, and the lane says how it
ended. With middleware it takes one, since that may await whatever it likes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

from ..codecs import Codec
from ..core.attributes import labelled
from ..core.checks import quoted, text_of
from ..drafts import Draft, seal
from ..errors import MessageTooLarge, QueueError, QueueNotFound, SendError
from ..logs import get_logger
from ..middleware import Middleware, around
from ..sending.entries import Outgoing
from ..sending.lanes import Lanes
from ..sending.reply_sender import Answer, ReplySender
from ..tasks import Changed, TaskOwner
from .delivery import Delivery
from .judging import Judge
from .outcomes import Judgement, SendReply
from .statistics import Counts

logger = get_logger(__name__)

PATIENCE: Final = 60.0
"""Seconds for which a reply is tried that has no deadline of its own."""


class Replies:
    """The replies on their way.

    *ended* hears of each that is over, and whether its request is done with; otherwise it should
    come back. *instead* gets what is to be sent in place of a reply that cannot be sent.
    """

    def __init__(
        self,
        owner: TaskOwner,
        lanes: Lanes[Outgoing],
        codec: Codec,
        middleware: Sequence[Middleware],
        *,
        judge: Judge,
        counts: Counts,
        changed: Changed,
        ended: Callable[[Delivery, bool], None],
        instead: Callable[[Delivery, Judgement], None],
    ) -> None:
        self.on_way = 0
        """Replies on their way."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.sender = ReplySender(lanes)
        """Sends them, and knows how many wait for a queue that does not exist, or not yet."""
        self._codec = codec
        self._middleware = [
            each for each in middleware if getattr(each, "outgoing", None) is not None
        ]
        self._judge = judge
        self._counts = counts
        self._changed = changed
        self._done = ended
        self._instead = instead

    async def flush(self) -> None:
        """Wait until all have ended."""
        await self.sender.flush()
        await self._changed.until(lambda: not self.on_way)

    def send(self, delivery: Delivery, reply: SendReply) -> None:
        """Send the reply to a request."""
        now = self._loop.time()
        expires = delivery.expires
        if expires <= now:
            self._counts["replies_dropped"] += 1
            logger.debug(
                "dropped a reply past its deadline: %s",
                delivery.received.message_id,
                extra=delivery.log_fields,
            )
            self._done(delivery, True)
            return
        if expires == math.inf:
            expires = now + PATIENCE
        reply_to = delivery.request.reply_to
        assert reply_to is not None
        attributes = None
        if not reply.bare:
            # Asked for by its property, it would be made for each message.
            attributes = delivery.message._reply_attributes  # noqa: SLF001
        draft = Draft(
            kind="reply",
            queue=reply.reply_queue,
            body=reply.body,
            attributes=dict(attributes) if attributes else {},
            correlation_id=reply_to.correlation_id or reply_to.id,
        )
        self.on_way += 1
        if self._middleware and not reply.bare:
            self._owner.spawn(self._send_through_middleware, delivery, reply, draft, expires)
            return

        def on_end(_: str, error: QueueError | SendError | None) -> None:
            if error is None:
                self._counts["replies"] += 1
                self._ended(delivery)
            else:
                self._failed(delivery, reply, error, expires)

        try:
            self._post(delivery, draft, expires, on_end)
        except Exception as error:  # the codec is the user's own, and so are its errors
            self._unsendable(delivery, reply, error)

    def _post(
        self,
        delivery: Delivery,
        draft: Draft,
        expires: float,
        on_end: Callable[[str, QueueError | SendError | None], None],
    ) -> Answer:
        """Send what *draft* says.

        Raises:
            Exception: It cannot be sent.
        """
        if draft.attributes:
            came = delivery.message._received.attributes  # noqa: SLF001
            same = labelled(draft.attributes, came)
            if same:
                draft = draft.replace(attributes={**draft.attributes, **same})
        sealed = seal(draft, self._codec, reply_to=delivery.request.reply_to)
        return self.sender.post(
            draft.queue,
            sealed.body,
            sealed.attributes,
            size=sealed.size,
            expires=expires,
            on_end=on_end,
        )

    # ------------------------------------------------------------- with middleware

    async def _send_through_middleware(
        self, delivery: Delivery, reply: SendReply, draft: Draft, expires: float
    ) -> None:
        step = _LastStep(self, delivery, draft, expires)
        limit = asyncio.timeout_at(expires)
        task = asyncio.current_task()
        try:
            async with limit:
                await around(self._middleware, "outgoing", step)(draft)
        except BaseException as error:  # as a handler's: one message fails, not the poller
            if _is_from_outside(error, task):
                # The worker ends, and its message comes back.
                self._left()
                raise
            late = isinstance(error, TimeoutError) and limit.expired()
            if step.sent:
                # The requester has its reply: what came after is no business of its.
                if not late:
                    self._tell(delivery, error)
                self._ended(delivery)
            elif late:
                refusal = SendError("it did not get off in time", queue=draft.queue)
                self._failed(delivery, reply, refusal, expires)
            elif error is step.unsendable:
                self._unsendable(delivery, reply, step.unsendable)
            elif error is step.refusal:
                self._failed(delivery, reply, step.refusal, expires)
            else:
                self._tell(delivery, error)
                self._replace(delivery, self._judge.of_middleware(reply, error))
        else:
            self._ended(delivery)

    def _tell(self, delivery: Delivery, error: BaseException) -> None:
        """The middleware around a reply has failed."""
        logger.error(
            "the middleware around the reply to message %s failed",
            delivery.received.message_id,
            exc_info=error,
            extra=delivery.log_fields,
        )

    async def post(self, step: _LastStep, draft: Draft) -> str:
        """Send a reply within middleware; gives its message id once SQS has it."""
        future: asyncio.Future[str] = self._loop.create_future()

        def on_end(message_id: str, error: QueueError | SendError | None) -> None:
            if error is None:
                self._counts["replies"] += 1
                step.sent = True
            if future.done():
                return
            if error is None:
                future.set_result(message_id)
            else:
                step.refusal = error
                future.set_exception(error)

        if not self._owner.running:
            raise SendError("the reply was not sent: the poller has closed", queue=draft.queue)
        try:
            answer = self._post(step.delivery, draft, step.expires, on_end)
        except Exception as error:
            step.unsendable = error
            raise
        try:
            return await future
        finally:
            if future.cancelled():
                self.sender.withdraw(answer)

    # -------------------------------------------------------------- how they ended

    def _failed(
        self,
        delivery: Delivery,
        reply: SendReply,
        error: QueueError | SendError,
        expires: float,
    ) -> None:
        """SQS does not take the reply."""
        message_id = delivery.received.message_id
        if isinstance(error, MessageTooLarge):
            # Its queue takes less than others do.
            self._unsendable(delivery, reply, error)
        elif delivery.expires == math.inf and self._loop.time() >= expires:
            # It was never refused, and somebody may still wait: let it be done again.
            logger.warning(
                "the reply to message %s could not be sent, and the message comes back: %s",
                message_id,
                error,
                extra=delivery.log_fields,
            )
            self._ended(delivery, done=False)
        else:
            self._drop(delivery, error)

    def _unsendable(self, delivery: Delivery, reply: SendReply, error: Exception) -> None:
        """SQS would refuse the reply: send another in its place, if there is one."""
        judgement = self._judge.of_unsent(reply, error)
        if judgement is None:
            if isinstance(error, SendError):
                self._drop(delivery, error)
                return
            logger.error(
                "the reply to message %s got lost, and the message comes back",
                delivery.received.message_id,
                exc_info=error,
                extra=delivery.log_fields,
            )
            self._ended(delivery, done=False)
            return
        if judgement.error is not None:
            logger.error(
                "what the handler %r returned for message %s cannot be sent: %s",
                delivery.handler,
                delivery.received.message_id,
                quoted(text_of(error), 300),
                extra=delivery.log_fields,
            )
        self._replace(delivery, judgement)

    def _drop(self, delivery: Delivery, error: Exception) -> None:
        self._counts["replies_dropped"] += 1
        # A queue that is gone has a line of its own, once.
        log = logger.debug if isinstance(error, QueueNotFound) else logger.warning
        log(
            "dropped the reply to message %s: %s",
            delivery.received.message_id,
            error,
            extra=delivery.log_fields,
        )
        self._ended(delivery)

    def _replace(self, delivery: Delivery, judgement: Judgement) -> None:
        self.on_way -= 1
        self._instead(delivery, judgement)
        # What was sent in its place may be over already.
        self._changed.set()

    def _ended(self, delivery: Delivery, *, done: bool = True) -> None:
        self._left()
        self._done(delivery, done)

    def _left(self) -> None:
        self.on_way -= 1
        self._changed.set()


def _is_from_outside(error: BaseException, task: asyncio.Task[None] | None) -> bool:
    """Whether *error* is not the doing of what runs in *task*, but ends that."""
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    if isinstance(error, GeneratorExit):
        # Its coroutine is being closed, by a loop that has ended: then it is not at work.
        try:
            return asyncio.current_task() is not task
        except RuntimeError:
            return True
    return isinstance(error, KeyboardInterrupt)


class _LastStep:
    """The innermost `call_next` around a reply: sends what it is called with."""

    def __init__(self, replies: Replies, delivery: Delivery, first: Draft, expires: float) -> None:
        self.delivery = delivery
        self.expires = expires
        self.sent = False
        """Whether SQS has a reply."""
        self.unsendable: Exception | None = None
        """Why SQS would have refused the reply, if that is so."""
        self.refusal: QueueError | SendError | None = None
        """Why SQS does not take it, if that is so."""
        self._replies = replies
        self._first = first

    async def __call__(self, draft: Draft) -> str:
        if draft.kind != "reply":
            raise ValueError(f"a reply cannot become a {draft.kind} on its way")
        if draft.queue != self._first.queue:
            raise ValueError("a reply goes to the queue of its request, and to no other")
        return await self._replies.post(self, draft)
