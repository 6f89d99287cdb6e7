"""The library on a real server, with the proxy in between.

`SQS_FAULTS=all` runs everything at full length; without it, each test does a part of that which
fits a usual run of the tests. `SQS_FAULTS=cases` runs all cases, each as short as in a usual run.
`SQS_SERVER` names the server behind the proxy, and `SQS_ORCHESTRATOR_LEAN=0` has the stock client
make the calls. `nox -s faults` goes through what of that matters.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Final, TypeVar

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

from .proxy import FaultProxy

LENGTH: Final = os.environ.get("SQS_FAULTS", "")
if LENGTH not in ("", "cases", "all"):
    raise ValueError(f"SQS_FAULTS is 'cases' or 'all', not {LENGTH!r}")

WHOLE: Final = LENGTH == "all"
"""Whether everything runs, at full length."""

STOCK: Final = os.environ.get("SQS_ORCHESTRATOR_LEAN") == "0"
"""Whether the stock client makes the calls."""

Connect = Callable[[], so.Connection]


Case = TypeVar("Case")


def cases(everything: Collection[Case], *few: Case) -> Collection[Case]:
    """*everything*, or in a usual run *few* of it."""
    assert set(few) <= set(everything)
    return everything if LENGTH else few


@pytest.fixture(scope="session")
def server_url(volume_server: str) -> str:
    """The endpoint of the server behind the proxy."""
    return volume_server


@pytest.fixture
def proxy(server_url: str) -> Iterator[FaultProxy]:
    """A proxy that so far lets everything pass."""
    with FaultProxy(server_url, seed=7) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: FaultProxy) -> Connect:
    """Connects through the proxy."""
    return lambda: so.connect(endpoint_url=proxy.url, **CREDENTIALS)


@pytest_asyncio.fixture
async def direct(server_url: str) -> AsyncIterator[so.Connection]:
    """A connection past the proxy, to see how things really are."""
    async with so.connect(endpoint_url=server_url, **CREDENTIALS) as sqs:
        yield sqs


@pytest_asyncio.fixture
async def queue(direct: so.Connection) -> AsyncIterator[str]:
    """The name of a request queue."""
    name = f"orders-{uuid.uuid4().hex}"
    url = await direct.create_queue(name)
    yield name
    with contextlib.suppress(so.QueueNotFound):
        await direct.port.delete_queue(url)


@pytest.fixture
def prefix() -> str:
    """What the reply queues of this test begin with."""
    return f"replies-{uuid.uuid4().hex[:12]}-"
