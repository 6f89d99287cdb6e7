"""The port suite runs on the SQS in memory, and on a server: moto, unless told otherwise; and
there by the stock client and by the lean path.

    SQS_SERVER=fauxqs pytest tests/contract                     starts that one
    SQS_ENDPOINT_URL=http://127.0.0.1:4100 pytest ...           takes one that runs already;
                                                                SQS_SERVER may say what it is

Where a server is known to differ from SQS, the test says so with `@deviates`, and has to fail
there: so a server that was mended shows itself. The table of `docs/reference/servers.md` has the
same reasons.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiobotocore.session import AioSession

from sqs_orchestrator.sqs.calls import RemoteSQS
from sqs_orchestrator.sqs.config import make_config
from sqs_orchestrator.sqs.port import SQS
from sqs_orchestrator.sqs.transports.lean import open_lean
from sqs_orchestrator.sqs.transports.stock import StockTransport
from sqs_orchestrator.sqs.transports.template import template_of
from sqs_orchestrator.testing import MemorySQS
from tests.servers import CREDENTIALS

MakeQueue = Callable[..., Awaitable[str]]
MakeClient = Callable[[], SQS]

SERVER = os.environ.get("SQS_SERVER") or (
    "server" if os.environ.get("SQS_ENDPOINT_URL") else "moto"
)
LEAN = "-lean"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        kind = callspec.params.get("kind") if callspec is not None else None
        for mark in item.iter_markers("deviates"):
            if kind is not None and kind.removesuffix(LEAN) in mark.args:
                reason = f"{kind}: {mark.kwargs['reason']}"
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(
    params=[
        "memory",
        pytest.param(SERVER, marks=pytest.mark.server),
        pytest.param(SERVER + LEAN, marks=pytest.mark.server),
    ],
    scope="session",
)
def kind(request: pytest.FixtureRequest) -> str:
    """What stands behind the port."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def endpoint_url(small_server: str) -> str:
    """The endpoint of the server."""
    return small_server


@pytest.fixture(scope="session")
def session() -> AioSession:
    made = AioSession()
    # Where moto was imported, all clients have its mock, which keeps the lean path off.
    for name, module in list(sys.modules.items()):
        if name == "moto.core.models":
            made.unregister("before-send", module.botocore_stubber)
    return made


@pytest_asyncio.fixture
async def make_client(
    kind: str, session: AioSession, request: pytest.FixtureRequest
) -> AsyncIterator[MakeClient]:
    """Makes clients of one SQS, each with its own view of its clock."""
    if kind == "memory":
        server = MemorySQS().server
        yield lambda: MemorySQS(server)
        return
    options = {
        **CREDENTIALS,
        "endpoint_url": request.getfixturevalue("endpoint_url"),
        "config": make_config(),
    }
    async with (
        session.create_client("sqs", **options) as client,
        session.create_client("sqs", **options) as polling_client,
    ):
        if not kind.endswith(LEAN):
            yield lambda: RemoteSQS(client, StockTransport(client, polling_client))
            return
        way = await template_of(client)
        async with AsyncExitStack() as stack:
            # Several, since each has a clock of its own.
            leans = [await stack.enter_async_context(open_lean(way)) for _ in range(3)]
            yield lambda: RemoteSQS(client, leans.pop())


@pytest.fixture
def sqs(make_client: MakeClient) -> SQS:
    """A client."""
    return make_client()


@pytest.fixture
def prefix() -> str:
    """What the names of all queues of this test begin with."""
    return f"test-{uuid.uuid4().hex}-"


@pytest_asyncio.fixture
async def make_queue(sqs: SQS, prefix: str) -> AsyncIterator[MakeQueue]:
    """Makes queues that are deleted after the test."""
    made: list[str] = []

    async def make(
        name: str = "queue",
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        attributes = dict(attributes or {})
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        url = await sqs.create_queue(prefix + name, attributes, tags or {})
        made.append(url)
        return url

    yield make
    for url in made:
        with contextlib.suppress(Exception):
            await sqs.delete_queue(url)
