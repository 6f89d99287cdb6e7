"""One fetch at a time, beside the loop, and nobody waits while there is something to sign with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import SendEntry

from .conftest import connect
from .http_sqs import HttpSQS
from .providers import KINDS, LEFT, Provider, running, set_up

LIMIT = 20.0
"""Seconds after which something hangs."""


@pytest_asyncio.fixture
async def sts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Provider]:
    """STS, for a web identity."""
    sts = Provider(KINDS["web identity"])
    async with running(sts) as url:
        set_up("web identity", url, monkeypatch, tmp_path)
        yield sts


async def test_one_fetch_serves_all_who_wait_and_its_failure_fails_none(
    sqs: HttpSQS, sts: Provider
) -> None:
    sts.fail(for_good=False, times=1)
    async with connect(sqs) as connection, so.Publisher(connection) as publisher:
        await asyncio.gather(*(publisher.send(sqs.orders, each) for each in range(500)))
    assert sts.calls == 2
    assert set(sqs.keys("SendMessageBatch")) == {"KEY1"}


async def test_all_who_wait_hear_of_one_failed_fetch(sqs: HttpSQS, sts: Provider) -> None:
    sts.fail(for_good=False)
    async with asyncio.timeout(LIMIT), connect(sqs) as connection:
        calls = [connection.port.list_queues("") for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sts.calls == 1
    assert all(isinstance(each, so.QueueError) and each.transient for each in outcomes)


async def test_no_call_waits_for_new_credentials_while_the_old_ones_are_valid(
    sqs: HttpSQS, sts: Provider
) -> None:
    async with asyncio.timeout(LIMIT), connect(sqs) as connection:
        await connection.port.list_queues("")
        sqs.ahead = LEFT - 300
        sts.open.clear()
        for _ in range(5):
            await connection.port.list_queues("")
        assert set(sqs.keys()) == {"KEY1"}
        sts.open.set()
        while sqs.keys()[-1] == "KEY1":
            await connection.port.list_queues("")
    assert sts.calls == 2


async def test_a_waiter_that_is_cancelled_disturbs_no_other(sqs: HttpSQS, sts: Provider) -> None:
    sts.open.clear()
    async with connect(sqs) as connection:
        first, second = (asyncio.create_task(connection.port.list_queues("")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        sts.open.set()
        await asyncio.wait_for(second, LIMIT)
    assert sts.calls == 1


async def test_leaving_does_not_wait_for_a_provider_that_hangs(sqs: HttpSQS, sts: Provider) -> None:
    sts.open.clear()
    async with connect(sqs) as connection:
        waiting = asyncio.create_task(connection.port.list_queues(""))
        await asyncio.wait_for(sts.asked.wait(), LIMIT)
    with pytest.raises(so.QueueError, match="the connection was closed"):
        await asyncio.wait_for(waiting, LIMIT)
    sts.open.set()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file whose reader has to wait")
async def test_the_loop_goes_on_while_a_file_is_read(
    sqs: HttpSQS, sts: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "slow token"
    os.mkfifo(token)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    async with connect(sqs) as connection:
        waiting = asyncio.create_task(connection.port.list_queues(""))
        # A reader that blocked the loop would wait for ever for what the loop is to write.
        with ThreadPoolExecutor(1) as pool:
            written = asyncio.get_running_loop().run_in_executor(pool, token.write_text, "token")
            await asyncio.wait_for(waiting, LIMIT)
            await written


# --------------------------------------------------------------- what is wrong with them


@pytest.mark.parametrize(
    "variable", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
)
async def test_missing_token_file_is_named(
    sqs: HttpSQS, sts: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    if variable.startswith("AWS_CONTAINER"):
        monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:1/")
    missing = tmp_path / "no such token"
    monkeypatch.setenv(variable, str(missing))

    async def handle(message: so.Message) -> None: ...

    async with connect(sqs) as connection, so.Publisher(connection) as publisher:
        with pytest.raises(so.AccessDenied, match=f"{missing} cannot be read.*nothing was") as got:
            await publisher.send(sqs.orders, 1)
        assert not got.value.maybe_done
        with pytest.raises(so.AccessDenied, match=str(missing)):
            await so.Poller(connection, sqs.orders, handle).run(handle_signals=False)
    assert sqs.calls == []


async def test_token_file_that_comes_later_is_read(
    sqs: HttpSQS, sts: Provider, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.rename(tmp_path / "elsewhere")
    async with connect(sqs) as connection, so.Publisher(connection) as publisher:
        with pytest.raises(so.AccessDenied, match="token cannot be read"):
            await publisher.send(sqs.orders, 1)
        (tmp_path / "elsewhere").rename(token)
        async with asyncio.timeout(LIMIT):
            while not sqs.calls:
                with contextlib.suppress(so.AccessDenied):
                    await publisher.send(sqs.orders, 1)


async def test_program_that_fails_is_quoted(
    sqs: HttpSQS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up("assumed role", "", monkeypatch, tmp_path)
    profile = tmp_path / "config"
    async with connect(sqs) as connection:  # the profile is read when they are fetched
        pass
    for program, says in {
        "sh -c 'echo log in first >&2; exit 1'": "log in first",
        str(tmp_path / "none"): "none cannot be read",
        "echo no JSON": "no usable AWS credentials",
    }.items():
        profile.write_text(f"[default]\ncredential_process = {program}\n")
        async with connect(sqs) as connection:
            with pytest.raises(so.AccessDenied, match=says):
                await connection.port.list_queues("")
    assert sqs.calls == []


MALFORMED = {
    "a line break at its end": "KEY\n",
    "a blank at position 4": "KEY KEY",
    r"the character '\\u2026' at its end": "KEY…",
}
FILE = ("file", "a line")
SOURCES = ["argument", "environment", "file", "session"]


@pytest.mark.parametrize(
    ("source", "flaw"),
    # A line of a file holds no line break.
    [(source, flaw) for source in SOURCES for flaw in MALFORMED if (source, flaw[:6]) != FILE],
)
async def test_key_that_is_none_is_refused_at_the_door(
    sqs: HttpSQS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flaw: str, source: str
) -> None:
    key = MALFORMED[flaw]
    arguments: dict[str, Any] = {}
    if source == "argument":
        arguments = {"aws_access_key_id": key, "aws_secret_access_key": "secret"}
    elif source == "file":
        set_up("assumed role", "", monkeypatch, tmp_path)
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
        (tmp_path / "config").write_text(text, "utf-8")
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
        if source == "session":
            arguments = {"session": AioSession()}
    with pytest.raises(ValueError, match=f"(?i)aws_(access_key_id|secret_access_key).*{flaw}"):
        async with so.connect(region_name="eu-west-1", endpoint_url=sqs.url, **arguments):
            pass
    assert sqs.calls == []


async def test_key_of_a_provider_that_is_none_is_denied(
    sqs: HttpSQS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up("assumed role", "", monkeypatch, tmp_path)
    answer = '{"Version": 1, "AccessKeyId": "A B", "SecretAccessKey": "x"}'
    (tmp_path / "answer").write_text(answer)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path}/answer\n")
    with pytest.raises(ValueError, match=r"aws_access_key_id \(custom-process\) has a blank at"):
        async with connect(sqs):
            pass


# ------------------------------------------------------------------ threads of the program


@asynccontextmanager
async def no_thread_to_spare() -> AsyncIterator[None]:
    """All threads of the loop's default pool are taken."""
    loop = asyncio.get_running_loop()
    release = threading.Event()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    taken = loop.run_in_executor(None, release.wait)
    try:
        yield
    finally:
        release.set()
        await taken


