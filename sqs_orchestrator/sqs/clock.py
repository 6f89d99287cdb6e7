"""SQS's clock, seen through the `Date` header of its answers.

Every timestamp that two machines compare is SQS's, never a machine's own: a machine whose
clock is an hour off must neither delete live queues nor drop live requests. Nor is it anybody
else's: a proxy's page has a `Date` too, and one that is an hour ahead would do the same. So
`sqs.answers` tells what SQS itself has sent from the rest.

`Date` has whole seconds and is some network time old when it arrives. So the largest
`Date - monotonic time at receipt` is the best estimate that never runs ahead: each sample is
too small, by up to a second and the way back. It is the largest of the last minutes, since two
clocks drift apart, and what was wrong once must not be believed for ever.
"""

from __future__ import annotations

import asyncio
import math
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["Clock", "epoch_of"]

WINDOW: Final = 600.0
"""Seconds for which a sample counts, at least; at most twice that, while samples come."""


def epoch_of(date: str | None) -> float | None:
    """A `Date` header in epoch seconds; `None` where it cannot be read."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Clock:
    """Epoch seconds by SQS's clock; unknown until an answer has shown it."""

    __slots__ = ("_before", "_began", "_best", "_latest", "_sure", "date", "offset", "shown")

    def __init__(self) -> None:
        self.shown: float | None = None
        """What the latest answer showed, in epoch seconds, at the time that it did."""
        self.offset: float | None = None
        """SQS's time less the loop's."""
        self._best = self._before = -math.inf
        """The largest that samples showed: in this window, and in the one before."""
        self._began = 0.0
        self._latest = 0.0
        self._sure = False
        self.date: str | None = None
        """The `Date` of the last answer that was taken: again it would show nothing new."""

    def observe(self, date: str | None) -> None:
        """Take the `Date` of a successful answer of SQS's that has just arrived.

        One that cannot be read is passed over.
        """
        # The same text again can only give a smaller offset, since time went on.
        if not date or date == self.date:
            return
        self.date = date
        epoch = epoch_of(date)
        if epoch is not None:
            self.observe_epoch(epoch)

    def observe_epoch(self, epoch: float) -> None:
        """Take SQS's time in epoch seconds, as of now or a little earlier."""
        if not self._sure:
            self._forget()
            self._sure = True
        self._take(epoch)

    def glimpse(self, date: str | None) -> None:
        """Take the `Date` of a refusal of SQS's: better than nothing, and good for nothing
        once a successful answer has shown the time."""
        if not self._sure and (epoch := epoch_of(date)) is not None:
            self._take(epoch)

    def correct(self, date: str | None) -> None:
        """Take the `Date` of a refusal for the time that a call was signed with, forward and
        back: whatever showed another time before was wrong, or the machine has slept."""
        if (epoch := epoch_of(date)) is not None:
            self._forget()
            self._sure = True
            self._take(epoch)

    def _forget(self) -> None:
        self._best = self._before = -math.inf
        self.date = None

    def _take(self, epoch: float) -> None:
        now = asyncio.get_running_loop().time()
        self.shown, self._latest = epoch, epoch - now
        if now - self._began > WINDOW:
            self._before, self._best, self._began = self._best, -math.inf, now
        self._best = max(self._best, self._latest)
        self.offset = max(self._best, self._before)

    @property
    def known(self) -> bool:
        """Whether any answer has shown the time yet."""
        return self.offset is not None

    def now(self) -> float | None:
        """Epoch seconds by SQS's clock, up to about a second late and never early;
        `None` where no answer has shown it yet."""
        if self.offset is None:
            return None
        return self.offset + asyncio.get_running_loop().time()

    def cautious(self) -> float | None:
        """The same by the latest answer, where that shows an earlier time: what must not be
        done too early is not done for one wrong answer before."""
        if self.offset is None:
            return None
        return min(self.offset, self._latest) + asyncio.get_running_loop().time()
