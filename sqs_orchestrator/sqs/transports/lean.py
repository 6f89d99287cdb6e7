"""The lean path: the same port without the machinery that aiobotocore puts around a call.

A call costs the stock client several times what the request itself costs: it looks for the
endpoint by rules, emits a dozen events, validates, serializes and parses by a model, and
builds the same headers each time. None of that gives another result from one call of SQS's
to the next. So here each operation is one signed JSON POST through aiohttp.

What a call is made of stays aiobotocore's own. `template_of()` asks the client how it would make
one (endpoint, headers, region, credentials), by letting it prepare one that is then not made.
Where the answer is not the plain one, or where somebody listens to the client's events or has
patched it (mocks, tracing), it refuses, and the stock client makes the calls: `NotPlain` says why.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
import json
import math
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
import botocore.exceptions as boto
from aiobotocore.client import AioBaseClient
from aiobotocore.endpoint import AioEndpoint
from aiobotocore.httpsession import AIOHTTPSession
from botocore.httpsession import create_urllib3_context, get_cert_path
from botocore.utils import get_environ_proxies
from yarl import URL

from ...logs import get_logger
from ..answers import CONTENT_TYPE, MOST_BYTES, too_long, unpacked, value_of
from ..checksums import md5_of_attributes, md5_of_body
from ..clock import epoch_of
from ..failures import TooSlow, date_of, error_of, is_skew
from ..port import Received
from ..resolver import Resolver, Threads
from ..signing import Credentials, Signer
from .stock import BotoSQS

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["CallTemplate", "LeanSQS", "NotPlain", "host_of", "open_lean", "template_of"]

logger = get_logger(__name__)

_LARGE_BODY: Final = 2**20
"""aiohttp warns of longer bodies than this in one piece."""


class NotPlain(Exception):
    """Why calls have to be made by the stock client."""


# ----------------------------------------------------------- how the client makes a call


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """How a client makes its calls, as far as that is the same for all."""

    url: str
    headers: Mapping[str, str]
    """What it sends with each call, apart from what is signed anew."""
    signer: Any
    """aiobotocore's request signer, which knows the credentials."""
    config: Any


async def template_of(client: SQSClient) -> CallTemplate:
    """How *client* makes its calls; raises `NotPlain` where that is not the plain way."""
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        raise NotPlain("in AWS Lambda, the stock client hands on what guards against endless loops")
    config = client.meta.config
    _check_transport(client, config)
    patched = _patched()
    if patched is not None:
        raise NotPlain(f"{patched} was replaced, most likely by a mock or a tracer")
    listener = listener_of(client)
    if listener is not None:
        raise NotPlain(f"{listener} listens to the client's events")
    return await _ask(client, config)


def _check_transport(client: Any, config: Any) -> None:
    # Older versions lose the configuration's own word for it.
    session_class = type(client._endpoint.http_session)  # noqa: SLF001
    if session_class is not AIOHTTPSession:
        raise NotPlain(f"the configuration has an http_session_cls of its own, {session_class!r}")
    attempts = (config.retries or {}).get("total_max_attempts")
    if attempts != 1:
        raise NotPlain(f"the configuration asks the client to retry: {config.retries}")
    unknown = set(getattr(config, "connector_args", None) or ()) - _CONNECTOR_ARGS
    if unknown:
        raise NotPlain(f"the configuration has connector_args of its own: {sorted(unknown)}")


_CONNECTOR_ARGS: Final = frozenset(
    {
        "force_close",
        "keepalive_timeout",
        "resolver",
        "socket_factory",
        "ttl_dns_cache",
        "use_dns_cache",
    }
)

_OWN: Final = ("aiobotocore", "botocore", "sqs_orchestrator")

# What a call of the stock client passes through.
_STATIONS: Final = (
    (AioBaseClient, "_make_api_call"),
    (AioBaseClient, "_make_request"),
    (AioEndpoint, "make_request"),
    (AioEndpoint, "_send_request"),
    (AioEndpoint, "_send"),
    (AIOHTTPSession, "send"),
)


