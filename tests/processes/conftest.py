"""Real processes on a real server, killed for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

ROOT = Path(__file__).resolve().parents[2]

HANGS = 60.0
"""Seconds after which a process that says nothing is taken to hang: then the test fails."""


class Process:
    """A program of `programs.py`, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []

    async def say(self, key: str, count: int = 1) -> list[Any]:
        """Wait until it has said *count* lines with *key*; their values so far."""
        async with asyncio.timeout(HANGS):
            while len(values := self.values(key)) < count:
                await self._line()
        return values

    def values(self, key: str) -> list[Any]:
        return [line[key] for line in self.said if key in line]

    async def _line(self) -> None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended with {await self._process.wait()}")
        self.said.append(json.loads(line))

    async def ended(self) -> int:
        """Read what it still says; its exit code."""
        with contextlib.suppress(AssertionError):
            while True:
                await self._line()
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait: it gets no chance to clean up."""
        self.stop_at_once()
        await self.ended()

    def stop_at_once(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def terminate(self) -> None:
        """SIGTERM: what a container gets when it should stop."""
        self._process.terminate()

    def interrupt(self) -> None:
        """SIGINT: Ctrl-C."""
        self._process.send_signal(signal.SIGINT)


async def start_program(
    endpoint_url: str,
    program: str,
    *,
    module: str = "tests.processes.programs",
    environment: Mapping[str, str] | None = None,
    **options: object,
) -> Process:
    """Start a program of `programs.py`, or of another *module*. Whoever starts it sees to its
    end."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, endpoint_url, program, *arguments),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONSAFEPATH": "",
                **(environment or {}),
            },
            stdout=asyncio.subprocess.PIPE,
        )
    )


Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="session")
def endpoint_url(small_server: str) -> str:
    return small_server


@contextlib.asynccontextmanager
async def starting(endpoint_url: str) -> AsyncIterator[Start]:
    """Starts programs; those that still run are killed at the end."""
    processes: list[Process] = []

    async def start(program: str, **options: Any) -> Process:
        process = await start_program(endpoint_url, program, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        await process.kill()


@pytest_asyncio.fixture
async def start(endpoint_url: str) -> AsyncIterator[Start]:
    async with starting(endpoint_url) as start:
        yield start


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as connection:
        yield connection


@pytest_asyncio.fixture
async def queue(sqs: so.Connection) -> AsyncIterator[str]:
    """The name of a request queue."""
    name = f"orders-{uuid.uuid4().hex}"
    url = await sqs.create_queue(name)
    yield name
    await sqs.port.delete_queue(url)
