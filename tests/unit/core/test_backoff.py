from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.backoff import Backoff


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(first=0.1, cap=1.0, random=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.attempts == 6


def test_delays_of_who_says_nothing_else() -> None:
    backoff = Backoff(random=lambda: 1.0)
    assert [backoff.next() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_half_of_each_delay_is_random() -> None:
    numbers = iter([0.0, 1.0, 0.5])
    backoff = Backoff(first=1.0, cap=1.0, random=lambda: next(numbers))
    assert [backoff.next() for _ in range(3)] == pytest.approx([0.5, 1.0, 0.75])


def test_success_brings_back_the_first_delay() -> None:
    backoff = Backoff(first=0.1, random=lambda: 1.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next() == pytest.approx(0.1)


def test_day_of_failures_ends_at_the_cap() -> None:
    backoff = Backoff(cap=5.0, random=lambda: 1.0)
    backoff.attempts = 100_000
    assert backoff.next() == 5.0


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=60, max_size=60))
def test_who_fails_all_the_time_calls_a_few_times_a_second_at_most(numbers: list[float]) -> None:
    source = iter(numbers)
    backoff = Backoff(random=lambda: next(source))
    moments = [0.0]
    for _ in numbers:
        moments.append(moments[-1] + backoff.next())
    for begin in moments:
        assert sum(begin <= moment < begin + 1 for moment in moments) <= 6


def test_repr_tells_how_often_it_failed() -> None:
    backoff = Backoff()
    backoff.next()
    assert repr(backoff) == "<Backoff after 1 failures>"
