"""Finds and deletes the reply queues whose owners are gone: `Sweeper` for a requester, as it
runs, and `sweep()` for a cron job. What may be deleted is decided in `core.ring`."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from .core import ring, wire
from .core.ring import Pacer
from .errors import AccessDenied, QueueError, QueueNotFound
from .retry import retrying
from .sqs.port import SQS

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for which one call of a sweep is tried again."""

WITHOUT_PERMISSION = 3600.0
"""Seconds until sweeping is tried again that was not allowed."""

COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Sweeper:
    """The sweeper of one requester.

    *pacer* says how often, and hears how large the fleet is. While sweeping is not allowed,
    the mark that its owner sweeps is taken from the queue, so that the sweepers before it in
    the ring walk on.
    """

    def __init__(self, port: SQS, prefix: str, url: str, *, pacer: Pacer) -> None:
        self._port = port
        self._prefix = prefix
        self._url = url
        self._pacer = pacer
        self._announced = True
        self.deleted = 0
        """Queues deleted."""
        self.failures = 0
        """Sweeps that failed."""

    async def run(self) -> None:
        """Sweep until cancelled. The first time after a random part of the interval, since a
        fleet that was started together should not sweep together."""
        delay = self._pacer.pace.sweep * random.random()
        while True:
            await asyncio.sleep(delay)
            delay = self._pacer.pace.sweep
            try:
                await self.sweep()
                await self._announce(True)
            except AccessDenied as error:
                self.failures += 1
                await self._forbidden(error)
                delay = max(delay, WITHOUT_PERMISSION)
            except QueueError as error:
                self.failures += 1
                logger.debug("a sweep failed; the next one is in %.0f s: %s", delay, error)

    async def sweep(self) -> list[str]:
        """Walk the ring once; the URLs of the queues that it deleted. Raises `QueueError`."""
        own = wire.queue_name_of(self._url)
        walk = ring.walk(self._prefix, own, fleet=self._pacer.fleet)
        deleted = await _drive(self._port, walk, self._pacer)
        self.deleted += len(deleted)
        if deleted:
            logger.info("deleted %d abandoned reply queues", len(deleted))
        return deleted

    async def _forbidden(self, error: AccessDenied) -> None:
        if self._announced:
            logger.warning(
                "abandoned reply queues are not swept from here: %s. Requests go on; another"
                " requester, or a cron job with sqs_orchestrator.sweep(), has to do it",
                error,
            )
        try:
            await self._announce(False)
        except QueueError as also:
            logger.debug("the mark of a sweeper stays on %s: %s", self._url, also)
            self._announced = False

    async def _announce(self, sweeping: bool) -> None:
        """Say by a tag whether this process sweeps."""
        if sweeping == self._announced:
            return
        if sweeping:
            await self._port.tag_queue(self._url, {wire.SWEEPING_TAG: "1"})
        else:
            await self._port.untag_queue(self._url, [wire.SWEEPING_TAG])
        self._announced = sweeping


async def sweep(sqs: Connection, prefix: str, *, dry_run: bool = False) -> list[str]:
    """Delete the reply queues with *prefix* that are idle, as a running requester would.

    For a cron job or a clean-up by hand. A queue is idle when its last heartbeat is older
    than the retention in its tags, both by SQS's clock; one of another form than the
    library's own must be empty, too. No other queue is touched. Cancelling stops between
    two queues.

    Args:
        sqs: The connection.
        prefix: What the names of the reply queues begin with.
        dry_run: Delete nothing.

    Returns:
        The URLs of the queues that were deleted, or would have been.

    Raises:
        ValueError: If *prefix* is empty or not one of a reply queue.
        AccessDenied: If `sqs:ListQueues`, `sqs:ListQueueTags`, `sqs:GetQueueAttributes` or
            `sqs:DeleteQueue` is not allowed.
        QueueError: If SQS cannot be reached.
    """
    wire.check_prefix(prefix)
    return await _drive(sqs.port, ring.everything(prefix, dry_run=dry_run))


async def _drive(port: SQS, plan: ring.Plan, pacer: Pacer | None = None) -> list[str]:
    """Do what *plan* wants done, until it returns."""
    answer: Any = None
    while True:
        try:
            action = plan.send(answer)
        except StopIteration as end:
            deleted: list[str] = end.value
            return deleted
        answer = None
        match action:
            case ring.Wait(seconds):
                await asyncio.sleep(seconds)
            case ring.Saw(fleet):
                if pacer is not None:
                    pacer.saw(fleet)
            case _:
                until = asyncio.get_running_loop().time() + PATIENCE
                answer = await retrying(partial(_do, port, action), until=until)


async def _do(port: SQS, action: ring.Action) -> Any:
    match action:
        case ring.List(prefix, limit):
            listing = await port.list_queues(prefix, limit=limit)
            return ring.Listed(listing.urls, listing.complete)
        case ring.ReadTags(url):
            now = port.clock.now()
            now_ms = None if now is None else int(now * 1000)
            try:
                return ring.Tags(await port.list_queue_tags(url), now_ms)
            except QueueNotFound:
                return ring.Tags(None, now_ms)
        case ring.ReadCounts(url):
            try:
                counts = await port.get_queue_attributes(url, COUNTS)
            except QueueNotFound:
                return False
            return all(counts.get(name) == "0" for name in COUNTS)
        case ring.Delete(url):
            try:
                await port.delete_queue(url)
            except QueueNotFound:
                return False  # somebody else was faster
            return True
    raise AssertionError(action)
