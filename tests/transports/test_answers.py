"""What is SQS's own answer, by its form; and what becomes of all others, on both paths, over
real connections."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from hashlib import md5
from types import SimpleNamespace
from typing import Any

import botocore.exceptions as boto
import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiohttp import web

from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, Throttled
from sqs_orchestrator.sqs import answers
from sqs_orchestrator.sqs.answers import CONTENT_TYPE, answer_of
from sqs_orchestrator.sqs.calls import RemoteSQS
from sqs_orchestrator.sqs.checksums import md5_of_attributes
from sqs_orchestrator.sqs.clock import Clock, epoch_of
from sqs_orchestrator.sqs.config import make_config
from sqs_orchestrator.sqs.failures import Foreign
from sqs_orchestrator.sqs.listing import list_queues
from sqs_orchestrator.sqs.opening import open_sqs
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.sqs.transports import lean
from sqs_orchestrator.sqs.transports.stock import StockTransport

from .test_lean import (
    BINARY,
    OPERATIONS,
    SETTINGS,
    TEXT,
    URL,
    Answer,
    Request,
    Server,
    running,
    said,
)

PAGE = "<html>\n<head><title>Sign in</title></head>\x1b[2J<body>Please log in</body></html>"
SHOWN = r"<html>\n<head><title>Sign in</title></head>\x1b[2J<body>Please log in</body></html>"
QUERY_ERROR = (
    '<?xml version="1.0"?>\n<ErrorResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">'
    "<Error><Type>Sender</Type><Code>{}</Code><Message>it &lt;says&gt; so</Message><Detail/>"
    "</Error><RequestId>0e53ed64</RequestId></ErrorResponse>"
)
HOUR = 3600.0


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with running(Server()) as server:
        yield server


@pytest.fixture(params=["lean", "stock"])
def is_lean(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "lean")


@pytest_asyncio.fixture
async def sqs(server: Server, is_lean: bool) -> AsyncIterator[RemoteSQS]:
    """Both paths, each in its turn."""
    async with open_sqs(**SETTINGS | {"endpoint_url": server.url}, lean=is_lean) as port:
        assert ("LeanTransport" in repr(port)) is is_lean
        yield port


def raw(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Answers with these very bytes."""

    async def answer(_: Request) -> web.StreamResponse:
        sent = {"Content-Type": CONTENT_TYPE}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=sent)

    return answer


# -------------------------------------------------------------------------- by its form


@pytest.mark.parametrize(
    ("kind", "body", "sure"),
    [
        (CONTENT_TYPE, b"{}", True),
        (CONTENT_TYPE, b"", True),
        (f"{CONTENT_TYPE}; charset=utf-8", b"{}", True),  # fauxqs
        ("application/json", b'{"Messages": []}', True),  # ElasticMQ
        ("application/json", b"{}", False),
        (None, b"", False),  # ElasticMQ, where it has nothing to say
    ],
)
async def test_success_is_known_by_its_form(kind: str | None, body: bytes, sure: bool) -> None:
    headers = {"Date": formatdate(usegmt=True)} | ({} if kind is None else {"Content-Type": kind})
    clock = Clock()
    assert answer_of("ReceiveMessage", 200, headers, body, clock) == json.loads(body or b"{}")
    assert clock.known is sure


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>"),
        (200, "text/html", b""),
        (200, "text/plain", b"{}"),
        (200, "application/json", b'{"status": "ok"}'),
        (200, "application/json", b"[]"),
        (200, None, b"{}"),
        (201, CONTENT_TYPE, b"{}"),
        (204, None, b""),
    ],
)
def test_what_has_another_form_is_no_success(status: int, kind: str | None, body: bytes) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    with pytest.raises(Foreign):
        answer_of("ReceiveMessage", status, headers, body, Clock())


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({}, b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist"}', "QueueDoesNotExist"),
        ({}, b'{"__type": "InvalidAttributeValue:http://amazon/x/"}', "InvalidAttributeValue"),
        ({}, b'{"__type": "com.amazonaws.sqs#OverLimit:http://x/#y"}', "OverLimit"),
        ({"x-amzn-query-error": "Odd;Sender"}, b'{"__type": "x#Other"}', "Odd"),
        ({"x-amzn-query-error": "Odd;Sender"}, b"", "Odd"),
        ({}, QUERY_ERROR.format("AccessDenied").encode(), "AccessDenied"),
        ({}, b"<ThrottlingException><Message>slow</Message></ThrottlingException>", None),
        ({}, b"<Error><Code>SlowDown</Code></Error>", "SlowDown"),
    ],
)
def test_refusal_is_known_by_its_form(
    headers: dict[str, str], body: bytes, code: str | None
) -> None:
    with pytest.raises(boto.ClientError) as caught:
        answer_of("SendMessageBatch", 400, headers, body, Clock())
    assert caught.value.response["Error"]["Code"] == (code or "ThrottlingException")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"message": "Forbidden"}'),
        ("application/json", b'{"__type": 5}'),
        ("application/json", b'{"__type": ""}'),
        ("application/json", b'["__type"]'),
        ("application/json", b'{"__type": "x#QueueDoesNotExist"'),
        ("text/html", b'{"__type": "x#QueueDoesNotExist"}'),
        ("text/html", b"<html><Code>Throttling</Code></html>"),
        ("application/xml", b"<Error><Code>AccessDenied</Code></Error>"),
        ("text/xml", b"<ErrorResponse><Error><Code>QueueDoesNotExist</Code></Error>"),
        ("text/xml", b'<x xmlns="http://queue.amazonaws.com/doc/"><Code>AccessDenied</Code></x>'),
        ("text/plain", b""),
        ("text/plain", b"\xff\xfe\x00" * 100_000),
        ("text/xml", b"<" * 1_000_000),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_what_has_another_form_is_no_refusal(status: int, kind: str, body: bytes) -> None:
    with pytest.raises(Foreign):
        answer_of("SendMessageBatch", status, {"Content-Type": kind}, body, Clock())


