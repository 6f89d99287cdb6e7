"""What the guide in the package says beside its examples is what the code does."""

from __future__ import annotations

import ast
import asyncio
import builtins
import dataclasses
import inspect
import re
import time
import tomllib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

import pytest_sqs_orchestrator
import sqs_orchestrator as so
from sqs_orchestrator import errors, testing
from sqs_orchestrator.cli import plain
from sqs_orchestrator.cli.app import COMMANDS, make_app
from sqs_orchestrator.core.limits import MESSAGE_BYTES, WAIT_TIME
from sqs_orchestrator.testing import VirtualTimeLoop
from tests.docs.test_examples import ROOT

WHOLE = (ROOT / "sqs_orchestrator" / "guide.md").read_text("utf-8")
TEXT = re.sub("(?s)<!--.*?-->\n", "", WHOLE)
PROSE = re.sub("(?ms)^```.*?^```$", "", TEXT)
"""All but the examples, which run."""

CODE = re.compile(r"`([^`]+)`")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

EXTRAS = PROJECT["optional-dependencies"].keys()

PROGRAM = "sqs-orchestrator "
SHELL = (PROGRAM, "pip install ")
KEYWORDS = {"await", "async def", "async with"}
OF_AWS = {"AWS_ENDPOINT_URL_SQS", "ReportBatchItemFailures"}
OF_EXAMPLES = {"Tenant": object, "handle": None, "f": None}
CODES = {"handler_error", "bad_body", "unknown_route"}
"""Codes of a `RemoteError`; what sends them, `test_codes_are_those_that_workers_send` shows."""

NAMES: dict[str, Any] = {
    **vars(builtins),
    **{name: getattr(so, name) for name in so.__all__},
    **OF_EXAMPLES,
    "asyncio": asyncio,
    "time": time,
    "poller": so.Poller,
    "publisher": so.Publisher,
    "sqs": so.Connection,
}


def section(title: str) -> str:
    """The text below a heading."""
    (found,) = re.findall(rf"(?ms)^## {re.escape(title)}[^\n]*\n(.*?)(?=^## |\Z)", PROSE)
    return str(found)


def rows(title: str) -> list[list[str]]:
    """The table of a section, without its heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# ------------------------------------------------------------------------------ names


TOLD_ABOUT = (so.Poller, so.Publisher, so.ReplyQueue, so.Publisher.request, so.Publisher.send)

KNOWN = {
    *(name for each in TOLD_ABOUT for name in inspect.signature(each).parameters),
    *(field.name for field in dataclasses.fields(so.Health)),
    *OF_AWS,
    *EXTRAS,
}
"""Names that may stand alone. Those in the table of errors have a test of their own."""


def expressions() -> list[str]:
    """The code in the prose that is Python."""
    elsewhere = section("Errors"), section("Command line")
    own = PROSE.replace(elsewhere[0], "").replace(elsewhere[1], "")
    found = dict.fromkeys(CODE.findall(own))
    return [each for each in found if each not in KEYWORDS and not each.startswith(SHELL)]


@pytest.mark.parametrize("code", expressions())
def test_names_exist_and_calls_have_the_parameters_that_they_pass(code: str) -> None:
    whole = re.sub(r"=\)", "=...)", code.replace("…", "..."))
    tree = compile(whole, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = resolved(node.func)
            if function is not time.sleep:  # it says nothing of its parameters
                own = [None] if inspect.isfunction(function) and "self" in signed(function) else []
                named = {each.arg: None for each in node.keywords if each.arg}
                inspect.signature(function).bind_partial(*own, *node.args, **named)
        elif isinstance(node, ast.Attribute):
            resolved(node)
        elif isinstance(node, ast.Name) and (id(node) in called or node.id not in KNOWN):
            assert node.id in NAMES, node.id


def signed(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function."""
    return inspect.signature(function).parameters


def resolved(node: ast.expr) -> Any:
    """What an expression with dots names."""
    first, *others = ast.unparse(node).split(".")
    found = NAMES[first]
    for name in others:
        found = getattr(found, name)
    return found


