"""Figures that one process shows alone. `python -m tests.benchmarks.apart KIND …` is that
process; it prints JSON. The functions here start it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from sqs_orchestrator import Message, Poller, Publisher, ReplyQueue
from sqs_orchestrator.core import wire
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop, connect
from tests.benchmarks.programs import ROOT
from tests.benchmarks.side import bodies
from tests.benchmarks.sides.ours import PATIENCE, Requester

PENDING: Final = 10_000
HOURS: Final = 24


# --------------------------------------------------------------------------- import

_IMPORT: Final = """
import time
began = time.process_time()
import aiobotocore.session
between = time.process_time()
import sqs_orchestrator
print(between - began, time.process_time() - between)
"""


def measure_import(times: int) -> dict[str, float]:
    """Seconds of CPU that importing takes: aiobotocore, and ours after it. Medians. By CPU,
    since nothing is waited for once the files are in the system's cache."""
    theirs: list[float] = []
    ours: list[float] = []
    # An installed package has its bytecode, whatever this environment says of writing it.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in range(times + 1):
        command = [sys.executable, "-c", _IMPORT]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        )
        if number:  # the first compiles
            one, other = map(float, done.stdout.split())
            theirs.append(one)
            ours.append(other)
    return {
        "aiobotocore": statistics.median(theirs),
        "ours beyond aiobotocore": statistics.median(ours),
        "most": max(ours),
        "least": min(ours),
    }


# --------------------------------------------------------------------------- memory


def measure_memory(endpoint_url: str) -> dict[str, float]:
    """Bytes that a pending request takes, by Python's own count and by the system's."""
    traced = _in_process("memory", endpoint_url, "traced")
    resident = _in_process("memory", endpoint_url, "resident")
    return {
        "bytes of a request": traced["request"],
        "bytes of a task": traced["task"],
        "bytes beyond a task": traced["request"] - traced["task"],
        "resident bytes beyond a task": resident["request"] - resident["task"],
    }


async def _memory(endpoint_url: str, how: str) -> dict[str, float]:
    measure: Callable[[], float] = _traced if how == "traced" else _resident
    queue = f"memory-{how}"
    requester = Requester(endpoint_url, "", {})
    await requester.open()
    await requester.sqs.create_queue(queue)
    publisher, loop = requester.publisher, asyncio.get_running_loop()

    # Whatever the first messages leave behind is not theirs.
    warming = [asyncio.create_task(publisher.request(queue, text)) for text in bodies(200)]
    await asyncio.sleep(1)
    for task in warming:
        task.cancel()
    await asyncio.wait(warming)
    warming.clear()

    end = loop.create_future()

    async def wait() -> None:
        await end

    before = measure()
    waiting = [asyncio.create_task(wait()) for _ in range(PENDING)]
    await asyncio.sleep(0.1)
    task_bytes = (measure() - before) / PENDING

    # The others stay: what they would give back would be taken before the system is asked.
    before = measure()
    requests = [
        asyncio.create_task(publisher.request(queue, text, timeout=PATIENCE))
        for text in bodies(PENDING)
    ]
    await requester.all_sent()
    request_bytes = (measure() - before) / PENDING
    assert publisher.statistics().pending == len(requests)
    assert not any(task.done() for task in waiting)
    return {"request": request_bytes, "task": task_bytes}


def _traced() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# ----------------------------------------------------------------------------- idle


def measure_idle() -> dict[str, float]:
    """What a requester calls while nobody asks, in hours of virtual time."""
    return _in_process("idle")


