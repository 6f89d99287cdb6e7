"""The lanes of message groups, held against a FIFO queue that is played by the test."""

from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.groups import MARGIN, MOST_SUSPECTS, SHORT_WAIT, SUSPICION, Ask, Groups
from sqs_orchestrator.core.limits import BATCH_ENTRIES

WAIT = 20.0


def test_first_of_group_runs_and_others_wait_in_order() -> None:
    groups: Groups[int] = Groups()
    assert groups.enter("g", 1)
    assert not groups.enter("g", 2)
    assert not groups.enter("g", 3)
    assert groups.enter("h", 4)
    assert groups.waiting == 2
    assert groups.succeeded("g") == 2
    assert groups.succeeded("g") == 3
    assert groups.succeeded("g") is None
    assert groups.waiting == 0
    assert groups.enter("g", 5)


def test_failure_gives_the_rest_of_its_group_only() -> None:
    groups: Groups[int] = Groups()
    for item in range(5):
        groups.enter("g", item)
    groups.enter("h", 5)
    groups.enter("h", 6)
    rest, _ = groups.failed("g", 10, 0)
    assert rest == [1, 2, 3, 4]
    assert groups.waiting == 1
    assert groups.succeeded("h") == 6


def test_drain_gives_what_waits_and_leaves_what_runs() -> None:
    groups: Groups[int] = Groups()
    for item in range(3):
        groups.enter("g", item)
        groups.enter("h", item + 10)
    assert sorted(groups.drain()) == [1, 2, 11, 12]
    assert groups.waiting == 0
    assert groups.succeeded("g") is None
    assert groups.failed("h", 0, 0)[0] == []


def test_receive_may_ask_for_all_while_nothing_is_suspect() -> None:
    groups: Groups[int] = Groups()
    assert groups.ask(0, WAIT) == Ask(BATCH_ENTRIES, WAIT)
    groups.enter("g", 1)
    assert groups.ask(0, WAIT) == Ask(BATCH_ENTRIES, WAIT)


def test_receive_waits_shortly_while_others_follow_one_that_may_fail() -> None:
    groups: Groups[int] = Groups()
    groups.enter("g", 1)
    groups.enter("g", 2)
    assert groups.ask(0, WAIT) == Ask(BATCH_ENTRIES, SHORT_WAIT)
    assert groups.ask(0, 0) == Ask(BATCH_ENTRIES, 0)
    groups.succeeded("g")
    assert groups.ask(0, WAIT) == Ask(BATCH_ENTRIES, WAIT)


def test_suspect_group_is_taken_one_at_a_time_until_it_succeeds() -> None:
    groups: Groups[int] = Groups()
    groups.enter("g", 1)
    groups.failed("g", 100, 0)
    assert groups.ask(99, WAIT) == Ask(1, WAIT)
    assert groups.ask(100, WAIT) == Ask(1, WAIT)
    groups.enter("g", 1)
    assert groups.ask(101, WAIT) == Ask(BATCH_ENTRIES, SHORT_WAIT)
    groups.failed("g", 102, 0)
    assert groups.ask(102, WAIT) == Ask(1, WAIT)
    groups.enter("g", 1)
    groups.succeeded("g")
    assert groups.ask(103, WAIT) == Ask(BATCH_ENTRIES, WAIT)


def test_receive_ends_before_a_suspect_group_returns() -> None:
    groups: Groups[int] = Groups()
    groups.enter("g", 1)
    groups.failed("g", 100, 0)
    for now in range(100):
        ask = groups.ask(now, WAIT)
        assert ask.most == 1 or now + ask.wait + MARGIN <= 100
    assert groups.ask(70, WAIT) == Ask(BATCH_ENTRIES, WAIT)
    assert groups.ask(90, WAIT).most == BATCH_ENTRIES
    # As long as a short wait fits in.
    assert groups.ask(100 - SHORT_WAIT - MARGIN, WAIT) == Ask(BATCH_ENTRIES, SHORT_WAIT)


