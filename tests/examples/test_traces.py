"""One trace goes from the web application through the worker and back."""

from __future__ import annotations

import re
import uuid

from .conftest import WATCHED, WEB, Bar, Street, call


async def test_order_is_one_trace_from_the_endpoint_through_the_worker(street: Street) -> None:
    queue = f"orders-{uuid.uuid4().hex}"
    call(street.endpoint_url, "CreateQueue", QueueName=queue)
    worker = street.start("fastapi", WATCHED, "worker.py", queue=queue)
    web = street.start("fastapi", WATCHED, *WEB["fastapi"], queue=queue)
    bar = Bar("fastapi", queue, web, worker)
    assert (await bar.order("espresso")).status_code == 200
    (endpoint,) = await web.say("span (.*) POST /orders$")
    (asked,) = await web.say("span (.*) request orders")
    (made,) = await worker.say("span (.*) process orders")
    assert re.fullmatch("[0-9a-f]{32}", endpoint)
    assert endpoint == asked == made
