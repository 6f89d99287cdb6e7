from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core import pacing


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 600),
    st.floats(3, 10),
    st.one_of(st.none(), st.floats(0.1, 3600)),
)
def test_fleet_of_any_size_keeps_within_its_tag_calls(
    fleet: int, heartbeat: float, ratio: float, sweep: float | None
) -> None:
    pace = pacing.budget(fleet, heartbeat, heartbeat * ratio, sweep)
    calls = fleet / pace.heartbeat + fleet / pace.sweep
    assert calls <= pacing.HEARTBEATS + pacing.SWEEPS + 1e-6
    assert pace.heartbeat >= heartbeat
    assert pace.retention == pytest.approx(pace.heartbeat * ratio)
    assert pace.sweep >= (sweep or math.inf)


def test_small_fleet_keeps_to_what_was_configured() -> None:
    assert pacing.budget(200, 60.0, 300.0, 300.0) == pacing.Pace(60.0, 300.0, 300.0)


def test_fleet_of_ten_thousand_slows_down() -> None:
    pace = pacing.budget(10_000, 60.0, 300.0, 300.0)
    assert (pace.heartbeat, pace.retention) == (2_500.0, 12_500.0)
    assert pace.sweep == pytest.approx(10_000 / 3)


def test_pacer_follows_the_fleet_both_ways() -> None:
    pacer = pacing.Pacer(60.0, 300.0, None)
    assert pacer.fleet is None
    assert pacer.pace == pacing.Pace(60.0, 300.0, math.inf)
    pacer.saw(2_400)
    assert pacer.pace == pacing.Pace(600.0, 3_000.0, math.inf)
    assert "2400" in repr(pacer)
    pacer.saw(3)
    assert pacer.pace == pacer.configured


def throttled(pacer: pacing.Pacer, times: int = 1) -> pacing.Pacer:
    """After one heartbeat that was throttled so often."""
    for number in range(1, times + 1):
        pacer.failed(pacer.stretched.heartbeat * (1 + number / 4), throttled=True)
    pacer.beaten(pacer.stretched.heartbeat)
    return pacer


def test_pacer_slows_down_where_it_is_throttled_and_recovers() -> None:
    pacer = throttled(pacing.Pacer(60.0, 300.0, 300.0))
    assert pacer.stretched == pacing.Pace(75.0, 375.0, 375.0)
    assert pacer.pace == pacer.configured
    for _ in range(pacing.WARY):
        assert pacer.patience == 3600.0
        pacer.beaten(75.0)
    assert pacer.stretched == pacer.configured
    assert pacer.patience == 0.0


def test_pacer_slows_down_no_more_than_twice_what_it_waited() -> None:
    pacer = pacing.Pacer(60.0, 300.0, 300.0)
    for _ in range(100):
        pacer.failed(90.0, throttled=True)
    assert pacer.stretch == 3.0
    for _ in range(100):
        pacer.failed(1e9, throttled=True)
    assert pacer.stretch == pacing.MOST_STRETCH
    assert pacer.stretched.sweep == 300.0 * pacing.FORGIVEN


def test_pacer_is_not_slowed_down_by_other_failures() -> None:
    pacer = pacing.Pacer(60.0, 300.0, 300.0)
    pacer.failed(600.0, throttled=False)
    pacer.beaten(660.0)
    assert pacer.stretched == pacer.configured


def test_pacer_forgives_its_own_silence_until_the_next_heartbeat() -> None:
    pacer = pacing.Pacer(60.0, 300.0, 300.0)
    pacer.failed(600.0, throttled=False)
    assert (pacer.silence, pacer.patience) == (600.0, 3000.0)
    pacer.beaten(660.0)
    assert (pacer.silence, pacer.patience) == (660.0, 3300.0)
    pacer.beaten(60.0)
    assert (pacer.silence, pacer.patience) == (0.0, 0.0)


def test_slow_pacer_whose_heartbeats_are_all_late_is_not_patient_for_ever() -> None:
    pacer = throttled(pacing.Pacer(60.0, 300.0, 300.0), 100)
    assert pacer.stretched.heartbeat > 3600.0
    assert throttled(pacer).patience == 7200.0


def test_size_of_the_fleet_and_throttling_do_not_count_twice() -> None:
    pacer = throttled(pacing.Pacer(60.0, 300.0, 300.0), 10)
    before = pacer.stretched.heartbeat
    assert before > 200.0
    pacer.saw(480)
    assert pacer.stretched.heartbeat == pytest.approx(before)
    pacer.saw(24_000)
    assert pacer.stretched == pacer.pace
    assert pacer.patience == 3600.0
    pacer.saw(3)
    assert pacer.stretched == pacer.configured


def test_pacer_of_a_large_fleet_is_patient_with_those_who_do_not_know_it() -> None:
    pacer = pacing.Pacer(60.0, 300.0, 300.0)
    for fleet, patience in ((240, 0.0), (480, 600.0), (100_000, 3600.0)):
        pacer.saw(fleet)
        assert pacer.patience == patience
