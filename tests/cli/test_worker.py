"""`worker`, as users start it: several pollers, processes and signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.testing import MemorySQS

from .conftest import Command, Result, Shell

pytestmark = pytest.mark.slow

SHOP = r"""
import asyncio, os
from contextlib import asynccontextmanager
from sqs_orchestrator import Poller

QUEUE = os.environ["QUEUE"]

def orders(sqs):
    poller = Poller(sqs, QUEUE, concurrency=5, wait_time=1, drain_timeout=20)

    @poller.handler
    async def handle(message):
        await asyncio.sleep(0.3)
        return {"done": message.json(), "process": os.getpid(), "receives": message.receive_count}

    return poller

@asynccontextmanager
async def others(sqs):
    print("opened", flush=True)
    async def handle(message):
        print("handled", flush=True)
        return f"the others' {VERSION}"
    try:
        yield Poller(sqs, QUEUE + "_dlq", handle, wait_time=1)
    finally:
        await sqs.queue_url(QUEUE)  # which it could not, were the connection closed before
        print("closed", flush=True)

async def later(sqs):
    return orders(sqs)

def lost(sqs):
    return Poller(sqs, "no-such-queue", print_it, wait_time=1)

async def print_it(message):
    print(message.body)

def wrong(sqs):
    return 5

def refusing(sqs):
    return Poller(sqs, QUEUE, concurrency=0)

async def failing(sqs):
    raise RuntimeError("\x1b[31m no database")

@asynccontextmanager
async def unopened(sqs):
    open(QUEUE + "/no-such-file")
    yield

def unlike():
    return 5

number = 5
VERSION = 1
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The directory of an application."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "broken.py").write_text("import shop\n1 / 0\n")
    (tmp_path / "lacking.py").write_text("import no_such_package\n")
    return tmp_path


async def start(
    shell: Shell, shop: Path, queue: str, *arguments: str, log_level: str = "warning"
) -> Command:
    return await shell.start(
        "worker",
        *("--app-dir", str(shop), "--log-level", log_level, *arguments),
        environment={"QUEUE": queue, "PYTHONDONTWRITEBYTECODE": "1"},
    )


LISTENS = re.compile(r"process (\d+): shop:\w+ listens on")


async def listening(command: Command, count: int) -> list[int]:
    """Wait for so many start-up lines; the processes that they name."""
    while len(found := LISTENS.findall(command.err)) < count:
        seen = len(command.err)
        await command.line()
        assert len(command.err) > seen
    return [int(each) for each in found]


def stop(command: Command, number: signal.Signals = signal.SIGTERM) -> None:
    command.process.send_signal(number)


@pytest.mark.parametrize("options", [[], ["--processes", "2"], ["--uvloop"]])
async def test_terminated_worker_under_load_loses_nothing(
    shell: Shell, sqs: so.Connection, queue: str, shop: Path, options: Sequence[str]
) -> None:
    if "--uvloop" in options:
        pytest.importorskip("uvloop")
    processes = 2 if "--processes" in options else 1
    first = await start(shell, shop, queue, "shop:orders", *options)
    await listening(first, processes)
    async with so.Publisher(sqs) as publisher, asyncio.TaskGroup() as group:
        asked = [
            group.create_task(publisher.request(queue, number, timeout=50)) for number in range(60)
        ]
        # In the middle: some are answered, some are in work, some wait.
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        stop(first)
        done = await first.ended()
        assert done.code == 0
        assert not all(each.done() for each in asked)
        second = await start(shell, shop, queue, "shop:orders")
    replies = [each.result().json() for each in asked]
    assert [reply["done"] for reply in replies] == list(range(60))
    assert len({reply["process"] for reply in replies}) == processes + 1
    stop(second)
    assert (await second.ended()).code == 0


async def test_interrupt_ends_all_pollers_and_closes_what_they_opened(
    shell: Shell, queue: str, shop: Path, sqs: so.Connection
) -> None:
    worker = await start(shell, shop, queue, "shop:later", "shop:others")
    (process, same) = await listening(worker, 2)
    assert process == same == worker.process.pid
    assert f"shop:others listens on {queue}_dlq at http" in worker.err
    async with so.Publisher(sqs) as publisher:
        assert (await publisher.request(queue, "1")).json()["done"] == 1
        assert (await publisher.request(f"{queue}_dlq", "x")).body == "the others' 1"
    stop(worker, signal.SIGINT)
    done = await worker.ended()
    assert (done.code, done.out) == (0, "opened\nhandled\nclosed\n")


async def test_ctrl_c_of_a_terminal_reaches_each_process_once(
    shell: Shell, queue: str, shop: Path, sqs: so.Connection
) -> None:
    work = "print(1, flush=True); await asyncio.sleep(3)"
    (shop / "shop.py").write_text(SHOP.replace("await asyncio.sleep(0.3)", work))
    worker = await start(shell, shop, queue, "shop:orders", "--processes", "2", log_level="info")
    processes = await listening(worker, 2)
    # Before that, one has begun nothing, and a signal ends it at once.
    while worker.err.count(": polling ") < 2:
        await worker.line()
    assert worker.process.pid not in {os.getpgid(each) for each in processes}
    async with so.Publisher(sqs) as publisher:
        asked = asyncio.create_task(publisher.request(queue, "1", timeout=30))
        assert worker.process.stdout is not None
        await worker.process.stdout.readline()  # it is in work
        # A terminal sends it to all that run in it.
        os.killpg(worker.process.pid, signal.SIGINT)
        done = await worker.ended()
        assert (await asked).json()["done"] == 1
    assert done.code == 0
    assert done.err.count("stops: SIGINT") == 2
    assert "again" not in done.err


