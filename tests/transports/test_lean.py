"""The lean path over real connections to a server that does as the test says."""

from __future__ import annotations

import asyncio
import calendar
import functools
import json
import logging
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import aiobotocore.client
import aiohttp
import botocore.handlers
import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from botocore.credentials import ReadOnlyCredentials
from botocore.stub import Stubber

import sqs_orchestrator
from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, Throttled
from sqs_orchestrator.sqs.answers import CONTENT_TYPE
from sqs_orchestrator.sqs.calls import RemoteSQS
from sqs_orchestrator.sqs.config import make_config
from sqs_orchestrator.sqs.opening import open_sqs
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.sqs.transports import template
from sqs_orchestrator.sqs.transports.lean import open_lean
from sqs_orchestrator.sqs.transports.template import NotPlain, template_of
from tests.unit.sqs.test_signing import by_botocore

URL = "http://sqs.eu-west-1.localhost/123456789012/orders"
REGION = "eu-west-1"
SETTINGS: dict[str, Any] = {
    "region_name": REGION,
    "aws_access_key_id": "AKIA",
    "aws_secret_access_key": "secret",
    "profile_name": None,
    "config": None,
    "session": None,
}
TEXT = {"DataType": "String", "StringValue": "ü"}
BINARY = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}

Answer = Callable[["Request"], Awaitable[web.StreamResponse]]


class Request:
    """What the server got."""

    def __init__(self, request: web.BaseRequest, body: bytes) -> None:
        self.headers = request.headers
        self.path = request.path
        self.raw = body
        self.operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        self.parameters: dict[str, Any] = json.loads(body)
        self.transport = request.transport
        self.base = request


class Server:
    """Keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Answer = said({})
        self.url = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        got = Request(request, await request.content.read())
        self.requests.append(got)
        return await self.answer(got)


def said(body: Any, status: int = 200, **headers: str) -> Answer:
    """Answers with *body*: as JSON, unless it is text."""
    text = body if isinstance(body, str) else json.dumps(body)
    sent = {"Content-Type": CONTENT_TYPE}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=sent)

    return answer


@asynccontextmanager
async def running(server: Server, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    scheme = "http" if context is None else "https"
    runner = RawTestServer(server, scheme=scheme, host="127.0.0.1")
    await runner.start_server(ssl=context)
    try:
        server.url = str(runner.make_url("/"))
        yield server
    finally:
        await runner.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with running(Server()) as server:
        yield server


@pytest.fixture(autouse=True)
def plain_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out what moto adds to all clients once anything has imported it."""
    plain = [
        handler
        for handler in botocore.handlers.BUILTIN_HANDLERS
        if not type(handler[1]).__module__.startswith("moto.")
    ]
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", plain)
    monkeypatch.setattr("botocore.session.handlers.BUILTIN_HANDLERS", plain)


@asynccontextmanager
async def opened(server: Server, **settings: Any) -> AsyncIterator[RemoteSQS]:
    async with open_sqs(**SETTINGS | {"endpoint_url": server.url} | settings) as port:
        assert "LeanTransport" in repr(port)
        yield port


@pytest_asyncio.fixture
async def sqs(server: Server) -> AsyncIterator[RemoteSQS]:
    async with opened(server) as port:
        yield port


# -------------------------------------------------------------------------- what is sent


OPERATIONS: dict[str, Callable[[RemoteSQS], Awaitable[Any]]] = {
    "SendMessageBatch": lambda sqs: sqs.send(
        URL,
        [
            SendEntry("x", {"b": BINARY, "t": TEXT}, delay=3),
            SendEntry("ü", group_id="g", deduplication_id="d"),
        ],
    ),
    "ReceiveMessage": lambda sqs: sqs.receive(URL, wait_time=0, visibility_timeout=7),
    "DeleteMessageBatch": lambda sqs: sqs.delete(URL, ["one", "two"]),
    "ChangeMessageVisibilityBatch": lambda sqs: sqs.change_visibility(URL, [("one", 5)]),
    "GetQueueUrl": lambda sqs: sqs.get_queue_url("orders", "123456789012"),
    "CreateQueue": lambda sqs: sqs.create_queue("orders", {"VisibilityTimeout": "5"}, {"a": "b"}),
    "GetQueueAttributes": lambda sqs: sqs.get_queue_attributes(URL, ["All"]),
    "ListQueues": lambda sqs: sqs.list_queues("or"),
    "ListQueueTags": lambda sqs: sqs.list_queue_tags(URL),
    "TagQueue": lambda sqs: sqs.tag_queue(URL, {"a": "b"}),
    "UntagQueue": lambda sqs: sqs.untag_queue(URL, ["a"]),
    "DeleteQueue": lambda sqs: sqs.delete_queue(URL),
}

