"""What was found out a while ago, and may hold no longer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class TTLCache(Generic[V]):
    """Values by key. Each is kept for *seconds* after it was put; of more than *most*, those that
    were put first are dropped."""

    __slots__ = ("_most", "_seconds", "entries")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self.entries: OrderedDict[str, tuple[V, float]] = OrderedDict()
        """Each value and when it ends, those first that were put first."""

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: str, value: V, now: float) -> None:
        """Keep *value*, from *now* on, in place of what was kept before."""
        self.entries[key] = (value, now + self._seconds)
        self.entries.move_to_end(key)
        if len(self.entries) > self._most:
            self.entries.popitem(last=False)

    def get(self, key: str, now: float) -> V | None:
        """What is kept under *key*; `None` where nothing is, or no longer."""
        found = self.entries.get(key)
        if found is None:
            return None
        if now >= found[1]:
            del self.entries[key]
            return None
        return found[0]

    def discard(self, key: str) -> None:
        """Drop what is kept under *key*, if anything is."""
        self.entries.pop(key, None)
