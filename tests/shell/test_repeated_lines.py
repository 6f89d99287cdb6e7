"""Of lines that repeat, the first few of a minute are logged, and then how many there were."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import sqs_orchestrator
from sqs_orchestrator import Message, Poller, Reject
from sqs_orchestrator.logs import FIRST, INTERVAL, get_logger, report_repeated
from sqs_orchestrator.testing import MemoryServer
from tests.shell.workers import Bench, bench_on, text, until

logger = get_logger("tests.repeated")


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


async def test_first_few_of_a_minute_are_logged_and_then_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(20_000):
        logger.warning("message %s is bad", number)
    assert caplog.messages == [f"message {number} is bad" for number in range(FIRST)]
    await asyncio.sleep(INTERVAL + 0.1)
    assert caplog.messages[FIRST:] == [
        "and 19,995 more like it in the last 60 s, the last of them: message 19999 is bad"
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"tests.repeated"}
    # The next minute is like the first.
    logger.warning("message %s is bad", "x")
    assert caplog.messages[-1] == "message x is bad"


async def test_flood_that_lasts_is_counted_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10 * 60):
        logger.warning("it is bad")
        await asyncio.sleep(1)
    counts = [message for message in caplog.messages if message.startswith("and ")]
    assert len(counts) == pytest.approx(10, abs=1)
    assert len(caplog.messages) <= 11 * (FIRST + 1)


async def test_seldom_lines_are_all_logged(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        logger.warning("it is bad")
        await asyncio.sleep(INTERVAL / FIRST)
    assert caplog.messages == ["it is bad"] * 100


async def test_count_is_said_late_where_the_loop_stood_still(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(10):
        logger.warning("it is bad")
    asyncio.get_running_loop().jump(2 * INTERVAL)  # type: ignore[attr-defined]
    logger.warning("it is bad")
    assert caplog.messages[FIRST] == (
        "and 5 more like it in the last 120 s, the last of them: it is bad"
    )
    assert caplog.messages[FIRST + 1 :] == ["it is bad"]
    await asyncio.sleep(INTERVAL + 1)
    assert len(caplog.messages) == FIRST + 2


async def test_count_is_said_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        logger.error("it is bad")
    report_repeated()
    report_repeated()
    assert caplog.messages[FIRST:] == [
        "and 5 more like it in the last 1 s, the last of them: it is bad"
    ]
    logger.error("it is bad")
    await asyncio.sleep(INTERVAL + 1)
    # Stopping one thing begins no new minute for the others.
    assert len(caplog.messages) == FIRST + 2
    assert caplog.messages[-1].startswith("and 1 more")


async def test_kinds_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    def fails(error: Exception) -> None:
        try:
            raise error
        except Exception:
            logger.exception("it failed")

    for _ in range(100):
        logger.warning("it is bad")
        logger.warning("it is bad too")
        logger.error("it is bad")
        logger.warning("refused: %s", ValueError())
        logger.warning("refused: %s", KeyError())
        logger.warning("kind", extra={"kind": "a"})
        logger.warning("kind", extra={"kind": "b"})
        fails(ValueError())
        fails(KeyError())
    lines = Counter(
        (r.levelno, r.msg, str(r.args), vars(r).get("kind"), str(r.exc_info and r.exc_info[0]))
        for r in caplog.records
    )
    assert len(lines) == 9
    assert set(lines.values()) == {FIRST}


async def test_failures_in_other_places_are_of_other_kinds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(100):
        try:
            if number % 2:
                raise ValueError("odd")
            raise ValueError("even")
        except ValueError:
            logger.exception("it failed")
    errors = Counter(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
    assert errors == {"odd": FIRST, "even": FIRST}


async def test_debug_and_info_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tests.repeated")
    for _ in range(100):
        logger.debug("seen")
        logger.info("seen")
    assert len(caplog.records) == 200


async def test_kinds_without_end_take_no_memory_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from sqs_orchestrator import logs

    for number in range(5_000):
        logger.warning("kind", extra={"kind": number})
        await asyncio.sleep(1)
    assert len(logs._kinds[asyncio.get_running_loop()]) <= logs._MOST_KINDS


def test_lines_without_a_loop_are_all_logged(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        logger.warning("it is bad")
    assert len(caplog.messages) == 100


def test_all_loggers_of_the_library_count() -> None:
    package = Path(sqs_orchestrator.__file__).parent
    names = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                names.add(path.relative_to(package).as_posix())
    # One makes the library's loggers, and one quiets another's. Commands set levels and handlers.
    names = {name for name in names if not name.startswith("cli/")}
    assert names == {"logs.py", "testing/moto.py"}


# --------------------------------------------------------------------- as it happens


async def test_unreadable_messages_do_not_flood_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        raise AssertionError("they are unreadable")

    count = 2_000
    await bench.send(*map(str, range(count)), ResponseQueueUrl=text("nowhere"))
    async with Poller(bench.sqs, "orders", handle, concurrency=100) as poller:
        await until(lambda: poller.statistics().rejected >= count)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert FIRST < len(lines) < 40
    # None is unaccounted for once the worker has stopped.
    counted = 0
    for record in lines:
        if "bad_attribute" in record.getMessage():
            said = record.getMessage().removeprefix("and ").split()[0]
            counted += int(said.replace(",", "")) if said[0].isdigit() else 1
    assert counted >= count


async def test_failing_handlers_do_not_flood_the_log_and_do_not_hide_each_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        if message.body == "odd":
            raise KeyError("the one that matters")
        raise ValueError("the usual one")

    await bench.send(*map(str, range(500)), "odd")
    async with Poller(bench.sqs, "orders", handle, concurrency=100) as poller:
        await until(lambda: poller.statistics().failed >= 501)
    tracebacks = Counter(str(r.exc_info[1]) for r in caplog.records if r.exc_info)
    assert tracebacks["the usual one"] == FIRST
    assert tracebacks["'the one that matters'"] >= 1
    assert any("more like it" in message for message in caplog.messages)


async def test_rejecting_handlers_do_not_flood_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        raise Reject("no")

    await bench.send(*map(str, range(500)))
    async with Poller(bench.sqs, "orders", handle, concurrency=100):
        await until(lambda: bench.empty)
    assert FIRST < len(caplog.messages) < 20
