"""One side of a contender, in a process of its own: `python -m tests.benchmarks.side …`.

It takes orders, one line of JSON each, and answers each with one. When its input ends it ends
at once: the server that it used ends too.

Nothing is imported here but Python's own, since some peers live in environments of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

REGION: Final = "us-east-1"

CLIENT: Final[dict[str, Any]] = {
    "region_name": REGION,
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}
"""What every contender passes along with the endpoint."""


@dataclass
class Side:
    """What all sides have in common. An order is the name of a method."""

    endpoint_url: str
    queue: str
    options: dict[str, Any]
    calls: Counter[str] = field(default_factory=Counter)
    """API calls begun, by operation: one per HTTP request, refused and repeated ones too."""
    handled: int = 0
    """One-way messages handled."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _last: float = 0.0
    _goal: float = math.inf

    def __post_init__(self) -> None:
        self._reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Get ready: all that is not to be measured."""

    async def expect(self, at_a_time: int) -> None:
        """Get ready for so many messages at a time. It never becomes fewer."""

    async def mark(self) -> dict[str, Any]:
        """How much CPU this process has used, user and system, and what it has called."""
        cpu = time.process_time()
        return {"cpu": cpu, "calls": dict(self.calls), "handled": self.handled}

    async def wait_handled(self, at_least: int) -> float:
        """Wait until so many one-way messages have been handled; returns when that was."""
        self._reached.clear()
        self._goal = at_least
        if self.handled < at_least:
            await self._reached.wait()
        self._goal = math.inf
        return self._last

    def handle(self, count: int = 1) -> None:
        """Take note of one-way messages; from any thread."""
        self.handled += count
        self._last = time.monotonic()
        if self.handled >= self._goal:
            self._loop.call_soon_threadsafe(self._reached.set)

    def count_calls_of(self, client: Any) -> None:
        """Count the HTTP requests that a client of botocore or aiobotocore makes."""

        def count(event_name: str, **_: Any) -> None:
            self.calls[event_name.rpartition(".")[2]] += 1

        client.meta.events.register("before-send.sqs", count)


def bodies(count: int) -> Iterator[str]:
    """Bodies of about 100 bytes, each different, the same for every contender."""
    rest = '"customer": "someone", "items": ["one", "two", "three"]'
    for number in range(count):
        yield f'{{"id": {number}, {rest}}}'.ljust(100)


def told(began: float, latencies: Sequence[float]) -> dict[str, float]:
    """What a requester answers after a run."""
    ended = time.monotonic()
    ordered = sorted(latencies)
    return {
        "began": began,
        "seconds": ended - began,
        "median": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
    }


async def serve(make: Callable[[], Side]) -> None:
    """Carry out orders until there are no more."""
    side = make()
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    listening = asyncio.create_task(_listen(orders))
    while not listening.done():
        order = await orders.get()
        method = getattr(side, order.pop("order"))
        print(json.dumps(await method(**order)), flush=True)


async def _listen(orders: asyncio.Queue[dict[str, Any]]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        orders.put_nowait(json.loads(line))
    # Whatever goes on: leaving in good order would take as long as a poll.
    os._exit(0)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module(name).new_event_loop
    return factory


def main() -> None:
    """Play the role that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module", help="in tests.benchmarks.sides")
    parser.add_argument("role", choices=["requester", "worker"])
    parser.add_argument("endpoint_url")
    parser.add_argument("queue")
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    module = importlib.import_module(f"tests.benchmarks.sides.{given.module}")
    kind: type[Side] = getattr(module, given.role.capitalize())
    with asyncio.Runner(loop_factory=_loop_factory(given.loop)) as runner:
        runner.run(serve(lambda: kind(given.endpoint_url, given.queue, given.options)))


if __name__ == "__main__":
    main()
