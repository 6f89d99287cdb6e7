"""The ring, driven by a simulated fleet instead of SQS."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core import ring, wire
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.core.pacing import TAG_CALLS, budget
from sqs_orchestrator.core.ring import Delete, List, ReadCounts, ReadTags, Saw, Wait
from sqs_orchestrator.core.sweeping import verdict
from tests.unit.core.world import BASE, NOW, PREFIX, RETENTION, World, java_name, own_name
from tests.unit.strategies import more


def order(name: str) -> tuple[bool, str]:
    digits = name[len(PREFIX) :][:8]
    return (len(digits) < 8 or any(digit not in "0123456789abcdef" for digit in digits), name)


def responsible(name: str, sweepers: Iterable[str]) -> str:
    """The live sweeper nearest before *name* in the ring: said again, in other words."""
    ranked = sorted(sweepers, key=order)
    before = [sweeper for sweeper in ranked if order(sweeper) < order(name)]
    return before[-1] if before else ranked[-1]


# ------------------------------------------------------------------ one small ring


def test_sweeper_alone_ends_after_one_listing() -> None:
    world = World()
    me = world.sweeper(1)
    assert world.sweep(me) == []
    assert world.lists == [PREFIX]
    assert not world.reads
    assert world.saw == [1]


def test_sweeper_deletes_up_to_the_next_live_sweeper() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(6))
    kinds = ["me", "dead", "dead", "sweeper", "dead", "other sweeper"]
    for name, kind in zip(names, kinds, strict=True):
        world.add(name, beat=1000 if kind == "dead" else 10, sweeping=True)
    assert world.sweep(names[0]) == names[1:3]
    assert names[4] in world.tags


def test_sweeper_goes_around_the_end_of_the_list() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(4))
    for name in names[:3]:
        world.add(name, beat=1000)
    world.add(names[3], beat=10, sweeping=True)
    assert world.sweep(names[3]) == names[:3]


def test_sweeper_missing_from_the_listing_knows_its_place() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(5))
    for name in names:
        world.add(name, beat=10, sweeping=True)
    world.tags[names[3]] = wire.heartbeat_tags(now=NOW - 1000, retention=RETENTION)
    world.unlisted.add(names[2])
    assert world.sweep(names[2]) == [names[3]]
    assert world.saw == [5]


def test_sweeper_walks_past_live_queues_that_do_not_sweep() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(4))
    world.add(names[0], beat=10, sweeping=True)
    world.add(names[1], beat=10)
    world.add(names[2], beat=1000)
    world.add(names[3], beat=10, sweeping=True)
    assert world.sweep(names[0]) == [names[2]]


def test_sweeper_skips_foreign_queues_whatever_marks_they_bear() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(4))
    world.add(names[0], beat=10, sweeping=True)
    world.add(names[1], beat=None)
    world.add(names[2], beat=None, sweeping=True)
    world.add(names[3], beat=1000)
    assert world.sweep(names[0]) == [names[3]]


def test_sweeper_never_touches_the_queues_of_the_java_sweeper() -> None:
    world = World()
    me = world.sweeper(1)
    for name in (PREFIX, PREFIX + "_DLQ"):
        world.add(name, beat=1000)
    assert world.sweep(me) == []
    assert not world.reads
    assert world.drive(ring.everything(PREFIX)) == []


@pytest.mark.parametrize("name", [java_name(1), PREFIX + "orders", PREFIX + "0", PREFIX + "-" * 40])
def test_queue_of_another_form_is_deleted_only_when_empty(name: str) -> None:
    world = World()
    me = world.sweeper(1)
    world.add(name, beat=1000, filled=True)
    assert world.sweep(me) == []
    world.filled.clear()
    assert world.sweep(me) == [name]


def test_queue_of_our_own_form_goes_with_all_that_is_in_it() -> None:
    world = World()
    me = world.sweeper(1)
    gone = world.dead(2)
    world.filled.add(gone)
    assert world.sweep(me) == [gone]


def test_tags_are_read_again_right_before_the_deletion() -> None:
    world = World()
    me = world.sweeper(1)
    name = world.add(java_name(2), beat=1000)
    seen: list[type[ring.Action]] = []
    world.drive(ring.walk(PREFIX, me), me, before=lambda action: seen.append(type(action)))
    assert seen == [List, Saw, ReadTags, ReadCounts, Wait, ReadTags, Delete]
    assert name not in world.tags


def test_owner_that_comes_back_before_the_deletion_keeps_its_queue() -> None:
    world = World()
    me = world.sweeper(1)
    name = world.dead(2)

    def come_back(action: ring.Action) -> None:
        if isinstance(action, Wait):
            world.add(name, beat=0, sweeping=True)

    assert world.drive(ring.walk(PREFIX, me), me, before=come_back) == []
    assert name in world.tags
    assert world.reads[me] == 2


def test_queue_that_vanishes_meanwhile_is_passed_over() -> None:
    world = World()
    names = sorted(own_name(number) for number in range(3))
    world.add(names[0], beat=10, sweeping=True)
    world.add(names[1], beat=1000)
    world.add(names[2], beat=1000)

    def vanish(action: ring.Action) -> None:
        if isinstance(action, Saw):
            del world.tags[names[1]]

    assert world.drive(ring.walk(PREFIX, names[0]), names[0], before=vanish) == [names[2]]


def test_queue_deleted_by_somebody_else_first_is_not_reported() -> None:
    world = World()
    me = world.sweeper(1)
    world.dead(2)

    def be_faster(action: ring.Action) -> None:
        if isinstance(action, Delete):
            del world.tags[queue_name_of(action.url)]

    assert world.drive(ring.walk(PREFIX, me), me, before=be_faster) == []


def test_nothing_is_deleted_while_the_time_is_unknown() -> None:
    world = World(now=None)
    me = world.sweeper(1)
    world.dead(2)
    world.add(java_name(3), beat=1000)
    assert world.sweep(me) == []
    assert world.drive(ring.everything(PREFIX)) == []


def test_probe_looks_at_no_more_queues_than_it_may() -> None:
    world = World()
    me = world.sweeper(1)
    for number in range(2, 50):
        world.add(own_name(number), beat=10)
    world.sweep(me, most=20)
    assert world.reads[me] == 20


# ------------------------------------------------------------ a sweep from outside


def test_sweep_from_outside_looks_at_every_queue() -> None:
    world = World()
    dead = {world.dead(number) for number in range(10)}
    live = {world.sweeper(number) for number in range(10, 20)}
    java = {world.add(java_name(1), beat=1000), world.add(java_name(2), beat=1000, filled=True)}
    assert set(world.drive(ring.everything(PREFIX))) == dead | {java_name(1)}
    assert set(world.tags) == live | {java_name(2)} | (java - {java_name(1), java_name(2)})


def test_dry_run_reports_what_it_would_delete_and_deletes_nothing() -> None:
    world = World()
    dead = {world.dead(number) for number in range(10)}
    world.sweeper(10)
    world.add(java_name(2), beat=1000, filled=True)
    before = dict(world.tags)
    assert set(world.drive(ring.everything(PREFIX, dry_run=True))) == dead
    assert world.tags == before


def test_sweep_from_outside_keeps_to_the_budget() -> None:
    world = World()
    for number in range(100):
        world.sweeper(number)
    world.drive(ring.everything(PREFIX))
    assert sum(world.waited) == pytest.approx(99 / TAG_CALLS)


# ---------------------------------------------------------------------- the fleet

KINDS = ("sweeper", "dead", "live", "foreign", "java dead", "java filled", "java live", "odd dead")


def populate(kinds: list[str]) -> tuple[World, list[str]]:
    world = World()
    sweepers = []
    for number, kind in enumerate(kinds):
        if kind == "sweeper":
            sweepers.append(world.sweeper(number))
        elif kind == "dead":
            world.dead(number)
        elif kind == "live":
            world.add(own_name(number), beat=10)
        elif kind == "foreign":
            world.add(own_name(number), beat=None)
        elif kind == "odd dead":
            world.add(f"{PREFIX}queue-{number}", beat=1000)
        else:
            beat = 10 if kind == "java live" else 1000
            world.add(java_name(number), beat=beat, filled=kind == "java filled")
    return world, sweepers


def idle(world: World) -> set[str]:
    now_ms = int(NOW * 1000)
    return {
        name
        for name, tags in world.tags.items()
        if verdict(tags, now_ms) == "idle" and name not in world.filled
    }


@more(3)
@given(
    st.lists(st.sampled_from(KINDS), max_size=60),
    st.randoms(use_true_random=False),
    st.sampled_from([4, 8, 1000]),
    st.one_of(st.none(), st.integers(0, 500)),
)
def test_each_idle_queue_is_deleted_in_one_round_by_the_right_process(
    kinds: list[str], shuffle: random.Random, page: int, fleet: int | None
) -> None:
    world, sweepers = populate(["sweeper", *kinds])
    shuffle.shuffle(sweepers)
    before, doomed = set(world.tags), idle(world)

    world.round(sweepers, page=page, fleet=fleet)

    assert before - set(world.tags) == doomed
    assert world.deleted_by == {name: responsible(name, sweepers) for name in doomed}
    # Each queue was looked at by one process, once, and again only before its deletion.
    others = before if len(sweepers) > 1 else before - set(sweepers)
    assert set(world.readers) == others
    assert all(len(readers) == 1 for readers in world.readers.values())
    assert world.reads.total() == len(others) + len(doomed)


@more(2)
@given(st.lists(st.sampled_from(KINDS), max_size=40), st.data())
def test_sweepers_that_interleave_delete_each_idle_queue_once_and_no_live_one(
    kinds: list[str], data: st.DataObject
) -> None:
    world, sweepers = populate(["sweeper", "sweeper", *kinds])
    before, doomed = set(world.tags), idle(world)
    # From outside, too: it shares no duty with the ring.
    plans: dict[str, tuple[ring.Plan, Any]] = {
        who: (ring.walk(PREFIX, who, page=8), None) for who in sweepers
    }
    plans["cron job"] = (ring.everything(PREFIX), None)
    reported: list[str] = []
    while plans:
        who = data.draw(st.sampled_from(sorted(plans)))
        plan, answer = plans.pop(who)
        try:
            action = plan.send(answer)
        except StopIteration as end:
            reported += end.value
        else:
            plans[who] = (plan, world.act(action, who))
    assert before - set(world.tags) == doomed
    assert sorted(reported) == sorted(BASE + name for name in doomed)


@given(st.integers(2, 60), st.sets(st.integers(0, 59)), st.data())
def test_owner_may_come_back_at_any_moment_but_between_last_look_and_deletion(
    size: int, dead: set[int], data: st.DataObject
) -> None:
    world, sweepers = populate(["dead" if number in dead else "sweeper" for number in range(size)])
    back: set[str] = set()

    def come_back(action: ring.Action) -> None:
        gone = sorted(idle(world))
        if gone and not isinstance(action, Delete) and data.draw(st.integers(0, 4)) == 0:
            back.add(world.add(data.draw(st.sampled_from(gone)), beat=0, sweeping=True))

    for who in sweepers:
        world.drive(ring.walk(PREFIX, who), who, before=come_back)
    assert back <= set(world.tags)


# Up to one page, and beyond it: in buckets.
@pytest.mark.parametrize("fleet", [99, 100, 500])
@pytest.mark.parametrize("crashed", [0.0, 0.01, 0.5, 0.99])
def test_survivors_clean_up_a_crash_in_one_round(fleet: int, crashed: float) -> None:
    chance = random.Random(f"{fleet} {crashed}")
    dead = {number for number in range(1, fleet) if chance.random() < crashed}
    world, sweepers = populate(["dead" if number in dead else "sweeper" for number in range(fleet)])
    chance.shuffle(sweepers)
    world.round(sweepers, page=100, fleet=fleet)
    assert set(world.tags) == set(sweepers)
    # One look per queue, however few survive; a second before each deletion.
    assert world.reads.total() <= fleet + len(dead)


# -------------------------------------------------------------- large fleets


def names_of_large_fleet(size: int) -> list[str]:
    return [own_name(number) for number in range(size)]


def test_large_healthy_fleet_takes_one_listing_and_one_look_per_process() -> None:
    world = World()
    names = names_of_large_fleet(8_000)
    for name in names:
        world.add(name, beat=10, sweeping=True)
    sweepers = names[::80]
    world.round(sweepers, fleet=8_000)
    assert len(world.lists) <= 1.05 * len(sweepers)
    assert all(world.reads[who] == 1 for who in sweepers)


def test_first_sweep_finds_its_bucket_by_itself() -> None:
    world = World()
    names = names_of_large_fleet(5_000)
    for name in names:
        world.add(name, beat=10, sweeping=True)
    me = names[0]
    world.sweep(me)
    assert world.lists == [PREFIX, me[: len(PREFIX) + 1]]
    assert world.saw[0] == pytest.approx(5_000, rel=0.2)


def test_fleet_size_is_right_within_a_fifth() -> None:
    world = World()
    names = names_of_large_fleet(8_000)
    for name in names:
        world.add(name, beat=10, sweeping=True)
    world.round(names[:30], fleet=8_000)
    assert world.saw == pytest.approx([8_000] * 30, rel=0.2)


def test_fleet_spread_evenly_is_counted_exactly() -> None:
    world = World()
    for first in range(256):
        for second in range(4):
            world.add(f"{PREFIX}{first:02x}{second:030x}", beat=10, sweeping=True)
    world.sweep(f"{PREFIX}77{1:030x}", page=8)
    assert world.lists == [PREFIX, PREFIX + "7", PREFIX + "77"]
    assert world.saw == [1_024]


def test_fleet_that_shrank_is_listed_whole_again() -> None:
    world = World()
    me = world.sweeper(1)
    fleet = 100_000
    for _ in range(4):
        world.sweep(me, fleet=fleet)
        fleet = world.saw[-1]
    assert fleet == 1
    assert world.lists[-1] == PREFIX


def test_lone_survivor_lists_a_few_buckets_and_then_everything_once() -> None:
    world = World()
    names = sorted(names_of_large_fleet(2_000))
    for name in names:
        world.add(name, beat=1000)
    odd = world.add(PREFIX + "orders", beat=1000)
    me = world.add(PREFIX + "3" + "0" * 31, beat=10, sweeping=True)
    assert set(world.sweep(me, fleet=2_000)) == {*names, odd}
    assert world.lists == [PREFIX + digit for digit in "3456789ab"] + [PREFIX]
    # The last word on the size is exact: what was deleted on the way is gone.
    rest = [name for name in names if name[len(PREFIX)] not in "3456789ab"]
    assert world.saw[-1] == len(rest) + 2
    assert set(world.tags) == {me}


def test_walk_across_the_seam_lists_everything_once() -> None:
    world = World()
    dead = {world.dead(number) for number in range(2_000)}
    me = world.add(PREFIX + "e" + "0" * 31, beat=10, sweeping=True)
    assert set(world.sweep(me, fleet=2_000)) == dead
    assert world.lists == [PREFIX + "e", PREFIX + "f", PREFIX]


def test_queue_outside_all_buckets_is_looked_at_by_one_process_of_a_large_fleet() -> None:
    world = World()
    names = names_of_large_fleet(300)
    for name in names:
        world.add(name, beat=10, sweeping=True)
    odd = {world.add(f"{PREFIX}ab-{number}", beat=1000) for number in range(5)}
    world.round(names, page=100, fleet=300)
    assert not odd & set(world.tags)
    assert {world.deleted_by[name] for name in odd} == {max(names)}


def test_bucket_that_no_digits_narrow_is_listed_in_full() -> None:
    world = World()
    for number in range(30):
        world.add(f"{PREFIX}01234567{number:024x}", beat=10)
    me = world.add(f"{PREFIX}01234567{30:024x}", beat=10, sweeping=True)
    world.sweep(me, page=10)
    assert world.lists[8] == PREFIX + "01234567"
    assert len(world.lists) <= 9 + ring.NEAR + 1
    assert len(world.readers) == 30


# ----------------------------------------------------------------------- the pace


def test_sweep_with_much_to_do_starts_slowly_and_hurries_up() -> None:
    world, (me,) = populate(["sweeper"] + ["dead"] * 998)
    world.sweep(me)
    assert len(world.waited) == 2 * 998 - 1
    assert world.waited[:300] == [ring.SLOWEST] * 300
    assert world.waited == sorted(world.waited, reverse=True)
    assert world.waited[-1] == ring.FASTEST


def test_clearing_out_a_crashed_fleet_stays_within_the_budget() -> None:
    # Sweeps that begin at random within one period, each at its own pace: count the tag
    # calls of all in each tenth of it.
    fleet, survivors = 4_000, 20
    chance = random.Random(1)
    world, sweepers = populate(["sweeper"] * survivors + ["dead"] * (fleet - survivors))
    period = budget(fleet, 60.0, 300.0, 300.0).sweep
    calls: Counter[int] = Counter()
    moment = 0.0

    def count(action: ring.Action) -> None:
        nonlocal moment
        if isinstance(action, Wait):
            moment += action.seconds
        if isinstance(action, ReadTags):
            calls[int(moment / period * 10)] += 1

    for who in sweepers:
        moment = chance.random() * period
        world.drive(ring.walk(PREFIX, who, fleet=fleet), who, before=count)
    assert set(world.tags) == set(sweepers)
    heartbeats = survivors / 60
    assert max(calls.values()) / (period / 10) + heartbeats <= 1.3 * TAG_CALLS
