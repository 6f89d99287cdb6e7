from __future__ import annotations

import asyncio
import hashlib
import logging

import pytest

from sqs_orchestrator import sweep
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.core.pacing import WARY, Pacer
from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, Throttled
from sqs_orchestrator.requester.sweeper import A_LOOK, RARELY, Sweeper, sweep_port
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect

PREFIX = "reply_"
RETENTION = 300.0
JAVA = PREFIX + "7a2d651a-4d80-4619-a910-5ff938313cc8-0"


def name_of(number: int) -> str:
    return PREFIX + hashlib.md5(str(number).encode()).hexdigest()


def add(server: MemoryServer, name: str, *, beat: float | None = 0.0, sweeping: bool = True) -> str:
    """A queue whose last heartbeat was *beat* seconds ago; its URL."""
    tags = {}
    if beat is not None:
        tags = wire.heartbeat_tags(now=server.now() - beat, retention=RETENTION)
    if sweeping:
        tags[wire.SWEEPING_TAG] = "1"
    return server.create(server.account, name, {}, tags)


class Requester:
    """A live queue with its sweeper; its heartbeat is a long way off."""

    def __init__(self, server: MemoryServer, number: int = 0) -> None:
        self.sqs = MemorySQS(server)
        self.pacer = Pacer(60.0, RETENTION, 300.0)
        self.name = name_of(number)
        self.url = add(server, self.name, beat=-1e6)
        self.sweeper = Sweeper(self.sqs, PREFIX, self.url, pacer=self.pacer, random=lambda: 0.5)

    @property
    def announces(self) -> bool:
        return wire.is_sweeping(self.sqs.server.queue(self.name).tags)

    async def live(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.sweeper.run()
        except TimeoutError:
            pass


@pytest.fixture
async def me(server: MemoryServer) -> Requester:
    return Requester(server)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# --------------------------------------------------------------------- the sweeps


async def test_first_sweep_is_after_a_random_part_of_the_interval(me: Requester) -> None:
    await me.live(149)
    assert not me.sqs.calls
    await me.live(151)
    assert me.sqs.calls["ListQueues"] == 1


async def test_idle_sweeper_makes_one_listing_an_interval(me: Requester) -> None:
    await me.live(3600)
    assert me.sqs.calls == {"ListQueues": 12}
    assert me.sweeper.sweeps == 12


async def test_sweeper_deletes_the_idle_and_keeps_the_others(
    me: Requester, server: MemoryServer
) -> None:
    add(server, name_of(1), beat=301)
    add(server, name_of(2), beat=10, sweeping=False)
    add(server, name_of(3), beat=None, sweeping=False)
    add(server, JAVA, beat=301, sweeping=False)
    add(server, PREFIX, beat=301)
    add(server, PREFIX + "_DLQ", beat=301)
    await me.sweeper.sweep()
    assert me.sweeper.deleted == 2
    assert set(server.queues) == {me.name, name_of(2), name_of(3), PREFIX, PREFIX + "_DLQ"}


async def test_clock_that_one_answer_has_set_wrong_deletes_nothing(
    me: Requester, server: MemoryServer
) -> None:
    add(server, name_of(1), beat=10, sweeping=False)
    add(server, name_of(2), beat=301, sweeping=False)
    # It never runs back by itself: an hour ahead it stays, for the lower showings after it.
    me.sqs.clock.observe_epoch(server.now() + 3600)
    await me.sweeper.sweep()
    assert set(server.queues) == {me.name, name_of(1)}


async def test_queue_of_another_form_stays_while_anything_is_in_it(
    me: Requester, server: MemoryServer
) -> None:
    url = add(server, JAVA, beat=301)
    await me.sqs.send(url, [SendEntry("late reply")])
    await me.sweeper.sweep()
    assert JAVA in server.queues
    (received,) = await me.sqs.receive(url, visibility_timeout=30)
    await me.sweeper.sweep()  # hidden messages count too
    assert JAVA in server.queues
    await me.sqs.delete(url, [received.receipt_handle])
    await me.sqs.send(url, [SendEntry("later still", delay=100)])
    await me.sweeper.sweep()  # and so do delayed ones
    assert JAVA in server.queues
    await asyncio.sleep(101)
    (received,) = await me.sqs.receive(url)
    await me.sqs.delete(url, [received.receipt_handle])
    await me.sweeper.sweep()
    assert JAVA not in server.queues


async def test_fleet_that_dies_at_once_is_cleaned_up_by_its_survivor(server: MemoryServer) -> None:
    me = Requester(server)
    for number in range(1, 40):
        add(server, name_of(number), beat=0)
    await me.live(RETENTION + 300)
    assert server.queues == [me.name]


async def test_two_sweepers_share_the_ring(server: MemoryServer) -> None:
    fleet = [Requester(server, number) for number in range(4)]
    for number in range(4, 30):
        add(server, name_of(number), beat=301)
    await asyncio.gather(*(one.sweeper.sweep() for one in fleet))
    assert server.queues == sorted(one.name for one in fleet)
    assert sum(one.sweeper.deleted for one in fleet) == 26
    # Each queue was looked at once, the idle ones once more.
    assert server.calls["ListQueueTags"] == 30 + 26


async def test_sweep_tells_the_pace_how_large_the_fleet_is(
    me: Requester, server: MemoryServer
) -> None:
    for number in range(1, 1_200):
        add(server, name_of(number))
    await me.sweeper.sweep()
    assert me.pacer.fleet == pytest.approx(1_200, rel=0.3)
    assert me.pacer.pace.heartbeat > 60.0
    assert me.sqs.calls["ListQueueTags"] == 1


async def test_owner_that_comes_back_between_two_looks_keeps_its_queue(
    me: Requester, server: MemoryServer
) -> None:
    url = add(server, name_of(1), beat=301)
    sweeping = asyncio.create_task(me.sweeper.sweep())
    first = me.sqs.hold("ListQueueTags", answer=True)
    await first.arrived()
    second = me.sqs.hold("ListQueueTags")
    first.release()
    await second.arrived()
    await me.sqs.tag_queue(url, wire.heartbeat_tags(now=server.now(), retention=RETENTION))
    second.release()
    await sweeping
    assert name_of(1) in server.queues


async def test_slow_answer_makes_no_queue_idle(me: Requester, server: MemoryServer) -> None:
    # The tags are as old as the answer is slow; by the time of its arrival, this queue would
    # look abandoned, though it has long had another heartbeat.
    url = add(server, name_of(1), beat=250)
    me.sqs.delay("ListQueueTags", 200, answer=True)

    async def beat() -> None:
        await asyncio.sleep(40)
        await MemorySQS(server).tag_queue(
            url, wire.heartbeat_tags(now=server.now(), retention=RETENTION)
        )

    beating = asyncio.create_task(beat())
    await me.sweeper.sweep()
    await beating
    assert name_of(1) in server.queues


@pytest.mark.parametrize("epoch", [0.0, 1_700_000_000.0, 4_000_000_000.0])
async def test_only_the_clock_of_sqs_counts(epoch: float) -> None:
    # What the machine's own clock says differs from each of these by decades.
    server = MemoryServer(epoch=epoch + 1e6)
    me = Requester(server)
    add(server, name_of(1), beat=299, sweeping=False)
    add(server, name_of(2), beat=302)
    await me.sweeper.sweep()
    assert set(server.queues) == {me.name, name_of(1)}


async def test_queue_that_vanishes_while_it_is_judged_is_no_failure(
    me: Requester, server: MemoryServer
) -> None:
    for number in range(1, 4):
        add(server, name_of(number), beat=301)
    add(server, JAVA, beat=301)
    ranked = sorted([name_of(1), name_of(2), name_of(3)])
    me.sqs.fail("ListQueueTags", QueueNotFound, queue=ranked[0], times=None)
    me.sqs.fail("DeleteQueue", QueueNotFound, queue=ranked[1], times=None)
    me.sqs.fail("GetQueueAttributes", QueueNotFound, queue=JAVA, times=None)
    await me.sweeper.sweep()
    assert set(server.queues) == {me.name, JAVA, ranked[0], ranked[1]}
    assert me.sweeper.deleted == 1
    assert me.sweeper.failures == 0


async def test_deletion_whose_answer_got_lost_counts_once(
    me: Requester, server: MemoryServer
) -> None:
    add(server, name_of(1), beat=301)
    me.sqs.drop_answer("DeleteQueue")
    await me.sweeper.sweep()
    assert me.sweeper.deleted == 1
    assert me.sqs.calls["DeleteQueue"] == 2


# ----------------------------------------------------------------------- failures


@pytest.mark.parametrize("operation", ["ListQueues", "ListQueueTags", "DeleteQueue"])
@pytest.mark.parametrize("error", [QueueError, Throttled])
async def test_passing_failure_is_tried_again_in_the_same_sweep(
    me: Requester,
    server: MemoryServer,
    operation: str,
    error: type[QueueError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(server, name_of(1), beat=12 * RETENTION + 1)
    me.sqs.fail(operation, error, times=4)
    await me.sweeper.sweep()
    assert server.queues == [me.name]
    assert me.sweeper.failures == 0
    assert not warnings(caplog)


async def test_outage_is_left_to_the_next_sweeps_and_never_spins(
    me: Requester, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    add(server, name_of(1), beat=301)
    me.sqs.fail("*", QueueError, times=None)
    await me.live(3600)
    assert me.sweeper.failures == pytest.approx(11, abs=2)
    assert me.sqs.calls.total() <= 2 * 15 * me.sweeper.failures
    assert len(warnings(caplog)) == 1
    me.sqs.clear()
    await me.live(3600)
    assert server.queues == [me.name]
    assert me.announces
    assert me.sweeper.announced


async def test_sweeper_that_keeps_failing_no_longer_says_that_it_sweeps(me: Requester) -> None:
    me.sqs.fail("ListQueues", QueueError, times=None)
    await me.live(800)
    assert me.announces
    await me.live(800)
    assert not me.announces


async def test_sweeping_outlives_a_bug(me: Requester, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(prefix: str, *, limit: int = 0, token: str = "") -> None:
        raise KeyError("bug")

    me.sqs.list_queues = broken  # type: ignore[method-assign, assignment]
    await me.live(1000)
    assert me.sweeper.failures == 3
    assert "KeyError" in caplog.text


async def test_own_queue_that_is_gone_is_the_heartbeats_business(
    me: Requester, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.drop(me.url)
    me.sqs.fail("ListQueues", AccessDenied, times=None)
    await me.live(300)
    assert len(warnings(caplog)) == 1


# --------------------------------------------------------------------- throttling


@pytest.mark.parametrize("silence", [301, 3599])
async def test_sweeper_that_is_throttled_forgives_an_hour_of_silence(
    me: Requester, server: MemoryServer, silence: float
) -> None:
    add(server, name_of(1), beat=silence)
    me.sqs.fail("ListQueueTags", Throttled)
    await me.sweeper.sweep()
    assert name_of(1) in server.queues
    for _ in range(WARY):
        await me.sweeper.sweep()
        assert name_of(1) in server.queues
        me.pacer.beaten(60.0)
    await me.sweeper.sweep()
    assert server.queues == [me.name]


async def test_sweeper_only_lists_while_its_own_heartbeat_is_late(
    me: Requester, server: MemoryServer
) -> None:
    for number in range(1, 400):
        add(server, name_of(number), beat=1e5)
    me.pacer.failed(60.0, throttled=True)
    await me.sweeper.sweep()
    assert me.sqs.calls == {"ListQueues": 1}
    assert me.pacer.fleet == 400


async def test_sweeper_after_an_outage_gives_the_others_time_to_come_back(
    me: Requester, server: MemoryServer
) -> None:
    # For as long as it was silent itself, and for their retention.
    add(server, name_of(1), beat=10_290, sweeping=False)
    add(server, name_of(2), beat=10_310)
    me.pacer.failed(600.0, throttled=False)
    me.pacer.beaten(10_000.0)
    await me.sweeper.sweep()
    assert name_of(1) in server.queues
    assert name_of(2) not in server.queues
    me.pacer.beaten(60.0)
    await me.sweeper.sweep()
    assert server.queues == [me.name]


async def test_sweep_that_an_outage_overtakes_deletes_nothing_for_it(
    me: Requester, server: MemoryServer
) -> None:
    # So many are dead that it takes three minutes, and the last of the ring lives.
    names = [name_of(number) for number in range(1, 200)]
    *dead, last = sorted(names, key=lambda name: (name < me.name, name))
    for name in dead:
        add(server, name, beat=1e5)
    add(server, last, beat=200.0)
    began = server.now()
    sweeping = asyncio.create_task(me.sweeper.sweep())
    await asyncio.sleep(60)
    me.pacer.failed(180.0, throttled=False)
    await sweeping
    assert server.now() - began > RETENTION - 200.0
    assert sorted(server.queues) == sorted([me.name, last])


async def test_slow_sweeper_whose_heartbeat_was_late_forgives_no_more_than_two_hours(
    me: Requester, server: MemoryServer
) -> None:
    # Throttling has slowed it down to a heartbeat an hour, and has delayed each of those since.
    for _ in range(50):
        me.pacer.failed(3600.0, throttled=True)
    me.pacer.beaten(3600.0)
    assert me.pacer.stretched.heartbeat > 3600.0
    late = add(server, name_of(1), beat=7190, sweeping=False)
    dead = add(server, name_of(2), beat=7210)
    await me.sweeper.sweep()
    assert queue_name_of(late) in server.queues
    assert queue_name_of(dead) not in server.queues


async def test_sweeper_judges_the_ignorant_of_a_large_fleet_by_its_size(
    me: Requester, server: MemoryServer
) -> None:
    # Those of 400 who know it say that they are idle after 500 s.
    names = [name_of(number) for number in range(1, 400)]
    late, dead = sorted(name for name in names if name > me.name)[:2]
    for name in names:
        beat = {late: 490.0, dead: 501.0}.get(name, 0.0)
        add(server, name, beat=beat, sweeping=name != late)
    await me.sweeper.sweep()
    assert late in server.queues
    assert dead not in server.queues


async def test_throttled_sweeps_are_no_reason_to_hand_the_ring_to_others(
    me: Requester, server: MemoryServer
) -> None:
    add(server, name_of(1), beat=301)
    me.sqs.fail("ListQueueTags", Throttled, times=None)
    await me.live(3600)
    assert me.sweeper.failures >= 3
    assert me.announces


async def test_sweep_from_outside_that_is_throttled_forgives_an_hour_of_silence(
    sqs: MemorySQS, server: MemoryServer
) -> None:
    add(server, name_of(1), beat=3590)
    dead = add(server, name_of(2), beat=3610)
    sqs.fail("ListQueueTags", Throttled)
    assert await sweep_port(sqs, PREFIX) == [dead]


# -------------------------------------------------------------------- permissions


@pytest.mark.parametrize(
    "operation", ["ListQueues", "ListQueueTags", "DeleteQueue", "GetQueueAttributes"]
)
async def test_missing_permission_warns_once_and_hands_the_ring_to_others(
    me: Requester, server: MemoryServer, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    add(server, JAVA, beat=301)
    me.sqs.fail(operation, AccessDenied, times=None)
    await me.live(200)
    assert not me.announces
    assert not me.sweeper.announced
    assert me.sweeper.failures == 1
    (warning,) = warnings(caplog)
    assert f"sqs:{operation}" in warning
    assert PREFIX in warning

    await me.live(86_400)
    assert len(warnings(caplog)) == 1
    assert me.sweeper.failures == pytest.approx(1 + 86_400 / (300 * RARELY), abs=2)

    # The one before it in the ring walks past it now.
    other = Requester(server, 1)
    await other.sweeper.sweep()
    assert JAVA not in server.queues


async def test_permission_granted_later_is_noticed(me: Requester, server: MemoryServer) -> None:
    add(server, name_of(1), beat=301)
    me.sqs.fail("DeleteQueue", AccessDenied, times=None)
    await me.live(200)
    assert not me.announces
    me.sqs.clear()
    await me.live(300 * RARELY)
    assert server.queues == [me.name]
    assert me.announces


async def test_sweeper_that_may_not_delete_does_not_announce_itself_for_want_of_work(
    me: Requester, server: MemoryServer
) -> None:
    url = add(server, name_of(1), beat=301)
    me.sqs.fail("DeleteQueue", AccessDenied, times=None)
    await me.sweeper.sweep()
    server.drop(url)
    await me.sweeper.sweep()
    assert not me.announces


async def test_try_without_permission_does_not_go_all_around_the_ring(
    me: Requester, server: MemoryServer
) -> None:
    me.sqs.fail("ListQueues", AccessDenied)
    await me.sweeper.sweep()
    for number in range(1, 100):
        add(server, name_of(number), sweeping=False)
    await me.sweeper.sweep()
    assert me.sqs.calls["ListQueueTags"] == A_LOOK
    assert me.announces


async def test_mark_that_cannot_be_taken_away_is_said(
    me: Requester, caplog: pytest.LogCaptureFixture
) -> None:
    me.sqs.fail("ListQueues", AccessDenied, times=None)
    me.sqs.fail("UntagQueue", AccessDenied, times=None)
    await me.live(20_000)
    first, second = warnings(caplog)
    assert "sqs:ListQueues" in first
    assert "still says" in second
    assert me.announces
    me.sqs.clear()
    me.sqs.fail("ListQueues", AccessDenied, times=None)
    await me.sweeper.sweep()
    assert not me.announces


async def test_java_queue_that_cannot_be_counted_does_not_keep_our_own_from_being_swept(
    me: Requester, server: MemoryServer
) -> None:
    add(server, JAVA, beat=301)
    for number in range(1, 6):
        add(server, name_of(number), beat=301)
    me.sqs.fail("GetQueueAttributes", AccessDenied, times=None)
    await me.sweeper.sweep()
    assert set(server.queues) == {me.name, JAVA}


async def test_cancelling_ends_the_sweeper(me: Requester, server: MemoryServer) -> None:
    add(server, name_of(1), beat=301)
    gate = me.sqs.hold("ListQueueTags")
    task = asyncio.create_task(me.sweeper.run())
    await gate.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_sweeper_shows_what_it_did(me: Requester, server: MemoryServer) -> None:
    add(server, name_of(1), beat=301)
    await me.sweeper.sweep()
    assert repr(me.sweeper) == f"<Sweeper of {PREFIX}…, 1 queues deleted>"


# ----------------------------------------------------------------- sweep from outside


async def test_sweep_deletes_all_idle_queues_and_returns_their_urls(server: MemoryServer) -> None:
    dead = [add(server, name_of(number), beat=301) for number in range(5)]
    add(server, name_of(5), beat=10)
    add(server, name_of(6), beat=None)
    java = add(server, JAVA, beat=301)
    add(server, "orders", beat=301)
    async with connect(server) as connection:
        assert set(await sweep(connection, PREFIX)) == {*dead, java}
    assert set(server.queues) == {name_of(5), name_of(6), "orders"}


async def test_dry_run_deletes_nothing(server: MemoryServer) -> None:
    dead = [add(server, name_of(number), beat=301) for number in range(5)]
    async with connect(server) as connection:
        assert set(await sweep(connection, PREFIX, dry_run=True)) == set(dead)
    assert len(server.queues) == 5
    assert "DeleteQueue" not in server.calls


async def test_sweep_takes_no_text_for_a_dry_run_nor_for_a_connection(
    server: MemoryServer,
) -> None:
    async with connect(server) as connection:
        with pytest.raises(ValueError, match="dry_run is True or False"):
            await sweep(connection, PREFIX, dry_run="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sqs is the Connection"):
        await sweep("x", PREFIX)  # type: ignore[arg-type]
    assert not server.calls


@pytest.mark.parametrize("prefix", ["", "*", "x" * 80])
async def test_sweep_refuses_what_is_no_prefix(server: MemoryServer, prefix: str) -> None:
    async with connect(server) as connection:
        with pytest.raises(ValueError, match="prefix"):
            await sweep(connection, prefix)
    assert not server.calls


async def test_sweep_lists_past_the_first_thousand(sqs: MemorySQS, server: MemoryServer) -> None:
    for number in range(1_001):
        add(server, name_of(number), beat=10)
    last = add(server, PREFIX + "f" * 32, beat=301)
    assert await sweep_port(sqs, PREFIX) == [last]


@pytest.mark.parametrize(
    "operation", ["ListQueues", "ListQueueTags", "DeleteQueue", "GetQueueAttributes"]
)
async def test_sweep_without_permission_says_so(
    sqs: MemorySQS, server: MemoryServer, operation: str
) -> None:
    add(server, JAVA, beat=301)
    sqs.fail(operation, AccessDenied, times=None)
    with pytest.raises(AccessDenied) as denied:
        await sweep_port(sqs, PREFIX)
    assert denied.value.operation == operation
    assert JAVA in server.queues


async def test_sweep_gives_up_where_sqs_cannot_be_reached(sqs: MemorySQS) -> None:
    sqs.fail("ListQueues", QueueError, times=None)
    began = asyncio.get_running_loop().time()
    with pytest.raises(QueueError):
        await sweep_port(sqs, PREFIX)
    assert asyncio.get_running_loop().time() - began <= 30


class TimelessSQS(MemorySQS):
    """Answers without a `Date`."""

    def _observe(self) -> None:
        pass


async def test_nothing_is_deleted_while_the_time_of_sqs_is_unknown(server: MemoryServer) -> None:
    add(server, name_of(1), beat=301)
    assert await sweep_port(TimelessSQS(server), PREFIX) == []
    assert name_of(1) in server.queues


# ---------------------------------------------------------- the synchronous package

OLD = "f3c1f2b0-5d0e-4a53-9a0e-0d6d9f5a7c11"


def add_old(server: MemoryServer, prefix: str, silent: float) -> str:
    """A reply queue of the synchronous package, and the queue of its sweepers; its URL."""
    server.create(server.account, f"{prefix}sweeper.fifo", {"FifoQueue": "true"}, {})
    tags = {"heartbeat": str(int(server.now() - silent))}
    return server.create(server.account, f"{prefix}{OLD}", {}, tags)


async def test_sweep_clears_up_after_the_synchronous_package_when_asked_to(
    sqs: MemorySQS, server: MemoryServer
) -> None:
    add_old(server, f"{PREFIX}dead_", 1801)
    add_old(server, f"{PREFIX}live_", 1000)
    ours = add(server, name_of(1), beat=301)
    foreign = server.create(server.account, f"{PREFIX}orders", {}, {"team": "billing"})
    assert await sweep_port(sqs, PREFIX, dry_run=True) == [ours]
    gone = [ours, server.url(f"{PREFIX}dead_{OLD}"), server.url(f"{PREFIX}dead_sweeper.fifo")]
    assert set(await sweep_port(sqs, PREFIX, dry_run=True, legacy=True)) == {*gone}
    assert set(await sweep_port(sqs, PREFIX, legacy=True)) == {*gone}
    live = {f"{PREFIX}live_{OLD}", f"{PREFIX}live_sweeper.fifo"}
    assert set(server.queues) == live | {foreign.rpartition("/")[2]}


async def test_sweep_waits_until_a_new_queue_of_sweepers_is_as_old_as_a_listing_may_be(
    sqs: MemorySQS, server: MemoryServer
) -> None:
    add_old(server, PREFIX, 1801)
    await asyncio.sleep(20)
    began = asyncio.get_running_loop().time()
    assert len(await sweep_port(sqs, PREFIX, legacy=True)) == 2
    assert asyncio.get_running_loop().time() - began == pytest.approx(40, abs=2)
    add_old(server, f"{PREFIX}2_", 1801)
    await asyncio.sleep(60)
    began = asyncio.get_running_loop().time()
    assert len(await sweep_port(sqs, PREFIX, legacy=True)) == 2
    assert asyncio.get_running_loop().time() - began < 2


async def test_throttled_sweep_forgives_the_synchronous_package_an_hour_of_silence(
    sqs: MemorySQS, server: MemoryServer
) -> None:
    add_old(server, PREFIX, 3590)
    sqs.fail("ListQueueTags", Throttled)
    assert await sweep_port(sqs, PREFIX, legacy=True) == []
    await asyncio.sleep(11)
    sqs.fail("ListQueueTags", Throttled)
    assert len(await sweep_port(sqs, PREFIX, legacy=True)) == 2


async def test_queue_of_unknown_age_is_kept(sqs: MemorySQS, server: MemoryServer) -> None:
    add_old(server, PREFIX, 1801)
    timeless = TimelessSQS(server)
    assert await sweep_port(timeless, PREFIX, legacy=True) == []
    url = server.url(f"{PREFIX}sweeper.fifo")
    sqs.fail("GetQueueAttributes", QueueNotFound, queue=f"{PREFIX}sweeper.fifo", times=None)
    assert url not in await sweep_port(sqs, PREFIX, legacy=True)
    sqs.clear()
    sqs.fail("GetQueueAttributes", AccessDenied, times=None)
    with pytest.raises(AccessDenied, match="GetQueueAttributes"):
        await sweep_port(sqs, PREFIX, legacy=True)
    assert server.queues == [f"{PREFIX}sweeper.fifo"]


async def test_ring_leaves_the_synchronous_package_alone(
    me: Requester, server: MemoryServer
) -> None:
    add_old(server, PREFIX, 1e6)
    gone = add(server, name_of(1), beat=301)
    await me.sweeper.sweep()
    assert gone.rpartition("/")[2] not in server.queues
    assert set(server.queues) == {me.name, f"{PREFIX}{OLD}", f"{PREFIX}sweeper.fifo"}
