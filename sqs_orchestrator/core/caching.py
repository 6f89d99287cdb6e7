"""What was found out a while ago, and may hold no longer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class TTLCache(Generic[V]):
    """Values by key. Each is kept for *seconds* after it was put; of more than *most*, those that
    were put first are dropped."""

    __slots__ = ("_most", "_seconds", "_values")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._values: OrderedDict[str, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, value: V, now: float) -> None:
        """Keep *value*, from *now* on, in place of what was kept before."""
        self._values[key] = (value, now + self._seconds)
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def get(self, key: str, now: float) -> V | None:
        """What is kept under *key*; `None` where nothing is, or no longer."""
        found = self._values.get(key)
        if found is None:
            return None
        if now >= found[1]:
            del self._values[key]
            return None
        return found[0]

    def discard(self, key: str) -> None:
        """Drop what is kept under *key*, if anything is."""
        self._values.pop(key, None)
