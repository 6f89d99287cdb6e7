"""One trace goes from the caller through the web application and the worker."""

from __future__ import annotations

import uuid

from .conftest import Street


async def test_order_is_one_trace_from_its_caller_through_the_worker(street: Street) -> None:
    bar, trace = street.bar("fastapi"), uuid.uuid4().hex
    async with bar.client() as client:
        answer = await client.post(
            "/orders",
            json={"drink": "espresso", "name": "Ada"},
            headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        )
    assert answer.status_code == 200
    await bar.web.say(f"span {trace} POST /orders$")
    await bar.web.say(f"span {trace} request orders")
    await bar.worker.say(f"span {trace} process orders")
