"""Finds and deletes the reply queues whose owners are gone.

`Sweeper` does it for a requester, while that runs; `sweep()` does it for a cron job. `core.ring`
decides who may delete which queue. This module carries out what it decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from ..connection import Connection, check_connection
from ..core import leftovers, ring, wire
from ..core.checks import check_flag
from ..core.names import check_prefix, queue_name_of
from ..core.pacing import Pacer
from ..errors import AccessDenied, QueueError, QueueNotFound, Throttled
from ..logs import about, get_logger
from ..retry import retrying
from ..sqs.listing import list_queues
from ..sqs.port import SQS

logger = get_logger(__name__)

T = TypeVar("T")

JITTER: Final = 0.1
"""Each interval is longer or shorter by up to this part, so that sweepers drift apart."""

PATIENCE: Final = 30.0
"""Seconds for which one call of a sweep is tried again."""

RARELY: Final = 12
"""Intervals to wait after a sweep that was not allowed, before the next try."""

A_LOOK: Final = 20
"""Queues that such a try looks at. The rest is for the processes that are allowed to sweep: while
no process says that it sweeps, each sweep would go all around the ring."""

GIVEN_UP: Final = 3
"""After so many failures in a row, a process no longer says that it sweeps."""

CREATED: Final = "CreatedTimestamp"

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Sweeper:
    """The sweeper of one requester.

    A tag on the requester's queue says that its owner sweeps; the creation of the queue wrote it.
    While sweeping is not allowed or does not work, the sweeper takes the tag away. Then the
    sweepers before it in the ring walk on.

    Args:
        port: The port to SQS.
        prefix: What the names of the fleet's reply queues begin with.
        url: The requester's own queue.
        pacer: Gives the interval. Each sweep tells it the size of the fleet.
        random: Numbers from 0 to 1.
    """

    def __init__(
        self,
        port: SQS,
        prefix: str,
        url: str,
        *,
        pacer: Pacer,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._port = port
        self._prefix = prefix
        self._url = url
        self._pacer = pacer
        self._random = random
        self._hands = PlanRunner(port, pacer)
        self._announced = True
        self._warned: set[str] = set()
        self._failed = 0
        self._throttled = False
        self.sweeps = 0
        """Sweeps that came to their end."""
        self.failures = 0
        """Sweeps that failed, or could not do all for want of a permission."""

    def __repr__(self) -> str:
        return f"<Sweeper of {self._prefix}…, {self.deleted} queues deleted>"

    @property
    def deleted(self) -> int:
        """Queues deleted."""
        return self._hands.deleted

    @property
    def announced(self) -> bool:
        """Whether others rely on this sweeper: its queue says that it sweeps."""
        return self._announced

    async def run(self) -> None:
        """Sweep until cancelled. No failure ends it. The first sweep is after a random part
        of the interval, since a fleet that was started together should not sweep together."""
        await asyncio.sleep(self._pacer.pace.sweep * self._random())
        while True:
            await self.sweep()
            interval = self._pacer.stretched.sweep * (1 - JITTER + 2 * JITTER * self._random())
            await asyncio.sleep(interval * (RARELY if self._hands.denied else 1))

    async def sweep(self) -> None:
        """Walk the ring once, and say whether that worked. Raises nothing but a cancellation."""
        denials = self._hands.denials
        before = self.deleted
        self._throttled = False
        most = None if self._announced else A_LOOK
        if late := self._pacer.late:
            # So may be those of the living. And ours goes first: only the listing is of use.
            most = 0
        try:
            await self._hands.carry_out(
                ring.walk(
                    self._prefix,
                    queue_name_of(self._url),
                    fleet=self._pacer.fleet,
                    most=most,
                )
            )
        except AccessDenied as error:
            self._warn_of_permission(error)
        except QueueError as error:
            self._warn_of(error)
        except Exception as error:
            # A bug must not end the sweeping of a process that runs for months.
            logger.exception("a sweep failed", extra=about(self._url))
            self._failed += 1
            self._warned.add(type(error).__name__)
            self.failures += 1
        else:
            if self._hands.denials > denials and self._hands.denied_by is not None:
                self._warn_of_permission(self._hands.denied_by)
            else:
                self._failed = 0
                self._warned &= self._hands.denied
                self.sweeps += 1
        if self.deleted > before:
            logger.info(
                "deleted %d abandoned reply queues",
                self.deleted - before,
                extra=about(self._url),
            )
        # What throttles us throttles the others, too: it is no reason to hand the ring to them.
        if not (late or self._throttled):
            await self._announce(not self._hands.denied and self._failed < GIVEN_UP)

    def _warn_of_permission(self, error: AccessDenied) -> None:
        self.failures += 1
        operation = error.operation or "ListQueues"
        level = logging.DEBUG if operation in self._warned else logging.WARNING
        self._warned.add(operation)
        logger.log(
            level,
            "abandoned reply queues %s… are not all swept from here, since sqs:%s is not allowed"
            " (%s). Requests go on. Allow it, run sqs_orchestrator.sweep() elsewhere, or pass"
            " sweep_interval=None",
            self._prefix,
            operation,
            error,
            extra=about(self._url),
        )

    def _warn_of(self, error: QueueError) -> None:
        self.failures += 1
        self._failed += 1
        self._throttled = isinstance(error, Throttled)
        # A passing failure is nobody's business while the next sweep makes up for it.
        code = error.code or type(error).__name__
        noteworthy = self._failed >= GIVEN_UP or not error.transient
        level = logging.WARNING if noteworthy and code not in self._warned else logging.DEBUG
        if noteworthy:
            self._warned.add(code)
        logger.log(
            level,
            "a sweep of %s… failed, and is tried again: %s",
            self._prefix,
            error,
            extra=about(self._url),
        )

    async def _announce(self, sweeping: bool) -> None:
        """Say by a tag whether this process sweeps; where that fails, the next sweep tries
        again."""
        if sweeping == self._announced:
            return

        async def say() -> None:
            if sweeping:
                await self._port.tag_queue(self._url, {wire.SWEEPING_TAG: "1"})
            else:
                await self._port.untag_queue(self._url, [wire.SWEEPING_TAG])

        try:
            await retrying(say, until=asyncio.get_running_loop().time() + PATIENCE)
        except QueueNotFound:
            return  # the heartbeat sees to that
        except QueueError as error:
            if isinstance(error, AccessDenied) and "announce" not in self._warned:
                self._warned.add("announce")
                logger.warning(
                    "%s still says that its owner sweeps, and nobody sweeps in its place: %s",
                    self._url,
                    error,
                    extra=about(self._url),
                )
            return
        self._announced = sweeping
        self._warned.discard("announce")


async def sweep(
    sqs: Connection, prefix: str, *, dry_run: bool = False, legacy: bool = False
) -> list[str]:
    """Delete the reply queues with *prefix* that are idle, as a running requester would.

    For a cron job or a clean-up by hand. A queue is idle when its last heartbeat is older
    than the retention in its tags, both by SQS's clock; one of another form than the
    library's own must be empty, too. No other queue is touched. It reads the tags of about
    ten queues a second, since SQS limits that per account. Once that is throttled, heartbeats
    may be, too: from then on it deletes only what was silent for an hour. Cancelling stops it
    between two calls.

    Args:
        sqs: The connection.
        prefix: What the names of the reply queues begin with.
        dry_run: Delete nothing.
        legacy: Also delete what `python-sqs-client`, the synchronous package, has left behind
            with this prefix. Of its reply queues those that are empty and had no heartbeat for
            half an hour: its tags tell no retention, and the slowest heartbeat that its
            documents show comes every 300 s. Of the queues of its sweepers (`…sweeper.fifo`)
            those that are empty and have no tags, if no reply queue is left that begins as they
            do. Where such a queue is younger than a minute, it waits for the rest of that, since
            a listing may be so old.

    Returns:
        The URLs of the queues that were deleted, or would have been.

    Raises:
        ValueError: If *prefix* is empty or not one of a reply queue, or an argument is of a
            wrong type.
        AccessDenied: If `sqs:ListQueues`, `sqs:ListQueueTags`, `sqs:GetQueueAttributes` or
            `sqs:DeleteQueue` is not allowed. What was deleted before stays deleted.
        QueueError: If SQS cannot be reached.
    """
    check_connection(sqs)
    check_prefix(prefix)
    check_flag("dry_run", dry_run)
    check_flag("legacy", legacy)
    return await sweep_port(sqs.port, prefix, dry_run=dry_run, legacy=legacy)


async def sweep_port(
    port: SQS, prefix: str, *, dry_run: bool = False, legacy: bool = False
) -> list[str]:
    """`sweep()` through a port."""
    plan = leftovers.everything if legacy else ring.everything
    # It has no pace of its own; but where it is throttled, it is patient like everybody else.
    hands = PlanRunner(port, Pacer(60.0, 300.0, None))
    done = await hands.carry_out(plan(prefix, dry_run=dry_run))
    if hands.denied_by is not None:
        raise hands.denied_by
    return done


class PlanRunner:
    """Carries out what `core.ring` decides."""

    def __init__(self, port: SQS, pacer: Pacer) -> None:
        self._port = port
        self._pacer = pacer
        self.deleted = 0
        """Queues deleted."""
        self.denied: set[str] = set()
        """Operations that were not allowed when last tried."""
        self.denials = 0
        """How often one was not."""
        self.denied_by: AccessDenied | None = None
        """The last refusal of them."""

    async def carry_out(self, plan: ring.Plan) -> list[str]:
        """Do what *plan* wants done, until it returns; raises `QueueError`."""
        answer: Any = None
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as end:
                deleted: list[str] = end.value
                return deleted
            match action:
                case ring.Saw(fleet):
                    self._pacer.saw(fleet)
                    answer = None
                case ring.Wait(seconds):
                    await asyncio.sleep(seconds)
                    answer = None
                case ring.List(prefix, limit):
                    answer = await self._list(prefix, limit)
                case ring.ReadTags(url):
                    answer = await self._tags(url)
                case ring.ReadCounts(url):
                    answer = await self._is_empty(url)
                case ring.ReadAge(url):
                    answer = await self._age(url)
                case ring.Delete(url):
                    answer = await self._delete(url)

    async def _list(self, prefix: str, limit: int | None) -> ring.Listed:
        async def call() -> ring.Listed:
            listing = await list_queues(self._port, prefix, limit=limit)
            return ring.Listed(listing.urls, listing.complete)

        return await self._patiently("ListQueues", call)

    async def _tags(self, url: str) -> ring.Tags:
        async def call() -> ring.Tags:
            before = self._port.clock.cautious()
            try:
                tags = await self._port.list_queue_tags(url)
            except Throttled:
                self._pacer.throttled()
                raise
            now = self._earliest(before)
            now_ms = None if now is None else int(now * 1000)
            return ring.Tags(tags, now_ms, self._pacer.patience, self._pacer.silence)

        try:
            return await self._patiently("ListQueueTags", call)
        except QueueNotFound:
            return ring.Tags(None, None)

    def _earliest(self, before: float | None) -> float | None:
        """SQS's time during a call, in epoch seconds: *before* it, or as its answer shows it.

        The earlier of the two, however long the answer took to be seen, and whatever an earlier
        one showed.
        """
        times = [time for time in (before, self._port.clock.shown) if time is not None]
        return min(times) if times else None

    async def _age(self, url: str) -> float | None:
        async def call() -> float | None:
            before = self._port.clock.cautious()
            created = (await self._port.get_queue_attributes(url, [CREATED])).get(CREATED)
            now = self._earliest(before)
            try:
                return None if now is None else now - float(created or "")
            except ValueError:
                return None

        try:
            return await self._patiently("GetQueueAttributes", call)
        except QueueNotFound:
            return None

    async def _is_empty(self, url: str) -> bool:
        async def call() -> bool:
            counts = await self._port.get_queue_attributes(url, COUNTS)
            return all(counts.get(name) == "0" for name in COUNTS)

        try:
            return await self._patiently("GetQueueAttributes", call)
        except QueueNotFound:
            return False
        except AccessDenied:
            # It is needed only for queues of another form than ours: the sweep goes on.
            return False

    async def _delete(self, url: str) -> bool:
        tried = False

        async def call() -> bool:
            nonlocal tried
            try:
                await self._port.delete_queue(url)
            except QueueNotFound:
                # Somebody else was faster, unless it was we, and the answer got lost.
                return tried
            except QueueError as error:
                tried = tried or error.maybe_done
                raise
            return True

        gone = await self._patiently("DeleteQueue", call)
        if gone:
            self.deleted += 1
            logger.debug("deleted the abandoned reply queue %s", url, extra=about(url))
        return gone

    async def _patiently(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        until = asyncio.get_running_loop().time() + PATIENCE
        try:
            answer = await retrying(call, until=until)
        except AccessDenied as error:
            self.denied.add(operation)
            self.denials += 1
            self.denied_by = error
            raise
        self.denied.discard(operation)
        return answer