def _patched() -> str | None:
    """The method of aiobotocore's that is not its own any more, if any."""
    for owner, name in _STATIONS:
        method = inspect.getattr_static(owner, name, None)
        # Wrappers imitate names, and modules too, but not the globals they were defined in.
        if method is not None and not (
            isinstance(method, FunctionType)
            and str(method.__globals__.get("__name__")).partition(".")[0] in _OWN
        ):
            return f"{owner.__name__}.{name}"
    return None


_EVENTS: Final = (
    "provide-client-params",
    "before-parameter-build",
    "before-endpoint-resolution",
    "before-call",
    "request-created",
    "choose-signer",
    "before-sign",
    "before-send",
    "response-received",
    "before-parse",
    "needs-retry",
    "after-call",
    "after-call-error",
)

_OPERATIONS: Final = (
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "GetQueueUrl",
    "CreateQueue",
    "GetQueueAttributes",
    "ListQueues",
    "ListQueueTags",
    "TagQueue",
    "UntagQueue",
    "DeleteQueue",
)


def listener_of(client: Any) -> str | None:
    """Whoever listens to the client's events and is none of botocore's own, if any."""
    try:
        search = _emitter(client)._handlers.prefix_search  # noqa: SLF001 - see _emitter()
    except AttributeError:
        return "perhaps somebody (this botocore does not show who)"
    for event in _EVENTS:
        for operation in _OPERATIONS:
            for handler in search(f"{event}.sqs.{operation}"):
                module = str(getattr(handler, "__module__", None) or type(handler).__module__)
                if module.partition(".")[0] not in _OWN or module.endswith(".stub"):
                    name = getattr(handler, "__qualname__", type(handler).__qualname__)
                    return f"{name} of {module}"
    return None


def _emitter(client: Any) -> Any:
    # botocore registers handlers publicly, but tells nobody of them.
    return client.meta.events._emitter  # noqa: SLF001


async def _ask(client: Any, config: Any) -> CallTemplate:
    """Let *client* prepare two calls of different kinds, and see what they have in common."""
    calls: list[dict[str, Any]] = []

    def take(**call: Any) -> tuple[SimpleNamespace, dict[str, Any]]:
        calls.append(call)
        # What a handler of this event returns is the response: so none is ever sent.
        return SimpleNamespace(status_code=200), {}

    elsewhere = "https://queue.invalid/123456789012/any"
    events = client.meta.events
    names = ("before-call.sqs.ListQueues", "before-call.sqs.DeleteQueue")
    for name in names:
        events.register(name, take)
    try:
        await client.list_queues()
        await client.delete_queue(QueueUrl=elsewhere)
    except Exception as exc:
        raise NotPlain(f"the client cannot prepare a call: {exc}") from exc
    finally:
        for name in names:
            events.unregister(name, take)
    if len(calls) != len(names):
        raise NotPlain("the client's calls cannot be seen while they are prepared")
    return _common(calls, client.meta.endpoint_url, config)


def _common(calls: Sequence[dict[str, Any]], endpoint_url: str, config: Any) -> CallTemplate:
    ways = []
    for call, operation in zip(calls, ("ListQueues", "DeleteQueue"), strict=True):
        request, context, signer = call["params"], call["context"], call["request_signer"]
        headers = {str(name).lower(): _text(value) for name, value in request["headers"].items()}
        target = headers.pop("x-amz-target", None)
        if target != f"AmazonSQS.{operation}" or headers.get("content-type") != CONTENT_TYPE:
            raise NotPlain("this aiobotocore speaks an older protocol of SQS")
        if signer.signature_version != "v4" or context.get("auth_type") not in (None, "v4"):
            raise NotPlain(f"calls are signed by {signer.signature_version}, not by v4")
        if context.get("signing") or context.get("endpoint_properties"):
            raise NotPlain("the endpoint has rules of its own for signing")
        ways.append(CallTemplate(request["url"], headers, signer, config))
    way = ways[0]
    if ways[1] != way:
        raise NotPlain("the endpoint or the headers are not the same for all calls")
    parts = urlsplit(way.url)
    if parts.path != "/" or parts.query or parts.username is not None:
        raise NotPlain(f"the endpoint is more than a host: {way.url}")
    if parts.netloc != urlsplit(endpoint_url).netloc:
        raise NotPlain(f"calls go to {parts.netloc}, by rules of the endpoint {endpoint_url}")
    proxies = config.proxies
    if proxies is None:
        proxies = get_environ_proxies(way.url)
    if proxies.get(parts.scheme):
        raise NotPlain("calls go through a proxy")
    return way


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


