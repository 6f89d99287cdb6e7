"""FIFO queues: in order within a message group, side by side across groups, and what a failure
does to its group."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sqs_orchestrator import Message, Poller, Reject, Retry
from sqs_orchestrator.testing import MemoryServer
from tests.shell.workers import REPLIES, Bench, bench_on, engine_of, now, until


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, "orders.fifo") as bench:
        yield bench


class Log:
    """What handlers did, by group."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.begun: dict[str, list[str]] = defaultdict(list)
        self.ended: dict[str, list[str]] = defaultdict(list)
        self.times: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.running: set[str] = set()
        self.most = 0

    async def __call__(self, message: Message) -> None:
        group = message.group_id
        assert group is not None
        assert group not in self.running, "two of one group at a time"
        self.running.add(group)
        self.most = max(self.most, len(self.running))
        self.begun[group].append(message.body)
        self.times[message.body] = now()
        self.counts[message.body] = message.receive_count
        try:
            await asyncio.sleep(self.seconds)
            self.fail(message)
        finally:
            self.running.discard(group)
        self.ended[group].append(message.body)

    def fail(self, message: Message) -> None:
        """Raises for those that should fail."""


async def test_groups_run_in_order_and_side_by_side(bench: Bench) -> None:
    groups = {f"g{g}": [f"{g}-{i}" for i in range(25)] for g in range(4)}
    for group, bodies in groups.items():
        await bench.send(*bodies, group=group)
    log = Log()
    async with Poller(bench.sqs, "orders.fifo", log, concurrency=10) as poller:
        await until(lambda: bench.empty)
        took = now()
    assert log.ended == groups
    assert log.most == 4
    assert took < 25 * 1.5
    assert poller.statistics().redelivered == 0


async def test_every_place_is_filled_however_many_follow_in_each_group(bench: Bench) -> None:
    for group in range(30):
        await bench.send(*(f"{group}-{i}" for i in range(10)), group=f"g{group}")
    log = Log(100)
    async with Poller(bench.sqs, "orders.fifo", log, concurrency=30):
        await asyncio.sleep(60)
        assert log.most == 30
        await until(lambda: bench.empty, within=3000)


async def test_followers_are_kept_hidden_while_they_wait(bench: Bench) -> None:
    await bench.send(*map(str, range(10)), group="g")
    log = Log(50)
    async with Poller(bench.sqs, "orders.fifo", log, visibility_timeout=20) as poller:
        await until(lambda: bench.empty, within=1000)
    assert log.ended["g"] == list(map(str, range(10)))
    assert poller.statistics().redelivered == 0


@pytest.mark.parametrize("outcome", [ValueError(), Retry(delay=3), Retry()])
@pytest.mark.parametrize("visibility_timeout", [2, 10, 60])
async def test_failure_sends_the_rest_back_and_takes_group_one_at_a_time(
    bench: Bench, outcome: Exception, visibility_timeout: int
) -> None:
    """The receive counts of the innocent do not climb, however often the first fails."""
    bodies = ["bad", *map(str, range(9))]
    failures = 8

    class Failing(Log):
        def fail(self, message: Message) -> None:
            if message.body == "bad" and message.receive_count <= failures:
                raise outcome

    log = Failing(0.1)
    await bench.send(*bodies, group="g")
    async with Poller(
        bench.sqs, "orders.fifo", log, visibility_timeout=visibility_timeout
    ) as poller:
        await until(lambda: bench.empty, within=2000)
    assert log.begun["g"] == ["bad"] * failures + bodies
    assert log.ended["g"] == bodies
    assert max(log.counts[body] for body in bodies[1:]) == 2
    assert poller.statistics().released == 9


async def test_failed_message_stays_away_while_a_long_poll_could_bring_others_along(
    bench: Bench,
) -> None:
    class Failing(Log):
        def fail(self, message: Message) -> None:
            if message.body == "bad" and message.receive_count <= 3:
                raise ValueError

    log = Failing(0.1)
    # A first poll that is full, so that two are under way from then on.
    for number in range(10):
        await bench.send(f"h{number}", group=f"h{number}")
    async with Poller(
        bench.sqs, "orders.fifo", log, concurrency=40, visibility_timeout=2
    ) as poller:
        await until(lambda: bench.empty)
        assert engine_of(poller).receive_loop.in_flight == 2
        await bench.send("bad", *map(str, range(9)), group="g")
        await until(lambda: bench.empty)
    assert max(log.counts[body] for body in log.ended["g"] if body != "bad") == 2


async def test_poisonous_message_reaches_dead_letters_alone(server: MemoryServer) -> None:
    async with bench_on(
        server, "orders.fifo", dead_letter_queue=True, max_receive_count=3
    ) as bench:

        class Failing(Log):
            def fail(self, message: Message) -> None:
                if message.body == "bad":
                    raise ValueError

        log = Failing(0.1)
        await bench.send("bad", *map(str, range(30)), group="g")
        async with Poller(bench.sqs, "orders.fifo", log, visibility_timeout=5):
            await until(lambda: bench.empty)
        assert [letter.body for letter in bench.at("orders_dlq.fifo")] == ["bad"]
    assert log.ended["g"] == list(map(str, range(30)))


