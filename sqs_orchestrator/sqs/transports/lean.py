"""The lean transport: calls without the machinery that aiobotocore puts around them.

A call costs the stock client several times what the request itself costs: it looks for the
endpoint by rules, emits a dozen events, validates, serializes and parses by a model, and
builds the same headers each time. None of that gives another result from one call of SQS's
to the next. So here each operation is one signed JSON POST through aiohttp, made by the template
that `template_of()` has got from the client.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import botocore.exceptions as boto
from botocore.httpsession import create_urllib3_context, get_cert_path
from yarl import URL

from ...jsontext import installed
from ..answers import MOST_BYTES, answer_of, too_long, unpacked
from ..clock import Clock, epoch_of
from ..config import longest_call
from ..failures import TooSlow, date_of, is_skew
from ..resolver import Resolver, Threads
from ..signing import Credentials, Signer
from .template import CallTemplate, NotPlain

__all__ = ["LeanTransport", "host_of", "open_lean"]

_LARGE_BODY: Final = 2**20
"""aiohttp warns of longer bodies than this in one piece."""


@asynccontextmanager
async def open_lean(
    template: CallTemplate,
    verify: str | bool | None = None,
    threads: Threads | None = None,
) -> AsyncIterator[LeanTransport]:
    """A transport with connections of its own, made as those of the client would be that
    *template* is of.

    *verify* is the certificate bundle that the session is configured with, if any; *threads* do
    what blocks, so that nothing waits for those of the loop's default pool. Long polls
    have connections for themselves, as many as there are polls: so none waits for another's
    end, and no send for that of a poll.
    """
    config = template.config
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
    secure: ssl.SSLContext | bool = True
    if template.url.startswith("https:"):
        # It reads files.
        try:
            run = asyncio.to_thread if threads is None else threads.run
            secure = await run(_ssl_context, verify, config.client_cert)
        except (OSError, ValueError) as exc:
            raise NotPlain(f"no TLS settings can be made: {exc}") from exc

    args = dict(config.connector_args)
    if threads is not None and "resolver" not in args and Resolver.is_needed():
        args["resolver"] = Resolver(threads)  # which older versions of AioConfig refuse

    headers = {"Host": host_of(template.url), "Accept-Encoding": "identity", **template.headers}

    def session(limit: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=limit, ssl=secure, **args)
        return aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            skip_auto_headers={"Accept"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async with session(config.max_pool_connections) as sending, session(0) as polling:
        yield LeanTransport(template, sending, polling)


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


class LeanTransport:
    """Signed JSON POSTs. Made by `open_lean()`.

    Its answers have the shape of the stock client's, but for binary values, which stay Base64.
    """

    def __init__(
        self,
        template: CallTemplate,
        sending: aiohttp.ClientSession,
        polling: aiohttp.ClientSession,
    ) -> None:
        signer = template.signer
        self.clock = Clock()
        self._loop = asyncio.get_running_loop()
        self.endpoint = template.url
        self._sending = sending
        self._polling = polling
        self._url = URL(template.url, encoded=True)
        self._config = template.config
        self._longest_call = longest_call(template.config)
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._auth = signer.get_auth_instance
        self._auth_for = (signer.signing_name, signer.region_name, "v4")
        self._signer = Signer(
            host_of(template.url),
            signer.region_name,
            {name: value for name, value in template.headers.items() if name != "user-agent"},
            service=signer.signing_name,
        )

    def __repr__(self) -> str:
        return f"<LeanTransport to {self.endpoint}>"

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        begun: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        body = _encode(parameters)
        session = self._polling if operation == "ReceiveMessage" else self._sending
        limit = self._longest_call + parameters.get("WaitTimeSeconds", 0)
        timeout = self._timeouts.get(limit) or self._timeout(limit)
        first = True
        while True:
            auth = await self._auth(*self._auth_for)
            credentials: Credentials | None = auth.credentials
            if credentials is None:
                raise boto.NoCredentialsError
            offset = self.clock.offset
            now = time.time() if offset is None else offset + self._loop.time()
            headers = self._signer.sign(f"AmazonSQS.{operation}", body, credentials, now)
            data = body if len(body) <= _LARGE_BODY else io.BytesIO(body)
            try:
                async with session.post(
                    self._url, data=data, headers=headers, allow_redirects=False, timeout=timeout
                ) as response:
                    if begun is not None:
                        begun()
                    length = response.content_length
                    if length is not None and length <= MOST_BYTES:
                        said = await response.read()
                    else:
                        said = await _read_carefully(response)
            except TimeoutError as exc:
                if isinstance(exc, aiohttp.ServerTimeoutError):
                    raise  # while connecting or reading, it was silent for too long
                raise TooSlow(limit) from exc
            status, told = response.status, response.headers
            if "Content-Encoding" in told:
                said = unpacked(status, told, said)
            try:
                return answer_of(operation, status, told, said, self.clock)
            except boto.ClientError as refusal:
                # A refused signature means that nothing was done, and the refusal has set the
                # clock, unless it does not show the time.
                if not first or not is_skew(refusal) or epoch_of(date_of(refusal)) is None:
                    raise
            first = False

    def _timeout(self, limit: float) -> aiohttp.ClientTimeout:
        """The timeouts of a call that may last *limit* seconds in all."""
        made = self._timeouts[limit] = aiohttp.ClientTimeout(
            total=None if limit == math.inf else limit,
            sock_connect=self._config.connect_timeout,
            sock_read=self._config.read_timeout,
        )
        return made


async def _read_carefully(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer that does not say how long it is, or too much, as far as SQS can
    have sent it."""
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


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    raise boto.ParamValidationError(report=f"{value!r} has no form in JSON")


_encoder: Final = json.JSONEncoder(
    separators=(",", ":"), check_circular=False, default=_jsonable
).encode
_orjson: Final = installed("orjson")


def _encode(parameters: Mapping[str, Any]) -> bytes:
    """The body of a call."""
    if _orjson is not None:
        try:
            body: bytes = _orjson.dumps(parameters, default=_jsonable)
        except TypeError:  # what it does not take, `json` may, or says what is wrong
            pass
        else:
            return body
    return _encoder(parameters).encode()
