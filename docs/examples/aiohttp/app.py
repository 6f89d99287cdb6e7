"""The web application: it takes the orders. `python app.py`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from sqs_orchestrator import Publisher, RemoteError, SQSOrchestratorError, connect, http_status

QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
TIMEOUT = float(os.environ.get("REPLY_TIMEOUT", "4"))
PAGE = Path(__file__).parent.parent / "page.html"
CODES = {"sold_out": 409, "not_on_the_menu": 404, "bad_order": 422, "bad_body": 422}

PUBLISHER = web.AppKey("publisher", Publisher)

routes = web.RouteTableDef()


async def messaging(app: web.Application) -> AsyncGenerator[None]:
    async with connect() as sqs, Publisher(sqs, default_timeout=TIMEOUT) as publisher:
        await publisher.ready()
        app[PUBLISHER] = publisher
        yield


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except SQSOrchestratorError as error:
        status = http_status(error, codes=CODES)
        told = {"error": type(error).__name__}
        if isinstance(error, RemoteError):
            # A worker's own words are for the caller. Those of other errors name queues and hosts.
            told |= {"code": error.code, "message": error.message}
        headers = {"Retry-After": "5"} if status == 503 else None
        return web.json_response(told, status=status, headers=headers)


@routes.get("/")
async def page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


@routes.post("/orders")
async def order(request: web.Request) -> web.Response:
    # The worker checks the order: the application only passes on what is JSON.
    reply = await request.app[PUBLISHER].request(QUEUE, await sent_json(request))
    return web.json_response(text=reply.body)


@routes.post("/thanks")
async def thank(request: web.Request) -> web.Response:
    thanks = await sent_json(request)
    message_id = await request.app[PUBLISHER].send(QUEUE, thanks, message_type="thanks")
    return web.json_response({"message_id": message_id}, status=202)


async def sent_json(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="send JSON") from None


@routes.get("/livez")
@routes.get("/readyz")
async def health(request: web.Request) -> web.Response:
    health = request.app[PUBLISHER].health()
    well = health.alive if request.path == "/livez" else health.healthy
    return web.json_response(
        dataclasses.asdict(health),
        status=200 if well else 503,
        dumps=partial(json.dumps, default=str),
    )


def make_app() -> web.Application:
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(messaging)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(
        make_app(),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8000")),
        # Longer than any request may take; aiohttp's own 60 s outlast most supervisors' patience.
        shutdown_timeout=TIMEOUT + 1,
    )
