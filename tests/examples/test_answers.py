"""What each example answers, while all goes well and where the worker has no good answer."""

from __future__ import annotations

import asyncio
import re
import uuid

import pytest

from .conftest import Bar


async def test_order_is_made_by_the_worker(bar: Bar) -> None:
    answer = await bar.order("espresso", "Grace")
    assert answer.status_code == 200
    drink = answer.json()
    assert re.fullmatch(r"process \d+", drink.pop("made_by"))
    assert drink == {"drink": "espresso", "name": "Grace"}


async def test_thanks_are_accepted_and_reach_the_worker(bar: Bar) -> None:
    name = uuid.uuid4().hex
    answer = await bar.thank(name)
    assert answer.status_code == 202
    assert answer.json().keys() == {"message_id"}
    await bar.worker.say(f"thanks from {name}")


@pytest.mark.parametrize(
    ("drink", "status", "error"),
    [
        ("cake", 409, {"code": "sold_out", "message": "the cake is sold out"}),
        ("tea", 404, {"code": "not_on_the_menu", "message": "there is no tea on the menu"}),
        ("cocoa", 502, {"code": "handler_error", "message": ""}),
    ],
)
async def test_failure_of_the_worker_has_the_status_of_its_code(
    bar: Bar, drink: str, status: int, error: dict[str, str]
) -> None:
    answer = await bar.order(drink)
    assert (answer.status_code, answer.json()) == (status, {"error": "RemoteError", **error})


@pytest.mark.parametrize("order", [{"drink": "espresso"}, {"drink": 5, "name": "Ada"}, ["x"], "x"])
async def test_bad_order_is_the_fault_of_the_caller(bar: Bar, order: object) -> None:
    answer = await bar.post("/orders", order)
    assert answer.status_code == (400 if bar.framework == "litestar" else 422), answer.text


async def test_what_is_no_json_is_the_fault_of_the_caller(bar: Bar) -> None:
    async with bar.client() as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/orders", content="no JSON", headers=headers)
    assert answer.status_code == (422 if bar.framework == "fastapi" else 400), answer.text


async def test_order_larger_than_a_message_is_a_413(bar: Bar) -> None:
    answer = await bar.order("x" * (2**20 - 40))
    assert (answer.status_code, answer.json()) == (413, {"error": "MessageTooLarge"})


async def test_page_is_there(bar: Bar) -> None:
    answer = await bar.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<title>Coffee bar</title>" in answer.text


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_application_tells_how_it_is(bar: Bar, path: str) -> None:
    answer = await bar.get(path)
    assert answer.status_code == 200
    assert {"healthy": True, "alive": True, "reason": None}.items() <= answer.json().items()


async def test_worker_that_is_too_slow_is_a_504(hasty: list[Bar]) -> None:
    answers = await asyncio.gather(*(bar.order("cold brew") for bar in hasty))
    assert [each.status_code for each in answers] == [504] * 3
    assert [each.json() for each in answers] == [{"error": "ReplyTimeout"}] * 3


async def test_many_orders_at_once_get_each_its_own_drink(bar: Bar) -> None:
    names = [uuid.uuid4().hex for _ in range(50)]
    answers = await asyncio.gather(*(bar.order("espresso", name) for name in names))
    assert [each.json()["name"] for each in answers] == names
