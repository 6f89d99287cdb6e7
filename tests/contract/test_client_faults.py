"""What aiobotocore makes of a bad network, and the port of that: over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import aiobotocore
import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, Throttled
from sqs_orchestrator.sqs.calls import RemoteSQS
from sqs_orchestrator.sqs.config import make_config
from sqs_orchestrator.sqs.listing import list_queues
from sqs_orchestrator.sqs.port import Failure, SendEntry
from sqs_orchestrator.sqs.transports.stock import StockTransport
from tests.servers import CREDENTIALS

pytestmark = pytest.mark.server

DATE = "Tue, 14 Nov 2023 12:00:00 GMT"


class Wire:
    """A server that sends back what a test puts into `answer`, whatever was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: bytes | None = None
        """`None` resets the connection."""
        self.stalls = False
        self.stalled = asyncio.Event()
        self.requests: list[dict[str, Any]] = []

    def says(self, body: str, *, status: int = 200, kind: str = "", **headers: str) -> None:
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Type: {kind or 'application/x-amz-json-1.0'}",
            f"Content-Length: {len(body.encode())}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        self.answer = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def refuses(self, code: str, status: int = 400, **headers: str) -> None:
        body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "said so"})
        self.says(body, status=status, **headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                self.requests.append(json.loads(await reader.readexactly(length)))
                if self.stalls:
                    self.stalled.set()
                    await asyncio.Event().wait()
                if self.answer is None:
                    writer.transport.abort()
                    return
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(wire.serve(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield wire
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


@pytest_asyncio.fixture
async def sqs(wire: Wire, session: AioSession) -> AsyncIterator[RemoteSQS]:
    config = make_config(AioConfig(read_timeout=0.2))
    async with session.create_client(
        "sqs",
        endpoint_url=wire.url,
        config=config,
        **CREDENTIALS,
    ) as client:
        yield RemoteSQS(client, StockTransport(client))


QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"


async def failing(sqs: RemoteSQS) -> QueueError:
    with pytest.raises(QueueError) as caught:
        await sqs.send(QUEUE, [SendEntry("x")])
    return caught.value


async def test_reset_after_the_request_may_have_done_it(sqs: RemoteSQS, wire: Wire) -> None:
    wire.answer = None
    error = await failing(sqs)
    assert (error.transient, error.maybe_done) == (True, True)
    assert len(wire.requests) == 1  # nobody but the library tries again


async def test_read_timeout_may_have_done_it(sqs: RemoteSQS, wire: Wire) -> None:
    wire.stalls = True
    error = await failing(sqs)
    assert (error.transient, error.maybe_done) == (True, True)
    assert error.code == "ReadTimeoutError"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>Welcome</html>", "text/html"),
        ("{not json", ""),
        ("", ""),
        ("[]", ""),
        ("null", ""),
        ('"text"', ""),
        ("{}", ""),
        ('{"Successful": [{"Id": "x"}]}', ""),
        ('{"Successful": [{}]}', ""),
        ('{"Successful": [{"Id": "77", "MessageId": "m"}]}', ""),
        ('{"Successful": 7}', ""),
    ],
)
async def test_answer_that_makes_no_sense_may_have_done_it(
    sqs: RemoteSQS, wire: Wire, body: str, kind: str
) -> None:
    wire.says(body, kind=kind)
    error = await failing(sqs)
    assert (error.transient, error.maybe_done) == (True, True)


async def test_bytes_that_are_no_http_may_have_done_it(sqs: RemoteSQS, wire: Wire) -> None:
    wire.answer = b"220 smtp.example.com ESMTP\r\n\r\n"
    error = await failing(sqs)
    assert (error.transient, error.maybe_done) == (True, True)


async def test_web_page_is_no_empty_poll(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says("<html>Please log in</html>", kind="text/html; charset=utf-8")
    with pytest.raises(QueueError, match="HTML"):
        await sqs.receive(QUEUE, wait_time=0)


async def test_message_without_a_body_is_no_message(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says('{"Messages": [{"MessageId": "m"}]}')
    with pytest.raises(QueueError) as caught:
        await sqs.receive(QUEUE, wait_time=0)
    assert caught.value.transient


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_fault_may_have_done_it(sqs: RemoteSQS, wire: Wire, status: int) -> None:
    for body, kind in (("<html>Bad</html>", "text/html"), ("", ""), ('{"message": "x"}', "")):
        wire.says(body, status=status, kind=kind)
        error = await failing(sqs)
        assert (error.transient, error.maybe_done) == (True, True)
        assert type(error) is QueueError
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RequestThrottled", Throttled),
        ("QueueDoesNotExist", QueueNotFound),
        ("AccessDeniedException", AccessDenied),
        ("KmsThrottled", Throttled),
    ],
)
async def test_refusal_by_its_json_type(
    sqs: RemoteSQS, wire: Wire, code: str, kind: type[QueueError]
) -> None:
    wire.refuses(code)
    error = await failing(sqs)
    assert type(error) is kind
    assert "said so" in str(error)


async def test_refusal_by_its_query_header(sqs: RemoteSQS, wire: Wire) -> None:
    wire.refuses(
        "QueueDoesNotExist",
        x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender",
    )
    error = await failing(sqs)
    assert type(error) is QueueNotFound
    assert error.code == "QueueDoesNotExist"


async def test_refused_signature_names_the_clock(sqs: RemoteSQS, wire: Wire) -> None:
    body = {
        "__type": "com.amazon.coral.service#InvalidSignatureException",
        "message": "Signature not yet current: 2033 is still later than 2023",
    }
    wire.says(json.dumps(body), status=403, Date=formatdate(0, usegmt=True))
    error = await failing(sqs)
    assert type(error) is AccessDenied
    assert "ahead of SQS's" in str(error)
    assert sqs.clock.now() == pytest.approx(0, abs=60)


async def test_every_answer_shows_the_clock(sqs: RemoteSQS, wire: Wire) -> None:
    wire.refuses("AccessDeniedException", 403, Date=DATE)
    await failing(sqs)
    assert sqs.clock.now() == pytest.approx(1_699_963_200, abs=60)
    wire.says("{}", Date=formatdate(2_000_000_000, usegmt=True))
    await sqs.list_queues("x")
    assert sqs.clock.now() == pytest.approx(2_000_000_000, abs=60)


async def test_forgotten_entry_gets_a_failure_to_try_again(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says(
        json.dumps(
            {
                "Successful": [{"Id": "2", "MessageId": "m2"}],
                "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}],
            }
        )
    )
    refused, forgotten, sent = await sqs.send(QUEUE, [SendEntry(body) for body in "abc"])
    assert refused == Failure("InternalError", "", sender_fault=False)
    assert isinstance(forgotten, Failure)
    assert not forgotten.sender_fault
    assert sent == "m2"


async def test_entries_travel_with_nothing_but_what_they_have(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says('{"Successful": [{"Id": "0", "MessageId": "m"}]}')
    await sqs.send(QUEUE, [SendEntry("a"), SendEntry("b", delay=0, group_id="g")])
    assert wire.requests[0] == {
        "QueueUrl": QUEUE,
        "Entries": [
            {"Id": "0", "MessageBody": "a"},
            {"Id": "1", "MessageBody": "b", "DelaySeconds": 0, "MessageGroupId": "g"},
        ],
    }


async def test_receive_asks_for_what_the_library_needs(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says("{}")
    await sqs.receive(QUEUE, max_messages=3, wait_time=0, visibility_timeout=0)
    assert wire.requests[0] == {
        "QueueUrl": QUEUE,
        "MaxNumberOfMessages": 3,
        "WaitTimeSeconds": 0,
        "VisibilityTimeout": 0,
        "MessageAttributeNames": ["All"],
        "MessageSystemAttributeNames": [
            "SentTimestamp",
            "ApproximateReceiveCount",
            "MessageGroupId",
        ],
    }


async def test_listing_reads_page_by_page(sqs: RemoteSQS, wire: Wire) -> None:
    wire.says('{"QueueUrls": ["u1", "u2"], "NextToken": "t"}')
    listing = await list_queues(sqs, "p", limit=4)
    assert (list(listing.urls), listing.complete) == (["u1", "u2", "u1", "u2"], False)
    assert wire.requests == [
        {"QueueNamePrefix": "p", "MaxResults": 4},
        {"QueueNamePrefix": "p", "MaxResults": 2, "NextToken": "t"},
    ]


async def test_listing_of_a_server_that_ignores_the_limit_is_cut(
    sqs: RemoteSQS, wire: Wire
) -> None:
    wire.says('{"QueueUrls": ["u1", "u2", "u3"]}')
    listing = await list_queues(sqs, "p", limit=2)
    assert (list(listing.urls), listing.complete) == (["u1", "u2"], False)


async def test_unreachable_endpoint_is_named_and_did_nothing(
    session: AioSession, wire: Wire
) -> None:
    unused = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    url = f"http://127.0.0.1:{port}"
    async with session.create_client(
        "sqs", endpoint_url=url, config=make_config(), **CREDENTIALS
    ) as client:
        error = await failing(RemoteSQS(client, StockTransport(client)))
    assert (error.transient, error.maybe_done) == (True, False)
    assert f"{url}/ is unreachable" in str(error)


async def test_missing_credentials_are_access_denied(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    async with AioSession().create_client(
        "sqs",
        endpoint_url=wire.url,
        region_name="us-east-1",
        config=make_config(),
    ) as client:
        error = await failing(RemoteSQS(client, StockTransport(client)))
    assert type(error) is AccessDenied
    assert wire.requests == []


@pytest.mark.skipif(
    aiobotocore.__version__.startswith("2."), reason="aiobotocore 2 opens a closed client again"
)
async def test_closed_client_is_a_mistake_of_the_program(session: AioSession, wire: Wire) -> None:
    async with session.create_client(
        "sqs",
        endpoint_url=wire.url,
        config=make_config(),
        **CREDENTIALS,
    ) as client:
        sqs = RemoteSQS(client, StockTransport(client))
    with pytest.raises(RuntimeError, match="closed"):
        await sqs.list_queues("x")


async def test_receives_go_through_the_polling_client(session: AioSession, wire: Wire) -> None:
    wire.says("{}")
    options = {
        "endpoint_url": wire.url,
        "config": make_config(AioConfig(max_pool_connections=1)),
        **CREDENTIALS,
    }
    async with (
        session.create_client("sqs", **options) as client,
        session.create_client("sqs", **options) as polling_client,
    ):
        sqs = RemoteSQS(client, StockTransport(client, polling_client))
        await sqs.list_queues("warm up")
        await sqs.receive(QUEUE, wait_time=0)
        wire.stalls = True
        poll = asyncio.ensure_future(sqs.receive(QUEUE, wait_time=20))
        await wire.stalled.wait()
        wire.stalls = False
        async with asyncio.timeout(10):
            await sqs.list_queues("not kept waiting")
        assert not poll.done()
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
