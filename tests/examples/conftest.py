"""The examples of the documentation, started as their readers start them and driven over HTTP.

A `Bar` is a web server and the worker behind it. Of each framework there are two for all tests,
watched by `watched.py` and started when first asked for: `bar` waits long for its replies, so that
a busy machine makes no difference. Those of `hasty` wait a second, and reach SQS through a proxy
that can break. They share the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sqs_orchestrator.testing.moto import settings
from tests.faults.proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
WATCHED = str(Path(__file__).with_name("watched.py"))

UVICORN = ["-m", "uvicorn", "app:app", "--port", "0"]
WEB = {"fastapi": UVICORN, "aiohttp": ["app.py"], "litestar": UVICORN}
"""What starts the web server of each."""

FRAMEWORKS = [*WEB]

thorough = pytest.mark.skipif(
    os.environ.get("SQS_EXAMPLES") != "all", reason="it starts much: `nox -s examples` runs it"
)
"""For tests that start processes of their own, where others show the like."""

ADDRESS = r"(?i)running on (http://[\d.:]+)"
"""What a web server says once it answers."""

HANGS = 60.0
"""Seconds after which a process that says nothing is taken to hang: then the test fails."""


def without_aws() -> dict[str, str]:
    """The environment, without what would lead to somebody's account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


class Process:
    """A process, and what it says."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env={**without_aws(), "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # So that all that it starts can be killed with it.
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._ended = False
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said:
                self._lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def said(self, pattern: str) -> list[str]:
        """What *pattern* finds in its lines so far: its group, where it has one."""
        with self._said:
            found = [re.search(pattern, line) for line in self._lines]
        return [match[match.re.groups] for match in found if match is not None]

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until *pattern* is in *count* of its lines."""

        def ready() -> bool:
            return self._ended or len(self.said(pattern)) >= count

        with self._said:
            self._said.wait_for(ready, HANGS)
            found = self.said(pattern)
            lines = "\n".join(self._lines)
        if len(found) < count:
            why = "ended" if self._ended else "hangs"
            raise AssertionError(f"it {why} without {count} times {pattern!r}:\n{lines}")
        return found

    async def say(self, pattern: str, count: int = 1) -> list[str]:
        """The same, for coroutines."""
        return await asyncio.to_thread(self.wait_for, pattern, count)

    def terminate(self) -> None:
        """SIGTERM: what a container gets when it should stop."""
        self._process.terminate()

    def signal(self, which: signal.Signals) -> None:
        self._process.send_signal(which)

    async def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        return await asyncio.to_thread(self._process.wait, HANGS)

    def kill(self) -> None:
        """SIGKILL, to all that it has started, too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # What it has started in sessions of their own may hold its output open.
        self._reader.join(1)
        assert self._process.stdout is not None
        if not self._reader.is_alive():
            self._process.stdout.close()


class Bar:
    """An example that is open."""

    def __init__(self, framework: str, queue: str, web: Process, worker: Process) -> None:
        self.framework = framework
        self.queue = queue
        self.web = web
        self.worker = worker

    @property
    def url(self) -> str:
        return self.web.wait_for(ADDRESS)[0]

    async def order(self, drink: str, name: str = "Ada") -> httpx.Response:
        return await self.post("/orders", {"drink": drink, "name": name})

    async def thank(self, name: str = "Ada") -> httpx.Response:
        return await self.post("/thanks", {"name": name})

    async def post(self, path: str, body: object) -> httpx.Response:
        async with self.client() as client:
            return await client.post(path, json=body)

    async def get(self, path: str) -> httpx.Response:
        async with self.client() as client:
            return await client.get(path)

    def client(self) -> httpx.AsyncClient:
        """A client of its own for each request: no connection is kept, and closed under one."""
        # There is no TLS: what it would need costs more than the request.
        return httpx.AsyncClient(base_url=self.url, timeout=HANGS, trust_env=False, verify=False)


def call(endpoint_url: str, operation: str, **parameters: object) -> Any:
    """Call SQS, whoever waits meanwhile."""
    headers = {
        "X-Amz-Target": f"AmazonSQS.{operation}",
        "Content-Type": "application/x-amz-json-1.0",
        # Nobody checks it, but moto reads from it what service is meant.
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/sqs/x",
    }
    answer = httpx.post(endpoint_url, json=parameters, headers=headers, trust_env=False)
    return answer.raise_for_status().json() if answer.content else None


def reply_queues(endpoint_url: str) -> set[str]:
    """The URLs of all reply queues that there are."""
    found = call(endpoint_url, "ListQueues", QueueNamePrefix="sqs_orchestrator_reply_")
    return {*found.get("QueueUrls", ())}


class Street:
    """Opens bars, on one SQS server."""

    def __init__(self, endpoint_url: str, proxy: FaultProxy) -> None:
        self.endpoint_url = endpoint_url
        self.proxy = proxy
        self._processes: list[Process] = []
        self._shared: dict[tuple[str, bool], Bar] = {}

    def start(
        self, framework: str, *command: str, queue: str, endpoint_url: str = "", **more: str
    ) -> Process:
        """Start a program in the directory of an example."""
        environment = {
            **settings(endpoint_url or self.endpoint_url),
            "ORDERS_QUEUE": queue,
            "PORT": "0",
            "REPLY_TIMEOUT": str(HANGS),
            # The modules of an example find each other in its directory.
            "PYTHONSAFEPATH": "",
            **more,
        }
        process = Process([*command], EXAMPLES / framework, environment)
        self._processes.append(process)
        return process

    def web(self, bar: Bar, *command: str, **more: str) -> Bar:
        """One more web server, before the worker of *bar*."""
        command = command or (*WEB[bar.framework],)
        web = self.start(bar.framework, *command, queue=bar.queue, **more)
        return Bar(bar.framework, bar.queue, web, bar.worker)

    def bar(self, framework: str, *, hasty: bool = False) -> Bar:
        """That which is open for all tests."""
        if (framework, hasty) not in self._shared:
            self._shared[framework, hasty] = self._open(framework, hasty)
        return self._shared[framework, hasty]

    def _open(self, framework: str, hasty: bool) -> Bar:
        web = [WATCHED, *WEB[framework]]
        if hasty:
            patient = self.bar(framework)
            return self.web(patient, *web, endpoint_url=self.proxy.url, REPLY_TIMEOUT="1")
        queue = f"orders-{uuid.uuid4().hex}"
        call(self.endpoint_url, "CreateQueue", QueueName=queue)
        worker = self.start(framework, WATCHED, "worker.py", queue=queue)
        return Bar(framework, queue, self.start(framework, *web, queue=queue), worker)

    def close(self) -> None:
        for process in self._processes:
            process.kill()


@pytest.fixture(scope="session")
def street(small_server: str) -> Iterator[Street]:
    with FaultProxy(small_server) as proxy, contextlib.closing(Street(small_server, proxy)) as it:
        yield it


@pytest.fixture(params=FRAMEWORKS)
def bar(request: pytest.FixtureRequest, street: Street) -> Bar:
    """A bar of each framework."""
    return street.bar(request.param)


@pytest.fixture
def hasty(street: Street) -> Iterator[list[Bar]]:
    """All hasty ones, for tests that wait: they wait side by side."""
    bars = [street.bar(framework, hasty=True) for framework in FRAMEWORKS]
    # What breaks now must find them open.
    assert all(bar.url for bar in bars)
    yield bars
    street.proxy.heal()
