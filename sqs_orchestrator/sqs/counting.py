"""A wrap that counts API calls: what SQS bills and throttles by is the call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from .wrapping import Call, Wrap

__all__ = ["counting"]


def counting(calls: Counter[str]) -> Wrap:
    """A wrap that counts each call in *calls* as it begins, by its operation. Whatever becomes of
    it: SQS bills for refusals too."""

    async def count(call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        calls[call.operation] += 1
        return await call_next(call)

    return count
