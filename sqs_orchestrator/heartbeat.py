"""Keeps a reply queue's tags fresh, so that no sweeper takes it for abandoned."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from .core import wire
from .core.backoff import Backoff
from .core.ring import Pacer
from .errors import AccessDenied, QueueError, QueueNotFound
from .sqs.port import SQS

logger = logging.getLogger(__name__)

JITTER = 0.1
"""Each interval is up to this part shorter, so that a fleet started together spreads out."""


class Heartbeat:
    """The heartbeat of one queue.

    *pacer* says how often, and after what silence the queue is idle: both go into the tags
    together, so a slower beat never meets an old, shorter retention. *lost* is called when
    the queue is gone; it ends the heartbeat.
    """

    def __init__(
        self,
        port: SQS,
        url: str,
        *,
        pacer: Pacer,
        legacy: bool,
        lost: Callable[[], None],
    ) -> None:
        self._port = port
        self._url = url
        self._pacer = pacer
        self._legacy = legacy
        self._lost = lost
        self.beats = 0
        """Heartbeats written."""
        self.failures = 0
        """Heartbeats that failed."""
        self._warned = False

    async def run(self) -> None:
        """Beat until cancelled, or until the queue is gone. The first is in its creation."""
        backoff = Backoff(first=1.0, cap=10.0)
        delay = self._next()
        while True:
            await asyncio.sleep(delay)
            try:
                await self.beat()
            except QueueNotFound:
                self._lost()
                return
            except QueueError as error:
                self.failures += 1
                self._complain(error)
                # Soon again, whatever it was: while it fails, the queue grows old.
                delay = min(backoff.next(), self._next())
            else:
                backoff.reset()
                delay = self._next()

    async def beat(self) -> None:
        """Write one heartbeat; raises `QueueError`."""
        now = self._port.clock.now()
        if now is None:
            return
        tags = wire.heartbeat_tags(
            now=now, retention=self._pacer.pace.retention, legacy=self._legacy
        )
        await self._port.tag_queue(self._url, tags)
        self.beats += 1

    def _next(self) -> float:
        return self._pacer.pace.heartbeat * (1 - JITTER * random.random())

    def _complain(self, error: QueueError) -> None:
        if not self._warned:
            self._warned = True
            after = "without sqs:TagQueue " if isinstance(error, AccessDenied) else ""
            logger.warning(
                "the heartbeat of %s fails; %sother requesters will take the queue for"
                " abandoned, and delete it, after %.0f s: %s",
                self._url,
                after,
                self._pacer.pace.retention,
                error,
            )