# ----------------------------------------------------------------- somebody else's answer


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_page_of_somebody_else_is_shown_and_passes(
    server: Server, sqs: RemoteSQS, operation: str
) -> None:
    for status in (200, 302, 400, 401, 403, 404, 407, 410, 421, 425, 451, 500, 503):
        server.answer = said(PAGE, status, Content_Type="text/html")
        with pytest.raises(QueueError, match="cannot be read as SQS's own") as caught:
            await OPERATIONS[operation](sqs)
        error = caught.value
        assert type(error) is QueueError
        assert error.transient
        assert error.maybe_done is (status not in (302, 421, 425))
        assert error.code == ("InvalidResponse" if status == 200 else str(status))
        text = str(error)
        for fact in (str(status), server.url.removeprefix("http://").rstrip("/"), SHOWN):
            assert fact in text
        assert text.isprintable()


async def test_no_more_of_a_page_is_shown_than_tells_what_it_is(
    server: Server, sqs: RemoteSQS
) -> None:
    server.answer = said(f"{'X' * 200}{'Y' * 1_000_000}", 403, Content_Type="text/html")
    with pytest.raises(QueueError) as caught:
        await sqs.list_queues("")
    assert "X" * 200 in str(caught.value)
    assert "XY" not in str(caught.value)
    assert len("".join(traceback.format_exception(caught.value))) < 10_000


@pytest.mark.parametrize("body", ["[" * 100_000, '{"Messages": ["%s"]}' % ("m" * 100_000)])
async def test_no_more_of_an_odd_answer_is_shown_either(
    server: Server, sqs: RemoteSQS, body: str
) -> None:
    server.answer = raw(body.encode())
    with pytest.raises(QueueError) as caught:
        await sqs.receive(URL)
    assert len("".join(traceback.format_exception(caught.value))) < 10_000


async def test_refusal_of_sqs_s_is_one_short_line_in_a_traceback_too(
    server: Server, sqs: RemoteSQS
) -> None:
    server.answer = said({"__type": "x#Odd", "message": "no\nERROR forged" + "x" * 50_000}, 400)
    with pytest.raises(QueueError) as caught:
        await sqs.receive(URL)
    text = "".join(traceback.format_exception(caught.value))
    assert "ERROR forged" in text
    assert "\nERROR" not in text
    assert len(text) < 10_000


async def test_code_in_a_form_that_is_not_sqs_s_is_shown(server: Server, sqs: RemoteSQS) -> None:
    xml = "<Error><Code>AccessDenied</Code><Message>By the firewall</Message></Error>"
    server.answer = said(xml, 400, Content_Type="application/xml")
    with pytest.raises(QueueError, match="<Code>AccessDenied</Code>") as caught:
        await sqs.list_queues("")
    assert type(caught.value) is QueueError
    assert caught.value.transient


