"""A fake of each provider of the usual chain that is asked over HTTP. It fails as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import botocore.credentials
import pytest
from aiobotocore.utils import AioContainerMetadataFetcher
from aiohttp import web

from .http_sqs import running

__all__ = ["KINDS", "LEFT", "Kind", "Provider", "running", "set_up"]

LEFT = 3600.0
"""Seconds for which credentials are given out."""

ROLE = "arn:aws:iam::123456789012:role/worker"
SSO = "https://example.awsapps.com/start"

Answer = Callable[[web.BaseRequest, str], tuple[web.Response, bool]]


def _end() -> datetime:
    return datetime.fromtimestamp(time.time() + LEFT, UTC)


def _sts(action: str) -> Answer:
    def answer(_: web.BaseRequest, key: str) -> tuple[web.Response, bool]:
        text = f"""<Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
            <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
            <SessionToken>token</SessionToken><Expiration>{_end():%Y-%m-%dT%H:%M:%SZ}</Expiration>
            </Credentials></{action}Result></Response>"""
        return web.Response(content_type="text/xml", text=text), True

    return answer


def _sso(_: web.BaseRequest, key: str) -> tuple[web.Response, bool]:
    keys = {
        "accessKeyId": key,
        "secretAccessKey": "secret",
        "sessionToken": "token",
        "expiration": int(_end().timestamp() * 1000),
    }
    return web.json_response({"roleCredentials": keys}), True


def _metadata(request: web.BaseRequest, key: str) -> tuple[web.Response, bool]:
    if request.method == "PUT":
        return web.Response(text="a token of the metadata service"), False
    if request.path.endswith("/security-credentials/"):
        return web.Response(text="role"), False
    keys = {
        "Code": "Success",
        "AccessKeyId": key,
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": f"{_end():%Y-%m-%dT%H:%M:%SZ}",
    }
    return web.json_response(keys), True


def _xml_error(code: str, status: int) -> Callable[[], web.Response]:
    text = f"<E><Error><Code>{code}</Code><Message>said so</Message></Error></E>"
    return lambda: web.Response(status=status, content_type="text/xml", text=text)


def _json_error(code: str, status: int) -> Callable[[], web.Response]:
    headers = {"x-amzn-errortype": code}
    return lambda: web.json_response({"message": "said so"}, status=status, headers=headers)


@dataclass(frozen=True)
class Kind:
    """What is particular to one provider."""

    answer: Answer
    for_a_while: Callable[[], web.Response]
    for_good: Callable[[], web.Response]
    says: str
    """What an error says that is for good."""
    tries: int = 1
    """How often aiobotocore asks it before it counts as failing."""


KINDS = {
    "assumed role": Kind(
        _sts("AssumeRole"),
        _xml_error("Throttling", 400),
        _xml_error("AccessDenied", 403),
        "AssumeRole failed.*AccessDenied: said so.*check the role",
    ),
    "web identity": Kind(
        _sts("AssumeRoleWithWebIdentity"),
        _xml_error("IDPCommunicationError", 400),
        _xml_error("InvalidIdentityToken", 400),
        "AssumeRoleWithWebIdentity failed.*InvalidIdentityToken: said so.*the token",
    ),
    "SSO": Kind(
        _sso,
        _json_error("InternalFailure", 500),
        _json_error("UnauthorizedException", 401),
        "aws sso login",
    ),
    "container": Kind(
        _metadata, _json_error("x", 500), _json_error("x", 404), "non 200 response 404", tries=3
    ),
    "instance": Kind(
        _metadata, _json_error("x", 503), _json_error("x", 404), "Unable to locate credentials"
    ),
}


class Provider:
    """Gives out the keys `KEY1`, `KEY2` and so on."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.given = 0
        self.calls = 0
        self.open = asyncio.Event()
        """It answers at once where this is set."""
        self.open.set()
        self.asked = asyncio.Event()
        self._failures: float = 0
        self._failure = kind.for_a_while

    def fail(self, *, for_good: bool, times: float = math.inf) -> None:
        """Fail, the next *times*."""
        self._failure = self.kind.for_good if for_good else self.kind.for_a_while
        self._failures = times

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.set()
        await self.open.wait()
        if request.method != "PUT":
            self.calls += 1
            if self._failures > 0:
                self._failures -= 1
                return self._failure()
        answer, counts = self.kind.answer(request, f"KEY{self.given + 1}")
        self.given += counts
        return answer


def set_up(name: str, url: str, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Configure the provider *name*, at *url*, and no other."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable, raising=False)
    profile = directory / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    if name == "assumed role":
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        profile.write_text(
            f"[default]\nrole_arn = {ROLE}\nsource_profile = base\n"
            "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = secret\n"
        )
    elif name == "web identity":
        token = directory / "token"
        token.write_text("a token of the cluster")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    elif name == "SSO":
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        profile.write_text(
            f"[default]\nsso_start_url = {SSO}\nsso_region = eu-west-1\n"
            "sso_account_id = 123456789012\nsso_role_name = worker\n"
        )
        cached = {"startUrl": SSO, "accessToken": "t", "expiresAt": "2999-01-01T00:00:00Z"}
        (directory / f"{hashlib.sha1(SSO.encode()).hexdigest()}.json").write_text(
            json.dumps(cached)
        )
        monkeypatch.setattr(
            botocore.credentials.SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(directory)
        )
    elif name == "container":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/keys")
        # It tries three times by itself, with a second in between.
        monkeypatch.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)
    else:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{url}/")