async def test_suspect_group_does_not_starve_the_others(bench: Bench) -> None:
    class Failing(Log):
        def fail(self, message: Message) -> None:
            if message.group_id == "bad":
                raise ValueError

    log = Failing(0.1)
    await bench.send(*(f"bad-{i}" for i in range(10)), group="bad")
    async with Poller(bench.sqs, "orders.fifo", log, concurrency=20) as poller:
        await until(lambda: poller.statistics().failed)
        began, receives = now(), poller.statistics().receives
        for group in range(20):
            await bench.send(*(f"{group}-{i}" for i in range(20)), group=f"g{group}")
        await until(lambda: len(bench.messages) == 10)
        # Twenty a group at a tenth of a second each take two seconds.
        assert now() - began < 6
        # While the bad group is away, several are asked for at a time all the same.
        assert poller.statistics().receives - receives < 150
        await asyncio.sleep(300)
        assert poller.statistics().failed > 5
        await bench.send("more", group="other")
        began = now()
        await until(lambda: "more" in log.ended["other"])
        assert now() - began < 2


async def test_reject_does_not_hold_the_group_up(bench: Bench) -> None:
    class Rejecting(Log):
        def fail(self, message: Message) -> None:
            if message.body == "bad":
                raise Reject

    log = Rejecting(0.1)
    await bench.send("bad", "1", "2", group="g")
    async with Poller(bench.sqs, "orders.fifo", log) as poller:
        await until(lambda: bench.empty)
    assert log.ended["g"] == ["1", "2"]
    assert log.times["1"] - log.times["bad"] < 0.5
    assert poller.statistics().redelivered == 0


async def test_failed_request_is_answered_and_group_goes_on(bench: Bench) -> None:
    class Failing(Log):
        def fail(self, message: Message) -> None:
            if message.body == "bad":
                raise ValueError

    log = Failing(0.1)
    await bench.ask("bad", "1", "2", group="g")
    async with Poller(bench.sqs, "orders.fifo", log) as poller:
        await until(lambda: bench.empty)
    assert [reply and reply["code"] for reply in bench.replies] == ["handler_error", None, None]
    assert log.ended["g"] == ["1", "2"]
    assert poller.statistics().redelivered == 0


async def test_group_goes_on_while_replies_are_on_their_way(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch", queue=REPLIES)
    log = Log(0.1)
    await bench.ask("1", "2", group="g")
    async with Poller(bench.sqs, "orders.fifo", log):
        await gate.arrived()
        await until(lambda: log.ended["g"] == ["1", "2"])
        gate.release()
        await until(lambda: bench.empty)


async def test_what_nobody_can_judge_holds_its_group_up(server: MemoryServer) -> None:
    async with bench_on(server, "orders.fifo") as bench:
        log = Log(0.1)
        poller = Poller(bench.sqs, "orders.fifo", visibility_timeout=10)
        poller.handler("known")(log)
        await bench.send("bad", group="g", route="unknown")
        await bench.send("1", "2", group="g", route="known")
        await bench.send("other", group="h", route="known")
        async with poller:
            await until(lambda: log.ended["h"] == ["other"])
            await asyncio.sleep(60)
            assert log.ended["g"] == []
            poller.handler("unknown")(log)
            await until(lambda: bench.empty)
    assert log.ended["g"] == ["bad", "1", "2"]


async def test_expired_request_lets_the_group_go_on(bench: Bench) -> None:
    log = Log(0.1)
    await bench.ask("old", group="g", timeout=1)
    await asyncio.sleep(10)
    await bench.ask("1", "2", group="g", timeout=100)
    async with Poller(bench.sqs, "orders.fifo", log) as poller:
        await until(lambda: bench.empty)
    assert log.ended["g"] == ["1", "2"]
    assert poller.statistics().expired == 1


async def test_stopped_worker_leaves_groups_in_order_to_the_next(bench: Bench) -> None:
    log = Log(1)
    bodies = list(map(str, range(30)))
    await bench.send(*bodies, group="g")
    for _ in range(6):
        poller = Poller(bench.sqs, "orders.fifo", log, wait_time=1)
        run = asyncio.create_task(poller.run())
        await until(lambda: poller.statistics().running)  # noqa: B023
        await asyncio.sleep(2.5)
        poller.stop()
        await run
        assert all(message.visible_at <= now() for message in bench.messages)
    async with Poller(bench.sqs, "orders.fifo", log, concurrency=1):
        await until(lambda: bench.empty)
    assert log.ended["g"] == bodies


async def test_two_workers_share_the_groups_and_keep_their_order(bench: Bench) -> None:
    groups = {f"g{g}": [f"{g}-{i}" for i in range(12)] for g in range(12)}
    for group, bodies in groups.items():
        await bench.send(*bodies, group=group)

    class Failing(Log):
        def fail(self, message: Message) -> None:
            if message.body.endswith("-3") and message.receive_count < 3:
                raise ValueError

    log = Failing(0.2)
    async with (
        Poller(bench.sqs, "orders.fifo", log, concurrency=3, visibility_timeout=5) as first,
        Poller(bench.sqs, "orders.fifo", log, concurrency=3, visibility_timeout=5) as second,
    ):
        await until(lambda: bench.empty)
    assert log.ended == groups
    assert min(first.statistics().handled, second.statistics().handled) > 20
