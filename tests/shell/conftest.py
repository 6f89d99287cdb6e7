"""The shells run on an SQS in memory and in virtual time: no test here waits for a clock.

And all of them twice, the second time with tasks that begin eagerly, as programs may have them
(`asyncio.eager_task_factory`): then a task may be over before it is known to whoever made it.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable

import pytest

from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], VirtualTimeLoop]]:
    """What pytest-asyncio runs the tests of this directory on, and their fixtures."""
    factories: dict[str, Callable[[], VirtualTimeLoop]] = {"virtual": VirtualTimeLoop}
    if sys.version_info >= (3, 12):  # on others test_eager_tasks.py says so
        factories["eager"] = eager
    return factories


def eager() -> VirtualTimeLoop:
    """A loop whose tasks begin at once."""
    loop = VirtualTimeLoop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


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