def test_failed_message_stays_away_until_wide_receives_have_ended() -> None:
    groups: Groups[int] = Groups()
    groups.enter("g", 1)
    groups.enter("g", 2)
    assert groups.failed("g", 10, 25) == ([2], 25)
    # So does one that failed before, since others may follow it in the queue.
    groups.enter("g", 1)
    assert groups.failed("g", 30, 35) == ([], 35)
    # But not one of which nothing bad is known yet: a plain retry should be prompt.
    groups.enter("h", 1)
    assert groups.failed("h", 10, 25) == ([], 10)


def test_suspicion_ends_some_time_after_the_group_should_have_returned() -> None:
    groups: Groups[int] = Groups()
    groups.enter("g", 1)
    groups.failed("g", 5_000, 0)
    assert groups.ask(5_000 + SUSPICION - 1, WAIT).most == 1
    assert groups.ask(5_000 + SUSPICION, WAIT).most == BATCH_ENTRIES
    assert repr(groups) == "<Groups 0 held, 0 suspect>"


def test_no_more_suspects_are_remembered_than_fit_and_the_oldest_are_forgotten() -> None:
    groups: Groups[int] = Groups()

    def fail(group: str, returns: float) -> None:
        groups.enter(group, 0)
        groups.failed(group, returns, 0)

    fail("oldest", 0)
    for number in range(MOST_SUSPECTS - 1):
        fail(str(number), 5_000)
    assert groups.ask(0, WAIT).most == 1
    fail("one more", 5_000)
    assert groups.ask(0, WAIT).most == BATCH_ENTRIES
    fail("newest", 0)
    assert groups.ask(0, WAIT).most == 1
    assert repr(groups) == f"<Groups 0 held, {MOST_SUSPECTS} suspect>"


@given(st.lists(st.tuples(st.sampled_from("gh"), st.sampled_from("+-x")), max_size=60), st.data())
def test_no_message_is_lost_or_overtaken(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    """Whatever comes and goes, each group's messages run in their order, one at a time."""
    groups: Groups[int] = Groups()
    queue = {"g": deque(range(1000)), "h": deque(range(1000, 2000))}
    running: dict[str, int] = {}
    held: dict[str, deque[int]] = {"g": deque(), "h": deque()}
    for group, step in steps:
        if step == "+":
            if held[group] or group in running:
                continue  # SQS hands out none of a group in flight
            for _ in range(data.draw(st.integers(1, 10))):
                item = queue[group].popleft()
                if groups.enter(group, item):
                    assert group not in running
                    running[group] = item
                else:
                    held[group].append(item)
        elif group not in running:
            continue
        elif step == "x":
            del running[group]
            following = groups.succeeded(group)
            if following is not None:
                assert following == held[group].popleft()
                running[group] = following
        else:
            bad = running.pop(group)
            rest, _ = groups.failed(group, 0, 0)
            assert rest == list(held[group])
            queue[group].extendleft(reversed([bad, *rest]))
            held[group].clear()
        assert groups.waiting == sum(map(len, held.values()))


@pytest.mark.parametrize("wait", [0, 1, 20])
@given(returns=st.lists(st.floats(0, 1000), max_size=5), now=st.floats(0, 1000), held=st.booleans())
def test_no_wide_receive_overlaps_the_return_of_a_suspect(
    wait: int, returns: list[float], now: float, held: bool
) -> None:
    groups: Groups[int] = Groups()
    for number, at in enumerate(returns):
        groups.enter(str(number), 1)
        groups.failed(str(number), at, 0)
    if held:
        groups.enter("held", 1)
        groups.enter("held", 2)
    ask = groups.ask(now, wait)
    assert ask.wait <= wait
    assert ask.wait == math.floor(ask.wait)
    if ask.most > 1:
        assert all(now + ask.wait + MARGIN <= at or at + SUSPICION <= now for at in returns)
