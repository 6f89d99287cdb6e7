"""How many messages a worker asks for, and by how many receives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.polling import MOST_AHEAD, SOON, Intake, Receivers


def full(receivers: Receivers) -> None:
    receivers.started()
    receivers.ended(10, 10)


def test_quiet_queue_has_one_receiver() -> None:
    receivers = Receivers()
    assert receivers.ask(100) == 10
    receivers.started()
    assert receivers.ask(100) == 0


def test_no_more_is_asked_for_than_there_is_room_for() -> None:
    receivers = Receivers()
    assert receivers.ask(3) == 3
    assert receivers.ask(1) == 1
    assert receivers.ask(0) == 0
    assert receivers.ask(-5) == 0


def test_full_polls_bring_receivers_in_and_empty_ones_send_them_away() -> None:
    receivers = Receivers(most=4)
    for target in (2, 3, 4, 4):
        full(receivers)
        assert receivers.target == target
    for target in (3, 2, 1, 1):
        receivers.started()
        receivers.ended(10, 2)
        assert receivers.target == target


def test_polls_more_than_half_full_change_nothing() -> None:
    receivers = Receivers()
    full(receivers)
    receivers.started()
    receivers.ended(10, 6)
    assert receivers.target == 2
    receivers.started()
    receivers.ended(10, 5)
    assert receivers.target == 1


def test_there_are_eight_receivers_at_most() -> None:
    receivers = Receivers()
    for _ in range(20):
        full(receivers)
    assert receivers.target == 8


def test_failure_leaves_one_receiver() -> None:
    receivers = Receivers()
    for _ in range(5):
        full(receivers)
    receivers.started()
    receivers.failed()
    assert receivers.target == 1
    assert receivers.in_flight == 0


@given(st.lists(st.sampled_from(["full", "empty", "half", "failed"]), max_size=50))
def test_receivers_stay_within_their_limits(events: list[str]) -> None:
    receivers = Receivers()
    for event in events:
        while receivers.ask(10):
            receivers.started()
        assert receivers.in_flight >= 1
        assert receivers.in_flight <= receivers.most
        if event == "failed":
            receivers.failed()
        else:
            receivers.ended(10, {"full": 10, "empty": 0, "half": 6}[event])
        assert 1 <= receivers.target <= receivers.most


# -------------------------------------------------------------------- intake


def test_new_worker_takes_just_what_it_runs_at_once() -> None:
    intake = Intake(7)
    assert intake.room(0, 0, 0) == 7
    assert intake.room(4, 0, 0) == 3
    assert intake.room(4, 0, 3) == 0


def test_slow_handlers_allow_nothing_ahead() -> None:
    intake = Intake(10)
    for _ in range(100):
        intake.finished(60)
    assert intake.capacity == 10


def test_quick_handlers_allow_as_many_as_start_soon() -> None:
    intake = Intake(10)
    intake.finished(SOON)
    assert intake.capacity == 20
    intake = Intake(10)
    intake.finished(SOON / 10)
    assert intake.capacity == 10 + MOST_AHEAD
    intake = Intake(1000)
    intake.finished(0)
    assert intake.capacity == 2000


def test_handlers_that_become_slow_are_noticed() -> None:
    intake = Intake(10)
    for _ in range(100):
        intake.finished(0.001)
    assert intake.capacity == 30
    for _ in range(10):
        intake.finished(30)
    assert intake.capacity == 10


def test_a_whole_batch_is_worth_waiting_for_while_messages_wait() -> None:
    intake = Intake(10)
    intake.finished(0.001)
    assert intake.room(10, 15, 0) == 0
    assert intake.room(10, 10, 0) == 10
    assert intake.room(10, 0, 15) == 5


@given(
    st.integers(1, 200),
    st.lists(st.floats(0, 100), max_size=30),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 100),
)
def test_worker_never_takes_more_than_it_expects_to_start_soon(
    concurrency: int, durations: list[float], running: int, waiting: int, asked: int
) -> None:
    intake = Intake(concurrency)
    for seconds in durations:
        intake.finished(seconds)
    assert concurrency <= intake.capacity <= concurrency + max(MOST_AHEAD, concurrency)
    ahead = intake.capacity - concurrency
    if intake.mean is not None:
        assert ahead * intake.mean <= concurrency * SOON + 1e-9
    room = intake.room(running, waiting, asked)
    assert room <= 0 or running + waiting + asked + room <= intake.capacity
    # A worker with nothing to do always asks for something.
    assert intake.room(0, 0, 0) > 0


def test_long_polls_that_end_at_once_are_paused_after_a_few() -> None:
    receivers = Receivers()
    pauses = [receivers.pause(0, 0.001, 20) for _ in range(30)]
    assert pauses[:8] == [0.0] * 8
    assert pauses[8:18] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert pauses[18:] == [1.0] * 12


@pytest.mark.parametrize(("got", "took"), [(1, 0.001), (0, 5.0)])
def test_pauses_end_with_a_poll_that_brings_something_or_waits(got: int, took: float) -> None:
    receivers = Receivers()
    for _ in range(30):
        receivers.pause(0, 0.001, 20)
    assert receivers.pause(got, took, 20) == 0.0
    assert [receivers.pause(0, 0.001, 20) for _ in range(8)] == [0.0] * 8
    assert receivers.pause(0, 0.001, 20) > 0


def test_polls_that_should_not_wait_are_never_in_haste() -> None:
    receivers = Receivers()
    assert [receivers.pause(0, 0.0, 0) for _ in range(30)] == [0.0] * 30
