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
import asyncio, json, logging, os, signal, sys
import sqs_orchestrator as so


def print(*words, flush=True):
    # Unlike Python's own, it may be interrupted by a signal whose handler prints, too.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


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


async def test_interrupt_ends_an_idle_worker_that_would_poll_for_long(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0])
    worker = start(
        """
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

        async def main():
            async with connection as sqs:
                one = poller(sqs, wait_time=20, drain_timeout=1000)
                run = asyncio.create_task(one.run())
                while not one.statistics().receives:
                    await asyncio.sleep(0.01)
                began = asyncio.get_running_loop().time()
                print("polling", flush=True)
                await run
                seconds = asyncio.get_running_loop().time() - began
                print("soon" if seconds < 15 else f"after {seconds} s", flush=True)

        asyncio.run(main())
        """
    )
    worker.until("polling")
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert any(line.startswith("dropping 1 polls") for line in worker.lines), worker.lines
    assert "soon" in worker.lines


WEB = """
    import contextlib, uvicorn

    async def program(scope, receive, send):
        assert scope["type"] == "lifespan"
        async with connection as sqs:
            one = poller(sqs)
            await receive()
            run = asyncio.create_task(one.run())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("the server ends", flush=True)
            await run
            await send({"type": "lifespan.shutdown.complete"})

    uvicorn.run(program, host="127.0.0.1", port=0, log_level="warning")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_ends_a_web_server_whose_lifespan_runs_a_poller(
    endpoint_url: str, queues: list[str], start: Start, number: int
) -> None:
    await left(endpoint_url, queues[0], "2")
    worker = start(WEB)
    worker.until("started")
    worker.process.send_signal(number)
    # When it has ended, the server raises the signal once more; of Ctrl-C it takes no notice.
    assert worker.end() == (0 if number == signal.SIGINT else -number)
    assert "the server ends" in worker.lines
    assert "finished" in worker.lines
    assert await left(endpoint_url, queues[0]) == ["0", "0"]


async def test_handler_of_the_program_is_called_and_may_end_it_after_the_drain(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0], "2")
    worker = start(
        """
        def leave(*_):
            print("heard", flush=True)
            sys.exit(7)

        async def main():
            signal.signal(signal.SIGTERM, leave)
            async with connection as sqs:
                await poller(sqs).run()

        asyncio.run(main())
        """
    )
    worker.until("started")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 7
    assert "heard" in worker.lines
    assert "finished" in worker.lines
    assert await left(endpoint_url, queues[0]) == ["0", "0"]


async def test_signal_after_the_poller_ends_the_program_though_a_server_put_the_hook_back(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0])
    worker = start(
        """
        async def main():
            async with connection as sqs:
                run = asyncio.create_task((one := poller(sqs)).run())
                while not one.statistics().receives:
                    await asyncio.sleep(0.01)
                found = signal.signal(signal.SIGTERM, lambda *_: None)
                one.stop()
                await run
                signal.signal(signal.SIGTERM, found)
                print("put back", flush=True)
                await asyncio.sleep(1000)

        asyncio.run(main())
        """
    )
    worker.until("put back")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == -signal.SIGTERM


async def test_forked_child_of_a_worker_can_be_terminated(
    endpoint_url: str, queues: list[str], start: Start
) -> None:
    await left(endpoint_url, queues[0], "0")
    worker = start(
        """
        import multiprocessing, os, time

        def idle(pipe):
            pipe.send("up")
            time.sleep(30)

        async def main():
            async with connection as sqs:

                @(one := so.Poller(sqs, queues[0], wait_time=1)).handler
                async def handle(message):
                    ours, theirs = multiprocessing.Pipe()
                    fork = multiprocessing.get_context("fork")
                    child = fork.Process(target=idle, args=[theirs])
                    child.start()
                    ours.recv()
                    child.terminate()
                    child.join(15)
                    print("child", child.exitcode, flush=True)
                    child.kill()
                    child.join()
                    one.stop()

                await one.run()

        asyncio.run(main())
        """
    )
    assert worker.end() == 0
    assert "child -15" in worker.lines
    assert await left(endpoint_url, queues[0]) == ["0", "0"]


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
