"""Providers of credentials that fail, an SQS behind HTTP, and programs in between."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.sqs import credentials

from .http_sqs import HttpSQS, running


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    for pause in ("PAUSE", "LONGEST_PAUSE", "LONGEST_PAUSE_WHILE_VALID"):
        monkeypatch.setattr(credentials, pause, 0.01)


@pytest_asyncio.fixture
async def sqs() -> AsyncIterator[HttpSQS]:
    """An SQS with the queue `orders`."""
    sqs = HttpSQS()
    async with running(sqs) as sqs.url:
        sqs.orders = await sqs.memory.create_queue("orders", {}, {})
        yield sqs


def connect(sqs: HttpSQS) -> so.Connection:
    """A connection by the credentials of the chain."""
    return so.connect(region_name="eu-west-1", endpoint_url=sqs.url)
