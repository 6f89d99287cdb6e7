"""SQS's clock: it may run late by a second, and never early."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.sqs.clock import WINDOW, Clock

NOON = "Tue, 14 Nov 2023 12:00:00 GMT"
NOON_EPOCH = 1_699_963_200.0


class Loop:
    """A running loop, as far as the clock looks at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_clock_knows_nothing_at_first(loop: Loop) -> None:
    clock = Clock()
    assert not clock.known
    assert clock.now() is None


def test_clock_goes_on_from_the_date_header(loop: Loop) -> None:
    clock = Clock()
    clock.observe(NOON)
    assert clock.known
    assert clock.now() == NOON_EPOCH
    loop.now += 7.5
    assert clock.now() == NOON_EPOCH + 7.5


def test_clock_ignores_the_same_date_again(loop: Loop) -> None:
    clock = Clock()
    clock.observe(NOON)
    loop.now += 0.9
    clock.observe(NOON)
    assert clock.now() == NOON_EPOCH + 0.9


def test_clock_never_goes_back(loop: Loop) -> None:
    clock = Clock()
    clock.observe_epoch(NOON_EPOCH)
    clock.observe_epoch(NOON_EPOCH - 3600)
    assert clock.now() == NOON_EPOCH


@pytest.mark.parametrize("date", [None, "", "soon", "Tue, 99 Foo 2023 12:00:00 GMT", "0"])
def test_clock_passes_over_what_is_no_date(loop: Loop, date: str | None) -> None:
    clock = Clock()
    clock.observe(date)
    assert not clock.known
    clock.observe(NOON)
    clock.observe(date)
    assert clock.now() == NOON_EPOCH


def test_clock_is_set_back_and_forward_by_a_refusal_for_the_time(loop: Loop) -> None:
    clock = Clock()
    for off in (3600, -7200):
        clock.observe(NOON)
        clock.observe_epoch(NOON_EPOCH + off)
        clock.correct(NOON)
        assert clock.now() == clock.cautious() == NOON_EPOCH
    clock.correct("soon")
    assert clock.now() == NOON_EPOCH


def test_glimpse_counts_until_the_clock_is_shown(loop: Loop) -> None:
    clock = Clock()
    clock.glimpse("soon")
    assert clock.now() is None
    clock.glimpse(NOON)
    assert clock.now() == NOON_EPOCH
    clock.observe_epoch(NOON_EPOCH - 3600)
    assert clock.now() == NOON_EPOCH - 3600
    clock.glimpse(NOON)
    assert clock.now() == NOON_EPOCH - 3600


def test_same_date_that_a_refusal_showed_is_taken_again(loop: Loop) -> None:
    clock = Clock()
    clock.observe(NOON)
    clock.observe_epoch(NOON_EPOCH + 3600)
    clock.correct("Tue, 14 Nov 2023 11:59:00 GMT")
    clock.observe(NOON)
    assert clock.now() == NOON_EPOCH


def test_cautious_clock_goes_by_the_latest_answer_alone(loop: Loop) -> None:
    assert Clock().cautious() is Clock().shown is None
    clock = Clock()
    clock.observe_epoch(NOON_EPOCH + 3600)
    loop.now += 1
    clock.observe_epoch(NOON_EPOCH)
    loop.now += 1
    assert clock.now() == NOON_EPOCH + 3602
    assert clock.cautious() == NOON_EPOCH + 1
    assert clock.shown == NOON_EPOCH
    clock.observe_epoch(NOON_EPOCH + 9000)
    assert clock.cautious() == clock.now() == NOON_EPOCH + 9000


def test_answer_that_was_wrong_is_forgotten_in_time(loop: Loop) -> None:
    clock = Clock()
    clock.observe_epoch(NOON_EPOCH + 3600)
    for second in range(60, int(2 * WINDOW) + 121, 60):
        loop.now += 60
        clock.observe_epoch(NOON_EPOCH + second)
    assert clock.now() == NOON_EPOCH + second


@given(
    start=st.floats(0, 1e6),
    samples=st.lists(st.tuples(st.floats(0.001, 300), st.floats(0, 5)), min_size=1, max_size=30),
)
def test_clock_is_never_early_and_late_by_its_best_late_sample(
    start: float, samples: list[tuple[float, float]]
) -> None:
    loop = Loop()
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        late: list[tuple[float, float]] = []
        for pause, way_back in samples:
            loop.now += pause
            true = NOON_EPOCH + start + loop.now
            shown = float(int(true - way_back))
            clock.observe_epoch(shown)
            late.append((loop.now, true - shown))
            now = clock.now()
            assert now is not None
            assert now <= true + 1e-6
            recent = [each for when, each in late if loop.now - when <= WINDOW]
            assert min(each for _, each in late) <= true - now + 1e-6
            assert true - now <= min(recent) + 1e-6


async def test_clock_runs_by_the_running_loop() -> None:
    clock = Clock()
    clock.observe(NOON)
    now = clock.now()
    assert now is not None
    offset = NOON_EPOCH - asyncio.get_running_loop().time()
    assert now - asyncio.get_running_loop().time() <= offset + 1
