"""Names are looked up by threads of the library's own, and an old answer is better than none."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sqs_orchestrator.sqs import resolver
from sqs_orchestrator.sqs.resolver import Resolver, Threads

FAMILY = socket.AF_INET


class Names:
    """A name server that says what it is told to."""

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        if self.failure is not None:
            raise self.failure
        return [(FAMILY, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest_asyncio.fixture
async def found(names: Names) -> AsyncIterator[Resolver]:
    threads = Threads()
    yield Resolver(threads)
    threads.close()


async def addresses(found: Resolver, host: str = "sqs.example") -> list[str]:
    return [each["host"] for each in await found.resolve(host, 443, FAMILY)]


async def test_last_answer_stands_in_while_nobody_can_be_asked(
    names: Names, found: Resolver, caplog: pytest.LogCaptureFixture
) -> None:
    assert await addresses(found) == ["10.0.0.1"]
    names.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert await addresses(found) == ["10.0.0.1"]
    assert "sqs.example cannot be looked up (" in caplog.text
    with pytest.raises(socket.gaierror):
        await addresses(found, "another.example")


async def test_name_that_is_gone_is_not_remembered(names: Names, found: Resolver) -> None:
    await addresses(found)
    names.failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(socket.gaierror):
        await addresses(found)


async def test_old_answer_is_forgotten(
    names: Names, found: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await addresses(found)
    names.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    monkeypatch.setattr(resolver, "STALE_AFTER", -1.0)
    with pytest.raises(socket.gaierror):
        await addresses(found)


async def test_failure_that_nobody_waits_for_any_more_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, found: Resolver, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp shields its lookups, and newer Pythons report what a shield keeps for nobody."""
    asked, answer = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        answer.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    connector = aiohttp.TCPConnector(resolver=found)
    async with aiohttp.ClientSession(connector=connector) as session:
        call = asyncio.create_task(session.get("http://sqs.example"))
        await asyncio.to_thread(asked.wait, 10)
        call.cancel()
        await asyncio.wait({call})
        lookups = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        answer.set()
        await asyncio.wait(lookups)
    assert call.cancelled()
    assert lookups
    assert not caplog.records
