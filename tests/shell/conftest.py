"""The shells run on an SQS in memory and in virtual time: no test here waits for a clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], VirtualTimeLoop]]:
    """What pytest-asyncio runs the tests of this directory on, and their fixtures."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
def same_jitter() -> None:
    """The same jitter in each run: now and then a first sweep comes at once, and is counted."""
    random.seed(0)


@pytest.fixture
def server() -> MemoryServer:
    """The SQS of this test. A call takes 20 ms, as it does in one region of AWS."""
    return MemoryServer(latency=0.02)


@pytest.fixture
def sqs(server: MemoryServer) -> MemorySQS:
    """A client of that SQS."""
    return MemorySQS(server)
