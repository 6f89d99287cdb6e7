"""What may be a middleware, and in which order several stand around a call."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sqs_orchestrator import Draft
from sqs_orchestrator.middleware import around, checked_middleware


class Noting:
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def outgoing(self, draft: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        self.notes.append(f"{self.name} sends {draft.body}")
        result = await call_next(draft.replace(body=f"{draft.body}{self.name}"))
        self.notes.append(f"{self.name} got {result}")
        return f"{result}{self.name}"


class Counting:
    async def incoming(self, message: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call_next(message)


class Plain:
    def outgoing(self, draft: Any, call_next: Any) -> Any:
        return None


class OfOne:
    async def incoming(self, message: Any) -> Any:
        return None


class OneRightOneWrong(Counting):
    async def outgoing(self, draft: Any) -> Any:
        return None


async def last(draft: Draft) -> str:
    return f"<{draft.body}>"


async def test_the_first_is_the_outermost() -> None:
    notes: list[str] = []
    call = around([Noting("a", notes), Counting(), Noting("b", notes)], "outgoing", last)
    assert await call(Draft(kind="send", queue="orders", body="x")) == "<xab>ba"
    assert notes == ["a sends x", "b sends xa", "b got <xab>", "a got <xab>b"]


class Careless:
    """Passes on what is no draft."""

    async def outgoing(self, draft: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call_next(draft.body)


@pytest.mark.parametrize("inner", [[], [Noting("a", [])]])
async def test_what_is_passed_on_is_a_draft(inner: list[Any]) -> None:
    call = around([Careless(), *inner], "outgoing", last)
    with pytest.raises(TypeError, match=r"call_next\(\) takes a Draft, not 'x'"):
        await call(Draft(kind="send", queue="orders", body="x"))


def test_nothing_is_put_around_what_nobody_stands_around() -> None:
    assert around([], "outgoing", last) is last
    assert around([Counting()], "outgoing", last) is last


@pytest.mark.parametrize("each", [Noting("a", []), Counting()])
def test_objects_with_one_of_the_methods_are_taken(each: Any) -> None:
    assert checked_middleware([each]) == (each,)


def test_methods_made_by_partial_are_taken() -> None:
    class Bound:
        def __init__(self) -> None:
            self.incoming = functools.partial(self.work, 1)

        async def work(self, number: int, message: Any, call_next: Any) -> Any:
            return number

    assert len(checked_middleware((Bound(),))) == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (5, "a list"),
        ("abc", "a list"),
        (Counting(), "a list"),
        ([Counting], "the class of"),
        ([object()], "no outgoing"),
        ([Plain()], "async def outgoing"),
        ([OfOne()], "async def incoming"),
        ([OneRightOneWrong()], "async def outgoing"),
        ([Counting(), None], "no outgoing"),
    ],
)
def test_what_is_no_middleware_is_refused_with_what_to_write(wrong: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked_middleware(wrong)
