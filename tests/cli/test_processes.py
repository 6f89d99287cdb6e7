"""The commands as users start them: pipes, signals and exit codes are real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.testing import MemorySQS
from tests.credentials.http_sqs import HttpSQS

from .conftest import Shell, counts, dead_letter

pytestmark = pytest.mark.slow

WITHOUT_EXTRA = (
    "-c",
    "import sys; sys.modules['{}'] = None; from sqs_orchestrator.cli import main; sys.exit(main())",
)


# ---------------------------------------------------------------------- without the extra


@pytest.fixture
def bare() -> Shell:
    """Commands that need no server."""
    return Shell("http://127.0.0.1:1")


@pytest.mark.parametrize("module", ["cyclopts", "rich"])
async def test_without_the_extra_one_line_names_it(bare: Shell, module: str) -> None:
    python = tuple(part.format(module) for part in WITHOUT_EXTRA)
    done = await bare("send", "orders", "x", python=python)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "pip install 'sqs-orchestrator[cli]'" in done.err
    done = await bare("--version", python=python)
    assert (done.code, done.out) == (0, f"{so.__version__}\n")
    done = await bare("demo", "--help", python=python)
    assert done.code == 0
    assert "--requests" in done.out


async def test_version_help_and_nothing_at_all(bare: Shell) -> None:
    done = await bare("--version")
    assert (done.code, done.out, done.err) == (0, f"{so.__version__}\n", "")
    done = await bare("--help")
    assert done.code == 0
    assert "Send a one-way message" in done.out
    done = await bare()
    assert done.code == 2
    assert "Usage: sqs-orchestrator" in done.out
    done = await bare("demo", "--requests", "0")
    assert done.code == 2
    assert "must be greater than 0" in done.err


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
async def test_shells_complete_the_commands(bare: Shell, tmp_path: Path, name: str) -> None:
    done = await bare("--install-completion", "--shell", name, environment={"HOME": str(tmp_path)})
    assert done.code == 0, done.err
    assert "redrive" in texts_below(tmp_path)


def texts_below(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.rglob("*") if path.is_file())


async def test_endpoint_that_is_not_there_is_one_line(bare: Shell) -> None:
    done = await bare("send", "orders", "x")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    done = await bare("doctor", "orders")
    assert done.code == 1
    assert "→ check the network" in done.out


# ------------------------------------------------------------------------------- on servers


async def test_whole_way_of_messages_that_are_rejected(
    shell: Shell, sqs: so.Connection, queue: str
) -> None:
    sent = await shell("send", queue, "-a", "tenant=a", data=b'{"id": 1}')
    assert (sent.code, sent.err) == (0, "")
    peeked = await shell("peek", queue, "--json")
    (facts,) = peeked.json
    assert (facts["message_id"], facts["body"]) == (sent.out.strip(), '{"id": 1}')
    assert facts["attributes"] == {"tenant": "a"}
    dead = f"{await sqs.queue_url(queue)}_dlq"
    assert isinstance(sqs.port.clock.now(), float)
    for number in range(12):
        await dead_letter(sqs.port, dead, f"dead {number}")  # type: ignore[arg-type]
    peeked = await shell("peek", f"{queue}_dlq", "-n", "100")
    assert peeked.out.count("sold_out: none left (handle)") == 12
    done = await shell("redrive", queue, "--dry-run")
    assert done.code == 0
    assert f"12 messages would be sent back to {queue}" in done.err
    done = await shell("redrive", queue, "--contains", "dead", "--json")
    assert (done.code, done.json["sent"]) == (0, 12)
    assert (await shell("peek", f"{queue}_dlq")).err == "no messages\n"
    assert len((await shell("peek", queue, "-n", "100", "--json")).json) == 13


async def test_doctor_is_content_with_the_servers(shell: Shell, queue: str) -> None:
    done = await shell("doctor", queue, "--json")
    assert done.code == 0, done.out
    assert {"ok"} == {check["state"] for check in done.json}


async def test_queues_and_sweep(shell: Shell, sqs: so.Connection) -> None:
    prefix = f"r{os.urandom(4).hex()}_"
    idle = {"__IdleQueueRetentionPeriodSeconds": "1"}
    url = await sqs.port.create_queue(prefix + "0" * 32, {}, idle)
    (facts,) = (await shell("queues", prefix, "--json")).json
    assert facts["state"] == "idle"
    done = await shell("sweep", prefix)
    assert (done.code, done.out) == (2, f"{url}\n")
    done = await shell("sweep", prefix, "--yes")
    assert (done.code, done.out) == (0, f"{url}\n")
    assert (await shell("queues", prefix)).err == "no queues\n"


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1", "TERM": "xterm-256color"}])
async def test_piped_output_has_no_control_codes_and_is_not_cut(
    shell: Shell, queue: str, environment: dict[str, str]
) -> None:
    assert (await shell("send", queue, "x" * 70, environment=environment)).code == 0
    outputs = [
        await shell(*arguments, environment=environment)
        for arguments in (
            ("peek", queue),
            ("queues", queue),
            ("doctor", queue, "--worker"),
            ("send", queue, "x", "--repeat", "3"),
            ("request", f"{queue}x", "x"),
        )
    ]
    for done in outputs:
        assert "\x1b" not in done.out + done.err
    assert "x" * 70 in outputs[0].out


async def test_terminal_that_knows_ascii_only_is_no_error(shell: Shell, queue: str) -> None:
    assert (await shell("send", queue, "größe ✓")).code == 0
    for arguments in (["peek", queue], ["request", queue, "x", "--timeout", "0.5"]):
        done = await shell(*arguments, environment={"PYTHONIOENCODING": "ascii"})
        assert done.code == (0 if arguments[0] == "peek" else 1)
    done = await shell("doctor", queue, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.err) == (0, "")
    assert "\\u2713 round trip" in done.out


async def test_reader_that_has_enough_is_no_error(shell: Shell, queue: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = await shell.start("policy", queue, stdout=writing)
    os.close(writing)
    done = await command.ended()
    assert (done.code, done.err) == (1, "")


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "err"),
    [
        ("<&-", ["{queue}"], 2, "error: the body is empty"),
        (">&-", ["{queue}", "x"], 0, ""),
        ("2>&-", ["or ders", "x"], 2, ""),
        ("<&- >&- 2>&-", ["or ders", "x"], 2, ""),
    ],
)
async def test_standard_stream_that_is_closed_is_an_empty_one(
    shell: Shell, queue: str, closed: str, arguments: list[str], code: int, err: str
) -> None:
    command = f'exec {sys.executable} -W error -m sqs_orchestrator "$@" {closed}'
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", command, "sh", "send"),
        *(each.format(queue=queue) for each in arguments),
        env=shell.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert (process.returncode, said) == (code, b"")
    assert complained.decode().startswith(err)
    assert "Traceback" not in complained.decode()


async def in_flight(sqs: so.Connection, queue: str, count: int) -> None:
    """Wait until so many messages of the queue are hidden."""
    url = await sqs.queue_url(queue)
    name = "ApproximateNumberOfMessagesNotVisible"

    async def so_many() -> bool:
        return (await sqs.port.get_queue_attributes(url, [name]))[name] == str(count)

    await until(so_many)


async def until(seen: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a server shows what another process has done."""
    async with asyncio.timeout(30):
        while not await seen():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.05)


STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@STOPS
async def test_stopped_peek_gives_back(
    shell: Shell, sqs: so.Connection, queue: str, number: signal.Signals, code: int
) -> None:
    async with so.Publisher(sqs) as publisher:
        for body in "abc":
            await publisher.send(queue, body)
    command = await shell.start("peek", queue, "-n", "100")
    await in_flight(sqs, queue, 3)
    command.process.send_signal(number)
    done = await command.ended()
    assert (done.code, done.out) == (code, "")
    assert "counts as a receive" in done.err
    assert done.err.count("\n") == 1
    await in_flight(sqs, queue, 0)


@STOPS
async def test_stopped_request_is_quiet_and_leaves_no_reply_queue(
    shell: Shell,
    sqs: so.Connection,
    queue: str,
    number: signal.Signals,
    code: int,
) -> None:
    prefix = f"r{os.urandom(4).hex()}_"
    command = await shell.start("request", queue, "x", "--prefix", prefix)

    async def waits() -> bool:
        return bool((await sqs.port.list_queues(prefix)).urls)

    await until(waits)
    command.process.send_signal(number)
    done = await command.ended()
    assert (done.code, done.out, done.err) == (code, "", "")
    assert not (await sqs.port.list_queues(prefix)).urls


@STOPS
async def test_stopped_doctor_leaves_no_queue(
    guarded: tuple[Shell, MemorySQS], number: signal.Signals, code: int
) -> None:
    shell, memory = guarded
    gate = memory.server.faults.hold("ListQueueTags")
    command = await shell.start("doctor", "orders")
    await gate.arrived()
    command.process.send_signal(number)
    done = await command.ended()
    assert (done.code, done.err) == (code, "")
    assert memory.server.queues == ["orders", "orders_dlq"]
    gate.release()


