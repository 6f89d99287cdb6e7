"""The commands, as programs call them and as users do.

In this process on the SQS in memory, in virtual time, where any call can fail as a test says; and
in processes of their own, on servers, where signals, pipes and exit codes are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.cli import app, options
from sqs_orchestrator.core.wire import dead_letter_attributes
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop
from sqs_orchestrator.testing import connect as connect_in_memory
from sqs_orchestrator.testing.faults import Gate
from tests.credentials.http_sqs import HttpSQS, running
from tests.servers import CREDENTIALS

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = ("-m", "sqs_orchestrator")

HANGS = 60.0
"""Seconds after which a process is taken to hang: then the test fails."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time where SQS is in memory, since nothing there waits for a clock."""
    if "memory" in getattr(item, "fixturenames", ()):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


# ------------------------------------------------------------------- in this process

Call = Callable[..., Awaitable[Result]]


@pytest.fixture
def memory() -> MemoryServer:
    """The SQS of this test."""
    return MemoryServer()


@pytest.fixture
def call(
    memory: MemoryServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Runs a command in this process, on the SQS in memory."""

    def connect(**_: object) -> so.Connection:
        return connect_in_memory(memory)

    monkeypatch.setattr(options, "connect", connect)

    async def call(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            result = await app.make_app().run_async(
                list(arguments),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
            code = app.code_of(result)
        except Exception as error:
            code = app.ended_by(error)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call


@pytest.fixture
def port(memory: MemoryServer) -> MemorySQS:
    return MemorySQS(memory)


@pytest_asyncio.fixture
async def orders(memory: MemoryServer) -> str:
    """The URL of a queue with a dead-letter queue, `orders` and `orders_dlq`."""
    async with connect_in_memory(memory) as sqs:
        return await sqs.create_queue("orders", dead_letter_queue=True)


async def dead_letter(port: MemorySQS, url: str, body: str = '{"id": 3}', **why: str) -> str:
    """Send a dead letter as a worker does; its id."""
    facts = {"code": "sold_out", "reason": "none left", "message_id": "m-1", "handler": "handle"}
    attributes = dead_letter_attributes({}, body, **(facts | why))
    (message_id,) = await port.send(url, [SendEntry(body, attributes)])
    assert isinstance(message_id, str)
    return message_id


async def counts(port: MemorySQS, url: str) -> tuple[str, str]:
    """Visible and hidden messages."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = await port.get_queue_attributes(url, names)
    return found[names[0]], found[names[1]]


async def interrupt(command: Awaitable[Any], gate: Gate) -> None:
    """Cancel *command* while its call waits at *gate*, and see it end by that."""
    task = asyncio.ensure_future(command)
    await gate.arrived()
    task.cancel()
    gate.release()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------- in another process


class Command:
    """A command in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.err = ""

    async def line(self) -> None:
        """Wait for one more line on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(HANGS):
            line = await self.process.stderr.readline()
        if not line:
            raise AssertionError(f"it said no more: {self.err}")
        self.err += line.decode()

    async def says(self, text: str) -> None:
        """Wait until it has said *text* there."""
        while text not in self.err:
            await self.line()

    async def ended(self, data: bytes | None = None) -> Result:
        async with asyncio.timeout(HANGS):
            out, err = await self.process.communicate(data)
        assert self.process.returncode is not None
        said = self.err + err.decode()
        assert "Traceback" not in said
        return Result(self.process.returncode, (out or b"").decode(), said)


class Shell:
    """Starts commands, as a user's shell does, on the server at *endpoint_url*."""

    def __init__(self, endpoint_url: str) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AWS_ENDPOINT_URL_SQS": endpoint_url,
            "AWS_DEFAULT_REGION": CREDENTIALS["region_name"],
        }
        self._started: list[asyncio.subprocess.Process] = []

    async def start(
        self,
        *arguments: str,
        python: Sequence[str] = PROGRAM,
        environment: Mapping[str, str] | None = None,
        stdout: int = asyncio.subprocess.PIPE,
    ) -> Command:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", *python, *arguments),
            env={**self.environment, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that a test may do what a terminal does
        )
        self._started.append(process)
        return Command(process)

    async def __call__(
        self,
        *arguments: str,
        data: bytes = b"",
        python: Sequence[str] = PROGRAM,
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        command = await self.start(*arguments, python=python, environment=environment)
        return await command.ended(data)

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
def endpoint_url(volume_server: str) -> str:
    """The server; `nox -s faults` runs the commands on another one, too."""
    return volume_server


@pytest_asyncio.fixture
async def shell(endpoint_url: str) -> AsyncIterator[Shell]:
    shell = Shell(endpoint_url)
    yield shell
    await shell.close()


@pytest_asyncio.fixture
async def served() -> HttpSQS:
    """The SQS of `guarded`, as it is over HTTP."""
    return HttpSQS()


@pytest_asyncio.fixture
async def guarded(served: HttpSQS) -> AsyncIterator[tuple[Shell, MemorySQS]]:
    """An SQS that denies what a test says; the queue `orders` is there."""
    async with running(served) as url:
        shell = Shell(url)
        shell.environment["AWS_DEFAULT_REGION"] = "eu-west-1"
        orders = await served.memory.create_queue("orders", {}, {})
        await served.memory.create_queue("orders_dlq", {}, {})
        await dead_letter(served.memory, f"{orders}_dlq")
        yield shell, served.memory
        await shell.close()


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as connection:
        yield connection


@pytest_asyncio.fixture
async def queue(sqs: so.Connection) -> AsyncIterator[str]:
    """A queue with a dead-letter queue."""
    name = f"orders-{os.urandom(8).hex()}"
    url = await sqs.create_queue(name, dead_letter_queue=True)
    yield name
    await sqs.port.delete_queue(url)
    await sqs.port.delete_queue(f"{url}_dlq")
