"""SQS's clock, seen through the `Date` header of its responses.

Every timestamp that two machines compare is SQS's, never a machine's own: a machine whose
clock is an hour off must neither delete live queues nor drop live requests.

`Date` has whole seconds and is some network time old when it arrives. So the largest
`Date - monotonic time at receipt` ever seen is the best estimate that never runs ahead:
each sample is too small, by up to a second and the way back.
"""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

__all__ = ["Clock", "epoch_of"]


def epoch_of(date: str | None) -> float | None:
    """A `Date` header in epoch seconds; `None` where it cannot be read."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Clock:
    """Epoch seconds by SQS's clock; unknown until a response has shown it."""

    __slots__ = ("_last", "_offset")

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = ""

    def observe(self, date: str | None) -> None:
        """Take the `Date` header of a response that has just arrived.

        A header that cannot be read is passed over: proxies invent them.
        """
        # The same text again can only give a smaller offset, since time went on.
        if not date or date == self._last:
            return
        self._last = date
        epoch = epoch_of(date)
        if epoch is not None:
            self.observe_epoch(epoch)

    def observe_epoch(self, epoch: float) -> None:
        """Take SQS's time in epoch seconds, as of now or a little earlier."""
        offset = epoch - asyncio.get_running_loop().time()
        if self._offset is None or offset > self._offset:
            self._offset = offset

    @property
    def known(self) -> bool:
        """Whether any response has shown the time yet."""
        return self._offset is not None

    def now(self) -> float | None:
        """Epoch seconds by SQS's clock, up to about a second late and never early;
        `None` where no response has shown it yet."""
        if self._offset is None:
            return None
        return self._offset + asyncio.get_running_loop().time()
