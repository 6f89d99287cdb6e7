"""One trace goes from the web application through the worker and back."""

from __future__ import annotations

import re

from .conftest import Street


async def test_order_is_one_trace_from_the_endpoint_through_the_worker(street: Street) -> None:
    bar = street.bar("fastapi")
    assert (await bar.order("espresso")).status_code == 200
    # Others may have ordered before.
    trace = (await bar.web.say("span (.*) POST /orders$"))[-1]
    assert re.fullmatch("[0-9a-f]{32}", trace)
    await bar.web.say(f"span {trace} request orders")
    await bar.worker.say(f"span {trace} process orders")