@pytest.mark.parametrize(
    "body",
    [
        QUERY_ERROR.format("RequestThrottled"),
        "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate</Message></Error>",
        "<ThrottlingException><Message>Rate</Message></ThrottlingException>",
    ],
)
async def test_throttling_in_xml_is_throttling(server: Server, sqs: RemoteSQS, body: str) -> None:
    server.answer = said(body, 400, Content_Type="text/xml")
    with pytest.raises(Throttled) as caught:
        await sqs.list_queues("")
    assert caught.value.transient
    assert not caught.value.maybe_done


async def test_429_of_a_proxy_is_throttling(server: Server, sqs: RemoteSQS) -> None:
    server.answer = said(PAGE, 429, Content_Type="text/html")
    with pytest.raises(Throttled, match="Please log in") as caught:
        await sqs.list_queues("")
    assert caught.value.transient
    assert not caught.value.maybe_done


@pytest.mark.parametrize("body", [PAGE, ""])
async def test_413_is_final_whoever_says_it(server: Server, sqs: RemoteSQS, body: str) -> None:
    server.answer = said(body, 413, Content_Type="text/html")
    with pytest.raises(QueueError) as caught:
        await sqs.send(URL, [SendEntry("x")])
    error = caught.value
    assert (error.code, error.transient, error.maybe_done) == ("413", False, False)


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", AccessDenied), ("NonExistentQueue", QueueNotFound)]
)
async def test_refusal_of_sqs_s_in_the_older_protocol_counts(
    server: Server, sqs: RemoteSQS, code: str, kind: type[QueueError]
) -> None:
    body = QUERY_ERROR.format(f"AWS.SimpleQueueService.{code}")
    server.answer = said(body, 403, Content_Type="text/xml")
    with pytest.raises(kind, match="it <says> so"):
        await sqs.list_queues("")


async def test_client_of_the_caller_s_hears_what_it_always_does(
    server: Server, sqs: RemoteSQS
) -> None:
    server.answer = said(PAGE, 403, Content_Type="text/html")
    with pytest.raises(boto.ClientError):
        await sqs.client.list_queues()


# --------------------------------------------------------------------------- what is odd


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"Successful": [{"Id": "99", "MessageId": "m"}]}', "not in the batch"),
        (b'{"Failed": [{"Id": "1", "Code": "c"}]}', "not in the batch"),
        (b'{"Successful": [7]}', "not in the batch|make sense"),
        (b'{"Successful": 7}', "no JSON array|make sense"),
        (b"{}", "no entry of the batch"),
        (b"[]", "no JSON object|make sense"),
        (b"null", "no JSON object|make sense"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON|make sense"),
    ],
)
async def test_malformed_answer_is_explained_in_words(
    server: Server, sqs: RemoteSQS, body: bytes, words: str
) -> None:
    server.answer = raw(body)
    with pytest.raises(QueueError, match=words) as caught:
        await sqs.send(URL, [SendEntry("x")])
    assert "KeyError" not in str(caught.value)
    assert (caught.value.transient, caught.value.maybe_done) == (True, True)


@pytest.mark.parametrize("body", [b"{", b"<html>", b"[]", b"null", b'{"Messages": [{"Mess'])
@pytest.mark.parametrize("operation", ["TagQueue", "ReceiveMessage", "ListQueues"])
async def test_what_is_not_json_is_no_empty_answer(
    server: Server, sqs: RemoteSQS, operation: str, body: bytes
) -> None:
    server.answer = raw(body)
    with pytest.raises(QueueError, match="cannot be read as SQS's own"):
        await OPERATIONS[operation](sqs)


@pytest.mark.parametrize("message_id", ["absent", None, "", 7, [], {}])
async def test_confirmation_without_an_id_is_none(
    server: Server, sqs: RemoteSQS, message_id: Any
) -> None:
    nameless = {"Id": "0", "MessageId": message_id}
    if message_id == "absent":
        del nameless["MessageId"]
    server.answer = said({"Successful": [nameless, {"Id": "1", "MessageId": "m"}]})
    failure, right = await sqs.send(URL, [SendEntry("x"), SendEntry("y")])
    assert right == "m"
    assert isinstance(failure, Failure)
    assert (failure.sender_fault, failure.maybe_done) == (False, True)