ANSWERS: dict[str, Any] = {
    "SendMessageBatch": {"Successful": [{"Id": "0", "MessageId": "m"}]},
    "DeleteMessageBatch": {"Successful": [{"Id": "0"}]},
    "ChangeMessageVisibilityBatch": {"Successful": [{"Id": "0"}]},
    "GetQueueUrl": {"QueueUrl": URL},
    "CreateQueue": {"QueueUrl": URL},
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_lean_call_says_the_same_as_a_stock_call(server: Server, operation: str) -> None:
    server.answer = said(ANSWERS.get(operation, {}))
    results = []
    for is_lean in (True, False):
        settings = SETTINGS | {"endpoint_url": server.url}
        async with open_sqs(**settings, lean=is_lean) as port:
            results.append(await OPERATIONS[operation](port))
    by_lean, by_stock = server.requests
    assert by_lean.operation == by_stock.operation == operation
    assert by_lean.parameters == by_stock.parameters
    assert by_lean.path == by_stock.path == "/"
    assert results[0] == results[1]
    for name in ("Host", "Content-Type", "x-amzn-query-mode", "Accept-Encoding"):
        assert by_lean.headers.get(name) == by_stock.headers.get(name)
    assert "aiobotocore" in by_lean.headers["User-Agent"]


@pytest.mark.parametrize("is_lean", [True, False])
async def test_calls_name_the_library_as_their_user_agent(
    server: Server, is_lean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def user_agent(**settings: Any) -> str:
        settings = SETTINGS | {"endpoint_url": server.url} | settings
        async with open_sqs(**settings, lean=is_lean) as port:
            await port.tag_queue(URL, {"a": "b"})
        return server.requests[-1].headers["User-Agent"]

    usual = await user_agent()
    assert usual.startswith(f"sqs-orchestrator/{sqs_orchestrator.__version__} aiobotocore/")
    assert await user_agent(config=AioConfig(user_agent="mine/1")) != usual
    assert "mine/1" in server.requests[-1].headers["User-Agent"]
    assert await user_agent(config=AioConfig(user_agent_extra="mine/2")) == f"{usual} mine/2"
    # AWS knows an application by this part of it, which only botocore's own text has.
    assert "app/mine" in await user_agent(config=AioConfig(user_agent_appid="mine"))
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "mine")
    assert "app/mine" in await user_agent()


@pytest.mark.parametrize("token", [None, "t0ken/+=="])
async def test_lean_call_is_signed_as_botocore_signs(server: Server, token: str | None) -> None:
    async with opened(server, aws_session_token=token) as sqs:
        await sqs.tag_queue(URL, {"a": "ü"})
    [got] = server.requests
    then = time.strptime(got.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    names = ("Content-Type", "x-amzn-query-mode")
    expected = by_botocore(
        server.url,
        REGION,
        {name: got.headers[name] for name in names if name in got.headers},
        "AmazonSQS.TagQueue",
        got.raw,
        ReadOnlyCredentials("AKIA", "secret", token),
        calendar.timegm(then),
    )
    assert {name: got.headers[name] for name in expected} == expected


async def test_refreshed_credentials_sign_the_next_call(server: Server) -> None:
    issued = 0

    async def issue() -> dict[str, str]:
        nonlocal issued
        issued += 1
        left = 3600 if issued > 1 else 30
        return {
            "access_key": f"KEY{issued}",
            "secret_key": "s",
            "token": f"token{issued}",
            "expiry_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + left)),
        }

    session = AioSession()
    session._credentials = AioRefreshableCredentials.create_from_metadata(
        await issue(), refresh_using=issue, method="test"
    )
    options = {"region_name": REGION, "endpoint_url": server.url, "config": make_config()}
    async with session.create_client("sqs", **options) as client:
        way = await template_of(client)
        assert issued == 1
        async with open_lean(way) as transport:
            await RemoteSQS(client, transport).tag_queue(URL, {})
    [got] = server.requests
    assert issued == 2
    assert "Credential=KEY2/" in got.headers["Authorization"]
    assert got.headers["X-Amz-Security-Token"] == "token2"


async def test_call_without_credentials_is_denied(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    nothing = {"aws_access_key_id": None, "aws_secret_access_key": None}
    async with opened(server, **nothing) as sqs:
        with pytest.raises(AccessDenied, match="no usable AWS credentials"):
            await sqs.list_queues("")
    assert server.requests == []


async def test_large_batch_goes_without_a_warning(server: Server, sqs: RemoteSQS) -> None:
    server.answer = said(ANSWERS["SendMessageBatch"])
    await sqs.send(URL, [SendEntry("x" * 2**20)])
    [got] = server.requests
    assert len(got.parameters["Entries"][0]["MessageBody"]) == 2**20


async def test_mappings_of_any_kind_are_taken(server: Server, sqs: RemoteSQS) -> None:
    await sqs.tag_queue(URL, MappingProxyType({"a": "b"}))
    assert server.requests[0].parameters["Tags"] == {"a": "b"}


async def test_value_without_a_json_form_is_refused_before_it_is_sent(
    server: Server, sqs: RemoteSQS
) -> None:
    with pytest.raises(QueueError, match="could not be made") as caught:
        await sqs.tag_queue(URL, {"a": object()})  # type: ignore[dict-item]
    assert not caught.value.maybe_done
    assert server.requests == []


async def test_cookies_are_not_kept(server: Server, sqs: RemoteSQS) -> None:
    server.answer = said({}, Set_Cookie="a=b")
    await sqs.list_queues("")
    await sqs.list_queues("")
    assert not any("Cookie" in got.headers for got in server.requests)


# -------------------------------------------------------------------------------- clock


def skew_aware(true_time: Callable[[], float]) -> Answer:
    """Refuses what was signed more than 15 minutes off, as SQS does."""

    async def answer(got: Request) -> web.StreamResponse:
        date = {"Date": formatdate(true_time(), usegmt=True)}
        stamp = time.strptime(got.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
        off = calendar.timegm(stamp) - true_time()
        if abs(off) < 900:
            return web.json_response({}, headers=date)
        said = "Signature not yet current" if off > 0 else "Signature expired"
        error = {"__type": "com.amazon.coral.service#InvalidSignatureException", "message": said}
        return web.json_response(error, status=400, headers=date)

    return answer


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
@pytest.mark.parametrize("operation", ["TagQueue", "ReceiveMessage"])
async def test_machine_whose_clock_is_off_signs_with_sqs_s(
    server: Server, sqs: RemoteSQS, operation: str, hours: int
) -> None:
    server.answer = skew_aware(lambda: time.time() + hours * 3600)
    await OPERATIONS[operation](sqs)
    assert len(server.requests) == 2
    await OPERATIONS[operation](sqs)
    assert len(server.requests) == 3


async def test_clock_that_ran_ahead_is_overruled_by_the_refusal(
    server: Server, sqs: RemoteSQS
) -> None:
    sqs.clock.observe_epoch(time.time() + 7200)
    server.answer = skew_aware(time.time)
    await sqs.list_queues("")
    assert len(server.requests) == 2


async def test_skew_that_lasts_is_an_error_after_the_second_refusal(
    server: Server, sqs: RemoteSQS
) -> None:
    error = {"__type": "x#InvalidSignatureException", "message": "Signature expired: 20"}
    server.answer = said(error, 400)
    with pytest.raises(AccessDenied, match="clock"):
        await sqs.list_queues("")
    assert len(server.requests) == 2


async def test_skew_without_a_date_is_an_error_at_once(server: Server, sqs: RemoteSQS) -> None:
    error = {"__type": "x#InvalidSignatureException", "message": "Signature expired: 20"}
    server.answer = said(error, 400, Date="yesterday")
    with pytest.raises(AccessDenied, match="clock is wrong"):
        await sqs.list_queues("")
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (said({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}, 400), QueueNotFound, None),
        (
            said(
                {"__type": "com.amazonaws.sqs#QueueDoesNotExist"},
                400,
                x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender",
            ),
            QueueNotFound,
            "QueueDoesNotExist",
        ),
        (
            said(
                {"__type": "x#InvalidAttributeValue:http://", "message": "m"},
                400,
                x_amzn_query_error="InvalidParameterValue;Sender",
            ),
            QueueError,
            "InvalidParameterValue",
        ),
        (said({"__type": "x#ThrottlingException", "Message": "slow"}, 400), Throttled, None),
        (said("<html>", 503, Content_Type="text/html"), QueueError, "503"),
        (said([], 500), QueueError, "500"),
        (said("", 403), QueueError, "403"),
    ],
)
async def test_refusal_is_the_same_error_as_by_the_stock_client(
    server: Server, answer: Answer, kind: type[QueueError], code: str | None
) -> None:
    server.answer = answer
    errors = []
    for is_lean in (True, False):
        async with open_sqs(**SETTINGS | {"endpoint_url": server.url}, lean=is_lean) as port:
            with pytest.raises(QueueError) as caught:
                await port.get_queue_url("orders")
            errors.append(caught.value)
    for error in errors:
        assert type(error) is kind
        assert code is None or error.code == code
        assert str(error) == str(errors[0])
        assert vars(error) == vars(errors[0])


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_redirection_is_not_followed(server: Server, sqs: RemoteSQS, status: int) -> None:
    async with running(Server()) as other:
        server.answer = said("", status, Location=other.url)
        with pytest.raises(QueueError, match="not followed") as caught:
            await sqs.list_queues("")
        assert other.requests == []
    assert caught.value.transient
    assert not caught.value.maybe_done


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (said("<html>", Content_Type="text/html; charset=utf-8"), "HTML"),
        (said("", Content_Type="text/html"), "HTML"),
        (said("<xml/>"), "not JSON"),
        (said("[" * 100_000), "not JSON"),
        (said([]), "no JSON object"),
    ],
)
async def test_answer_of_somebody_else_is_unreadable(
    server: Server, sqs: RemoteSQS, answer: Answer, what: str
) -> None:
    server.answer = answer
    with pytest.raises(QueueError, match=what) as caught:
        await sqs.receive(URL, wait_time=0)
    assert caught.value.code == "InvalidResponse"
    assert caught.value.transient
    assert caught.value.maybe_done


