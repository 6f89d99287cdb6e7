"""How aiobotocore makes a call, for who wants to make it in the same way without it.

What a call is made of stays aiobotocore's own. `template_of()` asks the client how it would make
one (endpoint, headers, region, credentials), by letting it prepare one that is then not made.
Where the answer is not the plain one, or where somebody listens to the client's events or has
patched it (mocks, tracing), it refuses, and the stock client makes the calls: `NotPlain` says why.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiobotocore.client import AioBaseClient
from aiobotocore.endpoint import AioEndpoint
from aiobotocore.httpsession import AIOHTTPSession
from botocore.utils import get_environ_proxies

from ..answers import CONTENT_TYPE
from ..transport import OPERATIONS

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["CallTemplate", "NotPlain", "emitter_of", "listener_of", "template_of"]


class NotPlain(Exception):
    """Why calls have to be made by the stock client."""


class CallTemplate(NamedTuple):
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


def listener_of(client: Any) -> str | None:
    """Whoever listens to the client's events and is none of botocore's own, if any."""
    try:
        search = emitter_of(client)._handlers.prefix_search  # noqa: SLF001 - see emitter_of()
    except AttributeError:
        return "perhaps somebody (this botocore does not show who)"
    for event in _EVENTS:
        for operation in OPERATIONS:
            for handler in search(f"{event}.sqs.{operation}"):
                module = str(getattr(handler, "__module__", None) or type(handler).__module__)
                if module.partition(".")[0] not in _OWN or module.endswith(".stub"):
                    name = getattr(handler, "__qualname__", type(handler).__qualname__)
                    return f"{name} of {module}"
    return None


def emitter_of(client: Any) -> Any:
    """What knows the handlers of *client*'s events."""
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
    templates = []
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
        templates.append(CallTemplate(request["url"], headers, signer, config))
    template = templates[0]
    if templates[1] != template:
        raise NotPlain("the endpoint or the headers are not the same for all calls")
    parts = urlsplit(template.url)
    if parts.path != "/" or parts.query or parts.username is not None:
        raise NotPlain(f"the endpoint is more than a host: {template.url}")
    if parts.netloc != urlsplit(endpoint_url).netloc:
        raise NotPlain(f"calls go to {parts.netloc}, by rules of the endpoint {endpoint_url}")
    proxies = config.proxies
    if proxies is None:
        proxies = get_environ_proxies(template.url)
    if proxies.get(parts.scheme):
        raise NotPlain("calls go through a proxy")
    return template


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
