"""Lanes that run: entries in, batch calls out, each entry told what became of it.

`core.batching` decides what goes when; here it goes. One `Lanes` serves one operation over
all its queues, and belongs to the publisher, reply queue or poller whose task owner runs it.

An entry is tried again while what failed is passing (throttling, a server's fault, a lost
connection) and the entry has not expired or been withdrawn. So a timeout is exact whatever
SQS does, and nobody else has to think about trying again.

A batch that was refused as a whole, and may go through without one of its entries or with
fewer bytes, goes again in parts, one after another in its own place among those in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from ..core.backoff import Backoff
from ..core.batching import LIMIT_KEPT, MOST_LIMITS, Lane, Parts, Policy
from ..core.caching import TTLCache
from ..core.checks import shown
from ..core.failing import FORGOTTEN, FailureStreak
from ..errors import MessageTooLarge, QueueError, SendError, fresh_copy
from ..logs import about, get_logger
from ..sqs.attempts import attempt
from ..sqs.failures import error_of_entry, may_pass_in_parts, too_large
from ..sqs.port import Failure
from ..tasks import Changed, TaskOwner

logger = get_logger(__name__)


class Entry:
    """One thing to do, sharing a batch with others. Subclasses hear what became of it.

    Exactly one of `done` and `failed` is called, unless the entry is withdrawn or the owner
    ends first.
    """

    __slots__ = ("expires", "last_error", "maybe_done", "size", "withdrawn")

    def __init__(self, size: int, expires: float) -> None:
        self.size = size
        """Bytes that it takes in its batch."""
        self.expires = expires
        """Loop time after which it is not tried again."""
        self.withdrawn = False
        self.last_error: QueueError | SendError | None = None
        """Why it is still not done, where it was tried and failed."""
        self.maybe_done = False
        """Whether SQS may have done it in one of those tries."""

    def done(self, result: str | None) -> None:
        """SQS did it; a send gives the message id."""

    def failed(self, error: QueueError | SendError) -> None:
        """It was refused, or not done when it expired."""


E = TypeVar("E", bound=Entry)

_Answer: TypeAlias = Sequence[str | Failure | None] | QueueError


MOST_IDLE: Final = 100
"""Lanes kept for the next entry when nothing is left in them; those idle for longest go first."""


class _TimedLane(Lane[E]):
    """The lane of one queue, with its timer."""

    __slots__ = ("backoff", "scheduled", "timer", "url")

    def __init__(self, url: str, policy: Policy) -> None:
        super().__init__(policy)
        self.url = url
        self.backoff: Backoff | None = None
        """Made by the first failure."""
        self.scheduled = False
        self.timer: asyncio.TimerHandle | None = None


class Lanes(Generic[E]):
    """The lanes of one operation, one per queue.

    *operation* carries out a batch: a result or a `Failure` per entry, or a `QueueError`. *name*
    is its name in the SQS API, for errors. *policy* says how the lane of a queue batches.
    """

    def __init__(
        self,
        owner: TaskOwner,
        operation: Callable[[str, Sequence[E]], Awaitable[Sequence[str | Failure | None]]],
        policy: Callable[[str], Policy],
        *,
        name: str,
    ) -> None:
        self._owner = owner
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._context = owner.context
        self._operation = operation
        self._policy = policy
        # Those at work, and those kept for the next entry. Only those are kept that know of no
        # failure: another begins afresh.
        self._lanes: dict[str, _TimedLane[E]] = {}
        self._idle: dict[str, _TimedLane[E]] = {}
        self._limits: TTLCache[int] = TTLCache(LIMIT_KEPT, MOST_LIMITS)
        self._flushing = False
        """Whether nothing lingers any more."""
        self._emptied = Changed()
        self.batches = 0
        """Batch calls made."""
        self.leaving: Callable[[], None] | None = None
        """Called just before a batch is handed over to be sent."""
        self.streak = FailureStreak(FORGOTTEN)
        """Batches to any queue that failed as a whole for a passing reason, in a row."""
        owner.at_end(self._close)

    def __len__(self) -> int:
        """Entries that wait for their batch."""
        return sum([len(lane.waiting) for lane in self._lanes.values()])

    def add(self, url: str, entry: E) -> None:
        """Let *entry* join the next batch for the queue at *url*."""
        lane = self._lanes.get(url)
        if lane is None:
            lane = self._idle.pop(url, None)
            if lane is None:
                lane = _TimedLane(url, self._policy(url))
                self._limit(lane)
            lane.flushing = self._flushing
            self._lanes[url] = lane
        if lane.add(entry, entry.size, self._loop.time()):
            self._schedule(lane)

    def withdraw(self, url: str, entry: E) -> bool:
        """Forget *entry*; true where it had not left yet. One in flight may be carried out,
        but is not tried again and hears nothing."""
        entry.withdrawn = True
        lane = self._lanes.get(url)
        if lane is None or not lane.withdraw(entry):
            return False
        self._look_after(lane)
        return True

    async def flush(self) -> None:
        """Send all that waits without lingering, and wait until it is done. Entries added
        from now on do not linger either. Cancelling only ends the waiting."""
        self._flushing = True
        for lane in list(self._lanes.values()):
            lane.flushing = True
            self._schedule(lane)
        # Until nothing is left when it looks: what came meanwhile is sent, too.
        await self._emptied.until(lambda: not self._lanes)

    def _close(self) -> None:
        """Forget what still waits: nobody is left to send it, nor to hear of it."""
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        self._lanes.clear()
        self._idle.clear()

    def _limit(self, lane: _TimedLane[E]) -> None:
        """Let the lane pack no more into a batch than its queue is known to take."""
        most = self._limits.get(lane.url, self._loop.time())
        lane.max_bytes = lane.policy.max_bytes if most is None else most

    def _schedule(self, lane: _TimedLane[E]) -> None:
        # Not at once: whatever else this turn of the loop adds should travel with it.
        if not lane.scheduled:
            lane.scheduled = True
            self._loop.call_soon(self._pump, lane, context=self._context)

    def _look_after(self, lane: _TimedLane[E]) -> None:
        """Something has left the lane: see to what waits, or put the lane by."""
        if lane.waiting:
            self._schedule(lane)
        elif not lane.in_flight:
            self._put_by(lane)

    def _put_by(self, lane: _TimedLane[E]) -> None:
        """Nothing waits in the lane, and nothing is in flight."""
        self._lanes.pop(lane.url, None)
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        if lane.backoff is None and lane.max_bytes == lane.policy.max_bytes:
            self._idle[lane.url] = lane
            if len(self._idle) > MOST_IDLE:
                del self._idle[next(iter(self._idle))]
        if self._flushing and not self._lanes:
            self._emptied.set()

    def _pump(self, lane: _TimedLane[E]) -> None:
        """Start the batches that are due, and see to it that the next is not missed."""
        lane.scheduled = False
        loop = self._loop
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        if not self._owner.running:
            # The owner is ending, and whoever still waits in the lane hears of that.
            lane.waiting.clear()
            self._put_by(lane)
            return
        batches, due = lane.departures(loop.time())
        for batch in batches:
            self.batches += 1
            self._owner.spawn(self._carry_out, lane, batch)
        if due is not None:
            lane.timer = loop.call_at(due, self._schedule, lane, context=self._context)

    async def _carry_out(self, lane: _TimedLane[E], batch: list[E]) -> None:
        passing: list[E] = []
        if lane.backoff is not None:
            attempt.set(1 + lane.backoff.attempts)
        try:
            if self.leaving is not None:
                self.leaving()
            answer: _Answer
            try:
                answer = await self._operation(lane.url, batch)
            except Exception as error:
                answer = self._error_of(lane, error)
            if isinstance(answer, QueueError) and len(batch) > 1 and may_pass_in_parts(answer):
                await self._in_parts(lane, batch, answer, passing)
            else:
                self._tell_each(lane, batch, answer, passing)
        finally:
            # Also when cancelled: the owner is ending then, and tells whoever still waits.
            lane.in_flight -= 1
            if passing or lane.backoff is not None:
                self._wait_again(lane, passing, all_failed=len(passing) == len(batch))
            elif self.streak.error is not None:
                self.streak.over(self._loop.time())
            if lane.max_bytes != lane.policy.max_bytes:
                self._limit(lane)
            self._look_after(lane)

    def _error_of(self, lane: _TimedLane[E], error: Exception) -> QueueError:
        """What the entries of a batch hear of an *error* of the operation."""
        if isinstance(error, QueueError):
            return error
        logger.error(
            "a batch for %s failed in a way that it should not",
            lane.url,
            exc_info=error,
            extra=about(lane.url),
        )
        return QueueError(
            f"a batch for {lane.url} failed: {shown(error)}", queue=lane.url, maybe_done=True
        )

    async def _in_parts(
        self, lane: _TimedLane[E], batch: list[E], refusal: QueueError, passing: list[E]
    ) -> None:
        """Send again in parts what was refused as a whole; *passing* gets what may go again.

        The parts go one after another, in their order, and no further than to the first that
        fails for another reason: what follows must not overtake it, and would fare no better.
        """
        sizes = [entry.size for entry in batch]
        parts = Parts(sizes, self._limits.get(lane.url, self._loop.time()))
        parts.refused(too_large(refusal.code, refusal.message))
        while (part := parts.following()) is not None:
            wanted = self._still_wanted(batch[part], refusal)
            answer: _Answer = ()
            if wanted:
                self.batches += 1
                try:
                    answer = await self._operation(lane.url, wanted)
                except Exception as error:
                    answer = self._error_of(lane, error)
            if not isinstance(answer, QueueError):
                self._tell_each(lane, wanted, answer, passing)
                parts.taken(sum(entry.size for entry in wanted))
            elif may_pass_in_parts(answer):
                if len(batch[part]) == 1:
                    self._tell_each(lane, wanted, answer, passing)
                parts.refused(too_large(answer.code, answer.message))
            else:
                self._tell_each(lane, wanted, answer, passing)
                untried = fresh_copy(answer)
                untried.maybe_done = False
                self._tell_each(lane, batch[part.stop :], untried, passing)
                return
        if parts.limit is not None:
            self._limits.put(lane.url, parts.limit, self._loop.time())
            self._limit(lane)
            logger.debug(
                "batches for %s get no more than %d bytes for a while: one of %d was refused: %s",
                *(lane.url, parts.limit, sum(sizes), refusal),
                extra=about(lane.url),
            )

    def _still_wanted(self, entries: Sequence[E], refusal: QueueError) -> list[E]:
        """What of *entries* is to be sent again; those that have expired hear of the refusal."""
        now = self._loop.time()
        wanted = [e for e in entries if not e.withdrawn and now < e.expires]
        for entry in entries:
            if now >= entry.expires:
                self._tell_failed(entry, refusal)
        return wanted

    def _tell_each(
        self, lane: _TimedLane[E], entries: Sequence[E], answer: _Answer, passing: list[E]
    ) -> None:
        """Tell each entry what became of it; *passing* gets those that failed for a passing
        reason."""
        if not isinstance(answer, QueueError) and len(answer) != len(entries):
            wrong = ValueError(f"{len(answer)} results for {len(entries)} entries")
            answer = self._error_of(lane, wrong)
        results = [answer] * len(entries) if isinstance(answer, QueueError) else answer
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, (QueueError, Failure)):
                if self._may_pass(lane, entry, result):
                    passing.append(entry)
            elif not entry.withdrawn:
                try:
                    entry.done(result)
                except Exception:  # it must not keep the others of its batch from hearing
                    logger.exception(
                        "an entry of a batch failed to take its result", extra=about(lane.url)
                    )

    def _may_pass(self, lane: _TimedLane[E], entry: E, failure: QueueError | Failure) -> bool:
        """Whether *entry* has failed for a passing reason; else tell it."""
        error: QueueError | SendError
        if isinstance(failure, Failure):
            error = error_of_entry(self._name, lane.url, failure)
        else:
            error = failure
        entry.last_error = error
        if isinstance(error, QueueError):
            entry.maybe_done |= error.maybe_done
            if error.transient:
                return True
        else:
            entry.maybe_done |= error.maybe_sent
        self._tell_failed(entry, _for_its_size(entry, error, lane.url) or error)
        return False

    def _wait_again(self, lane: _TimedLane[E], passing: Sequence[E], *, all_failed: bool) -> None:
        """Let those of a batch wait again that failed for a *passing* reason, if it is not too
        late for that."""
        now = self._loop.time()
        if all_failed and passing[0].last_error is not None:
            self.streak.failed(passing[0].last_error, now)
        if lane.backoff is None:
            lane.backoff = Backoff()
        if not all_failed:
            # What failed alone rides along with the next batch.
            lane.resume()
            lane.backoff.reset()
            self.streak.over(now)
        elif not lane.paused(now):
            # Batches that were under way together count as one failure, not as many.
            lane.pause(now + lane.backoff.next())
        back: list[tuple[E, int]] = []
        for entry in passing:
            if not entry.withdrawn and now < entry.expires:
                back.append((entry, entry.size))
            elif entry.last_error is not None:
                self._tell_failed(entry, entry.last_error)
        lane.put_back(back, now)

    @staticmethod
    def _tell_failed(entry: E, error: QueueError | SendError) -> None:
        if entry.withdrawn:
            return
        try:
            entry.failed(error)
        except Exception:  # it must not keep the others of its batch from hearing
            logger.exception(
                "an entry of a batch failed to take its error", extra=about(error.queue)
            )


def _for_its_size(entry: Entry, error: QueueError | SendError, url: str) -> MessageTooLarge | None:
    """The error of a message that was refused for its size alone."""
    limit = too_large(error.code, error.message)
    if limit is None or not entry.size:
        return None
    return MessageTooLarge(
        f"the message has {entry.size} bytes with its attributes, and its queue does not take as"
        f" many: {error}",
        queue=url,
        code=error.code,
        size=entry.size,
        limit=limit,
    )
