"""One call many times: some at a time, with a progress bar, and how long each took."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from ..errors import (
    AccessDenied,
    InvalidMessage,
    MessageTooLarge,
    QueueNotFound,
    SQSOrchestratorError,
)
from .output import print_json, print_table, progress

__all__ = ["repeated", "together"]


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Await all. The first that fails cancels the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def repeated(
    call: Callable[[], Awaitable[Any]],
    count: int,
    concurrency: int,
    *,
    what: str,
    json: bool,
) -> int:
    """Make *call* that often, print the summary; returns the exit code.

    A failure counts and the rest goes on, unless it is one that all the others would have.
    """
    left = iter(range(count))
    times: list[float] = []
    failures: Counter[str] = Counter()
    with progress() as bar:
        task = bar.add_task(what, total=count)

        async def work() -> None:
            for _ in left:
                began = time.perf_counter()
                try:
                    await call()
                except (AccessDenied, QueueNotFound, InvalidMessage, MessageTooLarge):
                    raise
                except SQSOrchestratorError as error:
                    failures[type(error).__name__] += 1
                else:
                    times.append(time.perf_counter() - began)
                bar.advance(task)

        began = time.perf_counter()
        await together(*(work() for _ in range(min(concurrency, count))))
        seconds = time.perf_counter() - began
    summary = _summary(times, failures, seconds)
    if json:
        print_json(summary)
    else:
        _show(summary, what)
    return 1 if failures else 0


def _summary(times: Sequence[float], failures: Counter[str], seconds: float) -> dict[str, Any]:
    ordered = sorted(times)
    latency = None
    if ordered:
        latency = {
            "min": ordered[0],
            **{f"p{part}": _quantile(ordered, part / 100) for part in (50, 95, 99)},
            "max": ordered[-1],
        }
    return {
        "succeeded": len(ordered),
        "failed": dict(failures),
        "seconds": seconds,
        "per_second": len(ordered) / seconds if seconds else None,
        "latency_seconds": latency,
    }


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest time that *part* of all did not exceed."""
    return ordered[min(max(-int(-part * len(ordered) // 1) - 1, 0), len(ordered) - 1)]


def _show(summary: dict[str, Any], what: str) -> None:
    rows: list[tuple[str, str]] = [
        (what, f"{summary['succeeded']:,} in {summary['seconds']:.2f} s"),
        ("per second", f"{summary['per_second'] or 0:,.0f}"),
    ]
    rows += [(f"failed: {name}", f"{count:,}") for name, count in summary["failed"].items()]
    for name, seconds in (summary["latency_seconds"] or {}).items():
        rows.append((name, f"{seconds * 1000:,.1f} ms"))
    print_table(["", ">"], rows)
