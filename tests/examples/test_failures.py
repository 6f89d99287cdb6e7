"""What each example answers where SQS fails, and to each error of the tree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

import httpx
import pytest

from sqs_orchestrator import http_status
from tests.faults.proxy import Fault

from .conftest import HANGS, Bar, Street
from .watched import ERRORS


def told(answer: httpx.Response) -> tuple[int, object, str | None]:
    """What an answer says: its status, its body, and when to try again."""
    return answer.status_code, answer.json(), answer.headers.get("Retry-After")


async def all_told(answers: Iterable[Awaitable[httpx.Response]]) -> set[str]:
    """What all of *answers* say: one thing, if they agree."""
    return {str(told(each)) for each in await asyncio.gather(*answers)}


def says(status: int, error: str) -> set[str]:
    retry = "5" if status == 503 else None
    return {str((status, {"error": error}, retry))}


@pytest.mark.parametrize("name", ERRORS)
async def test_error_of_the_tree_has_its_status_everywhere(hasty: list[Bar], name: str) -> None:
    error = ERRORS[name]
    expected: dict[str, str] = {"error": type(error).__name__}
    if expected["error"] == "RemoteError":
        # What a worker says is for callers, and nothing else is.
        expected |= {"code": "handler_error", "message": "secret"}
    status = http_status(error)
    answers = await all_told(bar.order("espresso", name) for bar in hasty)
    assert answers == {str((status, expected, "5" if status == 503 else None))}


@pytest.mark.parametrize(
    ("fault", "status", "of_order", "of_thanks"),
    [
        (Fault.THROTTLED, 503, "Throttled", "Throttled"),
        (Fault.UNAVAILABLE, 503, "QueueError", "QueueError"),
        (Fault.RESET, 504, "ReplyTimeout", "SendError"),
        (Fault.DENIED, 500, "AccessDenied", "AccessDenied"),
    ],
)
async def test_fault_of_sqs_has_its_status(
    street: Street, hasty: list[Bar], fault: Fault, status: int, of_order: str, of_thanks: str
) -> None:
    street.proxy.inject(fault, on={"SendMessageBatch"})
    orders = all_told(bar.order("espresso") for bar in hasty)
    thanks = all_told(bar.thank() for bar in hasty)
    both = await asyncio.gather(orders, thanks)
    assert [*both] == [says(status, of_order), says(status, of_thanks)]
    street.proxy.heal()
    await until_served(hasty)


async def test_sqs_that_is_away_is_a_503_until_it_is_back(street: Street, hasty: list[Bar]) -> None:
    street.proxy.go_away()
    try:
        orders = all_told(bar.order("espresso") for bar in hasty)
        thanks = all_told(bar.thank() for bar in hasty)
        both = await asyncio.gather(orders, thanks)
        livez = [(await bar.get("/livez")).status_code for bar in hasty]
    finally:
        street.proxy.come_back()
    assert [*both] == [says(503, "QueueError"), says(503, "QueueError")]
    assert livez == [200] * 3
    await until_served(hasty)


async def until_served(bars: list[Bar]) -> None:
    """Order until they serve again: what failed is tried again after a pause."""
    async with asyncio.timeout(HANGS):
        for bar in bars:
            while (await bar.order("espresso")).status_code != 200:
                pass
