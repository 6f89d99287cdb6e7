"""AWS Signature Version 4 for one kind of request: a JSON POST to the root of one endpoint.

Everything in such a request is the same from call to call, except operation, date and body.
So the text to hash is put together once per operation, the key is derived once a day, and what
is left for each call is two hashes and one HMAC. That the result is the signature which any
other implementation makes is what the tests hold it to, with botocore's as the other.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Protocol

__all__ = ["Credentials", "Signer"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials(Protocol):
    """What AWS gives out to sign with; botocore's frozen credentials are such."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs POSTs to `/` of *host*. *headers* are sent with each of them, and signed.

    *host* is as it stands in the `Host` header: with the port, unless it is the scheme's own.
    """

    __slots__ = (
        "_authorization",
        "_day",
        "_headers",
        "_identity",
        "_key",
        "_operations",
        "_region",
        "_scope",
        "_second",
        "_service",
        "_stamp",
    )

    def __init__(
        self, host: str, region: str, headers: Mapping[str, str], *, service: str = "sqs"
    ) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()} | {"host": host}
        self._region = region
        self._service = service
        self._identity: tuple[str, str, str | None] | None = None
        self._day = ""
        self._key = b""
        self._scope = ""
        self._second: int | None = None
        self._stamp = ""
        # By target: the canonical request up to the date, from the date to the hash of the
        # body, and the `Authorization` header up to the signature.
        self._operations: dict[str, tuple[str, str, str]] = {}

    def sign(
        self, target: str, body: bytes, credentials: Credentials, epoch: float
    ) -> dict[str, str]:
        """The headers that make a request a signed one: `X-Amz-Target`, `X-Amz-Date`,
        `Authorization` and, with temporary credentials, `X-Amz-Security-Token`.

        *target* is the operation as the header names it; *epoch* the time to sign with.
        """
        identity = (credentials.access_key, credentials.secret_key, credentials.token or None)
        second = int(epoch)
        if identity != self._identity or second != self._second:
            self._renew(identity, second)
        stamp = self._stamp
        before, after, authorization = self._operations.get(target) or self._prepare(target)
        canonical = f"{before}{stamp}{after}{sha256(body).hexdigest()}"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        headers = {
            "X-Amz-Target": target,
            "X-Amz-Date": stamp,
            "Authorization": authorization + signature,
        }
        token = identity[2]
        if token is not None:
            headers["X-Amz-Security-Token"] = token
        return headers

    def _renew(self, identity: tuple[str, str, str | None], second: int) -> None:
        """Change to other credentials, or to another second."""
        self._second = second
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = self._stamp[:8]
        if identity == self._identity and day == self._day:
            return
        self._identity, self._day = identity, day
        self._operations.clear()
        parts = (day, self._region, self._service, "aws4_request")
        self._scope = "/".join(parts)
        key = f"AWS4{identity[1]}".encode()
        for part in parts:
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    def _prepare(self, target: str) -> tuple[str, str, str]:
        """Put together what is the same in all requests of one operation on one day."""
        assert self._identity is not None
        access_key, _, token = self._identity
        headers = self._headers | {"x-amz-target": target, "x-amz-date": ""}
        if token is not None:
            headers["x-amz-security-token"] = token
        names = sorted(headers)
        lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
        cut = names.index("x-amz-date") + 1
        signed = ";".join(names)
        # The empty lines: no query string; the end of the headers.
        before = "\n".join(["POST", "/", "", *lines[:cut]])
        after = "\n".join(["", *lines[cut:], "", signed, ""])
        authorization = (
            f"{_ALGORITHM} Credential={access_key}/{self._scope}, SignedHeaders={signed}, "
            "Signature="
        )
        self._operations[target] = prepared = (before, after, authorization)
        return prepared
