"""What comments, docstrings and pages put in backquotes as a name of code is one.

A name that was changed lives on in prose, where no checker of types sees it.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import io
import keyword
import re
import tokenize
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import botocore.session
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "sqs_orchestrator"
MODULES: Final = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "noxfile.py"]
# But for the changelog, which names what is gone.
PAGES: Final = [
    ROOT / "README.md",
    *(page for page in (ROOT / "docs").rglob("*.md") if page.name != "changelog.md"),
]

# fmt: off
FOREIGN: Final = frozenset({
    ".nox/", "AWS_ACCESS_KEY_ID", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SQS",
    "AWS_PROFILE", "AmazonSQSResponderClient", "ApproximateNumberOfMessagesVisible",
    "MessageHandler", "MessagePoller", "PublisherFactory", "R", "ReplyQueueFactory",
    "RequestMessage", "SubscriberFactory", "TimeoutStopSec", "W",
    "__AmazonSQSVirtualQueuesClient", "__RequesterClientQueues___DLQ", "ask.py", "ci",
    "cleanup_ctx", "conftest.py", "continues", "first.py", "get_name", "get_response",
    "heartbeat_interval_seconds", "message_attributes", "message_retention_period",
    "multiprocessing", "mvn", "num_messages_before_cleaning", "orders_dlq", "peers", "preStop",
    "process_message", "remove_queue", "run_app", "seconds_before_cleaning", "send_message",
    "set_start_method", "sqs_client", "stopTimeout", "stop_grace_period",
    "terminationGracePeriodSeconds", "timeout_graceful_shutdown", "traceparent", "tracestate",
    "web", "worker.py",
})
# fmt: on
"""Names of other libraries and programs, and of examples."""

NAMES: Final = re.compile(r"@?(?:await )?([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\)|=.*)?")
"""A name, perhaps dotted, perhaps called or set."""

PATH: Final = re.compile(r"[\w./-]+(?:\.(?:py|md|toml)|/)")
PERMISSION: Final = re.compile(r"sqs:(\w+)")


class Word(NamedTuple):
    where: str
    text: str


def quoted(text: str, place: str, line: int) -> Iterator[Word]:
    for number, each in enumerate(text.splitlines(), line):
        for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", each):
            yield Word(f"{place}:{number}", found)


def words_of_module(source: str, place: str) -> Iterator[Word]:
    """What is in backquotes in its comments and docstrings, those of attributes too."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield from quoted(text, place, node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from quoted(token.string, place, token.start[0])


def words_of_page(source: str, place: str) -> Iterator[Word]:
    """What is in backquotes in its prose: blocks of code are run by other tests."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```", lambda block: "\n" * block[0].count("\n"), source)
    return quoted(prose, place, 1)


def names_of_module(source: str, *, texts: re.Pattern[str]) -> Iterator[str]:
    """The identifiers in its code, and of its text constants those that are like *texts*."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=dotted):
                yield from dotted.split(".")
            case ast.Constant(str(text)) if texts.fullmatch(text):
                yield from text.split(".")


@cache
def names_of_code() -> frozenset[str]:
    names = {*FOREIGN, *keyword.kwlist, *dir(builtins), *dir(asyncio), *dir(typing), *dir(anyio)}
    names |= {*dir(asyncio.AbstractEventLoop), *dir(anyio.to_thread), *names_of_sqs()}
    for path in MODULES:
        names |= {*path.relative_to(ROOT).with_suffix("").parts, path.name}
        # Names on the wire and codes of errors; of the tests, settings and servers.
        like = r"[A-Za-z_][\w.]*" if path.is_relative_to(PACKAGE) else "[A-Z]+(_[A-Z]+)*|fauxqs"
        names |= {*names_of_module(path.read_text("utf-8"), texts=re.compile(like))}
    return frozenset(names)


@cache
def names_of_sqs() -> frozenset[str]:
    """Operations, parameters and attributes, as botocore knows them."""
    model = botocore.session.get_session().get_service_model("sqs")
    names = {*model.operation_names, *model.shape_names}
    for name in model.shape_names:
        shape = model.shape_for(name)
        names |= {*getattr(shape, "members", ()), *(getattr(shape, "enum", None) or ())}
    return frozenset(names)


def unknown(text: str) -> str | None:
    """What in the backquoted *text* is written like a name of code and is none."""
    if text in names_of_code():
        return None
    if "/" in text and PATH.fullmatch(text):
        places = (ROOT, PACKAGE, ROOT / "docs")
        return None if any((place / text).exists() for place in places) else text
    if permission := PERMISSION.fullmatch(text):
        return None if permission[1] in names_of_sqs() else text
    if match := NAMES.fullmatch(text):
        missing = [name for name in match[1].split(".") if name not in names_of_code()]
        return missing[0] if missing else None
    return None


def all_words() -> Iterator[Word]:
    for path in MODULES:
        if path != Path(__file__):
            yield from words_of_module(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    for path in PAGES:
        yield from words_of_page(path.read_text("utf-8"), str(path.relative_to(ROOT)))


def test_every_name_in_backquotes_exists() -> None:
    words = list(all_words())
    assert len(words) > 1000
    assert not [f"{word.where}: `{word.text}`" for word in words if unknown(word.text)]


def test_no_foreign_name_is_listed_that_nobody_uses() -> None:
    used = {part for word in all_words() for part in (word.text, *re.findall(r"\w+", word.text))}
    assert used >= FOREIGN


@pytest.mark.parametrize(
    "text",
    [
        "NoSuchClass",
        "no_such_parameter",
        "no_such_parameter=1",
        "Publisher.no_such_method",
        "await publisher.no_such_method()",
        "core/no_such_module.py",
        "no_such_module.py",
        "tests/no_such_directory/",
        "sqs:NoSuchPermission",
    ],
)
def test_name_that_does_not_exist_is_refused(text: str) -> None:
    assert unknown(text)


@pytest.mark.parametrize(
    "text",
    [
        "Publisher",
        "Poller.run()",
        "await publisher.request(queue, body)",
        "wait_time=0",
        "core/ring.py",
        "ring.py",
        "worker/",
        "tests/faults/",
        "sqs:CreateQueue",
        "VisibilityTimeout",
        "async with poller:",
        "eu-west-1",
    ],
)
def test_name_that_exists_is_taken(text: str) -> None:
    assert unknown(text) is None


def test_words_are_found_in_docstrings_comments_and_prose_only() -> None:
    module = '"""A `One`."""\nx = 1  # `two` and ``not``\n"""`three`"""\ny = "`four`"\n'
    assert [*words_of_module(module, "m")] == [("m:1", "One"), ("m:3", "three"), ("m:2", "two")]
    page = "a `one`\n```python\n`two`\n```\n`three` of\n"
    assert [*words_of_page(page, "p")] == [("p:1", "one"), ("p:5", "three")]
