"""What the synchronous package leaves behind, in a simulated SQS."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core import leftovers, ring, wire
from sqs_orchestrator.core.leftovers import LISTED
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.core.ring import Delete, List, ReadTags, Wait
from sqs_orchestrator.core.sweeping import LEGACY_SILENCE
from tests.unit.core.world import NOW, RETENTION, World, own_name
from tests.unit.core.world import PREFIX as OURS

PREFIX = "reply_queue_"
UUID = "f3c1f2b0-5d0e-4a53-9a0e-0d6d9f5a7c11"
SWEEPERS = f"{PREFIX}sweeper.fifo"


def add(world: World, name: str, silent: float | None, **more: str) -> str:
    """A queue of the package, with its last heartbeat *silent* seconds ago; `None`: without."""
    tags = {} if silent is None else {"heartbeat": str(int(NOW - silent))}
    world.tags[name] = {**tags, **more}
    return name


def sweep(world: World, prefix: str = PREFIX, **options: Any) -> set[str]:
    return set(world.drive(leftovers.everything(prefix, **options)))


# ------------------------------------------------------------------- reply queues


@pytest.mark.parametrize("rest", [UUID, f"0a1b2c3d_{UUID}", "230912309218309128309128309", "5f2b"])
def test_silent_reply_queue_is_deleted(rest: str) -> None:
    world = World()
    name = add(world, PREFIX + rest, LEGACY_SILENCE + 1)
    assert sweep(world, dry_run=True) == {name}
    assert name in world.tags
    assert sweep(world) == {name}
    assert not world.tags


@pytest.mark.parametrize("silent", [0, 300, 1200, LEGACY_SILENCE, -5000])
def test_reply_queue_whose_owner_may_live_is_kept(silent: float) -> None:
    world = World()
    name = add(world, PREFIX + UUID, silent)
    assert sweep(world) == set()
    assert name in world.tags


def test_reply_queue_is_kept_while_anything_is_in_it() -> None:
    world = World()
    world.filled.add(add(world, PREFIX + UUID, 5000))
    assert sweep(world) == set()


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"team": "billing"},
        {"heartbeat": "on"},
        {"heartbeat": "-1"},
        {"heartbeat": "1.5"},
        {"heartbeat": "1", "__IdleQueueRetentionPeriodSeconds": "soon"},
        {"heartbeat": "1", "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp": "1"},
        wire.heartbeat_tags(now=NOW, retention=RETENTION, legacy=True) | {"heartbeat": "1"},
    ],
)
def test_queue_with_other_tags_is_not_of_the_package(tags: dict[str, str]) -> None:
    world = World()
    world.tags[PREFIX + UUID] = tags
    assert sweep(world) == set()


def test_without_being_asked_nothing_of_the_package_is_touched() -> None:
    world = World()
    add(world, PREFIX + UUID, 1e6)
    add(world, SWEEPERS, None)
    assert world.drive(ring.everything(PREFIX)) == []
    me = world.add(own_name(1), beat=0, sweeping=True)
    add(world, f"{OURS}{UUID}", 1e6)
    add(world, f"{OURS}sweeper.fifo", None)
    assert world.sweep(me) == []


def test_own_idle_queues_are_swept_along() -> None:
    world = World()
    dead = world.dead(1)
    live = world.sweeper(2)
    old = add(world, f"{OURS}{UUID}", 5000)
    assert sweep(world, OURS) == {dead, old}
    assert set(world.tags) == {live}


def test_owner_that_comes_back_before_the_deletion_keeps_its_queue() -> None:
    world = World()
    name = add(world, PREFIX + UUID, 5000)
    add(world, SWEEPERS, None)

    def come_back(action: ring.Action) -> None:
        if isinstance(action, Wait):
            add(world, name, 0)

    assert world.drive(leftovers.everything(PREFIX), before=come_back) == []


def test_nothing_is_deleted_while_the_time_is_unknown() -> None:
    world = World(now=None)
    add(world, PREFIX + UUID, 5000)
    add(world, SWEEPERS, None)
    assert sweep(world) == set()


# ------------------------------------------------------------ the queues of sweepers


@pytest.mark.parametrize("dry_run", [True, False])
def test_sweepers_queue_goes_with_the_last_reply_queue(dry_run: bool) -> None:
    world = World()
    gone = {
        add(world, PREFIX + UUID, 5000),
        add(world, SWEEPERS, None),
        add(world, f"{PREFIX}0a1b2c3d_sweeper.fifo", None),
    }
    assert sweep(world, dry_run=dry_run) == gone
    assert set(world.tags) == (gone if dry_run else set())


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("silent", [0, 5000])
def test_sweepers_queue_stays_while_a_reply_queue_does(filled: bool, silent: float) -> None:
    world = World()
    reply = add(world, PREFIX + UUID, silent)
    if filled:
        world.filled.add(reply)
    sweepers = add(world, SWEEPERS, None)
    stays = filled or not silent
    world.ages[sweepers] = 0.0
    assert sweep(world) == (set() if stays else {reply, sweepers})
    # Who lives makes nobody wait.
    assert (LISTED in world.waited) != stays


def test_sweepers_queue_of_one_prefix_goes_although_another_prefix_lives() -> None:
    world = World()
    kept = {
        add(world, f"{PREFIX}0a1b2c3d_{UUID}", 10),
        add(world, f"{PREFIX}0a1b2c3d_sweeper.fifo", None),
        # Begins with what the living one begins with.
        add(world, SWEEPERS, None),
    }
    gone = add(world, f"{PREFIX}99999999_sweeper.fifo", None)
    assert sweep(world) == {gone}
    assert set(world.tags) == kept


def test_other_queues_with_the_prefix_do_not_keep_the_sweepers_queue() -> None:
    world = World()
    sweepers = add(world, SWEEPERS, None)
    add(world, f"{PREFIX}important", None)
    world.tags[f"{PREFIX}{'0' * 32}"] = wire.reply_queue_tags(
        now=NOW, retention=RETENTION, sweeping=True, legacy=True
    )
    assert sweep(world) == {sweepers}


@pytest.mark.parametrize("why", ["filled", "tagged", "of unknown age", "not its name"])
def test_queue_that_may_be_of_somebody_else_is_kept(why: str) -> None:
    world = World()
    name = SWEEPERS if why != "not its name" else f"{PREFIX}sweepers.fifo"
    add(world, name, None)
    if why == "filled":
        world.filled.add(name)
    if why == "tagged":
        world.tags[name] = {"team": "streets"}
    if why == "of unknown age":
        world.ages[name] = None
    assert sweep(world) == set()
    assert name in world.tags


def test_queue_called_only_that_is_nobodys() -> None:
    world = World()
    add(world, "sweeper.fifo", None)
    assert sweep(world, "swee") == set()


def test_prefix_that_is_longer_than_that_of_the_sweepers_shows_their_reply_queues() -> None:
    world = World()
    add(world, PREFIX + UUID, 10)
    add(world, SWEEPERS, None)
    assert sweep(world, f"{PREFIX}sw") == set()


def test_reply_queue_that_is_not_listed_yet_keeps_the_sweepers_queue() -> None:
    world = World()
    reply = add(world, PREFIX + UUID, 0)
    add(world, SWEEPERS, None)
    world.unlisted.add(reply)
    world.ages[SWEEPERS] = 25.0
    waited = 0.0

    def go_on(action: ring.Action) -> None:
        nonlocal waited
        waited += action.seconds if isinstance(action, Wait) else 0
        if waited >= LISTED - 25:
            world.unlisted.clear()

    assert world.drive(leftovers.everything(PREFIX), before=go_on) == []


def test_dry_run_waits_for_no_listing() -> None:
    world = World()
    world.ages[add(world, SWEEPERS, None)] = 0.0
    assert sweep(world, dry_run=True) == {SWEEPERS}
    assert not world.waited


def test_listing_is_made_again_right_before_the_deletion() -> None:
    world = World()
    add(world, SWEEPERS, None)

    def begin(action: ring.Action) -> None:
        if isinstance(action, ReadTags):
            assert world.lists == [PREFIX, PREFIX]
        if isinstance(action, List) and world.lists:
            add(world, PREFIX + UUID, 0)

    assert world.drive(leftovers.everything(PREFIX), before=begin) == []


def test_sweepers_queue_that_somebody_else_deletes_first_is_not_reported() -> None:
    world = World()
    add(world, SWEEPERS, None)

    def be_faster(action: ring.Action) -> None:
        if isinstance(action, Delete):
            del world.tags[queue_name_of(action.url)]

    assert world.drive(leftovers.everything(PREFIX), before=be_faster) == []


@st.composite
def accounts(draw: st.DrawFn) -> World:
    """Processes of the package with several prefixes, and what they have left behind."""
    world = World()
    for prefix in (PREFIX, f"{PREFIX}a_", f"{PREFIX}a_b_"):
        for number in range(draw(st.integers(0, 2))):
            name = add(world, f"{prefix}{number:08d}-x", draw(st.sampled_from([0.0, 1e4])))
            if draw(st.booleans()):
                world.filled.add(name)
        if draw(st.booleans()):
            add(world, f"{prefix}sweeper.fifo", None)
    return world


@given(accounts())
def test_no_reply_queue_that_lives_loses_its_sweepers(world: World) -> None:
    before = dict(world.tags)
    promised = sweep(world, dry_run=True)
    assert world.tags == before
    assert sweep(world) == promised
    for name in promised:
        if name.endswith(".fifo"):
            prefix = name.removesuffix("sweeper.fifo")
            left = [each for each in world.tags if each.startswith(prefix)]
            assert all(each.endswith(".fifo") for each in left)
        else:
            assert before[name] == {"heartbeat": str(int(NOW - 1e4))}
            assert name not in world.filled
    for name in before.keys() - promised:
        if name.endswith(".fifo"):
            prefix = name.removesuffix("sweeper.fifo")
            assert any(e.startswith(prefix) and not e.endswith(".fifo") for e in world.tags)
