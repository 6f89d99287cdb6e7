"""SQS's clock: it may run late by a second, and never early."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.sqs.clock import Clock

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


@given(
    start=st.floats(0, 1e6),
    samples=st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 5)), min_size=1, max_size=30),
)
def test_clock_is_never_early_and_late_by_its_best_sample(
    start: float, samples: list[tuple[float, float]]
) -> None:
    loop = Loop()
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        best = float("inf")
        for pause, way_back in samples:
            loop.now += pause
            true = NOON_EPOCH + start + loop.now
            shown = float(int(true - way_back))
            clock.observe_epoch(shown)
            best = min(best, true - shown)
            now = clock.now()
            assert now is not None
            assert now <= true + 1e-6
            assert true - now == pytest.approx(best, abs=1e-6)


async def test_clock_runs_by_the_running_loop() -> None:
    clock = Clock()
    clock.observe(NOON)
    now = clock.now()
    assert now is not None
    offset = NOON_EPOCH - asyncio.get_running_loop().time()
    assert now - asyncio.get_running_loop().time() <= offset + 1
