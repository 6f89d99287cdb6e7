from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import JAVA_PREFIX
from sqs_orchestrator.core.sweeping import sweep_decision, verdict
from tests.vectors import vectors


@vectors("idle_queues")
def test_verdict_reads_tags(vector: Any) -> None:
    assert verdict(vector["tags"], vector["now_ms"]) == vector["verdict"]


@vectors("sweep_decisions")
def test_sweeper_decides(vector: Any) -> None:
    decision = sweep_decision(vector["prefix"], vector["queue"], vector["verdict"], vector["empty"])
    assert decision == vector["decision"]


@given(
    now=st.floats(1e9, 4e9),
    retention=st.floats(1, 1e6),
    later=st.floats(0, 1e6),
    patience=st.one_of(st.just(0.0), st.floats(0, 1e6)),
    outage=st.one_of(st.just(0.0), st.floats(0, 1e6)),
    legacy=st.booleans(),
)
@example(now=1.7e9, retention=300.0, later=3000.0, patience=3600.0, outage=0.0, legacy=False)
@example(now=1.7e9, retention=300.0, later=3602.0, patience=3600.0, outage=0.0, legacy=False)
@example(now=1.7e9, retention=300.0, later=890.0, patience=0.0, outage=600.0, legacy=False)
@example(now=1.7e9, retention=300.0, later=3602.0, patience=3600.0, outage=600.0, legacy=False)
def test_queue_is_live_until_all_that_is_forgiven_is_over_and_idle_after(
    now: float, retention: float, later: float, patience: float, outage: float, legacy: bool
) -> None:
    tags = wire.reply_queue_tags(now=now, retention=retention, sweeping=True, legacy=legacy)
    found = verdict(tags, int((now + later) * 1000), patience, outage)
    forgiven = max(retention + outage, patience)
    if later <= forgiven:
        assert found == "live"
    if later > forgiven + 1.002:  # whole seconds and milliseconds, rounded up
        assert found == "idle"


def test_queue_made_before_the_time_is_known_is_nobodys_prey() -> None:
    tags = wire.reply_queue_tags(now=None, retention=300, sweeping=True)
    assert verdict(tags, 2 * 10**12) == "foreign"


@pytest.mark.parametrize("tag", wire.heartbeat_tags(now=1.0, retention=1))
def test_queue_with_an_unreadable_tag_is_foreign(tag: str) -> None:
    tags = wire.heartbeat_tags(now=1.0, retention=1)
    assert verdict(tags, 10**15) == "idle"
    assert verdict({**tags, tag: "soon"}, 10**15) == "foreign"


@given(st.sampled_from(["p_", JAVA_PREFIX, "__"]), st.text("_pQLD", max_size=8), st.booleans())
def test_sweeper_never_touches_what_the_java_sweeper_owns(
    prefix: str, rest: str, empty: bool
) -> None:
    for name in (prefix, prefix + "_DLQ", JAVA_PREFIX, JAVA_PREFIX + "_DLQ"):
        assert sweep_decision(prefix, name, "idle", empty) == "keep"
    assert sweep_decision(prefix, "other" + rest, "idle", True) == "keep"
