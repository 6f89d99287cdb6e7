"""The receives of one queue: how many are in flight, what they ask for, and what comes of
those that fail."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

from ..core.backoff import Backoff
from ..core.failing import FailureStreak
from ..core.groups import MARGIN, Ask
from ..core.polling import Receivers
from ..errors import QueueError, QueueNotFound
from ..health import Ailment, said
from ..logs import about, get_logger
from ..sqs.attempts import attempt
from ..sqs.port import SQS, Received
from ..tasks import DeferredCall, TaskOwner
from .statistics import Counts

logger = get_logger(__name__)

YOUNG_QUEUE_PATIENCE: Final = 3.0
"""Seconds from the start for which a queue that does not exist is taken to be too young: SQS
asks for a second after creating one (CreateQueue)."""

SHORT_POLL_PAUSE: Final = 0.5
"""Seconds between empty receives that do not wait for messages."""

REFILL_LINGER: Final = 0.001
"""Seconds after which the next receive goes out, unless a reply leaves before: time enough for
the reply of a handler that awaits nothing, which goes first."""

ARRIVAL: Final = 0.02
"""Seconds given to what has arrived, but was not read yet, before a poll is dropped. A timer rings
after the sockets have been looked at once more, so it need not be long."""


class ReceiveLoop:
    """Receives while there is room.

    *allowance* says what one more receive may ask for, given how many messages those in
    flight have asked for; *take* gets what comes. If SQS refuses for good, *owner* is asked
    to stop, and `failure` says why.
    """

    def __init__(
        self,
        owner: TaskOwner,
        port: SQS,
        url: str,
        visibility_timeout: int,
        counts: Counts,
        *,
        allowance: Callable[[int], Ask],
        take: Callable[[list[Received]], object],
    ) -> None:
        self.failure: BaseException | None = None
        self.polled: float | None = None
        """When a receive last succeeded."""
        self.consecutive_failures = 0
        """Receives that have failed since."""
        self.streak = FailureStreak()
        """The same, for how long."""
        self._owner = owner
        self._port = port
        self._url = url
        self._visibility_timeout = visibility_timeout
        self._counts = counts
        self._allowance = allowance
        self._take = take
        self._receivers = Receivers()
        self._asked = 0
        self._wide = 0
        self._wide_until = 0.0
        self._backoff = Backoff()
        # The receives whose answers have not begun to arrive, and those given up.
        self._silent: set[asyncio.Task[Any]] = set()
        self._dropped: set[asyncio.Task[Any]] = set()
        self._started = owner.loop.time()
        self.refill = DeferredCall(owner, REFILL_LINGER, self.refill_now)
        """Start the receives that should be in flight, once replies have left."""

    def ailment(self) -> Ailment | None:
        """Why nothing is received, if that is so for long."""
        since, error = self.streak.since(self._owner.loop.time()), self.streak.error
        if since is None or error is None:
            return None
        return Ailment(f"receives fail: {said(error)}", since)

    @property
    def in_flight(self) -> int:
        """The receives to wait for. If the owner is cancelled, so are they, and those that had not
        begun say nothing of it."""
        return 0 if self._owner.cancelled else self._receivers.in_flight - len(self._dropped)

    def widest(self) -> float:
        """When the last receive that asks for several messages ends, at most; 0 if none is under
        way."""
        return self._wide_until if self._wide else 0.0

    async def drop(self) -> None:
        """Drop the receives that have brought nothing yet, once no more are started."""
        if self._silent:
            await asyncio.wait(self._silent, timeout=ARRIVAL)
        if not self._silent:
            return
        logger.info(
            "dropping %d polls of %s that have brought nothing yet: messages that SQS hands to"
            " them all the same come back in %d s",
            len(self._silent),
            self._url,
            self._visibility_timeout,
            extra=about(self._url),
        )
        for task in self._silent:
            task.cancel()
        self._dropped |= self._silent

    def refill_now(self) -> None:
        """Start the receives that should be in flight."""
        receivers = self._receivers
        while receivers.in_flight < receivers.target and not self._owner.stopping:
            asked, wait = self._allowance(self._asked)
            if asked <= 0:
                return
            receivers.in_flight += 1
            self._asked += asked
            if asked > 1:
                until = self._owner.loop.time() + wait + MARGIN
                self._wide_until = max(self._wide_until, until) if self._wide else until
                self._wide += 1
            self._owner.spawn(self._receive, asked, int(wait))

    async def _receive(self, asked: int, wait: int) -> None:
        """One receive, and what comes of it."""
        self._counts["receives"] += 1
        batch: list[Received] | None = None
        loop = self._owner.loop
        began = loop.time()
        task = asyncio.current_task()
        assert task is not None
        self._silent.add(task)
        if self.consecutive_failures:
            attempt.set(1 + self.consecutive_failures)
        try:
            batch = await self._port.receive(
                self._url,
                max_messages=asked,
                wait_time=wait,
                visibility_timeout=self._visibility_timeout,
                begun=functools.partial(self._silent.discard, task),
            )
            if not batch:
                self._silent.discard(task)
                pause = self._receivers.pause(0, loop.time() - began, wait)
                await self._owner.pause(pause if wait else SHORT_POLL_PAUSE)
        except QueueError as error:
            self._silent.discard(task)
            await self._failed(error)
        except Exception as error:
            self._silent.discard(task)
            logger.exception("a receive failed in a way that it should not", extra=about(self._url))
            await self._failed(QueueError(f"{error!r}", queue=self._url, transient=True))
        except asyncio.CancelledError:
            if task not in self._dropped:
                raise
        finally:
            self._silent.discard(task)
            self._dropped.discard(task)
            self._asked -= asked
            self._wide -= asked > 1
            if batch is None:
                self._receivers.failed()
            else:
                self._receivers.ended(asked, len(batch))
        if batch is not None:
            self.polled = loop.time()
            if self.consecutive_failures:
                self.consecutive_failures = 0
                self.streak.over(self.polled)
                self._backoff.reset()
        self._take(batch or [])
        if batch is not None and len(batch) >= asked:
            # There is more where that came from.
            self.refill_now()
        else:
            self.refill()

    async def _failed(self, error: QueueError) -> None:
        self.consecutive_failures += 1
        self.streak.failed(error, self._owner.loop.time())
        young = (
            isinstance(error, QueueNotFound)
            and self.polled is None
            and self._owner.loop.time() < self._started + YOUNG_QUEUE_PATIENCE
        )
        if not error.transient and not young:
            if self.failure is None:
                logger.error("the poller of %s stops: %s", self._url, error, extra=about(self._url))
                self.failure = error
            self._owner.request_stop()
            return
        log = logger.warning if self.consecutive_failures == 1 else logger.debug
        log("polling %s failed and is tried again: %s", self._url, error, extra=about(self._url))
        # Ends early when draining.
        await self._owner.pause(self._backoff.next())
