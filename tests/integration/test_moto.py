"""moto's server, as users' tests run it."""

from __future__ import annotations

import urllib.request

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.testing import moto_server


def test_moto_server_sends_one_server_header() -> None:
    # aiohttp refuses two in asyncio's debug mode.
    with moto_server() as url:
        call = urllib.request.Request(
            url,
            b"{}",
            {
                "X-Amz-Target": "AmazonSQS.ListQueues",
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/sqs/x",
            },
        )
        with urllib.request.urlopen(call) as response:
            assert len(response.headers.get_all("Server")) == 1


@pytest.mark.parametrize("queue", ["no such queue!", None, "", "https://"])
def test_poller_of_what_is_no_queue_is_refused_at_once(queue: str) -> None:
    async def handle(message: so.Message) -> None: ...

    sqs = so.connect(region_name="eu-west-1")
    with pytest.raises(ValueError, match="queue"):
        so.Poller(sqs, queue, handle)
