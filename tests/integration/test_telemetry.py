"""One trace through programs that speak HTTP, and the module where OpenTelemetry is missing."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from sqs_orchestrator import Message, Poller, Publisher, connect
from tests.servers import CREDENTIALS
from tests.telemetry import Recorded, facts, trace_ids

REPLY = "sqs_orchestrator_reply_{id}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """*app* under uvicorn, at an address of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.mark.server
async def test_one_trace_from_an_endpoint_through_the_worker_and_back(small_server: str) -> None:
    web, worker = Recorded(), Recorded()
    queue = f"orders-{uuid.uuid4().hex[:8]}"

    async def handle(message: Message) -> str:
        return message.body.upper()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        wrap = web.telemetry.wrap
        async with (
            connect(endpoint_url=small_server, wrap=wrap, **CREDENTIALS) as sqs,
            Publisher(sqs, middleware=[web.telemetry]) as app.state.publisher,
        ):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/orders/{name}")
    async def order(name: str) -> str:
        reply = await app.state.publisher.request(queue, name, timeout=10)
        return str(reply.body)

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=web.tracer_provider, meter_provider=web.meter_provider
    )
    async with connect(endpoint_url=small_server, wrap=worker.telemetry.wrap, **CREDENTIALS) as sqs:
        url = await sqs.create_queue(queue)
        async with (
            Poller(sqs, queue, handle, middleware=[worker.telemetry], wait_time=1),
            served(app) as address,
            httpx.AsyncClient() as client,
        ):
            answer = await client.get(f"{address}/orders/a", headers={"traceparent": TRACEPARENT})
            assert answer.json() == "A"
        await sqs.client.delete_queue(QueueUrl=url)
    server, request = web.one("GET /orders/{name}"), web.one(f"request {queue}")
    created = web.one(f"create {queue}")
    process, reply = worker.one(f"process {queue}"), worker.one(f"send {REPLY}")
    way = [server, request, created, process, reply]
    assert trace_ids(way) == {int(TRACEPARENT.split("-")[1], 16)}
    for parent, child in itertools.pairwise(way):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
    assert request.links[0].context.span_id == reply.context.span_id
    assert facts(worker.one(f"SendMessageBatch {REPLY}"))["server.port"] == int(
        small_server.rpartition(":")[2]
    )
    assert trace_ids(worker.named(f"SendMessageBatch {REPLY}")) == trace_ids(way)


@pytest.mark.server
async def test_a_message_of_boto3_joins_the_trace_that_it_carries(small_server: str) -> None:
    recorded, handled = Recorded(), asyncio.Event()

    async def handle(message: Message) -> None:
        handled.set()

    async with connect(endpoint_url=small_server, **CREDENTIALS) as sqs:
        url = await sqs.create_queue(f"orders-{uuid.uuid4().hex[:8]}")
        async with Poller(sqs, url, handle, middleware=[recorded.telemetry], wait_time=1):
            await sqs.client.send_message(
                QueueUrl=url,
                MessageBody="a",
                MessageAttributes={
                    "traceparent": {"DataType": "String", "StringValue": TRACEPARENT}
                },
            )
            await asyncio.wait_for(handled.wait(), 20)
        await sqs.client.delete_queue(QueueUrl=url)
    (process,) = recorded.spans
    assert process.parent is not None
    assert f"{process.parent.span_id:x}" == TRACEPARENT.split("-")[2]


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
import sqs_orchestrator
try:
    import sqs_orchestrator.opentelemetry
except ImportError as error:
    print(error)
"""

WITH_THE_API_ALONE = """
import asyncio, sys
sys.modules["opentelemetry.sdk"] = None
from sqs_orchestrator import Poller, Publisher
from sqs_orchestrator.opentelemetry import Telemetry
from sqs_orchestrator.testing import connect

async def handle(message):
    return message.body

async def main():
    telemetry = Telemetry()
    async with connect(wrap=telemetry.wrap) as sqs:
        await sqs.create_queue("orders")
        poller = Poller(sqs, "orders", handle, wait_time=1, middleware=[telemetry])
        async with poller, Publisher(sqs, middleware=[telemetry]) as publisher:
            telemetry.observe(poller, publisher)
            reply = await publisher.request("orders", "a", timeout=10)
            print(reply.body, dict(reply.attributes))

asyncio.run(main())
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_opentelemetry_the_error_says_what_to_install() -> None:
    assert run(WITHOUT).endswith("pip install 'sqs-orchestrator[opentelemetry]'")


def test_with_the_api_alone_nothing_is_recorded_and_nothing_breaks() -> None:
    assert run(WITH_THE_API_ALONE) == "a {}"
