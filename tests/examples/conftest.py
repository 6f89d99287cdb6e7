"""The examples of the documentation, started as their readers start them, and driven over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from sqs_orchestrator.testing.moto import settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"

FRAMEWORKS = ["fastapi", "aiohttp", "litestar"]

UVICORN = ["-m", "uvicorn", "app:app", "--port", "0"]
WEB = {"fastapi": UVICORN, "aiohttp": ["app.py"], "litestar": UVICORN}

HANGS = 60.0
"""Seconds after which a process that says nothing is taken to hang: then the test fails."""


class Process:
    """A process of an example, and what it says."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Whoever stops a group of processes stops this one's, and not the tests'.
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._ended = False
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
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

    def found(self, pattern: str) -> list[str]:
        """What *pattern* matches in its lines so far: the first group, if it has one."""
        with self._said:
            matches = [re.search(pattern, line) for line in self._lines]
        return [match[match.re.groups and 1] for match in matches if match is not None]

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until *count* of its lines match."""
        with self._said:
            there = self._said.wait_for(
                lambda: self._ended or len(self.found(pattern)) >= count, HANGS
            )
            found = self.found(pattern)
        if len(found) < count:
            why = "ended" if there else "hangs"
            raise AssertionError(f"it {why} without {pattern!r}:\n" + "\n".join(self._lines))
        return found

    async def say(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until *count* of its lines match, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_for, pattern, count)

    def terminate(self) -> None:
        """SIGTERM: what a container gets when it should stop."""
        self._process.terminate()

    def interrupt(self) -> None:
        """SIGINT: Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(HANGS):
            return await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """SIGKILL, to all that it has started, too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


Start = Callable[..., Process]


@contextlib.contextmanager
def starting(endpoint_url: str) -> Iterator[Start]:
    """Starts processes of examples; those that still run are killed at the end."""
    processes: list[Process] = []

    def start(framework: str, *command: str, queue: str) -> Process:
        environment = {
            **os.environ,
            **settings(endpoint_url),
            "ORDERS_QUEUE": queue,
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
            # The modules of an example find each other in its directory, as its reader expects.
            "PYTHONSAFEPATH": "",
        }
        process = Process(list(command), EXAMPLES / framework, environment)
        processes.append(process)
        return process

    try:
        yield start
    finally:
        for process in processes:
            process.kill()


class Bar:
    """An example that is open: its web server and its worker."""

    def __init__(self, framework: str, queue: str, web: Process, worker: Process) -> None:
        self.framework = framework
        self.queue = queue
        self.web = web
        self.worker = worker
        self.url = ""

    async def open(self) -> None:
        """Wait for its address."""
        self.url = (await self.web.say(ADDRESS))[0]

    async def order(self, drink: str, name: str = "Ada", **options: object) -> httpx.Response:
        return await self.post("/orders", {"drink": drink, "name": name})

    async def post(self, path: str, body: object) -> httpx.Response:
        # A connection for each: none is kept, and closed under a request.
        async with httpx.AsyncClient(base_url=self.url, timeout=HANGS, trust_env=False) as client:
            return await client.post(path, json=body)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=HANGS, trust_env=False) as client:
            return await client.get(path)


ADDRESS = r"(?i)running on (http://[\d.:]+)"