def test_needs_and_extras_are_those_of_the_project() -> None:
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in TEXT
    (extras,) = re.findall(r"    pip install sqs-orchestrator +# extras: (.+)\n", TEXT)
    assert set(extras.split(", ")) == EXTRAS


def test_fixtures_are_those_of_the_plugin() -> None:
    (told,) = re.findall(r"Its fixtures (.*?) work on", PROSE)
    for name in CODE.findall(told):
        assert "pytest_fixture" in repr(getattr(pytest_sqs_orchestrator, name)), name


# ------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "command", [code for code in CODE.findall(PROSE) if code.startswith(PROGRAM)]
)
def test_command_is_one_that_the_program_takes(command: str) -> None:
    arguments = command.removeprefix(PROGRAM).split()
    make_app().parse_args(arguments, exit_on_error=False, print_error=False)


def test_every_command_is_named_and_has_the_options_that_all_or_most_have() -> None:
    told = section("Command line").replace("\n", " ")
    named, _, options = told.partition(";")
    assert [code.split()[0] for code in CODE.findall(named)] == [
        command.__name__ for command in COMMANDS
    ]
    assert options.startswith(" each has `--help`, and most have `--json`. Without the extra there")
    assert set(CODE.findall(options)) - EXTRAS - {"--json"} == {*plain.WITHOUT} - {
        "--version",
        "-h",
    }
    app = make_app()
    with_json = 0
    for command in COMMANDS:
        one = app[command.__name__]
        assert "--help" in one.help_flags
        with_json += any("--json" in each.names for each in one.assemble_argument_collection())
    assert with_json > len(COMMANDS) / 2


# ---------------------------------------------------------------------------- errors


def test_every_error_has_one_row() -> None:
    named = [code for first, *_ in rows("Errors") for code in CODE.findall(first)]
    bases = {"SQSOrchestratorError", "RequestError"}
    assert sorted(named) == sorted({*errors.__all__, "ValueError"} - bases)
    assert named[-1] == "ValueError"  # "All but the last are `SQSOrchestratorError`."
    for name in named[:-1]:
        assert issubclass(getattr(so, name), so.SQSOrchestratorError)


@pytest.mark.parametrize("row", rows("Errors"), ids=lambda row: CODE.findall(row[0])[0])
def test_what_a_row_names_are_attributes_of_its_errors(row: list[str]) -> None:
    said = {code for cell in row[1:] for code in CODE.findall(cell)}
    facts = {each for each in said if not each.startswith(PROGRAM)} - CODES - {"Reject"}
    for name in CODE.findall(row[0]):
        assert not facts or facts <= vars(getattr(so, name)()).keys()


def test_codes_are_those_that_workers_send() -> None:
    async def refuse(body: dict) -> None:  # type: ignore[type-arg]
        raise so.Reject("no", code="bad_count")

    async def fail(body: dict) -> None:  # type: ignore[type-arg]
        raise LookupError

    async def codes() -> list[str]:
        async with AsyncExitStack() as stack:
            sqs, publisher = await entered(stack)
            poller = so.Poller(sqs, "orders")
            poller.handler("refuse")(refuse)
            poller.handler("fail")(fail)
            await stack.enter_async_context(poller)
            found = []
            for route, body in (("refuse", "{}"), ("fail", "{}"), ("fail", "5"), ("none", "{}")):
                with pytest.raises(so.RemoteError) as caught:
                    await publisher.request("orders", body, message_type=route)
                found.append(caught.value.code)
            return found

    own, *of_the_library = run(codes)
    assert own == "bad_count"
    assert set(of_the_library) == CODES
    (row,) = [row for row in rows("Errors") if "`RemoteError`" in row[0]]
    assert {code for code in CODE.findall(row[2]) if "_" in code} == CODES


# -------------------------------------------------------------------------- settings


@pytest.mark.parametrize("row", rows("Settings that matter"), ids=lambda row: CODE.findall(row[0]))
def test_default_is_that_of_the_code(row: list[str]) -> None:
    setting, default, _ = row
    match = re.fullmatch(r"`(\w+)\((\w+)=\)`", setting)
    assert match
    parameter = inspect.signature(getattr(so, match[1])).parameters[match[2]]
    number, _, unit = default.partition(" ")
    assert float(number) == parameter.default
    assert unit == ("s" if isinstance(parameter.default, float) else "")