async def test_entry_that_was_not_in_the_batch_costs_the_others_nothing(
    server: Server, sqs: RemoteSQS
) -> None:
    server.answer = said({"Successful": [{"Id": each, "MessageId": "m"} for each in ("9", "0")]})
    assert await sqs.send(URL, [SendEntry("x")]) == ["m"]


GOOD = {"MessageId": "good", "ReceiptHandle": "h", "Body": "b"}


@pytest.mark.parametrize(
    "odd",
    [
        {"Body": None},
        {"Body": 7},
        {"MessageId": None},
        {"MessageId": "no\nline"},
        {"ReceiptHandle": None},
        {"Attributes": {"SentTimestamp": "1"}, "Body": []},
        {"MessageAttributes": {"a": {"DataType": 7, "StringValue": "x"}}},
        {"MessageAttributes": {"a": {"DataType": "String", "StringValue": 7}}},
    ],
)
async def test_message_that_cannot_be_read_costs_the_others_nothing(
    server: Server, sqs: RemoteSQS, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = handed_out({"Body": "x"} | odd, GOOD)
    assert await sqs.receive(URL) == [Received("good", "h", "b")]
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "left to be delivered again" in record.getMessage()
    server.answer = handed_out({"Body": "x"} | odd)
    with pytest.raises(QueueError, match="cannot be read") as caught:
        await sqs.receive(URL)
    assert caught.value.transient


@pytest.mark.parametrize(
    "odd",
    [
        {"Attributes": 7},
        {"Attributes": [1]},
        {"MessageAttributes": 7},
        {"MessageAttributes": {"a": 7}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": 7}}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "x"}}},
    ],
)
async def test_field_of_a_wrong_type_makes_a_message_unreadable(
    server: Server, sqs: RemoteSQS, odd: dict[str, Any]
) -> None:
    server.answer = handed_out({"Body": "x"} | odd)
    with pytest.raises(QueueError, match="cannot be read") as caught:
        await sqs.receive(URL)
    assert caught.value.transient


# --------------------------------------------------------------------------------- MD5s


def sent(**digests: str) -> Answer:
    results = [{"Id": "0", "MessageId": "m"}, {"Id": "1", "MessageId": "n", **digests}]
    return said({"Successful": results})


ENTRIES = [SendEntry("x"), SendEntry("ü", {"t": TEXT, "b": BINARY})]
RIGHT = {
    "MD5OfMessageBody": md5("ü".encode()).hexdigest(),
    "MD5OfMessageAttributes": md5_of_attributes({"t": TEXT, "b": BINARY}),
}


async def test_confirmation_with_the_right_digests_is_taken(server: Server, sqs: RemoteSQS) -> None:
    server.answer = sent(**RIGHT)
    assert await sqs.send(URL, ENTRIES) == ["m", "n"]


@pytest.mark.parametrize("name", RIGHT)
async def test_confirmation_with_another_digest_fails_its_entry_alone(
    server: Server, sqs: RemoteSQS, name: str
) -> None:
    server.answer = sent(**RIGHT | {name: "0" * 32})
    right, failure = await sqs.send(URL, ENTRIES)
    assert right == "m"
    assert isinstance(failure, Failure)
    assert failure.code == "ChecksumMismatch"
    assert "MD5" in failure.message
    assert not failure.sender_fault
    assert failure.maybe_done


@pytest.mark.parametrize("wrong", ["-1", "2", "\u0661", 1, None, [], "x"])
async def test_confirmation_of_no_entry_of_the_batch_confirms_none(
    server: Server, sqs: RemoteSQS, wrong: Any
) -> None:
    server.answer = said({"Successful": [{"Id": wrong, "MessageId": "m"}]})
    with pytest.raises(QueueError, match="cannot be read") as caught:
        await sqs.send(URL, ENTRIES)
    assert caught.value.maybe_done
    server.answer = said({"Failed": [{"Id": wrong, "Code": "c", "SenderFault": True}]})
    with pytest.raises(QueueError, match="cannot be read"):
        await sqs.send(URL, ENTRIES)


async def test_refusal_of_an_entry_is_on_one_line(server: Server, sqs: RemoteSQS) -> None:
    failed = [{"Id": each, "Code": "c\nd", "Message": "no\nERROR forged"} for each in "01"]
    server.answer = said({"Failed": failed})
    for failure in await sqs.send(URL, ENTRIES):
        assert isinstance(failure, Failure)
        assert (failure.code, failure.message) == (r"c\nd", r"no\nERROR forged")


@pytest.mark.parametrize("name", ["MessageId", "ReceiptHandle", "Body"])
async def test_message_of_something_else_than_text_is_no_message(
    server: Server, sqs: RemoteSQS, name: str
) -> None:
    server.answer = handed_out({"Body": "b", name: 7})
    with pytest.raises(QueueError, match="cannot be read"):
        await sqs.receive(URL)


def handed_out(*messages: dict[str, Any]) -> Answer:
    common = {"MessageId": "m", "ReceiptHandle": "h"}
    return said({"Messages": [common | message for message in messages]})


IN_JSON = {"t": TEXT, "b": BINARY | {"BinaryValue": base64.b64encode(b"\x00\xff").decode()}}


async def test_received_message_with_the_right_digests_is_taken(
    server: Server, sqs: RemoteSQS
) -> None:
    message = {"Body": "ü", "MessageAttributes": IN_JSON, "MD5OfBody": RIGHT["MD5OfMessageBody"]}
    message["MD5OfMessageAttributes"] = RIGHT["MD5OfMessageAttributes"]
    server.answer = handed_out(message, {"Body": "no digests", "MessageAttributes": IN_JSON})
    received = await sqs.receive(URL)
    assert [message.body for message in received] == ["ü", "no digests"]
    assert all(message.attributes == {"t": TEXT, "b": BINARY} for message in received)


@pytest.mark.parametrize("name", ["MD5OfBody", "MD5OfMessageAttributes"])
async def test_damaged_message_is_left_to_come_back(
    server: Server, sqs: RemoteSQS, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = {"MessageId": "bad", "Body": "ü", "MessageAttributes": IN_JSON, name: "0" * 32}
    server.answer = handed_out(damaged, {"Body": "good"})
    assert [message.body for message in await sqs.receive(URL)] == ["good"]
    server.answer = handed_out(damaged)
    assert await sqs.receive(URL) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "bad" in caplog.text


# ------------------------------------------------------- absent, null and empty, on both paths

ABSENT = object()


def with_field(value: dict[str, Any], path: tuple[Any, ...], content: Any) -> dict[str, Any]:
    """A copy of *value* with something else at *path*."""
    copy: dict[str, Any] = json.loads(json.dumps(value))
    inner: Any = copy
    for step in path[:-1]:
        inner = inner[step]
    if content is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = content
    return copy


MESSAGE = GOOD | {
    "MD5OfBody": "92eb5ffee6ae2fec3ad71c777531578f",
    "Attributes": {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "1"},
    "MessageAttributes": {
        "a": {"DataType": "String", "StringValue": "x"},
        "b": {"DataType": "Binary", "BinaryValue": base64.b64encode(b"\x00").decode()},
    },
}
BATCH = {
    "Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": None}],
    "Failed": [
        {"Id": "1", "Code": "InternalError", "Message": "m", "SenderFault": True},
    ],
}
BATCH_FIELDS = (
    ("Successful",),
    ("Failed",),
    ("Successful", 0, "MD5OfMessageBody"),
    *(("Failed", 0, name) for name in ("Code", "Message", "SenderFault")),
)
FIELDS: list[tuple[str, Any, tuple[Any, ...]]] = [
    *(("SendMessageBatch", BATCH, path) for path in BATCH_FIELDS),
    *(("DeleteMessageBatch", BATCH, path) for path in BATCH_FIELDS),
    ("ReceiveMessage", {"Messages": [MESSAGE]}, ("Messages",)),
    *(
        ("ReceiveMessage", {"Messages": [MESSAGE]}, ("Messages", 0, *path))
        for path in (
            ("MD5OfBody",),
            ("MD5OfMessageAttributes",),
            ("Attributes",),
            ("Attributes", "SentTimestamp"),
            ("MessageAttributes",),
            ("MessageAttributes", "a"),
            ("MessageAttributes", "a", "StringValue"),
            ("MessageAttributes", "a", "BinaryValue"),
            ("MessageAttributes", "b", "BinaryValue"),
            ("MessageAttributes", "b", "StringValue"),
        )
    ),
    ("GetQueueAttributes", {"Attributes": {"QueueArn": "a", "x": "y"}}, ("Attributes",)),
    ("GetQueueAttributes", {"Attributes": {"QueueArn": "a", "x": "y"}}, ("Attributes", "x")),
    ("ListQueues", {"QueueUrls": ["u"], "NextToken": None}, ("QueueUrls",)),
    ("ListQueues", {"QueueUrls": ["u"], "NextToken": None}, ("NextToken",)),
    ("ListQueueTags", {"Tags": {"a": "b", "c": "d"}}, ("Tags",)),
    ("ListQueueTags", {"Tags": {"a": "b", "c": "d"}}, ("Tags", "c")),
]

ONE_CALL: dict[str, Callable[[RemoteSQS], Awaitable[Any]]] = {
    **OPERATIONS,
    "SendMessageBatch": lambda sqs: sqs.send(URL, [SendEntry("x"), SendEntry("y")]),
}


@pytest.mark.parametrize(
    ("operation", "value", "path"),
    FIELDS,
    ids=[f"{each[0]}-{'.'.join(map(str, each[2]))}" for each in FIELDS],
)
async def test_absent_null_and_empty_mean_the_same_on_both_paths(
    server: Server, operation: str, value: Any, path: tuple[Any, ...]
) -> None:
    full: Any = value
    for step in path[:-1]:
        full = full[step]
    empty = type(full.get(path[-1]) or "")()
    full.setdefault(path[-1], None)
    results = []
    for is_lean in (True, False):
        settings = SETTINGS | {"endpoint_url": server.url}
        async with open_sqs(**settings, lean=is_lean) as sqs:
            for content in (ABSENT, None, empty):
                server.answer = said(with_field(value, path, content))
                if content == "" and path[0] == "Messages" and len(path) > 3:
                    continue  # an empty text is a value there
                if isinstance(empty, bool) and content is False:
                    continue  # so is false
                if operation in ("GetQueueAttributes", "ListQueueTags") and content == "":
                    continue
                results.append(await ONE_CALL[operation](sqs))
    assert len(results) >= 4
    assert results == [results[0]] * len(results)


@pytest.mark.parametrize("operation", ["GetQueueUrl", "CreateQueue"])
@pytest.mark.parametrize("content", [ABSENT, None, "", 7, "a\nb"])
async def test_url_that_is_none_is_no_queue(
    server: Server, sqs: RemoteSQS, operation: str, content: Any
) -> None:
    server.answer = said(with_field({"QueueUrl": "u"}, ("QueueUrl",), content))
    with pytest.raises(QueueError, match="cannot be read"):
        await OPERATIONS[operation](sqs)


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("GetQueueAttributes", {"Attributes": [1]}),
        ("GetQueueAttributes", {"Attributes": {"a": {}}}),
        ("ListQueues", {"QueueUrls": 7}),
        ("ListQueues", {"QueueUrls": [7]}),
        ("ListQueues", {"QueueUrls": ["a"], "NextToken": 7}),
        ("ListQueueTags", {"Tags": 7}),
    ],
)
async def test_what_is_of_a_wrong_type_is_said_in_words(
    server: Server, sqs: RemoteSQS, operation: str, value: Any
) -> None:
    server.answer = said(value)
    with pytest.raises(QueueError, match="cannot be read"):
        await OPERATIONS[operation](sqs)