async def test_killed_process_is_replaced(
    shell: Shell, queue: str, shop: Path, sqs: so.Connection
) -> None:
    worker = await start(shell, shop, queue, "shop:orders", "--processes", "2")
    before = await listening(worker, 2)
    os.kill(before[0], signal.SIGKILL)
    await worker.says("ended by SIGKILL: starting another")
    assert len({*await listening(worker, 3)}) == 3
    async with so.Publisher(sqs) as publisher:
        await publisher.request(queue, "1")
    stop(worker)
    assert (await worker.ended()).code == 0


async def test_workers_end_with_their_supervisor(shell: Shell, queue: str, shop: Path) -> None:
    worker = await start(shell, shop, queue, "shop:others", "--processes", "2")
    await listening(worker, 2)
    worker.process.kill()
    # They hold its output, which ends with the last of them.
    done = await worker.ended()
    assert done.out.count("closed") == 2


async def test_second_signal_reaches_the_processes(
    shell: Shell, queue: str, shop: Path, sqs: so.Connection
) -> None:
    work = "print(1, flush=True); await asyncio.sleep(3600)"
    (shop / "shop.py").write_text(SHOP.replace("await asyncio.sleep(0.3)", work))
    worker = await start(shell, shop, queue, "shop:orders", "--processes", "2", log_level="info")
    await listening(worker, 2)
    async with so.Publisher(sqs) as publisher:
        await publisher.send(queue, "1")
    assert worker.process.stdout is not None
    await worker.process.stdout.readline()  # it is in work
    stop(worker)
    await worker.says("for handlers (1")
    stop(worker)
    done = await worker.ended()
    assert done.code == 0
    assert "stops at once: SIGTERM, again" in done.err


async def test_changed_file_is_loaded_anew(
    shell: Shell, queue: str, shop: Path, sqs: so.Connection
) -> None:
    worker = await start(shell, shop, queue, "shop:others", "--reload")
    await listening(worker, 1)
    async with so.Publisher(sqs) as publisher:
        assert (await publisher.request(f"{queue}_dlq", "x")).body == "the others' 1"
        (shop / "shop.py").write_text("VERSION = \n")
        await worker.says("it starts again when a file changes")
        assert "SyntaxError" in worker.err
        (shop / "shop.py").write_text(SHOP.replace("VERSION = 1", "VERSION = 22"))
        await listening(worker, 2)
        assert (await publisher.request(f"{queue}_dlq", "x")).body == "the others' 22"
    stop(worker)
    done = await worker.ended()
    assert (done.code, done.out) == (0, "opened\nhandled\nclosed\n" * 2)


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
@pytest.mark.parametrize(
    ("poller", "code", "text"),
    [
        ("shop", 2, "given as module:name, not 'shop'"),
        ("nowhere:orders", 2, "there is no module 'nowhere'"),
        ("shop:nothing", 2, "shop has no 'nothing'"),
        ("shop:number", 2, "is no function that gets the connection"),
        ("shop:wrong", 2, "shop:wrong made no Poller, but int"),
        ("shop:refusing", 1, "shop:refusing failed: {shop}, line 43: ValueError: concurrency "),
        ("shop:failing", 1, "{shop}, line 46: RuntimeError: \\x1b[31m no database"),
        ("shop:unopened", 1, "{shop}, line 50: FileNotFoundError: "),
        ("shop:unlike", 1, "{shop}, line 53: TypeError: unlike() takes 0"),
        ("broken:orders", 1, "broken.py, line 2: ZeroDivisionError: division by zero"),
        ("lacking:orders", 1, "lacking cannot be imported: No module named 'no_such_package'"),
        ("shop:lost", 1, "no-such-queue"),
    ],
)
async def test_worker_that_cannot_work_ends_with_one_line(
    guarded: tuple[Shell, MemorySQS],
    shop: Path,
    poller: str,
    code: int,
    text: str,
    processes: list[str],
) -> None:
    shell, _ = guarded
    worker = await start(shell, shop, "orders", poller, *processes)
    done = await worker.ended()
    assert done.code == code
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) in ({1} if not processes else {1, 2})
    assert text.format(shop=shop / "shop.py") in errors[0]


async def test_one_poller_that_fails_ends_the_others_after_their_work(
    guarded: tuple[Shell, MemorySQS], shop: Path
) -> None:
    shell, _ = guarded
    worker = await start(shell, shop, "orders", "shop:others", "shop:lost")
    # Before the others have drained, and not only when they have.
    await worker.says("shop:lost has failed, so all stop: GetQueueUrl on no-such-queue")
    assert "error: " not in worker.err
    done = await worker.ended()
    assert (done.code, done.out) == (1, "opened\nclosed\n")
    assert "\nerror: GetQueueUrl on no-such-queue" in done.err


async def test_worker_that_may_not_receive_says_so(
    guarded: tuple[Shell, MemorySQS], shop: Path
) -> None:
    shell, memory = guarded
    memory.server.faults.fail("ReceiveMessage", so.AccessDenied, times=None)
    worker = await start(shell, shop, "orders", "shop:orders")
    done: Result = await worker.ended()
    assert done.code == 1
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert "sqs:ReceiveMessage" in line
