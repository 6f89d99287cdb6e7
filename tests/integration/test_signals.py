"""Real signals to real processes: what a container's stop and a terminal's Ctrl-C do."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]

HANGS = 60
"""Seconds after which a process is taken to hang."""

PROLOGUE = """
import asyncio, json, logging, signal, sys
import sqs_orchestrator as so

endpoint_url, queues, credentials = sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3])
connection = so.connect(endpoint_url=endpoint_url, **credentials)


def poller(sqs, number=0, **options):
    async def handle(message):
        print("started", flush=True)
        await asyncio.sleep(float(message.body))
        print("finished", flush=True)

    options = {"wait_time": 1, "visibility_timeout": 60, "drain_timeout": 10, **options}
    return so.Poller(sqs, queues[number], handle, **options)

"""


class Worker:
    """A process, and what it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, line: str, count: int = 1) -> None:
        """Read until it has printed *line* so often."""
        assert self.process.stdout is not None
        while self.lines.count(line) < count:
            said = self.process.stdout.readline()
            assert said, f"the process ended without saying {line!r}"
            self.lines.append(said.strip())

    def end(self) -> int:
        """Read the rest; its exit code."""
        rest, _ = self.process.communicate(timeout=HANGS)
        self.lines += rest.split("\n")
        return self.process.returncode


Start = Callable[[str], Worker]


@pytest.fixture(scope="session")
def endpoint_url(small_server: str) -> str:
    return small_server


@pytest.fixture
def queues() -> list[str]:
    """The names of two queues."""
    return [f"signals-{uuid.uuid4().hex}" for _ in range(2)]


@pytest.fixture
def start(endpoint_url: str, queues: list[str]) -> Iterator[Start]:
    """Runs a program in a process of its own."""
    workers: list[Worker] = []

    def start(program: str) -> Worker:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROLOGUE + textwrap.dedent(program),
                endpoint_url,
                ",".join(queues),
                json.dumps(CREDENTIALS),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        workers.append(Worker(process))
        return workers[-1]

    yield start
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        worker.process.communicate()


async def left(endpoint_url: str, queue: str, *bodies: str) -> list[str]:
    """Put *bodies* into a queue that is made if need be; what it has hidden and not."""
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as sqs:
        url = await sqs.create_queue(queue)
        if bodies:
            async with so.Publisher(sqs) as publisher:
                for body in bodies:
                    await publisher.send(queue, body)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = await sqs.port.get_queue_attributes(url, names)
    return [found[name] for name in names]


PLAIN = """
    async def main():
        async with connection as sqs:
            before = signal.getsignal(signal.SIGINT)
            await poller(sqs).run()
            print("put back" if signal.getsignal(signal.SIGINT) is before else "lost", flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_lets_handler_finish_and_process_end_well(
    endpoint_url: str, queues: list[str], start: Start, number: int
) -> None:
    await left(endpoint_url, queues[0], "2")
    worker = start(PLAIN)
    worker.until("started")
    worker.process.send_signal(number)
    assert worker.end() == 0
    assert "finished" in worker.lines
    assert "put back" in worker.lines
    assert await left(endpoint_url, queues[0]) == ["0", "0"]


async def test_second_signal_stops_at_once_and_message_is_not_lost(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0], "1000")
    worker = start(PLAIN.replace("poller(sqs)", "poller(sqs, drain_timeout=1000)"))
    worker.until("started")
    worker.process.send_signal(signal.SIGTERM)
    # Two different signals, or the system might deliver them as one.
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert "finished" not in worker.lines
    visible, hidden = await left(endpoint_url, queues[0])
    assert int(visible) + int(hidden) == 1


async def test_signal_stops_all_pollers_and_a_handler_of_the_program_hears_it_too(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    for queue in queues:
        await left(endpoint_url, queue, "2")
    worker = start(
        """
        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, lambda: print("heard", flush=True))
            async with connection as sqs:
                await asyncio.gather(poller(sqs, 0).run(), poller(sqs, 1).run())
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)

        asyncio.run(main())
        """
    )
    worker.until("started", 2)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert worker.lines.count("finished") == 2
    assert worker.lines.count("heard") == 2
    for queue in queues:
        assert await left(endpoint_url, queue) == ["0", "0"]


async def test_interrupt_of_background_poller_drains_by_cancellation(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0], "2")
    worker = start(
        """
        async def main():
            async with connection as sqs, poller(sqs):
                await asyncio.sleep(1000)

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    worker.until("started")
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert "finished" in worker.lines
    assert "interrupted" in worker.lines
    assert await left(endpoint_url, queues[0]) == ["0", "0"]


async def test_program_that_ends_with_a_poller_at_work_ends_soon(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0], "1000")
    worker = start(
        """
        started = asyncio.Event()

        async def work():
            async with connection as sqs:

                @(one := so.Poller(sqs, queues[0], drain_timeout=1000)).handler
                async def handle(message):
                    started.set()
                    await asyncio.sleep(1000)

                await one.run()

        async def main():
            task = asyncio.create_task(work())
            await started.wait()

        asyncio.run(main())
        print("ended", flush=True)
        """
    )
    assert worker.end() == 0
    assert "ended" in worker.lines
    visible, hidden = await left(endpoint_url, queues[0])
    assert int(visible) + int(hidden) == 1
