"""Signatures are those that botocore makes, whatever is kept from call to call."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.sqs.signing import Signer
from sqs_orchestrator.sqs.transports.lean import host_of

HEADERS = {"content-type": "application/x-amz-json-1.0", "x-amzn-query-mode": "true"}


def by_botocore(
    url: str,
    region: str,
    headers: dict[str, str],
    target: str,
    body: bytes,
    credentials: Any,
    epoch: float,
    service: str = "sqs",
) -> dict[str, str]:
    """What botocore would add to the same request."""
    auth = SigV4Auth(credentials, service, region)
    request = AWSRequest("POST", url, headers={**headers, "X-Amz-Target": target}, data=body)
    request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(epoch)))
    # All of add_auth(), but for the time.
    auth._modify_request_before_signing(request)  # noqa: SLF001
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(  # noqa: SLF001
        request, auth.signature(text, request)
    )
    names = ["X-Amz-Target", "X-Amz-Date", "Authorization"]
    if credentials.token:
        names.append("X-Amz-Security-Token")
    return {name: request.headers[name] for name in names}


class Call(NamedTuple):
    target: str
    body: bytes
    credentials: ReadOnlyCredentials
    epoch: float


token_text = st.text("abcXYZ019/+=", min_size=1, max_size=40)
all_credentials = st.builds(
    ReadOnlyCredentials, token_text, token_text, st.none() | st.just("") | token_text
)
targets = st.sampled_from(["AmazonSQS.SendMessageBatch", "AmazonSQS.ReceiveMessage", "AmazonSQS.X"])
# Around the ends of two days, and far from them.
epochs = st.sampled_from([0.0, 951_782_399.9, 951_782_400.0, 951_868_800.5]) | st.floats(0, 4e9)


@st.composite
def runs_of_calls(draw: st.DrawFn) -> list[Call]:
    """Calls that come back to earlier credentials, operations and seconds."""
    some = st.sampled_from(draw(st.lists(all_credentials, min_size=1, max_size=3)))
    times = st.sampled_from(draw(st.lists(epochs, min_size=1, max_size=3)))
    call = st.builds(Call, targets, st.binary(max_size=60), some, times)
    return draw(st.lists(call, min_size=1, max_size=8))


urls = st.one_of(
    st.sampled_from(
        [
            "https://sqs.eu-west-1.amazonaws.com/",
            "https://SQS.eu-west-1.amazonaws.com:443/",
            "http://localhost:80/",
            "http://localhost:443/",
            "http://127.0.0.1:4566/",
            "http://[::1]:9324/",
            "https://[2001:db8::1]/",
        ]
    ),
    st.builds("http://host.internal:{}/".format, st.integers(1, 65535)),
)
more_headers = st.dictionaries(
    st.from_regex(r"[a-z]{1,3}(-[a-z]{1,8}){1,2}", fullmatch=True)
    | st.sampled_from(["x-amz-a", "x-amz-date-b", "x-amz-u", "z-last", "X-Mixed-Case"]),
    st.text("ab \t;:=", min_size=1, max_size=12).filter(lambda value: bool(value.strip())),
    max_size=3,
).filter(lambda headers: not {"user-agent", "x-amzn-trace-id"} & {name.lower() for name in headers})


@given(urls, st.sampled_from(["eu-west-1", "us-gov-east-1"]), more_headers, runs_of_calls())
def test_signer_signs_as_botocore_does(
    url: str, region: str, headers: dict[str, str], calls: list[Call]
) -> None:
    headers = {**HEADERS, **headers}
    signer = Signer(host_of(url), region, headers)
    for call in calls:
        assert signer.sign(*call) == by_botocore(url, region, headers, *call)


def test_signer_signs_for_another_service() -> None:
    call = Call("T", b"{}", ReadOnlyCredentials("a", "b", None), 1.7e9)
    url = "https://example.com/"
    signed = Signer("example.com", "r", HEADERS, service="other").sign(*call)
    assert signed == by_botocore(url, "r", HEADERS, *call, service="other")


@pytest.mark.parametrize("token", [None, ""])
def test_no_token_is_no_header(token: str | None) -> None:
    signer = Signer("example.com", "r", HEADERS)
    signer.sign("T", b"", ReadOnlyCredentials("a", "b", "token"), 0)
    signed = signer.sign("T", b"", ReadOnlyCredentials("a", "b", token), 0)
    assert "X-Amz-Security-Token" not in signed
    assert "security-token" not in signed["Authorization"]


def test_secret_is_not_in_what_is_sent() -> None:
    signed = Signer("h", "r", HEADERS).sign("T", b"", ReadOnlyCredentials("a", "S3cr3t", "t"), 0)
    assert "S3cr3t" not in str(signed)