# ------------------------------------------------------------------------------- listings


async def test_listing_whose_token_comes_again_ends_with_an_error(
    server: Server, sqs: RemoteSQS
) -> None:
    tokens = iter("abcb")

    async def answer(_: Request) -> web.StreamResponse:
        return web.json_response({"QueueUrls": ["u"], "NextToken": next(tokens)})

    server.answer = answer
    with pytest.raises(QueueError, match="does not end") as caught:
        await list_queues(sqs, "x")
    assert not caught.value.transient
    assert len(server.requests) == 4


async def test_listing_of_more_pages_than_can_be_ends_with_an_error(
    server: Server, sqs: RemoteSQS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqs_orchestrator.sqs.listing.MOST_PAGES", 7)

    async def answer(_: Request) -> web.StreamResponse:
        return web.json_response({"QueueUrls": [], "NextToken": f"t{len(server.requests)}"})

    server.answer = answer
    with pytest.raises(QueueError, match="does not end"):
        await list_queues(sqs, "x")
    assert len(server.requests) == 8


# -------------------------------------------------------------- what is packed, or too large

URLS = json.dumps({"QueueUrls": ["u" * 1000]}).encode()


def deflated(body: bytes, *, raw: bool) -> bytes:
    packer = zlib.compressobj(wbits=-15 if raw else 15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("packing", "packed"),
    [
        ("identity", URLS),
        ("gzip", gzip.compress(URLS)),
        ("x-gzip", gzip.compress(URLS)),
        ("GZIP", gzip.compress(URLS)),
        ("deflate", deflated(URLS, raw=False)),
        ("deflate", deflated(URLS, raw=True)),
    ],
    ids=["as it is", "gzip", "x-gzip", "GZIP", "zlib", "deflate"],
)
async def test_answer_that_somebody_packed_is_unpacked(
    server: Server, sqs: RemoteSQS, packing: str, packed: bytes
) -> None:
    server.answer = raw(packed, Content_Encoding=packing)
    assert list((await sqs.list_queues("x")).urls) == ["u" * 1000]


async def test_page_that_somebody_packed_is_shown(server: Server, sqs: RemoteSQS) -> None:
    packed = gzip.compress(PAGE.encode())
    server.answer = raw(packed, 403, Content_Encoding="gzip", Content_Type="text/html")
    with pytest.raises(QueueError, match="Please log in"):
        await sqs.list_queues("x")


@pytest.mark.parametrize(
    ("packing", "packed"),
    [
        ("br", b"x"),
        ("zstd", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(URLS))),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(URLS)[:-12]),
        ("deflate", b"no deflate"),
    ],
    ids=["brotli", "zstd", "twice", "no gzip", "cut short", "no deflate"],
)
async def test_answer_that_cannot_be_unpacked_is_none(
    server: Server, sqs: RemoteSQS, packing: str, packed: bytes
) -> None:
    server.answer = raw(packed, Content_Encoding=packing)
    with pytest.raises(QueueError, match=f"packed|it is no {packing}") as caught:
        await sqs.list_queues("x")
    assert (caught.value.transient, caught.value.maybe_done) == (True, True)