async def test_terminated_redrive_gives_back(guarded: tuple[Shell, MemorySQS]) -> None:
    shell, memory = guarded
    dead = memory.server.url("orders_dlq")
    for _ in range(10):
        await dead_letter(memory, dead)
    command = await shell.start("redrive", "orders_dlq", "--to", "orders", "--rate", "0.01")

    async def sent() -> bool:
        return bool(memory.server.messages("orders"))

    await until(sent)
    command.process.send_signal(signal.SIGTERM)
    done = await command.ended()
    assert (done.code, done.err) == (143, "")
    both = len(memory.server.messages("orders")) + len(memory.server.messages("orders_dlq"))
    assert both == 11
    assert (await counts(memory, dead))[1] == "0"


# ------------------------------------------------------------- a dead-letter queue alone


async def test_redrive_of_a_dead_letter_queue_asks_whose_it_is(
    guarded: tuple[Shell, MemorySQS],
) -> None:
    shell, memory = guarded
    dead = memory.server.url("orders_dlq")
    await dead_letter(memory, dead, "another")
    done = await shell("redrive", "orders_dlq")
    assert (done.code, done.out) == (1, "")
    assert "orders_dlq has no dead-letter queue and is that of no queue" in done.err
    arn = f"arn:aws:sqs:eu-west-1:{memory.server.account}:orders_dlq"
    policy = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})}
    await memory.create_queue("source", policy, {})
    done = await shell("redrive", "orders_dlq", "--json")
    assert (done.code, done.json["to"], done.json["sent"]) == (0, "source", 2)
    await memory.create_queue("another", policy, {})
    done = await shell("redrive", "orders_dlq")
    assert (done.code, done.out) == (1, "")
    assert "is that of another, source: pass the queue itself, or --to" in done.err


@pytest.mark.parametrize("code", ["InvalidAction", "AccessDenied"])
async def test_redrive_of_a_dead_letter_queue_where_sqs_does_not_say_whose_it_is(
    guarded: tuple[Shell, MemorySQS], served: HttpSQS, code: str
) -> None:
    # Not every server knows this operation, and not every program may use it.
    shell, memory = guarded
    served.refused["ListDeadLetterSourceQueues"] = code
    done = await shell("redrive", "orders_dlq")
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert code in line
    assert "Pass the queue itself, or --to" in line
    assert "sqs:ListDeadLetterSourceQueues" in line
    done = await shell("redrive", "orders_dlq", "--to", "orders", "--json")
    assert (done.code, done.json["sent"]) == (0, 1)
    assert len(memory.server.messages("orders")) == 1


# ------------------------------------------------------------------------ denied permissions


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("SendMessageBatch", ["send", "orders", "x"]),
        ("GetQueueUrl", ["send", "orders", "x"]),
        ("CreateQueue", ["request", "orders", "x"]),
        ("ReceiveMessage", ["request", "orders", "x"]),
        ("ListQueues", ["queues"]),
        ("GetQueueAttributes", ["peek", "orders"]),
        ("ReceiveMessage", ["peek", "orders_dlq"]),
        ("SendMessageBatch", ["redrive", "orders_dlq", "--to", "orders"]),
        ("DeleteMessageBatch", ["redrive", "orders_dlq", "--to", "orders"]),
        ("ListQueues", ["sweep"]),
        ("GetQueueAttributes", ["policy", "orders"]),
        ("GetQueueUrl", ["doctor", "orders"]),
        ("SendMessageBatch", ["doctor", "orders"]),
    ],
)
async def test_denied_permission_is_one_line_that_names_it(
    guarded: tuple[Shell, MemorySQS], operation: str, arguments: list[str]
) -> None:
    shell, memory = guarded
    memory.server.faults.fail(operation, so.AccessDenied, times=None)
    done = await shell(*arguments)
    assert done.code == 1
    action = operation.removesuffix("Batch")
    said = done.out if arguments[0] == "doctor" else done.err
    assert f"sqs:{action}" in said
    if arguments[0] != "doctor":
        (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
        assert "doctor" in line
    if arguments[0] == "redrive":
        # Never lost: what was not deleted is still there.
        assert len(memory.server.messages("orders_dlq")) == 1