# -------------------------------------------------------------------------- the transport


@asynccontextmanager
async def open_lean(
    client: SQSClient,
    way: CallTemplate,
    verify: str | bool | None = None,
    threads: Threads | None = None,
) -> AsyncIterator[LeanSQS]:
    """The port over connections of its own, made as those of *client* would be.

    *verify* is the certificate bundle that the session is configured with, if any; *threads* do
    what blocks, so that nothing waits for those of the loop's default pool. Long polls
    have connections for themselves, as many as there are polls: so none waits for another's
    end, and no send for that of a poll.
    """
    config = way.config
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
    secure: ssl.SSLContext | bool = True
    if way.url.startswith("https:"):
        # It reads files.
        try:
            run = asyncio.to_thread if threads is None else threads.run
            secure = await run(_ssl_context, verify, config.client_cert)
        except (OSError, ValueError) as exc:
            raise NotPlain(f"no TLS settings can be made: {exc}") from exc

    args = dict(config.connector_args)
    if threads is not None and "resolver" not in args and Resolver.is_needed():
        args["resolver"] = Resolver(threads)  # which older versions of AioConfig refuse

    def session(limit: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=limit, ssl=secure, **args)
        return aiohttp.ClientSession(
            connector=connector,
            headers={"Host": host_of(way.url), "Accept-Encoding": "identity", **way.headers},
            skip_auto_headers={"Accept"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async with session(config.max_pool_connections) as sending, session(0) as polling:
        yield LeanSQS(client, way, sending, polling)


def _ssl_context(verify: str | bool, client_cert: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = create_urllib3_context()
    if verify:
        context.check_hostname = True
        context.load_verify_locations(get_cert_path(verify))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if isinstance(client_cert, str):
        context.load_cert_chain(client_cert)
    elif client_cert:
        context.load_cert_chain(*client_cert)
    return context


# ------------------------------------------------------------------------------- the port


class LeanSQS(BotoSQS):
    """The SQS port by signed JSON POSTs. Made by `open_lean()`.

    The parameters of calls and the shape of answers are the same as with the stock client;
    only what is between the two is not.
    """

    def __init__(
        self,
        client: SQSClient,
        way: CallTemplate,
        sending: aiohttp.ClientSession,
        polling: aiohttp.ClientSession,
    ) -> None:
        super().__init__(client)
        self._sending = sending
        self._polling = polling
        self._endpoint = way.url
        self._url = URL(way.url, encoded=True)
        self._credentials = way.signer.get_auth_instance
        self._credentials_for = (way.signer.signing_name, way.signer.region_name, "v4")
        self._signer = Signer(
            host_of(way.url),
            way.signer.region_name,
            {name: value for name, value in way.headers.items() if name != "user-agent"},
            service=way.signer.signing_name,
        )
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._emitter = _emitter(client)
        self._seen = self._emitter._lookup_cache  # noqa: SLF001
        self._listened_to = False

    def __repr__(self) -> str:
        return f"<LeanSQS {self._endpoint}>"

    async def _call(
        self,
        operation: str,
        queue: str | None,
        method: Callable[..., Any],
        *,
        begun: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        # The emitter starts a new cache whenever somebody registers with it.
        if self._emitter._lookup_cache is not self._seen:  # noqa: SLF001
            self._look_who_listens()
        if self._listened_to:
            return await super()._call(operation, queue, method, **parameters)
        try:
            limit = self._limit(parameters)
            return await self._post(operation, _encode(parameters), limit, begun)
        except Exception as exc:
            raise error_of(operation, queue, exc, self._endpoint) from exc

    def _look_who_listens(self) -> None:
        self._seen = self._emitter._lookup_cache  # noqa: SLF001
        listener = listener_of(self._client)
        if (listener is not None) != self._listened_to:
            self._listened_to = listener is not None
            logger.debug(
                "%s: calls take the %s path from now on: %s listens to the client's events",
                self,
                "stock" if self._listened_to else "lean",
                listener or "nobody",
            )

    async def _post(
        self, operation: str, body: bytes, limit: float, begun: Callable[[], None] | None
    ) -> dict[str, Any]:
        """The answer to one operation; a `ClientError` where SQS refused it."""
        epoch = self._clock.now()
        try:
            now = time.time() if epoch is None else epoch
            return await self._post_at(operation, body, now, limit, begun)
        except boto.ClientError as refusal:
            # A refused signature means that nothing was done, and the refusal shows the time.
            shown = epoch_of(date_of(refusal)) if is_skew(refusal) else None
            if shown is None:
                raise
        return await self._post_at(operation, body, shown, limit, begun)

    async def _post_at(
        self,
        operation: str,
        body: bytes,
        epoch: float,
        limit: float,
        begun: Callable[[], None] | None,
    ) -> dict[str, Any]:
        auth = await self._credentials(*self._credentials_for)
        credentials: Credentials | None = auth.credentials
        if credentials is None:
            raise boto.NoCredentialsError
        headers = self._signer.sign(f"AmazonSQS.{operation}", body, credentials, epoch)
        session = self._polling if operation == "ReceiveMessage" else self._sending
        try:
            async with session.post(
                self._url,
                data=body if len(body) <= _LARGE_BODY else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
                timeout=self._timeouts.get(limit) or self._timeout(limit),
            ) as response:
                if begun is not None:
                    begun()
                got = await _read(response)
        except TimeoutError as exc:
            if isinstance(exc, aiohttp.ServerTimeoutError):
                raise  # while connecting or reading, it was silent for too long
            raise TooSlow(limit) from exc
        status, answer_headers = response.status, response.headers
        got = unpacked(status, answer_headers, got)
        self._judge(operation, status, answer_headers, got)
        return value_of(status, got)

    def _timeout(self, limit: float) -> aiohttp.ClientTimeout:
        """The timeouts of a call that may last *limit* seconds in all."""
        config = self._client.meta.config
        made = self._timeouts[limit] = aiohttp.ClientTimeout(
            total=None if limit == math.inf else limit,
            sock_connect=config.connect_timeout,
            sock_read=config.read_timeout,
        )
        return made

    @staticmethod
    def _harm_sent(entry: Mapping[str, Any], done: Mapping[str, Any]) -> str | None:
        digest = done.get("MD5OfMessageBody")
        if digest and digest != md5_of_body(entry["MessageBody"]):
            return "body"
        digest = done.get("MD5OfMessageAttributes")
        if digest and digest != md5_of_attributes(entry.get("MessageAttributes") or {}):
            return "attributes"
        return None

    @staticmethod
    def _harm(message: Mapping[str, Any], received: Received) -> str | None:
        digest = message.get("MD5OfBody")
        if digest and digest != md5_of_body(received.body):
            return "body"
        digest = message.get("MD5OfMessageAttributes")
        try:
            if digest and received.attributes and digest != md5_of_attributes(received.attributes):
                return "attributes"
        except KeyError:  # one has no value, or no type
            return "attributes"
        return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer, as far as SQS can have sent it."""
    length = response.content_length
    if length is not None and length <= MOST_BYTES:
        return await response.read()
    got = bytearray()
    async for part in response.content.iter_any():
        got += part
        if len(got) > MOST_BYTES:
            response.close()
            raise too_long(response.status, bytes(got[:2_000]))
    return bytes(got)


def host_of(url: str) -> str:
    """The `Host` header of a request to *url*."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)):
        return host
    return f"{host}:{parts.port}"


# --------------------------------------------------------------------------------- bodies


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    raise boto.ParamValidationError(report=f"{value!r} has no form in JSON")


_encoder: Final = json.JSONEncoder(
    separators=(",", ":"), check_circular=False, default=_jsonable
).encode


def _encode(parameters: dict[str, Any]) -> bytes:
    return _encoder(parameters).encode()