async def test_what_unpacks_to_more_than_sqs_sends_is_refused(
    server: Server, sqs: RemoteSQS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 100_000)
    server.answer = raw(gzip.compress(b" " * 100_001), Content_Encoding="gzip")
    with pytest.raises(QueueError, match="larger than 100000 bytes"):
        await sqs.list_queues("x")
    server.answer = raw(gzip.compress(URLS + b" " * 90_000), Content_Encoding="gzip")
    await sqs.list_queues("x")


@pytest.mark.parametrize("told", [True, False])
async def test_answer_that_is_larger_than_sqs_sends_is_refused(
    server: Server, sqs: RemoteSQS, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    for module in (answers, lean):
        monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    body = b" " * 100_001

    async def answer(got: Request) -> web.StreamResponse:
        if told:
            return web.Response(body=body, content_type=CONTENT_TYPE)
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(got.base)
        await response.write(body)
        return response

    server.answer = answer
    with pytest.raises(QueueError, match="larger than 100000 bytes") as caught:
        await sqs.list_queues("x")
    assert (caught.value.transient, caught.value.maybe_done) == (True, True)


def test_a_full_receive_of_whatever_sqs_takes_fits() -> None:
    for character in ("x", '"', "\\", "\n", "\x7f", "é", "€", "\U0001f600"):
        body = character * (2**20 // len(character.encode()))
        most = len(json.dumps(body))
        assert 10 * (most + 4 * 1024) <= answers.MOST_BYTES


@pytest.mark.parametrize("is_lean", ["lean"], indirect=True)
async def test_answer_without_an_end_is_cut_off(
    server: Server, sqs: RemoteSQS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "MOST_BYTES", 100_000)
    hung_up = asyncio.Event()

    async def answer(got: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(got.base)
        try:
            while True:
                await response.write(b" " * 10_000)
        finally:
            hung_up.set()

    server.answer = answer
    with pytest.raises(QueueError, match="larger than"):
        await sqs.list_queues("x")
    async with asyncio.timeout(10):
        await hung_up.wait()


# ---------------------------------------------------------------------------- slow answers


async def test_answer_that_drips_is_given_up(server: Server, is_lean: bool) -> None:
    async def drip(got: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(got.base)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    server.answer = drip
    config = AioConfig(connect_timeout=0.3, read_timeout=0.3)
    settings = SETTINGS | {"endpoint_url": server.url, "config": config}
    async with open_sqs(**settings, lean=is_lean) as sqs:
        for operation in ("SendMessageBatch", "ReceiveMessage"):
            with pytest.raises(QueueError, match="the most that a call may take") as caught:
                async with asyncio.timeout(60):
                    await OPERATIONS[operation](sqs)
            assert (caught.value.transient, caught.value.maybe_done) == (True, True)


@pytest.mark.parametrize(
    ("settings", "attempts"),
    [({}, 1), ({"retries": {"total_max_attempts": 3}}, 3), ({"retries": {"mode": "legacy"}}, 5)],
)
async def test_call_may_take_its_timeouts_and_its_wait_for_each_attempt_of_the_client(
    settings: dict[str, Any], attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(AioConfig(connect_timeout=1, read_timeout=25, **settings))
    given: list[float | None] = []
    timeout = asyncio.timeout

    def noted(delay: float | None) -> asyncio.Timeout:
        given.append(delay)
        return timeout(delay)

    async def answer(**_: Any) -> dict[str, Any]:
        return {}

    events = SimpleNamespace(register=lambda *_, **__: None)
    client: Any = SimpleNamespace(
        meta=SimpleNamespace(config=config, events=events), tag_queue=answer, receive_message=answer
    )
    monkeypatch.setattr(asyncio, "timeout", noted)
    transport = StockTransport(client)
    await transport.call("TagQueue", {})
    await transport.call("ReceiveMessage", {"WaitTimeSeconds": 20})
    assert given == [26 * attempts, 46 * attempts]


# ------------------------------------------------------------------------------ the clock


def dated(answer: Answer, epoch: float) -> Answer:
    async def later(got: Request) -> web.StreamResponse:
        response = await answer(got)
        response.headers["Date"] = formatdate(epoch, usegmt=True)
        return response

    return later


OWN = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "m"}


@pytest.mark.parametrize(
    "answer",
    [
        said(PAGE, 503, Content_Type="text/html"),
        said(PAGE, 200, Content_Type="text/html"),
        said("", 503),
        said({"message": "Forbidden"}, 403, Content_Type="application/json"),
        said({}, 200, Content_Type="application/json"),
        said("", 204),
        said("<Error><Code>SlowDown</Code></Error>", 503, Content_Type="text/xml"),
    ],
)
async def test_nobody_but_sqs_shows_the_time(
    server: Server, sqs: RemoteSQS, answer: Answer
) -> None:
    server.answer = dated(answer, time.time() + HOUR)
    with contextlib.suppress(QueueError):
        await sqs.list_queues("x")
    assert not sqs.clock.known


async def test_successful_answer_shows_the_time_whatever_a_refusal_showed(
    server: Server, sqs: RemoteSQS
) -> None:
    for off in (HOUR, -HOUR):
        server.answer = dated(said(OWN, 400), time.time() + off)
        with pytest.raises(QueueNotFound):
            await sqs.list_queues("x")
    assert sqs.clock.now() == pytest.approx(time.time() + HOUR, abs=60)
    server.answer = dated(said({}), time.time())
    await sqs.list_queues("x")
    assert sqs.clock.now() == pytest.approx(time.time(), abs=60)
    server.answer = dated(said(OWN, 400), time.time() + HOUR)
    with pytest.raises(QueueNotFound):
        await sqs.list_queues("x")
    assert sqs.clock.now() == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("off", [HOUR, -HOUR])
async def test_refusal_for_the_time_sets_the_clock_forward_and_back(
    server: Server, sqs: RemoteSQS, off: float
) -> None:
    server.answer = dated(said({}), time.time() + off)
    await sqs.list_queues("x")
    skew = {"__type": "x#InvalidSignatureException", "message": "Signature expired: 2033"}
    server.answer = dated(said(skew, 403), time.time())
    with pytest.raises(AccessDenied, match="clock"):
        await sqs.list_queues("x")
    assert sqs.clock.now() == pytest.approx(time.time(), abs=60)


async def test_refusal_for_the_time_by_somebody_else_sets_no_clock(
    server: Server, sqs: RemoteSQS
) -> None:
    skew = "<Error><Code>RequestTimeTooSkewed</Code></Error>"
    server.answer = dated(said(skew, 403, Content_Type="text/xml"), time.time() + HOUR)
    with pytest.raises(QueueError) as caught:
        await sqs.list_queues("x")
    assert caught.value.transient
    assert not sqs.clock.known
    assert epoch_of("soon") is None
