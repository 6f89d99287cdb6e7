"""Every parameter of every public function and class, with values that cannot be right.

Each value is either taken, as the table says and the documentation explains, or refused at
once: by a `ValueError`, or `InvalidMessage` where it is part of a message, whose text names the
parameter. Nothing is sent for what is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

import sqs_orchestrator
from sqs_orchestrator import (
    Connection,
    InvalidMessage,
    Message,
    Poller,
    Publisher,
    Reject,
    Reply,
    ReplyQueue,
    ReplyTo,
    Retry,
    SQSOrchestratorError,
    http_status,
    sweep,
)
from sqs_orchestrator.testing import MemoryServer, connect


class Text(str):
    __slots__ = ()


class Odd:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def function() -> None:
    """Neither a handler nor a value."""


async def handle(message: Message) -> None:
    """A handler."""


ADDRESS = "https://sqs.us-east-1.amazonaws.com/123456789012/sqs_orchestrator_reply_1#id"
HUGE, HUGER = 10**400, 10**9999

VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "-1": -1,
    "5": 5,
    "60": 60,
    "5.0": 5.0,
    "0.5": 0.5,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "10**400": HUGE,
    "-10**400": -HUGE,
    "10**9999": HUGER,
    "Decimal": Decimal(5),
    "complex": 1j,
    "empty": "",
    "text": "x",
    "number as text": "5",
    "surrogate": "\ud800",
    "NUL": "a\0",
    "blank": " ",
    "long": "x" * 300,
    "subclass of str": Text("x"),
    "empty bytes": b"",
    "bytes": b"x",
    "list": [5],
    "list of text": ["x"],
    "empty list": [],
    "empty dict": {},
    "dict": {"x": "y"},
    "dict of other keys": {5: "y"},
    "dict of other values": {"x": object()},
    "tuple": ("x", None),
    "object": object(),
    "odd": Odd(),
    "class": int,
    "function": function,
    "handler": handle,
    "address": ADDRESS,
    "account": ["210987654321"],
    "endpoint": "http://127.0.0.1:5566",
    "error": KeyError("x"),
}


class Case(NamedTuple):
    """A parameter, by what its refusals name it, and the values that are taken."""

    call: str
    parameter: str
    taken: str
    named: str = ""


async def done(method: Callable[..., Awaitable[Any]], **arguments: Any) -> None:
    """Call *method*. What is taken need not succeed: nobody answers, and there are few queues."""
    try:
        await asyncio.wait_for(method(**arguments), 70)
    except InvalidMessage:
        raise
    except (TimeoutError, SQSOrchestratorError):
        pass


def register(sqs: Connection, route: Any) -> None:
    """Use a poller's `handler` as a decorator, in either of its forms."""
    poller = Poller(sqs, "orders")
    decorator = poller.handler(route)
    if isinstance(route, str):
        decorator(handle)


@pytest_asyncio.fixture
async def calls(server: MemoryServer) -> AsyncIterator[dict[str, Callable[..., Any]]]:
    """The public functions and classes, each with all that it needs."""
    async with connect(server) as sqs, Publisher(sqs, default_timeout=1) as publisher:
        await sqs.create_queue("orders")
        await publisher.ready()
        request = partial(publisher.request, queue="orders", body="a", timeout=1)
        yield {
            "connect": sqs_orchestrator.connect,
            "queue_url": partial(done, sqs.queue_url),
            "create_queue": partial(done, partial(sqs.create_queue, name="other")),
            "Publisher": partial(Publisher, sqs=sqs),
            "send": partial(done, partial(publisher.send, queue="orders", body="a")),
            "request": partial(done, request),
            "reply": partial(done, partial(publisher.reply, reply_to=ADDRESS, body="a")),
            "ReplyQueue": partial(ReplyQueue, sqs=sqs),
            "sweep": partial(done, partial(sweep, sqs=sqs, prefix="p", dry_run=True)),
            "Poller": partial(Poller, sqs=sqs, queue="orders"),
            "run": lambda **given: done(Poller(sqs, "orders", handle).run, **given),
            "stop": Poller(sqs, "orders").stop,
            "handler": partial(register, sqs),
            "Message": partial(Message, body="a"),
            "Reply": partial(Reply, body="a"),
            "Reject": Reject,
            "Retry": Retry,
            "parse": ReplyTo.parse,
            "http_status": partial(http_status, error=KeyError()),
        }


