"""Each provider of the usual chain, failing for a while and for good, under a requester and
under a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import SendEntry

from .conftest import connect
from .http_sqs import HttpSQS
from .providers import KINDS, LEFT, Provider, running, set_up

CASES = [*((name, True) for name in KINDS), ("web identity", False)]
"""Each provider on the lean path, and one on the stock client's."""


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}, {'lean' if case[1] else 'stock'}")
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, is_lean = request.param
    monkeypatch.setenv("SQS_ORCHESTRATOR_LEAN", str(int(is_lean)))
    return str(name)


@pytest_asyncio.fixture
async def provider(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Provider]:
    provider = Provider(KINDS[name])
    async with running(provider) as url:
        set_up(name, url, monkeypatch, tmp_path)
        yield provider


@asynccontextmanager
async def answering(sqs: HttpSQS) -> AsyncIterator[None]:
    """A worker beside, by credentials of its own."""

    async def handle(message: so.Message) -> object:
        return message.json()

    keys: dict[str, Any] = {"aws_access_key_id": "WORKER", "aws_secret_access_key": "secret"}
    async with (
        so.connect(region_name="eu-west-1", endpoint_url=sqs.url, **keys) as connection,
        so.Poller(connection, sqs.orders, handle, wait_time=1, reply_accounts=["000000000000"]),
    ):
        yield


async def test_request_outlasts_a_provider_that_fails_for_a_while(
    sqs: HttpSQS, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is no endpoint that never answers: it was not asked.
    monkeypatch.setattr("sqs_orchestrator.connection.FIRST_PATIENCE", 0.0)
    provider.fail(for_good=False, times=2 * provider.kind.tries)
    async with answering(sqs), connect(sqs) as connection, so.Publisher(connection) as publisher:
        reply = await publisher.request("orders", {"a": 1}, timeout=20)
    assert reply.json() == {"a": 1}
    assert provider.calls > 2 * provider.kind.tries


async def test_send_says_at_once_what_is_wrong_with_a_provider_for_good(
    sqs: HttpSQS, provider: Provider
) -> None:
    provider.fail(for_good=True)
    async with connect(sqs) as connection, so.Publisher(connection) as publisher:
        with pytest.raises(so.AccessDenied, match=f"{provider.kind.says}.*nothing was sent") as got:
            await publisher.send(sqs.orders, 1)
        assert not got.value.maybe_done
        with pytest.raises(so.AccessDenied, match=provider.kind.says):
            await publisher.request(sqs.orders, 1)
    assert sqs.calls == []


async def test_worker_outlasts_a_provider_that_fails_for_a_while(
    sqs: HttpSQS, provider: Provider
) -> None:
    provider.fail(for_good=False, times=2 * provider.kind.tries)
    await sqs.memory.send(sqs.orders, [SendEntry("1")])
    async with connect(sqs) as connection:
        poller = so.Poller(connection, sqs.orders, wait_time=1)

        @poller.handler
        async def handle(message: so.Message) -> None:
            poller.stop()

        await asyncio.wait_for(poller.run(handle_signals=False), 20)
    assert poller.statistics().handled == 1
    assert provider.calls > 2 * provider.kind.tries


async def test_worker_ends_with_a_provider_that_fails_for_good(
    sqs: HttpSQS, provider: Provider
) -> None:
    provider.fail(for_good=True)

    async def handle(message: so.Message) -> None: ...

    async with connect(sqs) as connection:
        poller = so.Poller(connection, sqs.orders, handle)
        with pytest.raises(so.AccessDenied, match=provider.kind.says):
            await asyncio.wait_for(poller.run(handle_signals=False), 20)
    assert sqs.calls == []


@pytest.mark.parametrize("for_good", [False, True], ids=["for a while", "for good"])
async def test_old_credentials_are_used_while_they_are_valid_and_new_ones_fail(
    sqs: HttpSQS, provider: Provider, for_good: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqs_orchestrator")
    async with asyncio.timeout(20), connect(sqs) as connection:
        await connection.port.list_queues("")
        sqs.ahead = LEFT - 300
        provider.fail(for_good=for_good)
        before = provider.calls
        while provider.calls < before + 2 * provider.kind.tries:
            await connection.port.list_queues("")
        assert set(sqs.keys()) == {"KEY1"}
        assert "the old ones are used" in caplog.text
        assert "Traceback" not in caplog.text
        provider.fail(for_good=False, times=0)
        while sqs.keys()[-1] == "KEY1":
            await connection.port.list_queues("")
        assert "credentials were renewed" in caplog.text


@pytest.mark.parametrize("for_good", [False, True], ids=["for a while", "for good"])
async def test_nothing_is_signed_with_credentials_that_have_run_out(
    sqs: HttpSQS, provider: Provider, for_good: bool
) -> None:
    async with connect(sqs) as connection:
        await connection.port.list_queues("")
        sqs.ahead = LEFT + 60
        await connection.port.list_queues("")  # by which it learns the time
        provider.fail(for_good=for_good)
        calls = len(sqs.calls)
        with pytest.raises(so.QueueError) as caught:
            await connection.port.list_queues("")
        # A metadata service that had some and has none now is one that fails.
        lasts = for_good and provider.kind is not KINDS["instance"]
        assert isinstance(caught.value, so.AccessDenied) == lasts
        assert caught.value.transient != lasts
        assert not caught.value.maybe_done
        assert len(sqs.calls) == calls


async def test_worker_ends_when_sqs_refuses_the_credentials(
    sqs: HttpSQS, provider: Provider
) -> None:
    sqs.expired.add("KEY1")

    async def handle(message: so.Message) -> None: ...

    async with connect(sqs) as connection:
        poller = so.Poller(connection, sqs.orders, handle)
        with pytest.raises(so.AccessDenied, match="expired: renew them"):
            await asyncio.wait_for(poller.run(handle_signals=False), 20)
