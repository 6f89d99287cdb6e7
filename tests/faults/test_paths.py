"""The faults meet the path to SQS that they are meant for."""

from __future__ import annotations

import pytest

import sqs_orchestrator as so

from .conftest import STOCK, Connect

pytestmark = pytest.mark.server


async def test_connection_takes_the_path_that_was_asked_for(
    connect: Connect, direct: so.Connection
) -> None:
    wanted = "StockTransport" if STOCK else "LeanTransport"
    async with connect() as sqs:
        assert wanted in repr(sqs)
    assert wanted in repr(direct)
