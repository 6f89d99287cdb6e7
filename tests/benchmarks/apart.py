"""Figures that one process shows alone. `python -m tests.benchmarks.apart KIND …` is that
process; it prints JSON. The functions here start it."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqs_orchestrator import Message, Poller, Publisher, ReplyQueue
from sqs_orchestrator.testing import MemoryServer, VirtualTimeLoop, connect
from tests.benchmarks.contenders import ROOT
from tests.benchmarks.side import bodies
from tests.benchmarks.sides.ours import Requester

PENDING: Final = 10_000
HOURS: Final = 24


# --------------------------------------------------------------------------- import

_IMPORT: Final = """
import time
began = time.perf_counter()
import aiobotocore.session
between = time.perf_counter()
import sqs_orchestrator
print(between - began, time.perf_counter() - between)
"""


def measure_import(times: int) -> dict[str, float]:
    """Seconds that importing takes: aiobotocore, and ours after it. Medians."""
    theirs: list[float] = []
    ours: list[float] = []
    for number in range(times + 1):
        command = [sys.executable, "-c", _IMPORT]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
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
    end.set_result(None)
    await asyncio.wait(waiting)
    waiting.clear()

    before = measure()
    requests = [
        asyncio.create_task(publisher.request(queue, text, timeout=math.inf))
        for text in bodies(PENDING)
    ]
    await requester.all_sent()
    request_bytes = (measure() - before) / PENDING
    assert publisher.statistics().pending == len(requests)
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
                live = replies._live
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


# -------------------------------------------------------------------------- process


def _in_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.apart", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(kind: str, *arguments: str) -> None:
    """Measure, and print what was found."""
    if kind == "idle":
        found = _idle()
    else:
        endpoint_url, how = arguments
        if how == "traced":
            tracemalloc.start()
        found = asyncio.run(_memory(endpoint_url, how))
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