TEXT = "text, number as text, subclass of str"
NAMES = TEXT
SOME_TEXT = f"{TEXT}, blank, address, endpoint"
SECRET = f"{TEXT}, address, endpoint, long"
ANY_TEXT = f"{SOME_TEXT}, surrogate, NUL, long, empty"
SECONDS = "5, 60, 5.0, 0.5"
BODIES = (
    f"None, True, False, 0, -1, {SECONDS}, 10**400, -10**400, Decimal, {SOME_TEXT}, long, list,"
    " list of text, empty list, empty dict, dict, dict of other keys, tuple, account"
)
DICTS = "empty dict, dict, dict of other values"
ALL = ", ".join(VALUES)
IDS = f"None, {TEXT}, address, endpoint"

CASES = [
    Case("connect", "region_name", f"None, {SOME_TEXT}, surrogate, NUL, long"),
    Case("connect", "endpoint_url", "None, endpoint"),
    Case("connect", "aws_access_key_id", f"None, {SECRET}"),
    Case("connect", "aws_secret_access_key", f"None, {SECRET}"),
    Case("connect", "aws_session_token", f"None, {SECRET}, empty"),
    Case("connect", "profile_name", f"None, {SOME_TEXT}, surrogate, NUL, long"),
    Case("connect", "config", "None"),
    Case("connect", "session", "None"),
    Case("connect", "wrap", "None"),
    Case("queue_url", "name_or_url", NAMES, "queue"),
    Case("create_queue", "name", NAMES, "queue name"),
    Case("create_queue", "fifo", "False"),
    Case("create_queue", "dead_letter_queue", f"None, True, False, {NAMES}", "queue name"),
    Case("create_queue", "max_receive_count", "5, 60"),
    Case("create_queue", "attributes", "None, empty dict, dict", "attribute"),
    Case("create_queue", "tags", "None, empty dict, dict", "tag"),
    Case("Publisher", "sqs", ""),
    Case("Publisher", "reply_queue", "None"),
    Case("Publisher", "default_timeout", f"{SECONDS}, inf"),
    Case("Publisher", "reply_accounts", "account, empty list, empty dict"),
    Case("Publisher", "codec", "None"),
    Case("Publisher", "middleware", "empty list"),
    Case("send", "queue", NAMES),
    Case("send", "body", BODIES),
    Case("send", "attributes", "None, empty dict, dict", "attribute"),
    Case("send", "message_type", f"None, {SOME_TEXT}, long"),
    Case("send", "delay", "0, 5, 60, 5.0"),
    Case("send", "group_id", IDS),
    Case("send", "deduplication_id", "None"),
    Case("request", "queue", NAMES),
    Case("request", "body", BODIES),
    Case("request", "timeout", f"None, 0, -1, inf, -inf, {SECONDS}"),
    Case("request", "returns", "None, class"),
    Case("request", "attributes", "None, empty dict, dict", "attribute"),
    Case("request", "message_type", f"None, {SOME_TEXT}, long"),
    Case("request", "group_id", IDS),
    Case("request", "deduplication_id", "None"),
    Case("reply", "reply_to", "address", "reply address"),
    Case("reply", "body", BODIES),
    Case("reply", "attributes", "None, empty dict, dict", "attribute"),
    Case("ReplyQueue", "sqs", ""),
    Case("ReplyQueue", "prefix", NAMES),
    Case("ReplyQueue", "heartbeat_interval", SECONDS),
    Case("ReplyQueue", "idle_retention", ""),
    Case("ReplyQueue", "message_retention", "60"),
    Case("ReplyQueue", "sweep_interval", f"None, {SECONDS}"),
    Case("ReplyQueue", "legacy", "True, False"),
    Case("ReplyQueue", "attributes", "None, empty dict, dict", "attribute"),
    Case("ReplyQueue", "tags", "None, empty dict, dict", "tag"),
    Case("sweep", "sqs", ""),
    Case("sweep", "prefix", NAMES),
    Case("sweep", "dry_run", "True, False"),
    Case("sweep", "legacy", "True, False"),
    Case("Poller", "sqs", ""),
    Case("Poller", "queue", NAMES),
    Case("Poller", "handler", "None, handler"),
    Case("Poller", "concurrency", "5, 60, 5.0, 10**400, 10**9999"),
    Case("Poller", "visibility_timeout", "5, 60, 5.0"),
    Case("Poller", "max_extension", SECONDS),
    Case("Poller", "wait_time", "0, 5, 5.0"),
    Case("Poller", "drain_timeout", f"{SECONDS}, inf"),
    Case(
        "Poller",
        "reply_queue_prefixes",
        f"None, list of text, account, empty list, {DICTS}",
    ),
    Case("Poller", "reply_accounts", "account, empty list, empty dict"),
    Case("Poller", "expose_errors", "True, False"),
    Case("Poller", "sns_topics", "empty list, empty dict"),
    Case("Poller", "codec", "None"),
    Case("Poller", "middleware", "empty list"),
    Case("run", "handle_signals", "True, False"),
    Case("stop", "drop_poll", "True, False"),
    Case("handler", "route", f"handler, {SOME_TEXT}, long, surrogate, NUL", "(route|handler)"),
    Case("Message", "body", ANY_TEXT),
    Case("Message", "attributes", f"None, {DICTS}, dict of other keys"),
    Case("Message", "message_id", ANY_TEXT),
    Case("Message", "message_type", f"None, {ANY_TEXT}"),
    Case("Message", "receive_count", "5, 60"),
    Case("Message", "sent_at", "None"),
    Case("Message", "group_id", f"None, {ANY_TEXT}"),
    Case("Message", "reply_to", "None"),
    Case("Message", "content_type", f"None, {ANY_TEXT}"),
    Case("Message", "queue_url", f"None, {ANY_TEXT}"),
    Case("Message", "topic_arn", f"None, {ANY_TEXT}"),
    Case("Message", "time_remaining", f"0, -1, inf, -inf, {SECONDS}"),
    Case("Reply", "body", ANY_TEXT),
    Case("Reply", "attributes", f"None, {DICTS}, dict of other keys"),
    Case("Reply", "message_id", ANY_TEXT),
    Case("Reply", "content_type", f"None, {ANY_TEXT}"),
    Case("Reject", "message", ALL),
    Case("Reject", "code", SOME_TEXT),
    Case("Reject", "details", ALL),
    Case("Retry", "delay", f"0, {SECONDS}"),
    Case("parse", "text", "address", "reply address"),
    Case("http_status", "error", "error"),
    Case("http_status", "codes", "None, empty dict"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call}-{case.parameter}")
async def test_value_is_taken_or_refused_by_the_name_of_its_parameter(
    calls: dict[str, Callable[..., Any]], server: MemoryServer, case: Case
) -> None:
    taken = set(case.taken.split(", ")) - {""}
    assert taken <= VALUES.keys()
    wrong: dict[str, str] = {}
    for name, value in VALUES.items():
        before = server.calls.total()
        try:
            outcome = calls[case.call](**{case.parameter: value})
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:
            if name in taken:
                wrong[name] = f"refused: {error!r}"
            elif type(error) not in (ValueError, InvalidMessage):
                wrong[name] = f"{type(error).__name__}: {error}"
            elif not re.search(case.named or case.parameter, str(error)):
                wrong[name] = f"not named: {error}"
            elif len(str(error)) > 400:
                wrong[name] = f"{len(str(error))} characters"
            elif server.calls.total() != before:
                wrong[name] = f"only after a call: {error}"
        else:
            if name not in taken:
                wrong[name] = "taken"
    assert not wrong


def test_every_parameter_is_in_the_table() -> None:
    publics: dict[str, Any] = {
        "connect": sqs_orchestrator.connect,
        "queue_url": Connection.queue_url,
        "create_queue": Connection.create_queue,
        "Publisher": Publisher,
        "send": Publisher.send,
        "request": Publisher.request,
        "reply": Publisher.reply,
        "ReplyQueue": ReplyQueue,
        "sweep": sweep,
        "Poller": Poller,
        "run": Poller.run,
        "stop": Poller.stop,
        "handler": Poller.handler,
        "Message": Message,
        "Reply": Reply,
        "Reject": Reject,
        "Retry": Retry,
        "parse": ReplyTo.parse,
        "http_status": http_status,
    }
    there = {
        (call, parameter)
        for call, public in publics.items()
        for parameter in inspect.signature(public).parameters
        if parameter != "self"
    }
    assert there == {(case.call, case.parameter) for case in CASES}
