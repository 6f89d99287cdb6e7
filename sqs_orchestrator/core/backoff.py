"""How long to wait before trying again: exponential backoff with jitter.

Half of each delay is random. So processes that failed together do not come back together,
and still no delay is so short that a server that fails at once is called in a spin.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The delays of one thing that fails again and again, in seconds."""

    __slots__ = ("_random", "attempts", "cap", "first")

    def __init__(
        self,
        first: float = 0.1,
        cap: float = 5.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.first = first
        self.cap = cap
        self.attempts = 0
        """Failures in a row."""
        self._random = random

    def __repr__(self) -> str:
        return f"<Backoff after {self.attempts} failures>"

    def next(self) -> float:
        """How long to wait after one more failure."""
        # The exponent is bounded: 2.0**1024 is an error, and a day of failures gets there.
        whole = min(self.cap, self.first * 2.0 ** min(self.attempts, 32))
        self.attempts += 1
        return whole * (0.5 + self._random() / 2)

    def reset(self) -> None:
        """It works again."""
        self.attempts = 0
