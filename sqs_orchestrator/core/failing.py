"""How long something has failed, and when that counts."""

from __future__ import annotations

import math
from typing import Final

PATIENCE: Final = 10.0
"""Seconds for which something may fail before it counts: throttling and lost connections are
common, and most of them are over by then."""

FORGOTTEN: Final = 60.0
"""Seconds after the last failure from which on it says nothing any more about what is tried only
when somebody asks for it. A service that gets no requests while it is not healthy would else never
become so again."""


class FailureStreak:
    """The failures in a row of one thing, which counts as failing once they have lasted for
    `PATIENCE`, or at once where they will not heal by themselves.

    *forgotten* is for how many seconds the last failure counts.
    """

    __slots__ = ("_forgotten", "_healed", "_last", "_lasting", "_since", "error")

    def __init__(self, forgotten: float = math.inf) -> None:
        self.error: Exception | None = None
        """The last failure; `None` if it did not fail."""
        self._forgotten = forgotten
        self._since = self._last = 0.0
        self._lasting = False
        self._healed = -math.inf

    def __repr__(self) -> str:
        return f"<FailureStreak {self.error!r} since {self._since}>"

    def failed(self, error: Exception, now: float, *, lasting: bool = False) -> None:
        """It has failed once more; *lasting* if that will not heal by itself."""
        if self.error is None or now > self._last + self._forgotten:
            if self.error is not None:
                self.over(self._last + self._forgotten)
            self._since = now
        self.error, self._last, self._lasting = error, now, lasting

    def over(self, now: float) -> None:
        """It works again."""
        if self._counts(now):
            self._healed = now
        self.error = None

    def since(self, now: float) -> float | None:
        """Since when it fails; `None` where it works, or nobody knows."""
        if self.error is None or now > self._last + self._forgotten or not self._counts(now):
            return None
        return self._since

    def healed(self, now: float) -> float:
        """When it last stopped to fail; minus infinity if it never did."""
        forgotten = self._last + self._forgotten
        if self.error is not None and now > forgotten and self._counts(forgotten):
            return forgotten
        return self._healed

    def _counts(self, now: float) -> bool:
        return self.error is not None and (self._lasting or now >= self._since + PATIENCE)
