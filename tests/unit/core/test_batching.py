"""`Lane`: which entries travel together, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sqs_orchestrator.core.batching import (
    Lane,
    Parts,
    Policy,
)
from sqs_orchestrator.core.limits import FORMER_BATCH_BYTES
from tests.unit.strategies import more

STANDARD = Policy(linger=0.02)
PATIENT = Policy(linger=1.5, patient=True)
ORDERED = Policy(linger=0.02, most_in_flight=1)


def lane_of(policy: Policy, *entries: str, size: int = 100, at: float = 0.0) -> Lane[str]:
    lane: Lane[str] = Lane(policy)
    for entry in entries:
        lane.add(entry, size, at)
    return lane


def departing(lane: Lane[str], now: float) -> list[str]:
    """The batches that leave now, each as one text."""
    return ["".join(batch) for batch in lane.departures(now)[0]]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


# ------------------------------------------------------------------------ when


def test_first_entry_goes_at_once() -> None:
    assert departing(lane_of(STANDARD, "a"), 0.0) == ["a"]


def test_empty_lane_has_no_batch() -> None:
    lane = lane_of(STANDARD)
    assert lane.due() is None
    assert lane.departures(0.0) == ([], None)


def test_part_filled_batch_waits_for_the_one_in_flight() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    lane.add("b", 100, 0.01)
    assert departing(lane, 0.02) == []
    lane.in_flight -= 1
    assert departing(lane, 0.02) == ["b"]


def test_part_filled_batch_waits_no_longer_than_it_lingers() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    lane.add("b", 100, 0.01)
    assert lane.due() == pytest.approx(0.03)
    assert departing(lane, 0.03) == ["b"]


def test_full_batch_goes_while_others_travel() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    for entry in names(10):
        lane.add(entry, 100, 0.0)
    assert departing(lane, 0.0) == ["0123456789"]


def test_batch_full_by_bytes_goes_while_others_travel() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    lane.add("b", 600_000, 0.0)
    assert departing(lane, 0.0) == []
    lane.add("c", 600_000, 0.0)
    assert departing(lane, 0.0) == ["b"]
    assert departing(lane, 0.0) == [], "c has room for company"


def test_batch_that_is_full_to_the_byte_goes_whole_while_others_travel() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    lane.add("b", STANDARD.max_bytes // 2, 0.0)
    lane.add("c", STANDARD.max_bytes // 2, 0.0)
    assert departing(lane, 0.0) == ["bc"]


def test_patient_lane_lingers_though_nothing_is_in_flight() -> None:
    lane = lane_of(PATIENT, "a", at=1.0)
    assert departing(lane, 2.4) == []
    assert lane.due() == 2.5
    assert departing(lane, 2.5) == ["a"]


def test_patient_lane_sends_full_batch_at_once() -> None:
    assert departing(lane_of(PATIENT, *names(10)), 0.0) == ["0123456789"]


def test_flushing_lane_does_not_linger() -> None:
    lane = lane_of(PATIENT, "a")
    lane.flushing = True
    assert departing(lane, 0.0) == ["a"]


def test_lane_says_whether_an_entry_may_change_when_the_next_batch_leaves() -> None:
    lane = lane_of(PATIENT)
    told = [lane.add(name, 100, 0.0) for name in names(12)]
    assert told == [True, *[False] * 8, True, True, True]


def test_lane_says_that_an_entry_fills_a_batch_by_its_bytes() -> None:
    lane = lane_of(PATIENT)
    told = [lane.add(name, PATIENT.max_bytes // 2, 0.0) for name in "ab"]
    assert told == [True, True]
    lane = lane_of(PATIENT, "a")
    lane.max_bytes = 250
    assert [lane.add(name, 100, 0.0) for name in "bc"] == [False, True]


def test_lane_that_flushes_says_that_any_entry_leaves() -> None:
    lane = lane_of(PATIENT, "a")
    lane.flushing = True
    assert lane.add("b", 100, 0.0)


def test_no_more_batches_fly_than_the_policy_allows() -> None:
    lane = lane_of(STANDARD, *names(200))
    batches, due = lane.departures(0.0)
    assert len(batches) == lane.in_flight == STANDARD.most_in_flight
    assert due is None
    lane.in_flight -= 1
    assert len(departing(lane, 0.0)) == 1


def test_ordered_lane_has_one_batch_in_flight() -> None:
    lane = lane_of(ORDERED, *names(20))
    assert departing(lane, 0.0) == ["0123456789"]
    assert departing(lane, math.inf) == []
    lane.in_flight -= 1
    assert departing(lane, 0.0) == ["10111213141516171819"]


# --------------------------------------------------------------- after a failure


def test_paused_lane_sends_nothing_before_its_time() -> None:
    lane = lane_of(STANDARD, *names(10))
    lane.pause(5.0)
    assert lane.paused(4.9)
    assert departing(lane, 4.9) == []
    assert lane.due() == 5.0
    assert not lane.paused(5.0)
    assert departing(lane, 5.0) == ["0123456789"]


def test_flushing_does_not_end_a_pause() -> None:
    lane = lane_of(STANDARD, "a")
    lane.pause(5.0)
    lane.flushing = True
    assert departing(lane, 4.9) == []


def test_lingering_does_not_end_a_pause() -> None:
    lane = lane_of(PATIENT, "a")
    lane.pause(5.0)
    assert lane.due() == 5.0
    assert departing(lane, 4.9) == []


def test_lane_in_trouble_probes_with_one_batch() -> None:
    lane = lane_of(STANDARD, *names(50))
    lane.pause(5.0)
    assert len(departing(lane, 5.0)) == 1
    assert departing(lane, 5.0) == []
    lane.in_flight -= 1
    lane.resume()
    assert len(departing(lane, 5.0)) == 4


def test_entries_put_back_go_before_all_others_in_their_order() -> None:
    lane = lane_of(ORDERED, "a", "b", "c")
    assert departing(lane, 0.0) == ["abc"]
    lane.add("d", 100, 0.0)
    lane.in_flight -= 1
    lane.put_back([("a", 100), ("c", 100)], 0.0)
    assert departing(lane, 0.0) == ["acd"]


# --------------------------------------------------------------------- withdrawn


def test_withdrawn_entry_does_not_travel() -> None:
    lane = lane_of(STANDARD, "a", "b", "c")
    assert lane.withdraw("b")
    assert departing(lane, 0.0) == ["ac"]


def test_entry_in_flight_cannot_be_withdrawn() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    assert not lane.withdraw("a")


def test_withdrawn_bytes_count_no_more() -> None:
    lane = lane_of(STANDARD, "a")
    departing(lane, 0.0)
    lane.add("b", 600_000, 0.0)
    lane.add("c", 600_000, 0.0)
    lane.withdraw("c")
    assert departing(lane, 0.0) == [], "b alone does not fill a batch"


# ------------------------------------------------------------------------- packing


@given(st.lists(st.integers(0, 1_200_000), max_size=60))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    policy = Policy(linger=0.0, most_in_flight=100)
    lane: Lane[int] = Lane(policy)
    for number, size in enumerate(sizes):
        lane.add(number, size, 0.0)
    sent: list[int] = []
    batches, _ = lane.departures(0.0)
    for batch in batches:
        assert 0 < len(batch) <= policy.max_entries
        total = sum(sizes[number] for number in batch)
        assert total <= policy.max_bytes or len(batch) == 1
        # Nothing that would have fitted stays behind.
        follower = batch[-1] + 1
        if len(batch) < policy.max_entries and follower < len(sizes):
            assert total + sizes[follower] > policy.max_bytes
        sent += batch
    assert sent == list(range(len(sizes)))


# ------------------------------------------------------------------ any life of it

# ------------------------------------------------------------------------ parts


class Picky:
    """A server that refuses whole batches: of more bytes than *most*, or with an entry out of
    *bad*. *tells* is how: not at all, that it is for the size, or the limit too."""

    def __init__(self, most: int, bad: frozenset[int] = frozenset(), tells: str = "") -> None:
        self.most = most
        self.bad = bad
        self.tells = tells
        self.calls = 1

    def said(self, sizes: list[int], entries: list[int]) -> int | None:
        """What `Parts.refused` is told; `-1` where the batch is taken."""
        if sum(sizes[entry] for entry in entries) > self.most:
            return {"": None, "size": 0, "limit": self.most}[self.tells]
        return None if self.bad & set(entries) else -1

    def take(self, sizes: list[int], limit: int | None = None) -> tuple[Parts, list[list[int]]]:
        """The parts taken of a batch that has just been refused."""
        entries = list(range(len(sizes)))
        parts = Parts(sizes, limit)
        parts.refused(self.said(sizes, entries))
        taken = []
        while (part := parts.following()) is not None:
            self.calls += 1
            said = self.said(sizes, entries[part])
            if said == -1:
                taken.append(entries[part])
                parts.taken(sum(sizes[part]))
            else:
                parts.refused(said)
        return parts, taken


@pytest.mark.parametrize("tells", ["", "size", "limit"])
def test_batch_over_the_limit_goes_in_parts_and_the_limit_is_learnt(tells: str) -> None:
    server = Picky(300, tells=tells)
    parts, taken = server.take([100] * 10)
    assert [entry for part in taken for entry in part] == list(range(10))
    assert parts.limit is not None
    assert 200 <= parts.limit <= 300
    assert server.calls <= 10


def test_former_limit_of_sqs_is_tried_first_where_none_is_told() -> None:
    server = Picky(FORMER_BATCH_BYTES, tells="size")
    parts, taken = server.take([30_000] * 10)
    assert [len(part) for part in taken] == [8, 2]
    assert parts.limit == FORMER_BATCH_BYTES


def test_told_limit_is_taken_at_its_word() -> None:
    server = Picky(550, tells="limit")
    parts, taken = server.take([100] * 10)
    assert [len(part) for part in taken] == [5, 5]
    assert parts.limit == 550


def test_told_limit_that_a_single_entry_exceeds_sets_that_one_apart() -> None:
    sizes = [10, 10, 2000, 10, 10, 10]
    parts = Parts(sizes)
    parts.refused(1024)
    slices = []
    while (part := parts.following()) is not None:
        slices.append(sizes[part])
        if 2000 in sizes[part]:
            parts.refused(1024)
        else:
            parts.taken(sum(sizes[part]))
    assert slices == [[10, 10], [2000], [10, 10, 10]]
    assert parts.limit is None


@pytest.mark.parametrize("bad", range(10))
def test_one_bad_entry_is_found_in_few_calls_and_no_limit_is_learnt(bad: int) -> None:
    server = Picky(10_000, frozenset({bad}))
    parts, taken = server.take([100] * 10)
    assert [entry for part in taken for entry in part] == [n for n in range(10) if n != bad]
    assert server.calls <= 9
    assert parts.limit is None


def test_known_limit_saves_calls() -> None:
    server = Picky(300)
    _, taken = server.take([100] * 10, limit=300)
    assert [len(part) for part in taken] == [3, 3, 3, 1]
    assert server.calls == 5


def test_entries_without_a_size_teach_no_limit() -> None:
    parts = Parts([0] * 4)
    parts.refused(0)
    while parts.following() is not None:
        parts.taken(0)
    assert parts.limit is None


@given(
    sizes=st.lists(st.sampled_from([0, 1, 50, 100, 300, 200_000, 400_000]), min_size=2),
    most=st.sampled_from([99, 100, 250, 1000, 262_144, 10**6]),
    bad=st.frozensets(st.integers(0, 9), max_size=3),
    tells=st.sampled_from(["", "size", "limit"]),
    limit=st.sampled_from([None, 100, 262_144]),
)
def test_each_entry_of_a_refused_batch_gets_its_own_verdict_in_its_order(
    sizes: list[int], most: int, bad: frozenset[int], tells: str, limit: int | None
) -> None:
    server = Picky(most, bad, tells)
    parts, taken = server.take(sizes, limit)
    fine = [n for n, size in enumerate(sizes) if size <= most and n not in bad]
    assert [entry for part in taken for entry in part] == fine
    # The batch, and at most as many parts as a binary tree has nodes.
    assert server.calls <= 2 * len(sizes)
    if len(fine) < len(sizes):
        assert parts.limit is None


def test_lane_packs_no_more_than_its_queue_takes() -> None:
    lane = lane_of(STANDARD, *"abcdef")
    lane.max_bytes = 300
    # The second one is full by that limit, and does not linger.
    assert departing(lane, 0.0) == ["abc", "def"]


class LaneMachine(RuleBasedStateMachine):
    """A lane against a plain list of what waits."""

    lane: Lane[int]

    @initialize(
        policy=st.builds(
            Policy,
            linger=st.sampled_from([0.0, 0.5, 2.0]),
            patient=st.booleans(),
            most_in_flight=st.sampled_from([1, 3]),
            max_entries=st.just(3),
            max_bytes=st.just(100),
        )
    )
    def begin(self, policy: Policy) -> None:
        self.policy = policy
        self.lane = Lane(policy)
        self.now = 0.0
        self.sizes: list[int] = []
        self.since: dict[int, float] = {}
        self.waiting: list[int] = []
        self.flying: list[list[int]] = []
        self.paused_until = -math.inf
        self.troubled = False

    @rule(size=st.sampled_from([0, 1, 40, 60, 100, 140]))
    def add(self, size: int) -> None:
        entry = len(self.sizes)
        self.sizes.append(size)
        self.since[entry] = self.now
        self.waiting.append(entry)
        due = self.lane.due()
        if not self.lane.add(entry, size, self.now):
            assert self.lane.due() == due

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        entry = data.draw(st.integers(0, len(self.sizes) - 1))
        assert self.lane.withdraw(entry) is (entry in self.waiting)
        if entry in self.waiting:
            self.waiting.remove(entry)

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def jump_to_the_next_batch(self) -> None:
        due = self.lane.due()
        if due is not None:
            self.now = max(self.now, due)
            self.take(must=True)

    @rule()
    def take(self, must: bool = False) -> None:
        batches, due = self.lane.departures(self.now)
        assert batches or not must
        for batch in batches:
            assert batch == self.waiting[: len(batch)]
            assert len(batch) <= self.policy.max_entries
            assert sum(self.sizes[entry] for entry in batch) <= 100 or len(batch) == 1
            assert self.now >= self.paused_until
            assert len(self.flying) < (1 if self.troubled else self.policy.most_in_flight)
            del self.waiting[: len(batch)]
            self.flying.append(batch)
        assert due == self.lane.due()
        assert due is None or due > self.now

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), pause=st.booleans())
    def bring_back(self, data: st.DataObject, pause: bool) -> None:
        batch = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        failed = [entry for entry in batch if data.draw(st.booleans())]
        self.lane.in_flight -= 1
        assert self.lane.in_flight == len(self.flying)
        self.lane.put_back([(entry, self.sizes[entry]) for entry in failed], self.now)
        self.since.update(dict.fromkeys(failed, self.now))
        self.waiting[:0] = failed
        self.troubled = pause
        if pause:
            self.paused_until = self.now + 1.0
            self.lane.pause(self.paused_until)
        else:
            self.lane.resume()

    @rule()
    def flush(self) -> None:
        self.lane.flushing = True

    @invariant()
    def nothing_is_lost(self) -> None:
        assert list(self.lane.waiting) == self.waiting
        assert self.lane.in_flight == len(self.flying)
        # The sum that is kept, since a wrong one would show only in much later batches.
        assert self.lane._bytes == sum(self.sizes[entry] for entry in self.waiting)  # noqa: SLF001

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        due = self.lane.due()
        if self.waiting and not self.flying:
            assert due is not None
            latest = max(self.since[self.waiting[0]] + self.policy.linger, self.paused_until)
            assert due <= latest
            if not self.policy.patient or self.lane.flushing:
                assert due <= max(self.now, self.paused_until)
        if not self.waiting:
            assert due is None


TestAnyLifeOfALane = LaneMachine.TestCase
TestAnyLifeOfALane.settings = settings(more(1.5), stateful_step_count=40)