@pytest.mark.parametrize("lean", ["1", "0"], ids=["lean", "stock"])
async def test_nothing_that_keeps_messages_needs_the_threads_of_the_loop(
    sqs: HttpSQS, sts: Provider, monkeypatch: pytest.MonkeyPatch, lean: str
) -> None:
    monkeypatch.setenv("SQS_ORCHESTRATOR_LEAN", lean)
    await sqs.memory.send(sqs.orders, [SendEntry("1")])
    config = AioConfig(connector_args={"use_dns_cache": False})
    finish = asyncio.Event()

    async def handle(message: so.Message) -> None:
        await finish.wait()

    async def called(operation: str, times: int) -> None:
        await sqs.until(lambda: len(sqs.keys(operation)) >= times)

    options = {"region_name": "eu-west-1", "endpoint_url": sqs.url, "config": config}
    async with (
        so.connect(**options) as connection,
        no_thread_to_spare(),
        asyncio.timeout(LIMIT),
        so.Poller(connection, sqs.orders, handle, visibility_timeout=2, wait_time=1),
        so.ReplyQueue(
            connection, heartbeat_interval=0.2, idle_retention=60, sweep_interval=None
        ) as replies,
    ):
        await replies.ready()
        await called("ChangeMessageVisibilityBatch", 2)
        await called("TagQueue", 2)
        sqs.ahead = LEFT - 300  # new credentials are due
        await sqs.until(lambda: sqs.keys()[-1] == "KEY2")
        finish.set()
        await called("DeleteMessageBatch", 1)
    assert sqs.keys()[-1] == "KEY2"
