"""Keeps a reply queue's tags fresh, so that no sweeper takes it for abandoned.

A heartbeat writes two tags together: the time, by SQS's clock, and the retention: the seconds of
silence after which the queue is idle. The retention fits the pace at which the *next* heartbeat
will come. So a fleet that grows may slow its heartbeats down at any time: the tags of a queue
always tell the pace that its owner keeps. The same holds while SQS throttles tag calls: then
`core.pacing.Pacer` slows the throttled requesters down, until all heartbeats of a fleet get
through.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from ..core import wire
from ..core.backoff import Backoff
from ..core.pacing import Pace, Pacer
from ..errors import AccessDenied, QueueError, QueueNotFound, Throttled
from ..logs import about, get_logger
from ..sqs.port import SQS

logger = get_logger(__name__)

JITTER: Final = 0.1
"""Each interval is longer or shorter by up to this part, so that a fleet started together
spreads out."""

STALE: Final = 5.0
"""Seconds by which a heartbeat may be late in its own tag. More shows that this machine slept,
and with it the clock that SQS's time is counted on from."""


class Heartbeat:
    """The heartbeat of one queue.

    The creation of the queue, a moment ago, wrote the first one.

    Args:
        port: The port to SQS.
        url: The queue.
        pacer: Gives the interval, and the retention.
        legacy: Also write the tag of `python-sqs-client`.
        not_there: Called when SQS says that the queue does not exist. True where it is lost by
            that, which ends the heartbeat.
        doubtful: The time that the creation wrote has turned out to be wrong: beat at once.
        random: Numbers from 0 to 1.
    """

    def __init__(
        self,
        port: SQS,
        url: str,
        *,
        pacer: Pacer,
        legacy: bool,
        not_there: Callable[[], bool],
        doubtful: bool = False,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._port = port
        self._url = url
        self._pacer = pacer
        self._legacy = legacy
        self._not_there = not_there
        self._doubtful = doubtful
        self._random = random
        self._warned: type[QueueError] | None = None
        self.beats = 0
        """Heartbeats written."""
        self.failures = 0
        """Attempts that failed."""
        self.last_success: float | None = None
        """Loop time of the last heartbeat written."""

    def __repr__(self) -> str:
        return f"<Heartbeat of {self._url}: {self.beats} beats, {self.failures} failures>"

    async def run(self) -> None:
        """Beat until cancelled, or until the queue is gone. No other failure ends it."""
        loop = asyncio.get_running_loop()
        # By what the tags say since its creation, however large the fleet was even then.
        delay = 0.0 if self._doubtful else self._pacer.configured.heartbeat
        backoff = Backoff()
        last = loop.time()
        self._pacer.late = False
        while True:
            await asyncio.sleep(delay * (1 - JITTER + 2 * JITTER * self._random()))
            pace, silence = self._pacer.stretched, loop.time() - last
            try:
                await self._beat(pace)
            except QueueNotFound as error:
                if self._not_there():
                    return
                delay = self._failed(error, pace, silence, backoff)
            except QueueError as error:
                delay = self._failed(error, pace, silence, backoff)
            except Exception:
                # A bug here would leave a live queue to the sweepers, and nobody to say so.
                logger.exception("the heartbeat of %s failed", self._url, extra=about(self._url))
                self.failures += 1
                delay = pace.heartbeat
            else:
                self._pacer.beaten(silence)
                last = loop.time()
                backoff = Backoff()
                self._recovered()
                delay = pace.heartbeat

    async def _beat(self, pace: Pace) -> None:
        """Write one heartbeat; again, where its answer shows that it was not the time."""
        loop = asyncio.get_running_loop()
        for _ in range(2):
            began, now = loop.time(), self._port.clock.now()
            if now is None:
                # Never shown, so the queue has no tags by which it could become idle.
                return
            await self._port.tag_queue(
                self._url,
                wire.heartbeat_tags(now=now, retention=pace.retention, legacy=self._legacy),
            )
            self.beats += 1
            self.last_success = loop.time()
            after = self._port.clock.now()
            if after is None or abs(after - now - (loop.time() - began)) <= STALE:
                return

    def _failed(self, error: QueueError, pace: Pace, silence: float, backoff: Backoff) -> float:
        """Take note; returns how long to wait before the next attempt."""
        self.failures += 1
        if error.transient:
            self._pacer.failed(silence, throttled=isinstance(error, Throttled))
        self._complain(error, pace, backoff)
        if isinstance(error, AccessDenied):
            backoff.attempts += 1
            return max(self._pacer.pace.heartbeat, 0.5)
        # In proportion to the interval: soon enough for the retention, which is three of them
        # at least, and seldom enough for a whole fleet that is throttled at once. However slow
        # we became meanwhile, it should get through soon after the others' do.
        interval = min(pace.heartbeat, 2 * self._pacer.pace.heartbeat)
        backoff.first = max(interval / 50, 0.1)
        backoff.cap = max(interval / 4, 0.5)
        return backoff.next()

    def _complain(self, error: QueueError, pace: Pace, backoff: Backoff) -> None:
        """One warning for each kind of failure that lasts."""
        denied = isinstance(error, AccessDenied)
        kind = type(error)
        lasts = denied or not error.transient or backoff.attempts >= 5
        if not lasts or self._warned is kind:
            logger.debug(
                "a heartbeat of %s failed, and is tried again: %s",
                self._url,
                error,
                extra=about(self._url),
            )
            return
        self._warned = kind
        if isinstance(error, Throttled):
            # No danger yet: other requesters are throttled as well, and patient therefore.
            logger.warning(
                "the heartbeat of the reply queue %s is throttled and slows down: the account"
                " makes more tag calls than SQS allows it: %s",
                self._url,
                error,
                extra=about(self._url),
            )
            return
        logger.warning(
            "the heartbeat of the reply queue %s fails%s; other requesters will take it for"
            " abandoned and delete it, %.0f s after its last heartbeat: %s",
            self._url,
            " without the permission sqs:TagQueue" if denied else "",
            pace.retention,
            error,
            extra=about(self._url),
        )

    def _recovered(self) -> None:
        if self._warned is not None:
            self._warned = None
            logger.info(
                "the heartbeat of the reply queue %s works again", self._url, extra=about(self._url)
            )
