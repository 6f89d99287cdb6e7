from __future__ import annotations

import asyncio
import logging

import pytest

from sqs_orchestrator.core import wire
from sqs_orchestrator.core.pacing import Pacer
from sqs_orchestrator.core.sweeping import verdict
from sqs_orchestrator.errors import AccessDenied, QueueError, Throttled
from sqs_orchestrator.requester.heartbeat import Heartbeat
from sqs_orchestrator.testing import MemoryServer, MemorySQS

NAME = "reply_" + "0" * 32


class Owner:
    """A queue and its heartbeat, as a reply queue would have them."""

    def __init__(self, sqs: MemorySQS, pacer: Pacer | None = None) -> None:
        self.sqs = sqs
        self.pacer = pacer or Pacer(60.0, 300.0, 300.0)
        self.young = False
        self.lost = 0
        self.url = sqs.server.url(NAME)
        self.heartbeat = Heartbeat(
            sqs,
            self.url,
            pacer=self.pacer,
            legacy=False,
            not_there=self._not_there,
            random=lambda: 0.5,
        )

    def _not_there(self) -> bool:
        self.lost += not self.young
        return not self.young

    async def create(self) -> None:
        await self.sqs.list_queues(NAME)  # shows the time
        tags = wire.reply_queue_tags(
            now=self.sqs.clock.now(), retention=self.pacer.configured.retention, sweeping=True
        )
        await self.sqs.create_queue(NAME, {}, tags)

    async def live(self, seconds: float) -> None:
        """Run the heartbeat for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.heartbeat.run()
        except TimeoutError:
            pass

    def tags(self) -> dict[str, str]:
        return self.sqs.server.queue(NAME).tags

    def lifetime(self) -> wire.Lifetime:
        lifetime = wire.parse_lifetime(self.tags())
        assert lifetime is not None
        return lifetime

    def verdict(self) -> str:
        return verdict(self.tags(), int(self.sqs.server.now() * 1000))

    def beats(self) -> list[float]:
        return [call.time for call in self.sqs.server.log if call.operation == "TagQueue"]


@pytest.fixture
async def owner(sqs: MemorySQS) -> Owner:
    owner = Owner(sqs)
    await owner.create()
    return owner


async def test_owner_beats_once_an_interval(owner: Owner) -> None:
    await owner.live(3600)
    assert owner.heartbeat.beats == 59
    assert owner.heartbeat.failures == 0
    assert owner.sqs.calls["TagQueue"] == 59


async def test_heartbeats_are_spread_by_a_tenth(sqs: MemorySQS) -> None:
    owner = Owner(sqs)
    await owner.create()
    numbers = iter([0.0, 1.0, 0.5])
    owner.heartbeat._random = lambda: next(numbers, 0.5)
    began = asyncio.get_running_loop().time()
    await owner.live(190)
    moments = [moment - began for moment in owner.beats()]
    assert moments == pytest.approx([54, 54 + 66, 120 + 60], abs=0.1)


async def test_queue_stays_live_as_long_as_its_owner_beats(owner: Owner) -> None:
    async def watch() -> None:
        while True:
            assert owner.verdict() == "live"
            await asyncio.sleep(7)

    watcher = asyncio.create_task(watch())
    await owner.live(86_400)
    assert not watcher.done()
    watcher.cancel()
    await asyncio.sleep(301)
    assert owner.verdict() == "idle"


async def test_heartbeat_leaves_the_other_tags_alone(owner: Owner) -> None:
    owner.tags()["team"] = "billing"
    del owner.tags()[wire.SWEEPING_TAG]
    await owner.live(61)
    assert owner.heartbeat.beats == 1
    assert owner.tags()["team"] == "billing"
    assert wire.SWEEPING_TAG not in owner.tags()


async def test_heartbeat_of_legacy_queue_bears_the_older_tag(sqs: MemorySQS) -> None:
    owner = Owner(sqs)
    await owner.create()
    owner.heartbeat._legacy = True
    await owner.live(61)
    assert int(owner.tags()["heartbeat"]) == pytest.approx(sqs.server.now(), abs=3)


async def test_heartbeat_tells_the_time_of_sqs(server: MemoryServer) -> None:
    # The loop's clock has nothing to do with the epoch, so any other clock would show.
    server.epoch = 2_000_000_000.0
    owner = Owner(MemorySQS(server))
    await owner.create()
    await owner.live(61)
    stamp = owner.lifetime().heartbeat_ms
    assert stamp == pytest.approx((server.epoch + 60) * 1000, abs=2000)


# ---------------------------------------------------------------------- the pace


async def test_interval_and_retention_grow_with_the_fleet_together(owner: Owner) -> None:
    owner.pacer.saw(4_000)  # 1000 s between heartbeats, 5000 s of retention
    began = asyncio.get_running_loop().time()
    await owner.live(2_200)
    moments = [moment - began for moment in owner.beats()]
    # The first keeps to what the queue was created with.
    assert moments == pytest.approx([60, 1060, 2060], abs=1)
    assert owner.lifetime().retention == 5000


async def test_fleet_that_grows_between_two_heartbeats_delays_none(owner: Owner) -> None:
    async def grow() -> None:
        await asyncio.sleep(90)
        owner.pacer.saw(40_000)

    growth = asyncio.create_task(grow())
    await owner.live(125)
    await growth
    assert len(owner.beats()) == 2
    assert owner.lifetime().retention == 50000


async def test_growth_while_a_heartbeat_is_on_its_way_waits_for_the_next(owner: Owner) -> None:
    gate = owner.sqs.hold("TagQueue")
    life = asyncio.create_task(owner.live(130))
    await gate.arrived()
    owner.pacer.saw(40_000)
    gate.release()
    await life
    # That one told a retention of 300 s, so the next must not wait for 10000 s.
    assert len(owner.beats()) == 2


async def test_throttled_heartbeats_slow_down_with_their_retention(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", Throttled)
    await owner.live(62)
    assert owner.heartbeat.beats == 1
    assert owner.lifetime().retention == 375


async def test_heartbeat_throttled_for_long_ends_as_slow_as_that_asks_for(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", Throttled, times=None)
    life = asyncio.create_task(owner.live(1000))
    await asyncio.sleep(600)
    owner.sqs.clear()
    await asyncio.sleep(40)  # it is still tried twice a minute
    assert owner.heartbeat.beats == 1
    assert owner.lifetime().retention == pytest.approx(2 * 5 * 600, rel=0.1)
    await life


async def test_late_heartbeat_shows_in_the_pace_until_the_next(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", QueueError, times=3)
    life = asyncio.create_task(owner.live(200))
    await asyncio.sleep(61)
    seen = [(owner.pacer.late, owner.pacer.silence)]
    await asyncio.sleep(10)
    seen.append((owner.pacer.late, owner.pacer.silence))
    await asyncio.sleep(61)
    seen.append((owner.pacer.late, owner.pacer.silence))
    about_a_minute = pytest.approx(63, abs=10)
    assert seen == [(True, about_a_minute), (False, about_a_minute), (False, 0.0)]
    await life


async def test_heartbeat_that_is_not_allowed_is_not_late(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", AccessDenied, times=None)
    await owner.live(200)
    assert not owner.pacer.late


async def test_heartbeats_speed_up_again_after_a_throttle(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", Throttled)
    await owner.live(3600)
    assert owner.lifetime().retention == 300


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("error", [QueueError, Throttled])
async def test_passing_failure_is_tried_again_long_before_the_retention(
    owner: Owner, error: type[QueueError], caplog: pytest.LogCaptureFixture
) -> None:
    owner.sqs.fail("TagQueue", error, times=3)
    await owner.live(75)
    assert owner.heartbeat.beats == 1
    assert owner.heartbeat.failures == 3
    assert owner.heartbeat.last_success == pytest.approx(60 + 1.2 * 7 * 0.75, rel=0.5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_owner_survives_an_outage_of_most_of_the_retention(owner: Owner) -> None:
    owner.sqs.fail("TagQueue", QueueError, times=None)
    await owner.live(1)
    life = asyncio.create_task(owner.live(400))
    await asyncio.sleep(270)
    owner.sqs.clear()
    await asyncio.sleep(20)
    assert owner.verdict() == "live"
    await life


async def test_failing_heartbeat_never_spins(owner: Owner) -> None:
    owner.pacer.configured = owner.pacer.pace = Pacer(0.1, 0.3, None).pace
    owner.sqs.fail("TagQueue", QueueError, times=None)
    await owner.live(60)
    assert owner.sqs.calls["TagQueue"] <= 60 * 5


async def test_lasting_failure_warns_once_and_tells_when_it_works_again(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    owner.sqs.fail("TagQueue", QueueError, times=40)
    await owner.live(3600)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]


async def test_lasting_throttling_warns_once_and_fears_no_sweep(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    owner.sqs.fail("TagQueue", Throttled, times=None)
    await owner.live(3600)
    (record,) = caplog.records
    assert "slows down" in record.message
    assert "other requesters" not in record.message


async def test_missing_permission_warns_once_and_says_what_follows(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    owner.sqs.fail("TagQueue", AccessDenied, times=None)
    await owner.live(3600)
    assert owner.heartbeat.beats == 0
    # No more often than heartbeats would come.
    assert owner.heartbeat.failures == pytest.approx(59, abs=1)
    (record,) = caplog.records
    assert "sqs:TagQueue" in record.message
    assert "other requesters will" in record.message


async def test_heartbeat_outlives_a_bug(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    original = owner.sqs.tag_queue

    async def broken(*arguments: object) -> None:
        owner.sqs.tag_queue = original  # type: ignore[method-assign]
        raise KeyError("bug")

    owner.sqs.tag_queue = broken  # type: ignore[method-assign, assignment]
    await owner.live(125)
    assert owner.heartbeat.beats == 1
    assert "failed" in caplog.text


# -------------------------------------------------------------------------- loss


async def test_loss_of_the_queue_is_told_once_and_ends_the_heartbeat(owner: Owner) -> None:
    await owner.sqs.delete_queue(owner.url)
    async with asyncio.timeout(61):
        await owner.heartbeat.run()
    assert owner.lost == 1


async def test_young_queue_that_is_not_there_yet_is_not_lost(server: MemoryServer) -> None:
    owner = Owner(MemorySQS(server), Pacer(1.0, 3.0, None))
    await owner.create()
    owner.young = True
    server.creation_lag = 5.0
    await owner.live(12)
    assert owner.lost == 0
    assert owner.heartbeat.beats >= 5


async def test_cancelling_ends_the_heartbeat(owner: Owner) -> None:
    gate = owner.sqs.hold("TagQueue")
    task = asyncio.create_task(owner.heartbeat.run())
    await gate.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert owner.lost == 0


# ------------------------------------------------------------------------- clocks


async def test_machine_that_slept_writes_its_heartbeat_again(
    owner: Owner, server: MemoryServer
) -> None:
    # The monotonic clock stops in sleep, so an hour later SQS's time is an hour ahead of what
    # was counted on: what the first heartbeat tells is an hour old.
    await owner.live(61)
    server.epoch += 3600
    await owner.live(61)
    assert owner.verdict() == "live"
    assert owner.heartbeat.beats == 3


async def test_heartbeat_waits_for_the_time_of_sqs(server: MemoryServer) -> None:
    sqs = MemorySQS(server)
    await MemorySQS(server).create_queue(NAME, {}, {})
    owner = Owner(sqs)
    await owner.live(300)
    assert (owner.heartbeat.beats, owner.heartbeat.failures) == (0, 0)
    assert not sqs.calls
    await sqs.list_queues(NAME)
    await owner.live(61)
    assert owner.heartbeat.beats == 1


def test_repr_tells_of_beats_and_failures(sqs: MemorySQS) -> None:
    assert repr(Owner(sqs).heartbeat).endswith("0 beats, 0 failures>")