def _idle() -> dict[str, float]:
    async def answer(message: Message) -> str:
        return "yes"

    async def watch() -> dict[str, float]:
        server = MemoryServer(latency=0.02)
        async with connect(server) as sqs, ReplyQueue(sqs) as replies:
            await sqs.create_queue("orders")
            async with Publisher(sqs, reply_queue=replies) as publisher:
                async with Poller(sqs, "orders", answer, wait_time=1):
                    await publisher.request("orders", "one")
                # The deletes, and the poll that was in flight.
                await asyncio.sleep(30)
                server.calls.clear()
                live = replies.current
                assert live is not None
                assert live.sweeper is not None
                before = live.sweeper.sweeps
                await asyncio.sleep(HOURS * 3600)
                counted = dict(server.calls)
                sweeps = live.sweeper.sweeps - before
        return {
            "ReceiveMessage": counted.get("ReceiveMessage", 0) / HOURS,
            "heartbeats per minute": counted.get("TagQueue", 0) / HOURS / 60,
            "listings per sweep": counted.get("ListQueues", 0) / sweeps,
            "sweeps per hour": sweeps / HOURS,
            "calls per hour": sum(counted.values()) / HOURS,
        }

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(watch())


# ------------------------------------------------------------------------- resolving


class _Answering(MemorySQS):
    """Answers each request to the queue `answered` at once, and none to others. So nothing is
    left but what the library itself does for a requester."""

    def __init__(self) -> None:
        super().__init__()
        self._replies: deque[Received] = deque()
        self._polls: deque[asyncio.Future[None]] = deque()

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        await asyncio.sleep(0)
        if queue_url.endswith("/answered"):
            for entry in entries:
                reply_to = wire.parse_request(entry.attributes).reply_to
                assert reply_to is not None
                attributes = wire.reply_attributes(reply_to)
                self._replies.append(Received("id", "handle", entry.body, attributes))
            # One poll for each ten: SQS wakes none that it has nothing for.
            for _ in range(-(-len(self._replies) // 10)):
                if self._polls:
                    self._polls.popleft().set_result(None)
        return ["id"] * len(entries)

    async def receive(self, queue_url: str, **_: Any) -> list[Received]:
        while not self._replies:
            poll = asyncio.get_running_loop().create_future()
            self._polls.append(poll)
            await poll
        return [self._replies.popleft() for _ in range(min(10, len(self._replies)))]

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        return [None] * len(receipt_handles)


def measure_resolving(rounds: int) -> dict[str, Any]:
    """Seconds of the requester's CPU per request, while few others wait and while many do."""
    return _in_process("resolving", str(rounds))


async def _resolving(rounds: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"few": [], "many": []}
    async with connect(port=_Answering()) as sqs, Publisher(sqs) as publisher:
        answered, unanswered = [await sqs.create_queue(name) for name in ("answered", "other")]
        texts = list(bodies(5_000))

        async def ask_all() -> float:
            left = iter(texts)

            async def ask_on() -> None:
                for text in left:
                    await publisher.request(answered, text, timeout=PATIENCE)

            began = time.process_time()
            await asyncio.gather(*(ask_on() for _ in range(100)))
            return (time.process_time() - began) / len(texts)

        await ask_all()
        for _ in range(rounds):
            for name, others in (("few", 10), ("many", PENDING)):
                held = [
                    asyncio.create_task(publisher.request(unanswered, text, timeout=PATIENCE))
                    for text in bodies(others)
                ]
                await asyncio.sleep(1)
                gc.collect()
                found[name].append(await ask_all())
                for task in held:
                    task.cancel()
                await asyncio.wait(held)
    ratios = [many / few for few, many in zip(found["few"], found["many"], strict=True)]
    return {
        "10 pending, ms": statistics.median(found["few"]) * 1000,
        "10,000 pending, ms": statistics.median(found["many"]) * 1000,
        "ratios": ratios,
    }


# -------------------------------------------------------------------------- process


def _in_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.apart", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(kind: str, *arguments: str) -> None:
    """Measure, and print what was found."""
    found: dict[str, Any]
    if kind == "idle":
        found = _idle()
    elif kind == "resolving":
        found = asyncio.run(_resolving(int(*arguments)))
    else:
        endpoint_url, how = arguments
        if how == "traced":
            tracemalloc.start()
        found = asyncio.run(_memory(endpoint_url, how))
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
