"""Which held messages are extended, and when: a worker's messages over hours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.visibility import COMPANY, ExtensionSchedule


def test_message_is_extended_half_way_through() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 3600)
    schedule.hold("a", 100)
    assert schedule.next_at() == 115
    assert schedule.to_extend(114) == []
    assert schedule.to_extend(115) == ["a"]
    assert schedule.to_extend(115) == []
    assert schedule.next_at() == 130


def test_message_let_go_is_extended_no_more() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 3600)
    schedule.hold("a", 0)
    schedule.let_go("a")
    schedule.let_go("a")
    assert schedule.to_extend(15) == []
    assert schedule.next_at() is None
    assert len(schedule) == 0


def test_messages_due_soon_keep_each_other_company() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 3600)
    schedule.hold("a", 0)
    schedule.hold("b", 30 * COMPANY)
    schedule.hold("c", 30 * COMPANY + 0.1)
    assert schedule.to_extend(14.9) == []
    assert schedule.to_extend(15) == ["a", "b"]
    assert schedule.next_at() == 15 + 30 * COMPANY + 0.1


@pytest.mark.parametrize(("due", "company", "extended"), [(1, 30, 10), (10, 30, 10), (11, 30, 20)])
def test_company_fills_batches_and_begins_none(due: int, company: int, extended: int) -> None:
    schedule: ExtensionSchedule[int] = ExtensionSchedule(30, 3600)
    for number in range(due + company):
        schedule.hold(number, 0 if number < due else 1)
    assert schedule.to_extend(15) == list(range(extended))


def test_message_received_once_more_is_extended_half_way_after_that() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 100)
    schedule.hold("a", 0)
    schedule.hold("b", 5)
    schedule.renew("a", 10)
    schedule.renew("unknown", 10)
    assert schedule.hidden_until("a", 11) == 40
    assert schedule.next_at() == 20
    assert schedule.to_extend(20) == ["b", "a"]
    # That begins no new time for the handler.
    assert schedule.overdue(100) == ["a"]
    schedule.renew("a", 101)
    assert "a" not in schedule
    assert len(schedule) == 1


def test_message_held_for_too_long_is_given_once_and_extended_no_more() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 100)
    schedule.hold("a", 0)
    for now in (15, 30, 45, 60, 75, 90):
        assert schedule.overdue(now) == []
        assert schedule.to_extend(now) == ["a"]
    assert schedule.next_at() == 100
    assert schedule.overdue(99.9) == []
    assert schedule.overdue(100) == ["a"]
    assert schedule.overdue(100) == []
    assert schedule.to_extend(105) == []
    assert schedule.next_at() is None


def test_message_tells_until_when_it_is_hidden() -> None:
    schedule: ExtensionSchedule[str] = ExtensionSchedule(30, 3600)
    schedule.hold("a", 100)
    assert schedule.hidden_until("a", 110) == 130
    schedule.to_extend(115)
    assert schedule.hidden_until("a", 120) == 145
    schedule.let_go("a")
    assert schedule.hidden_until("a", 121) == 121


@given(
    st.integers(1, 600),
    st.integers(1, 4000),
    st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1, max_size=40),
)
def test_what_is_held_never_becomes_visible(
    timeout: int, max_extension: int, steps: list[tuple[float, bool]]
) -> None:
    """Until `max_extension`, and with each call at least a third of the timeout too early."""
    schedule: ExtensionSchedule[int] = ExtensionSchedule(timeout, max_extension)
    now = 0.0
    since: dict[int, float] = {}
    hidden: dict[int, float] = {}

    def tend_until(end: float) -> None:
        nonlocal now
        while (at := schedule.next_at()) is not None and at <= end:
            assert at >= now
            now = at
            for item in schedule.overdue(now):
                assert now >= since.pop(item) + max_extension
                del hidden[item]
            for item in schedule.to_extend(now):
                assert now <= hidden[item] - timeout / 3
                hidden[item] = now + timeout
        now = end
        assert all(until > now for until in hidden.values())
        assert all(begun + max_extension > now for begun in since.values())

    for number, (pause, release) in enumerate(steps):
        tend_until(now + pause)
        schedule.hold(number, now)
        since[number], hidden[number] = now, now + timeout
        if release and hidden:
            first = next(iter(hidden))
            schedule.let_go(first)
            del since[first], hidden[first]
        assert len(schedule) == len(since)
    tend_until(now + 2 * max_extension)
    assert not since
