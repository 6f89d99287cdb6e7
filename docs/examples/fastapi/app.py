"""The web application: it takes the orders. `uvicorn app:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from messages import Drink, Order, Thanks
from sqs_orchestrator import (
    Health,
    Publisher,
    RemoteError,
    SQSOrchestratorError,
    connect,
    http_status,
)
from sqs_orchestrator.opentelemetry import Telemetry

QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
TIMEOUT = float(os.environ.get("REPLY_TIMEOUT", "4"))
PAGE = Path(__file__).parent.parent / "page.html"

# Records nothing until OpenTelemetry's SDK is set up, as `opentelemetry-instrument` does it.
telemetry = Telemetry()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with (
        connect(wrap=telemetry.wrap) as sqs,
        Publisher(sqs, default_timeout=TIMEOUT, middleware=[telemetry]) as publisher,
    ):
        telemetry.observe(publisher)
        await publisher.ready()
        app.state.publisher = publisher
        yield


app = FastAPI(title="Coffee bar", lifespan=lifespan)
FastAPIInstrumentor.instrument_app(app)


def the_publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


ThePublisher = Annotated[Publisher, Depends(the_publisher)]


@app.exception_handler(SQSOrchestratorError)
async def failed(request: Request, error: SQSOrchestratorError) -> JSONResponse:
    status = http_status(error, codes={"sold_out": 409, "not_on_the_menu": 404})
    told = {"error": type(error).__name__}
    if isinstance(error, RemoteError):
        # A worker's own words are for the caller. Those of other errors name queues and hosts.
        told |= {"code": error.code, "message": error.message}
    return JSONResponse(told, status, {"Retry-After": "5"} if status == 503 else None)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE)


@app.post("/orders")
async def order(order: Order, publisher: ThePublisher) -> Drink:
    return await publisher.request(QUEUE, order, returns=Drink)


@app.post("/thanks", status_code=202)
async def thank(thanks: Thanks, publisher: ThePublisher) -> dict[str, str]:
    return {"message_id": await publisher.send(QUEUE, thanks, message_type="thanks")}


@app.get("/livez")
async def livez(response: Response, publisher: ThePublisher) -> Health:
    health = publisher.health()
    response.status_code = 200 if health.alive else 503
    return health


@app.get("/readyz")
async def readyz(response: Response, publisher: ThePublisher) -> Health:
    health = publisher.health()
    response.status_code = 200 if health.healthy else 503
    return health
