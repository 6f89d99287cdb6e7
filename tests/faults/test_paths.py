"""The faults meet the path to SQS that they are meant for."""

from __future__ import annotations

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.sqs.transports.lean import LeanSQS
from sqs_orchestrator.sqs.transports.stock import BotoSQS

from .conftest import STOCK, Connect

pytestmark = pytest.mark.server


async def test_connection_takes_the_path_that_was_asked_for(
    connect: Connect, direct: so.Connection
) -> None:
    wanted = BotoSQS if STOCK else LeanSQS
    async with connect() as sqs:
        assert type(sqs.port) is wanted
    assert type(direct.port) is wanted
