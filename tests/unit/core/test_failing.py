"""When failures in a row count, and when they are forgotten."""

from __future__ import annotations

from math import inf

from sqs_orchestrator.core.failing import FORGOTTEN, PATIENCE, FailureStreak

LOST = OSError("lost")


def test_streak_counts_from_its_first_failure_once_it_has_lasted() -> None:
    streak = FailureStreak()
    assert streak.since(0) is None
    streak.failed(LOST, 5)
    streak.failed(LOST, 9)
    assert streak.since(5 + PATIENCE - 0.1) is None
    assert streak.since(5 + PATIENCE) == 5
    assert streak.since(1e9) == 5
    assert streak.healed(1e9) == -inf


def test_streak_ends_with_a_success_and_the_next_begins_anew() -> None:
    streak = FailureStreak()
    streak.failed(LOST, 5)
    streak.over(30)
    assert (streak.error, streak.since(31), streak.healed(31)) == (None, None, 30)
    streak.failed(LOST, 50)
    assert streak.since(51) is None
    streak.over(52)
    # That one was too short to count.
    assert streak.healed(53) == 30


def test_failure_that_will_not_heal_counts_at_once() -> None:
    streak = FailureStreak()
    streak.failed(LOST, 5, lasting=True)
    assert streak.since(5) == 5
    streak.over(6)
    assert streak.healed(6) == 6


def test_failure_is_forgotten_while_nothing_is_tried() -> None:
    streak = FailureStreak(FORGOTTEN)
    streak.failed(LOST, 0)
    streak.failed(LOST, 20)
    assert streak.since(20 + FORGOTTEN) == 0
    assert streak.since(21 + FORGOTTEN) is None
    assert streak.healed(21 + FORGOTTEN) == 20 + FORGOTTEN
    # What fails then is a new streak, and the end of the old one is known.
    streak.failed(LOST, 100)
    assert streak.since(101) is None
    assert streak.healed(101) == 20 + FORGOTTEN
    assert streak.since(100 + PATIENCE) == 100
