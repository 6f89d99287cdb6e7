"""Races, each drawn around the moments at which two things meet. What must hold whatever was drawn
is in `races`.

`SQS_RACES` is how many times each is played; by default a hundred.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sqs_orchestrator.requester.live_queue import YOUNG

from .races import GRID, LONG, Abandon, Ask, Plan, assert_invariants, play

PLAYS: Final = int(os.environ.get("SQS_RACES", "100"))

race = settings(
    max_examples=PLAYS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def only_new_garbage() -> Iterator[None]:
    """Each play collects garbage, and should not look through all that there is."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def times(first: float, last: float) -> st.SearchStrategy[float]:
    """Moments of the grid."""
    return st.integers(round(first / GRID), round(last / GRID)).map(lambda at: at * GRID)


A_ROUND_TRIP: Final = 0.3
"""Seconds that one may take from the first call to the reply, at the pace that `races` sets."""

AT_ONCE: Final = times(0.0, 0.05)
SOMETIME: Final = times(0.0, A_ROUND_TRIP)
OUTCOMES: Final = st.sampled_from(["returns", "returns", "rejects", "fails"])


def asks(most: int = 5, **more: Any) -> st.SearchStrategy[list[Ask]]:
    """A few requests, each with what *more* says."""
    settings: dict[str, Any] = {"at": AT_ONCE, "work": AT_ONCE, "outcome": OUTCOMES}
    return st.lists(st.builds(Ask, **(settings | more)), min_size=1, max_size=most)


def plans(asks: st.SearchStrategy[list[Ask]], **more: Any) -> st.SearchStrategy[Plan]:
    settings: dict[str, Any] = {"seed": st.integers(0, 2**32), "fifo": st.booleans()}
    return st.builds(Plan, asks, **(settings | more))


def never_or(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | strategy


@race
@given(
    plans(
        asks(
            cancel_after=never_or(SOMETIME),
            cancel_on_reply=never_or(times(0.0, 0.02)),
            one_way=st.booleans(),
        ),
        ready=st.booleans(),
    )
)
def test_cancellation_meets_reply(plan: Plan) -> None:
    assert_invariants(play(plan))


@race
@given(plans(asks(timeout=times(0.01, A_ROUND_TRIP) | st.just(LONG)), ready=st.booleans()))
def test_timeout_meets_reply(plan: Plan) -> None:
    assert_invariants(play(plan))


CLOSING = st.builds(Abandon, st.just("publisher"), SOMETIME, never_or(AT_ONCE)).map(lambda it: [it])


@race
@given(plans(asks(at=SOMETIME, one_way=st.booleans()), leaves=CLOSING))
def test_closing_meets_requests(plan: Plan) -> None:
    assert_invariants(play(plan))


CREATING: Final[dict[str, Any]] = {"ready": st.just(False), "faults": st.integers(0, 3)}


@race
@given(plans(asks(cancel_after=never_or(SOMETIME)), leaves=CLOSING, **CREATING))
def test_closing_meets_creation_of_the_reply_queue(plan: Plan) -> None:
    assert_invariants(play(plan))


@race
@given(
    plans(
        asks(at=SOMETIME, cancel_after=never_or(SOMETIME)),
        lose_at=SOMETIME,
        age=st.sampled_from([0.0, YOUNG]),
    )
)
def test_loss_of_the_reply_queue_meets_requests(plan: Plan) -> None:
    assert_invariants(play(plan))


STOPPING = st.tuples(st.sampled_from(["stop", "signal", "cancel"]), SOMETIME)


@race
@given(
    plans(
        asks(8, at=SOMETIME, work=AT_ONCE | st.just(1.0), one_way=st.booleans()),
        stops=st.lists(STOPPING, min_size=1, max_size=1),
        concurrency=st.integers(1, 3),
        visibility_timeout=st.sampled_from([2.0, 30.0]),
    )
)
def test_stop_meets_receive(plan: Plan) -> None:
    assert_invariants(play(plan))


@race
@given(
    plans(
        asks(work=times(0.85, 1.1), one_way=st.booleans()),
        visibility_timeout=st.just(2.0),
        stops=st.lists(st.tuples(st.just("stop"), times(0.8, 1.2)), max_size=1),
        concurrency=st.integers(1, 3),
    )
)
def test_delete_meets_visibility_extension(plan: Plan) -> None:
    assert_invariants(play(plan))


@race
@given(
    plans(
        asks(8, at=SOMETIME, work=times(0.0, 0.5) | st.just(3.0), one_way=st.booleans()),
        stops=st.lists(
            st.tuples(st.sampled_from(["signal", "cancel"]), times(0.0, 0.6)),
            min_size=2,
            max_size=3,
        ),
        visibility_timeout=st.just(2.0),
        drain_timeout=st.sampled_from([0.2, 1.0, 25.0]),
        concurrency=st.integers(1, 3),
    )
)
def test_second_cancellation_meets_drain(plan: Plan) -> None:
    assert_invariants(play(plan))


ENTERED: Final = ("replies", "publisher", "poller")
NAMES: Final = ("connection", *ENTERED)
LEAVING_ALL = st.tuples(
    *(st.builds(Abandon, st.just(name), SOMETIME, never_or(AT_ONCE)) for name in NAMES)
)
LEAVING_SOON = st.tuples(
    *(st.builds(Abandon, st.just(name), times(0.0, 0.1), never_or(AT_ONCE)) for name in NAMES)
)


@race
@given(
    plans(
        asks(at=SOMETIME, one_way=st.booleans(), cancel_after=never_or(SOMETIME)),
        enters=st.permutations(ENTERED),
        cancel_entering=st.none() | st.tuples(st.sampled_from(ENTERED), AT_ONCE),
        leaves=LEAVING_ALL | LEAVING_SOON,
    )
)
def test_everything_is_entered_and_left_in_any_order_by_other_tasks(plan: Plan) -> None:
    assert_invariants(play(plan))


@race
@given(
    plans(
        asks(
            8,
            at=SOMETIME,
            timeout=SOMETIME.map(lambda timeout: timeout + GRID) | st.just(LONG),
            cancel_after=never_or(SOMETIME),
            work=AT_ONCE | times(0.85, 1.1),
            one_way=st.booleans(),
        ),
        ready=st.booleans(),
        concurrency=st.integers(1, 10),
        visibility_timeout=st.sampled_from([2.0, 30.0]),
        lose_at=never_or(SOMETIME),
        stops=st.lists(STOPPING, max_size=2),
        leaves=st.just([]) | CLOSING,
        faults=st.integers(0, 6),
    )
)
def test_everything_meets_everything(plan: Plan) -> None:
    assert_invariants(play(plan))