def test_longest_poll_is_the_default() -> None:
    assert "the most that SQS allows" in meaning("Poller(wait_time=)")
    assert inspect.signature(so.Poller).parameters["wait_time"].default == WAIT_TIME


def test_sweeping_can_be_turned_off() -> None:
    assert "`None` turns it off" in meaning("ReplyQueue(sweep_interval=)")

    async def turned_off() -> None:
        async with testing.connect() as sqs:
            so.ReplyQueue(sqs, sweep_interval=None)

    run(turned_off)


def meaning(setting: str) -> str:
    """What the row of a setting says of it."""
    (found,) = [row[2] for row in rows("Settings that matter") if row[0] == f"`{setting}`"]
    return found


# ---------------------------------------------------------------- rules and mistakes


def run(coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine())


async def entered(stack: AsyncExitStack) -> tuple[testing.MemoryConnection, so.Publisher]:
    """An SQS in memory, and a publisher."""
    sqs = await stack.enter_async_context(testing.connect(strict_queues=False, drop_polls=True))
    return sqs, await stack.enter_async_context(so.Publisher(sqs))


async def refused(call: Callable[[so.Publisher], Coroutine[Any, Any, Any]]) -> type[Exception]:
    """The error that ends a call of the publisher."""
    async with AsyncExitStack() as stack:
        _, publisher = await entered(stack)
        with pytest.raises(so.SQSOrchestratorError) as caught:
            await call(publisher)
        return type(caught.value)


def test_message_in_a_fifo_queue_needs_a_group_and_has_no_delay() -> None:
    send = partial(so.Publisher.send, queue="orders.fifo", body={})
    assert run(partial(refused, lambda it: send(it, deduplication_id="1"))) is so.InvalidMessage
    late = partial(send, group_id="a", deduplication_id="1", delay=1)
    assert run(partial(refused, late)) is so.InvalidMessage


def test_message_has_at_most_a_mebibyte() -> None:
    assert MESSAGE_BYTES == 2**20
    body = "x" * (MESSAGE_BYTES + 1)
    assert run(partial(refused, lambda it: it.send("orders", body))) is so.MessageTooLarge


def test_message_has_ten_attributes_and_a_request_takes_two_of_them() -> None:
    def some(count: int) -> dict[str, str]:
        return {f"a{number}": "x" for number in range(count)}

    async def taken() -> None:
        async with AsyncExitStack() as stack:
            sqs, publisher = await entered(stack)
            await stack.enter_async_context(testing.answer(sqs, "asked", "yes"))
            await publisher.send("orders", "x", attributes=some(10))
            await publisher.request("asked", "x", attributes=some(8))
            with pytest.raises(so.InvalidMessage):
                await publisher.send("orders", "x", attributes=some(11))
            with pytest.raises(so.InvalidMessage):
                await publisher.request("asked", "x", attributes=some(9))

    run(taken)


def test_request_outside_async_with_is_refused() -> None:
    async def ask() -> None:
        async with testing.connect(strict_queues=False) as sqs:
            with pytest.raises(RuntimeError):
                await so.Publisher(sqs).request("orders", {})

    run(ask)


def test_plain_function_is_no_handler() -> None:
    async def make() -> None:
        async with testing.connect() as sqs:
            with pytest.raises(ValueError, match="async def"):
                so.Poller(sqs, "orders", lambda message: None)

    run(make)


def test_handler_that_asks_its_own_queue_waits_for_itself_if_there_is_only_one() -> None:
    async def ask(concurrency: int) -> Any:
        async with AsyncExitStack() as stack:
            sqs, publisher = await entered(stack)

            async def handle(count: int) -> int:
                if count == 0:
                    return 7
                reply = await publisher.request("orders", count - 1, timeout=1)
                return int(reply.json())

            await stack.enter_async_context(
                so.Poller(sqs, "orders", handle, concurrency=concurrency)
            )
            return (await publisher.request("orders", 1, timeout=5)).json()

    with pytest.raises(so.RemoteError, match="ReplyTimeout"):
        run(partial(ask, 1))
    assert run(partial(ask, 2)) == 7
