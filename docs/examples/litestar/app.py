"""The web application: it takes the orders. `uvicorn app:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from messages import Drink, Order, Thanks
from sqs_orchestrator import (
    Health,
    Publisher,
    RemoteError,
    SQSOrchestratorError,
    connect,
    http_status,
)

QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
TIMEOUT = float(os.environ.get("REPLY_TIMEOUT", "4"))
PAGE = Path(__file__).parent.parent / "page.html"


@asynccontextmanager
async def messaging(app: Litestar) -> AsyncGenerator[None]:
    async with connect() as sqs, Publisher(sqs, default_timeout=TIMEOUT) as publisher:
        await publisher.ready()
        app.state.publisher = publisher
        yield


def the_publisher(state: State) -> Publisher:
    publisher: Publisher = state.publisher
    return publisher


def failed(request: Request[Any, Any, Any], error: SQSOrchestratorError) -> Response[Any]:
    status = http_status(error, codes={"sold_out": 409, "not_on_the_menu": 404})
    told = {"error": type(error).__name__}
    if isinstance(error, RemoteError):
        # A worker's own words are for the caller. Those of other errors name queues and hosts.
        told |= {"code": error.code, "message": error.message}
    headers = {"Retry-After": "5"} if status == 503 else None
    return Response(told, status_code=status, headers=headers)


@get("/", media_type=MediaType.HTML, sync_to_thread=True, include_in_schema=False)
def page() -> str:
    return PAGE.read_text("utf-8")


@post("/orders", status_code=200)
async def order(data: JSONBody[Order], publisher: NamedDependency[Publisher]) -> Drink:
    return await publisher.request(QUEUE, data, returns=Drink)


@post("/thanks", status_code=202)
async def thank(data: JSONBody[Thanks], publisher: NamedDependency[Publisher]) -> dict[str, str]:
    return {"message_id": await publisher.send(QUEUE, data, message_type="thanks")}


@get("/livez")
async def livez(publisher: NamedDependency[Publisher]) -> Response[Health]:
    health = publisher.health()
    return Response(health, status_code=200 if health.alive else 503)


@get("/readyz")
async def readyz(publisher: NamedDependency[Publisher]) -> Response[Health]:
    health = publisher.health()
    return Response(health, status_code=200 if health.healthy else 503)


app = Litestar(
    [page, order, thank, livez, readyz],
    lifespan=[messaging],
    dependencies={"publisher": Provide(the_publisher, sync_to_thread=False)},
    exception_handlers={SQSOrchestratorError: failed},
)