async def test_empty_answer_is_taken(server: Server, sqs: RemoteSQS) -> None:
    server.answer = said("")
    await sqs.tag_queue(URL, {"a": "b"})
    assert await sqs.receive(URL, wait_time=0) == []


# --------------------------------------------------------------------------- connections


async def test_refused_connection_was_no_call(unused_tcp_port: int) -> None:
    server = Server()
    server.url = f"http://127.0.0.1:{unused_tcp_port}/"
    async with opened(server) as sqs:
        with pytest.raises(QueueError, match=f"{unused_tcp_port}/ is unreachable") as caught:
            await sqs.list_queues("")
    assert caught.value.transient
    assert not caught.value.maybe_done


async def test_broken_connection_may_have_been_a_call(server: Server, sqs: RemoteSQS) -> None:
    async def hang_up(got: Request) -> web.StreamResponse:
        assert got.transport is not None
        got.transport.abort()
        return web.Response()

    server.answer = hang_up
    with pytest.raises(QueueError, match="broke off") as caught:
        await sqs.list_queues("")
    assert caught.value.transient
    assert caught.value.maybe_done


async def test_read_timeout_may_have_been_a_call(server: Server) -> None:
    async def stay_silent(_: Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server.answer = stay_silent
    async with opened(server, config=AioConfig(read_timeout=0.05)) as sqs:
        with pytest.raises(QueueError, match="read timeout") as caught:
            await sqs.list_queues("")
    assert caught.value.transient
    assert caught.value.maybe_done


async def test_timeouts_are_those_of_the_configuration(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[aiohttp.ClientTimeout] = []
    post = aiohttp.ClientSession.post

    def noted(*arguments: Any, timeout: aiohttp.ClientTimeout, **options: Any) -> Any:
        timeouts.append(timeout)
        return post(*arguments, timeout=timeout, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "post", noted)
    async with opened(server, config=AioConfig(connect_timeout=3, read_timeout=4)) as sqs:
        for wait, total in ((0, 7), (20, 27)):
            await sqs.receive(URL, wait_time=wait)
            timeout = timeouts.pop()
            assert (timeout.sock_connect, timeout.sock_read) == (3, 4)
            assert (timeout.total, timeout.connect) == (total, None)


async def test_closed_port_says_so(server: Server) -> None:
    async with opened(server) as sqs:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await sqs.list_queues("")


async def test_polls_never_keep_a_send_waiting(server: Server) -> None:
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def answer(got: Request) -> web.StreamResponse:
        if got.operation == "ReceiveMessage":
            arrived.release()
            await go_on.wait()
        return web.json_response({})

    server.answer = answer
    config = AioConfig(max_pool_connections=1)
    async with (
        opened(server, config=config) as sqs,
        asyncio.timeout(10),
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(12):
            tasks.create_task(sqs.receive(URL))
        for _ in range(12):
            await arrived.acquire()
        await sqs.tag_queue(URL, {})
        go_on.set()


async def test_poll_says_that_its_answer_has_begun_once_it_has(
    server: Server, sqs: RemoteSQS
) -> None:
    asked, begins, ends = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(got: Request) -> web.StreamResponse:
        asked.set()
        await begins.wait()
        response = web.StreamResponse(headers={"Content-Type": "application/x-amz-json-1.0"})
        await response.prepare(got.base)
        await ends.wait()
        await response.write(b"{}")
        return response

    server.answer = answer
    begun = asyncio.Event()
    poll = asyncio.create_task(sqs.receive(URL, begun=begun.set))
    await asked.wait()
    assert not begun.is_set()
    begins.set()
    await begun.wait()
    assert not poll.done()
    ends.set()
    assert await poll == []


def certificate(folder: Path, name: str = "localhost") -> str:
    """Makes a certificate for 127.0.0.1 that vouches for itself; one file, with its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(path)


@pytest_asyncio.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Server, str, str]]:
    """A server that wants a certificate of its clients; its certificate, and the client's."""
    own, clients = certificate(tmp_path), certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    async with running(Server(), context) as server:
        yield server, own, clients


async def test_connection_shows_its_certificate_and_trusts_the_bundle(
    secure: tuple[Server, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, own, clients = secure
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, own)
        for certificates in (clients, (clients, clients)):
            async with opened(server, config=AioConfig(client_cert=certificates)) as sqs:
                await sqs.list_queues("")
        monkeypatch.delenv(variable)
    assert len(server.requests) == 4


async def test_certificate_that_is_not_trusted_is_refused_for_good(
    secure: tuple[Server, str, str],
) -> None:
    server, _, clients = secure
    async with opened(server, config=AioConfig(client_cert=clients)) as sqs:
        with pytest.raises(QueueError, match=r"no secure connection to .*127\.0\.0\.1") as caught:
            await sqs.list_queues("")
    assert not caught.value.transient
    assert not caught.value.maybe_done
    assert server.requests == []


# ------------------------------------------------------------------------------ when off


@asynccontextmanager
async def stock_because(
    why: str, caplog: pytest.LogCaptureFixture, **settings: Any
) -> AsyncIterator[RemoteSQS]:
    caplog.set_level(logging.DEBUG, "sqs_orchestrator")
    async with open_sqs(**SETTINGS | {"endpoint_url": "http://127.0.0.1:1/"} | settings) as port:
        assert "StockTransport" in repr(port)
        [record] = [record for record in caplog.records if record.name.startswith("sqs_orch")]
        assert record.levelno == logging.DEBUG
        assert why in record.getMessage()
        yield port


class OtherSession(AIOHTTPSession):  # type: ignore[misc]
    """A transport of the user's."""


@pytest.mark.parametrize(
    ("why", "settings"),
    [
        ("turned off", {"lean": False}),
        ("caller's own", {"session": AioSession()}),
        ("proxy", {"config": AioConfig(proxies={"http": "http://127.0.0.1:2"})}),
        ("http_session_cls", {"config": AioConfig(http_session_cls=OtherSession)}),
        ("retry", {"config": AioConfig(retries={"mode": "standard"})}),
        ("signed by", {"config": AioConfig(signature_version="v2")}),
        ("more than a host", {"endpoint_url": "http://127.0.0.1:1/path/"}),
        (
            "connector_args",
            {"config": AioConfig(connector_args={"ssl_context": ssl.create_default_context()})},
        ),
    ],
)
async def test_stock_client_calls_where_settings_want_it(
    why: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with stock_because(why, caplog, **settings):
        pass


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("SQS_ORCHESTRATOR_LEAN", "0", "turned off"),
        ("SQS_ORCHESTRATOR_LEAN", "Off", "turned off"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f", "Lambda"),
        ("http_proxy", "http://127.0.0.1:2", "proxy"),
    ],
)
async def test_stock_client_calls_where_the_environment_wants_it(
    variable: str,
    value: str,
    why: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    async with stock_because(why, caplog):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no_host!"])
async def test_password_in_the_endpoint_of_the_environment_is_refused_and_not_shown(
    host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "sqs_orchestrator")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://user:pass-word@{host}")
    with pytest.raises(ValueError, match=r"//\*\*\*@") as caught:
        async with open_sqs(**SETTINGS):
            pass
    assert "pass-word" not in "".join(traceback.format_exception(caught.value))
    assert "pass-word" not in caplog.text


async def test_password_of_a_proxy_is_not_shown() -> None:
    proxies = {"http": "http://user:pass-word@127.0.0.1:2"}
    config = AioConfig(proxies=proxies)
    settings = SETTINGS | {"endpoint_url": "http://127.0.0.1:1/", "config": config}
    async with open_sqs(**settings) as port:
        with pytest.raises(QueueError, match="proxy") as caught:
            await port.list_queues("")
    assert "pass-word" not in "".join(traceback.format_exception(caught.value))
    assert "pass-word" not in repr(port)


async def test_environment_may_name_hosts_without_a_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with opened(server):
        pass


async def test_proxy_for_another_scheme_changes_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:2")
    async with opened(server):
        pass


async def test_stock_client_calls_where_a_mock_listens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mock:
        def __call__(self, **_: Any) -> None: ...

    handlers = [*botocore.handlers.BUILTIN_HANDLERS, ("before-send", Mock())]
    monkeypatch.setattr("botocore.session.handlers.BUILTIN_HANDLERS", handlers)
    async with stock_because("Mock of", caplog):
        pass


async def test_stock_client_calls_where_a_tracer_patched_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = aiobotocore.client.AioBaseClient._make_api_call

    @functools.wraps(original)
    async def traced(*arguments: Any, **options: Any) -> Any:
        return await original(*arguments, **options)

    monkeypatch.setattr(aiobotocore.client.AioBaseClient, "_make_api_call", traced)
    async with stock_because("AioBaseClient._make_api_call was replaced", caplog):
        pass


async def test_certificates_that_cannot_be_read_leave_the_call_to_the_stock_client(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")
    async with stock_because("TLS", caplog, endpoint_url="https://127.0.0.1:1/"):
        pass


def prepared(operation: str, **changes: Any) -> dict[str, Any]:
    """A call as aiobotocore prepares it, but for *changes*."""
    headers = {
        "X-Amz-Target": f"AmazonSQS.{operation}",
        "Content-Type": CONTENT_TYPE,
    }
    params = {"url": "https://sqs.eu-west-1.amazonaws.com/", "headers": headers}
    signer = SimpleNamespace(signature_version="v4")
    return {"params": params, "context": {}, "request_signer": signer} | changes


ACCOUNT_URL = "https://123456789012.sqs.eu-west-1.amazonaws.com/"
PLAIN = {"url": "https://sqs.eu-west-1.amazonaws.com/"}


@pytest.mark.parametrize(
    ("why", "first", "second"),
    [
        ("older protocol", {"params": PLAIN | {"headers": {}}}, {}),
        ("signed by v4a", {"request_signer": SimpleNamespace(signature_version="v4a")}, {}),
        ("signed by", {"context": {"auth_type": "v4a"}}, {}),
        ("rules of its own", {"context": {"signing": {"region": "*"}}}, {}),
        ("rules of its own", {"context": {"endpoint_properties": {"a": "b"}}}, {}),
        ("not the same", {}, {"url": ACCOUNT_URL}),
        ("by rules of the endpoint", {"url": ACCOUNT_URL}, {"url": ACCOUNT_URL}),
        ("more than a host", {"url": f"{PLAIN['url']}?x"}, {"url": f"{PLAIN['url']}?x"}),
    ],
)
def test_client_that_calls_in_another_way_is_unfit(
    why: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    calls = []
    for operation, changes in (("ListQueues", first), ("DeleteQueue", second)):
        call = prepared(operation, **{k: v for k, v in changes.items() if k != "url"})
        if "url" in changes:
            call["params"]["url"] = changes["url"]
        calls.append(call)
    if "request_signer" not in first:
        calls[1]["request_signer"] = calls[0]["request_signer"]
    config = SimpleNamespace(proxies={})
    with pytest.raises(NotPlain, match=why):
        template._common(calls, "https://sqs.eu-west-1.amazonaws.com", config)


async def test_asking_the_client_sends_nothing_and_leaves_no_trace(server: Server) -> None:
    async with opened(server) as sqs:
        assert server.requests == []
        answer = await sqs.client.list_queues()
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert len(server.requests) == 1


async def test_listener_who_comes_later_hears_the_calls_from_then_on(
    server: Server, sqs: RemoteSQS, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sqs_orchestrator")
    heard: list[str] = []

    def listen(event_name: str, **_: Any) -> None:
        heard.append(event_name)

    events = sqs.client.meta.events
    await sqs.list_queues("")
    events.register("before-send.sqs", listen)
    await sqs.list_queues("")
    await sqs.tag_queue(URL, {})
    events.unregister("before-send.sqs", listen)
    await sqs.list_queues("")
    assert heard == ["before-send.sqs.ListQueues", "before-send.sqs.TagQueue"]
    assert len(server.requests) == 4
    messages = [record.getMessage() for record in caplog.records if "path" in record.getMessage()]
    assert len(messages) == 2
    assert "stock" in messages[0]
    assert "lean" in messages[1]


async def test_stubbed_client_gives_the_stub_s_answers(server: Server, sqs: RemoteSQS) -> None:
    with Stubber(sqs.client) as stubber:
        answer = {"Tags": {"made": "up"}, "ResponseMetadata": {}}
        stubber.add_response("list_queue_tags", answer)
        assert await sqs.list_queue_tags(URL) == {"made": "up"}
    assert server.requests == []


async def test_listener_to_another_service_changes_nothing(server: Server, sqs: RemoteSQS) -> None:
    heard: list[Any] = []
    sqs.client.meta.events.register("before-send.s3", lambda **event: heard.append(event))
    await sqs.list_queues("")
    assert "amz-sdk-request" not in server.requests[0].headers
    assert heard == []


async def test_endpoint_and_region_are_those_of_the_client(server: Server, sqs: RemoteSQS) -> None:
    assert sqs.region == REGION
    assert sqs.client.meta.endpoint_url.rstrip("/") == server.url.rstrip("/")
    assert repr(sqs) == f"<RemoteSQS by <LeanTransport to {server.url}>>"


@pytest.mark.parametrize("is_lean", [True, False])
async def test_region_that_only_other_tools_read_is_told(
    is_lean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    settings = {name: value for name, value in SETTINGS.items() if name != "region_name"}

    async def refusal() -> str:
        with pytest.raises(ValueError, match="no AWS region") as caught:
            async with open_sqs(**settings, lean=is_lean):
                pass
        return str(caught.value)

    assert "AWS_REGION is not read" not in await refusal()
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "AWS_REGION is not read" in await refusal()
