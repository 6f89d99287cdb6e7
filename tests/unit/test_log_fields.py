"""Each line of the log can be found by its queue and its message, and shows nothing of its body."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sqs_orchestrator
from sqs_orchestrator.logs import about

ROOT = Path(sqs_orchestrator.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}

# How lines begin that speak of no one queue and no message.
OF_NONE = (
    "%s cannot be looked up",
    "%s does not stop the poller",
    "%s: %d tasks ignore that they were cancelled",
    "%s failed and has closed",
    "calls take the stock client's path",
    "calls to %s take the %s path",
    "no reply queue was created",
    "the AWS credentials cannot be renewed",
    "the AWS credentials were renewed",
    "there are no AWS credentials",
)

SECRET = {"access_key", "attributes", "body", "receipt_handle", "secret_key", "session_token"}


def is_logging(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Attribute):
        owner = function.value
        return function.attr in LEVELS and isinstance(owner, ast.Name) and owner.id == "logger"
    return isinstance(function, ast.Name) and function.id == "log"


def lines() -> Iterator[tuple[str, str, ast.Call]]:
    """Each call of a logger: where it stands, what it says, and itself."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and is_logging(node):
                texts = [
                    argument.value
                    for argument in node.args
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                ]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", texts[0], node


def names_in(nodes: list[ast.expr]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Attribute):
                found.add(each.attr)
            elif isinstance(each, ast.Name):
                found.add(each.id)
    return found


LINES = list(lines())


def test_all_calls_of_loggers_are_found() -> None:
    assert len(LINES) > 60
    for beginning in OF_NONE:
        assert any(text.startswith(beginning) for _, text, _ in LINES), beginning


@pytest.mark.parametrize("line", LINES, ids=[where for where, _, _ in LINES])
def test_a_line_has_its_queue_and_message_as_fields(line: tuple[str, str, ast.Call]) -> None:
    _, text, call = line
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if text.startswith(OF_NONE):
        assert extra is None
        return
    assert extra is not None, "which queue is it about? extra=about(queue, message_id)"
    # These two know what the names of the fields are.
    assert names_in([extra]) & {"about", "log_fields"}
    if "message_id" in names_in(call.args):
        assert names_in([extra]) & {"message_id", "log_fields"}


@pytest.mark.parametrize("line", LINES, ids=[where for where, _, _ in LINES])
def test_no_line_shows_what_is_in_a_message_or_a_credential(
    line: tuple[str, str, ast.Call],
) -> None:
    assert not names_in(line[2].args) & SECRET


def test_fields_are_those_that_are_known() -> None:
    assert about() == {}
    assert about("https://sqs.eu-west-1.amazonaws.com/1/orders", "m1", "c1") == {
        "queue": "orders",
        "message_id": "m1",
        "correlation_id": "c1",
    }
    assert about("orders") == {"queue": "orders"}


def test_what_others_wrote_cannot_be_taken_for_another_line() -> None:
    assert about(correlation_id="a\nERROR all is lost") == {
        "correlation_id": "a\\nERROR all is lost"
    }
    assert len(about(correlation_id="x" * 100_000)["correlation_id"]) < 300
