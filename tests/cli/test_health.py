"""`worker --health-port`: what a cluster sees of a worker, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.cli import serving
from sqs_orchestrator.testing import MemorySQS

from .conftest import HANGS, Command, Shell

pytestmark = pytest.mark.slow

SHOP = """
import os, time
from pathlib import Path
from sqs_orchestrator import Poller
from sqs_orchestrator import health
from sqs_orchestrator.core import failing

if "PATIENCE" in os.environ:
    health.PATIENCE = failing.PATIENCE = float(os.environ["PATIENCE"])

HERE = Path(__file__).parent

async def block(message):
    print("in work", flush=True)
    if message.body == "sleep":
        import asyncio
        await asyncio.sleep(3600 if not (HERE / "go").exists() else 0)
    while message.body == "block" and not (HERE / "go").exists():
        time.sleep(0.05)

def orders(sqs):
    return Poller(sqs, "orders", block, wait_time=1, drain_timeout=20)

def lost(sqs):
    return Poller(sqs, "no-such-queue", block, wait_time=1)
"""

AT = re.compile(r"health at port (\d+) of 127\.0\.0\.1: /livez and /readyz")


class Probe:
    """Asks a worker, as a kubelet does."""

    def __init__(self, port: int) -> None:
        self.port = port

    def now(self, path: str, method: str = "GET") -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HANGS)
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    async def __call__(self, path: str, method: str = "GET") -> tuple[int, Any]:
        return await asyncio.to_thread(self.now, path, method)

    async def until(self, path: str, seen: Callable[[int, Any], bool]) -> Any:
        """The first answer that is as *seen* says."""
        async with asyncio.timeout(HANGS):
            while True:
                status, facts = await self(path)
                if seen(status, facts):
                    return facts
                await asyncio.sleep(0.05)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


async def start(
    shell: Shell, shop: Path, *arguments: str, **environment: str
) -> tuple[Command, Probe]:
    worker = await shell.start(
        "worker",
        *("--app-dir", str(shop), "--health-port", "0", "--health-host", "127.0.0.1"),
        *arguments,
        environment={"PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    while (found := AT.search(worker.err)) is None:
        await worker.line()
    return worker, Probe(int(found[1]))


async def printed(worker: Command) -> None:
    assert worker.process.stdout is not None
    async with asyncio.timeout(HANGS):
        await worker.process.stdout.readline()


def ready(status: int, facts: Any) -> bool:
    return status == 200


def not_ready(status: int, facts: Any) -> bool:
    return status == 503


@pytest.mark.parametrize("processes", [1, 2])
async def test_worker_is_ready_once_it_polls_and_alive_but_not_ready_while_it_drains(
    guarded: tuple[Shell, MemorySQS], shop: Path, processes: int
) -> None:
    shell, memory = guarded
    worker, probe = await start(shell, shop, "shop:orders", "--processes", str(processes))
    facts = await probe.until("/readyz", ready)
    assert facts["healthy"] is True
    assert len({each["process"] for each in facts["processes"]}) == processes
    for each in facts["processes"]:
        health = each["pollers"]["shop:orders"]
        assert (health["healthy"], health["reason"]) == (True, None)
        assert health["since"].endswith("+00:00")
    assert (await probe("/livez"))[0] == 200
    assert await probe("/livez?verbose", "HEAD") == (200, None)
    assert (await probe("/"))[0] == 404
    async with so.testing.connect(memory.server) as sqs, so.Publisher(sqs) as publisher:
        await publisher.send("orders", "sleep")
    await printed(worker)
    worker.process.send_signal(signal.SIGTERM)
    facts = await probe.until("/readyz", not_ready)

    def stopping(status: int, facts: Any) -> bool:
        return "the poller is stopping" in json.dumps(facts)

    await probe.until("/readyz", stopping)
    status, facts = await probe("/livez")
    assert (status, facts["alive"]) == (200, True)
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.ended()).code == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_blocked_loop_is_not_alive_until_it_turns_again(
    guarded: tuple[Shell, MemorySQS], shop: Path, processes: int
) -> None:
    shell, memory = guarded
    worker, probe = await start(
        shell, shop, "shop:orders", "--processes", str(processes), PATIENCE="1"
    )
    await probe.until("/readyz", ready)
    async with so.testing.connect(memory.server) as sqs, so.Publisher(sqs) as publisher:
        await publisher.send("orders", "block")
    await printed(worker)
    facts = await probe.until("/livez", not_ready)
    (blocked,) = (each for each in facts["processes"] if not each["alive"])
    assert "event loop is blocked" in blocked["pollers"]["shop:orders"]["reason"]
    assert (await probe("/readyz"))[0] == 503
    (shop / "go").touch()
    await probe.until("/readyz", ready)
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.ended()).code == 0


async def test_worker_without_sqs_is_alive_and_not_ready(
    guarded: tuple[Shell, MemorySQS], shop: Path
) -> None:
    shell, memory = guarded
    worker, probe = await start(shell, shop, "shop:orders", PATIENCE="1")
    await probe.until("/readyz", ready)
    memory.server.faults.fail("ReceiveMessage", times=None)
    facts = await probe.until("/readyz", not_ready)
    assert "receives fail" in facts["processes"][0]["pollers"]["shop:orders"]["reason"]
    assert (await probe("/livez"))[0] == 200
    memory.server.faults.clear()
    await probe.until("/readyz", ready)
    worker.process.send_signal(signal.SIGINT)
    assert (await worker.ended()).code == 0


async def test_process_that_stands_still_is_not_alive_and_one_that_was_killed_is_replaced(
    guarded: tuple[Shell, MemorySQS], shop: Path
) -> None:
    shell, _ = guarded
    worker, probe = await start(shell, shop, "shop:orders", "--processes", "2")
    facts = await probe.until("/readyz", ready)
    first, second = (each["process"] for each in facts["processes"])
    os.kill(first, signal.SIGSTOP)
    facts = await probe.until("/livez", not_ready)
    (still,) = (each for each in facts["processes"] if not each["alive"])
    assert still["process"] == first
    os.kill(first, signal.SIGKILL)
    await probe.until("/livez", ready)
    facts = await probe.until("/readyz", ready)
    running = {each["process"] for each in facts["processes"]}
    assert second in running
    assert first not in running
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.ended()).code == 0


def test_pollers_are_asked_without_a_probe_since_a_blocked_loop_counts_from_then() -> None:
    asked = threading.Event()

    def processes() -> list[serving.Facts]:
        asked.set()
        return []

    with serving.serving("127.0.0.1", 0, processes):
        assert asked.wait(HANGS)


async def test_port_that_is_taken_is_one_line(guarded: tuple[Shell, MemorySQS], shop: Path) -> None:
    shell, _ = guarded
    worker, probe = await start(shell, shop, "shop:orders")
    other = await shell.start(
        *("worker", "--app-dir", str(shop), "shop:orders", "--health-host", "127.0.0.1"),
        *("--health-port", str(probe.port)),
    )
    done = await other.ended()
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith(f"error: --health-port: cannot listen on 127.0.0.1, port {probe.port}")
    worker.process.send_signal(signal.SIGINT)
    assert (await worker.ended()).code == 0
