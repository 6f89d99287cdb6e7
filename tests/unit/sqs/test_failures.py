"""Exceptions of botocore and aiohttp become ours: kind, code, facts, and advice."""

from __future__ import annotations

import socket
import ssl
import time
from email.utils import formatdate
from typing import Any

import aiohttp
import botocore.exceptions as boto
import botocore.parsers
import pytest
from botocore.retries import standard

from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, SendError, Throttled
from sqs_orchestrator.sqs.answers import answer_of
from sqs_orchestrator.sqs.clock import Clock
from sqs_orchestrator.sqs.failures import (
    Foreign,
    NotNow,
    NotSigned,
    date_of,
    error_of,
    error_of_entry,
    too_large,
)
from sqs_orchestrator.sqs.port import Failure

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
ENDPOINT = "https://sqs.eu-west-1.amazonaws.com/"


def refusal(
    code: str,
    status: int = 400,
    message: str = "said so",
    *,
    operation: str = "SendMessageBatch",
    **headers: str,
) -> Exception:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    error: Exception = boto.ClientError(response, operation)
    return error


def ours(exc: Exception, operation: str = "SendMessageBatch") -> QueueError:
    error = error_of(operation, URL, exc)
    assert isinstance(error, QueueError)
    assert error.operation == operation
    assert error.queue == URL
    assert str(error).startswith(f"{operation} on {URL}: ")
    return error


# -------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "code",
    ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"],
)
def test_missing_queue_is_not_found_under_one_code(code: str) -> None:
    error = ours(refusal(code))
    assert type(error) is QueueNotFound
    assert error.code == "QueueDoesNotExist"
    assert (error.transient, error.maybe_done) == (False, False)
    assert "region" in str(error)


def test_address_of_another_region_is_not_found() -> None:
    assert type(ours(refusal("InvalidAddress", 404))) is QueueNotFound


@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "KMS.AccessDeniedException",
        "KmsAccessDenied",
        "MissingAuthenticationToken",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ],
)
def test_denied_code_is_access_denied(code: str) -> None:
    error = ours(refusal(code))
    assert type(error) is AccessDenied
    assert error.code == code
    assert (error.transient, error.maybe_done) == (False, False)


@pytest.mark.parametrize("code", ["SomethingElse", "SomethingNew"])
@pytest.mark.parametrize("status", [401, 403])
def test_unknown_401_or_403_is_access_denied(code: str, status: int) -> None:
    error = ours(refusal(code, status))
    assert type(error) is AccessDenied
    assert "the credentials were refused" in str(error)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
def test_refusal_without_a_code_is_not_sqs_s_and_passes(status: int) -> None:
    for code in ("", str(status)):
        error = ours(refusal(code, status, "<html>Please log in</html>"))
        assert type(error) is QueueError
        assert (error.transient, error.code) == (True, str(status))
        assert "Please log in" in str(error)


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("SendMessageBatch", "sqs:SendMessage "),
        ("DeleteMessageBatch", "sqs:DeleteMessage "),
        ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility "),
        ("ReceiveMessage", "sqs:ReceiveMessage "),
        ("CreateQueue", "sqs:TagQueue"),
    ],
)
def test_access_denied_names_the_permission(operation: str, permission: str) -> None:
    error = ours(refusal("AccessDenied", 403, operation=operation), operation)
    assert permission in str(error)


def test_kms_denial_names_the_permissions_of_kms() -> None:
    assert "kms:GenerateDataKey" in str(ours(refusal("KMS.AccessDeniedException")))


def test_expired_credentials_are_called_so() -> None:
    assert "expired" in str(ours(refusal("ExpiredToken")))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("Throttling", 400),
        ("Throttling.User", 400),
        ("RequestThrottled", 403),
        ("TooManyRequests", 400),
        ("TooManyRequestsException", 400),
        ("KMS.ThrottlingException", 400),
        ("KmsThrottled", 400),
        ("AWS.SimpleQueueService.OverLimit", 403),
        ("OverLimit", 403),
        ("SlowDown", 503),
        ("Whatever", 429),
    ],
)
def test_throttle_is_throttled(code: str, status: int) -> None:
    error = ours(refusal(code, status))
    assert type(error) is Throttled
    assert (error.transient, error.maybe_done) == (True, False)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ServiceUnavailable", 503),
        ("InternalError", 500),
        ("InternalFailure", 400),
        ("502", 502),
        ("", 504),
        ("RequestTimeout", 408),
        ("SomethingNew", 408),
        ("SomethingNew", 500),
        ("SomethingNew", 599),
    ],
)
def test_server_fault_is_transient_and_may_be_done(code: str, status: int) -> None:
    error = ours(refusal(code, status))
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (True, True)
    assert error.code


@pytest.mark.parametrize(
    ("code", "ours_"),
    [
        ("QueueAlreadyExists", "QueueNameExists"),
        ("QueueNameExists", "QueueNameExists"),
        ("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"),
        ("QueueDeletedRecently", "QueueDeletedRecently"),
        ("AWS.SimpleQueueService.BatchRequestTooLong", "BatchRequestTooLong"),
        ("KMS.DisabledException", "KMS.DisabledException"),
        ("InvalidAttributeName", "InvalidAttributeName"),
    ],
)
def test_other_refusal_keeps_its_code(code: str, ours_: str) -> None:
    error = ours(refusal(code))
    assert type(error) is QueueError
    assert error.code == ours_
    assert not error.maybe_done
    assert error.transient is (ours_ == "QueueDeletedRecently")
    if ours_ != "QueueDeletedRecently":
        assert "said so" in str(error)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("QueueNameExists", "exists with other attributes"),
        ("KMS.DisabledException", "the queue's KMS key cannot be used"),
        ("InvalidAttributeName", "SQS refused it (InvalidAttributeName: said so)"),
    ],
)
def test_other_refusal_says_what_it_means(code: str, says: str) -> None:
    assert says in str(ours(refusal(code)))


@pytest.mark.parametrize("body", [b"", b'{"message": "Moved"}', b"<html></html>"])
def test_redirection_says_where_to(body: bytes) -> None:
    with pytest.raises(Foreign) as caught:
        answer_of("SendMessageBatch", 307, {"Location": "http://there/"}, body, Clock())
    error = ours(caught.value)
    assert "a redirection to http://there/, which is not followed" in str(error)


# ----------------------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestTimeTooSkewed", "whatever"),
        ("RequestExpired", "whatever"),
        ("InvalidSignatureException", "Signature expired: 20231114T120000Z is now earlier than"),
        ("InvalidSignatureException", "Signature not yet current: 20231114T120000Z is still"),
        ("SignatureDoesNotMatch", "Signature expired: 20231114T120000Z is now earlier than"),
    ],
)
@pytest.mark.parametrize(("off", "words"), [(3600, "behind"), (-3600, "ahead of")])
def test_refused_signature_names_the_clock(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str, off: int, words: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    date = formatdate(1_700_000_000 + off, usegmt=True)
    error = ours(refusal(code, 403, message, date=date))
    assert type(error) is AccessDenied
    assert f"clock is 3600 s {words} SQS's" in str(error)


def test_refused_signature_without_date_still_names_the_clock() -> None:
    assert "clock is wrong" in str(ours(refusal("RequestTimeTooSkewed", 403)))


def test_bad_signature_blames_no_clock() -> None:
    error = ours(refusal("SignatureDoesNotMatch", 403, "does not match the signature you gave"))
    assert "clock" not in str(error)


def test_date_of_a_refusal_is_its_header() -> None:
    assert date_of(refusal("AccessDenied", date="today")) == "today"
    assert date_of(boto.ClientError({}, "SendMessageBatch")) is None


def test_codes_that_botocore_tries_again_are_passing() -> None:
    of_other_services = {
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
    }
    throttled = standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # noqa: SLF001
    failed = standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES  # noqa: SLF001
    for code in {*throttled, *failed} - of_other_services:
        error = ours(refusal(code, 400))
        assert error.transient, code
        assert isinstance(error, Throttled) == (code in throttled), code


# ----------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    "exc",
    [
        boto.NoCredentialsError(),
        boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        boto.CredentialRetrievalError(provider="custom-process", error_msg="no key"),
        boto.NoAuthTokenError(),
        boto.TokenRetrievalError(provider="sso", error_msg="expired"),
        boto.UnauthorizedSSOTokenError(),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_missing_credentials_are_access_denied(exc: Exception) -> None:
    error = ours(exc)
    assert type(error) is AccessDenied
    assert error.code == type(exc).__name__
    assert "credentials" in str(error)
    assert (error.transient, error.maybe_done) == (False, False)


def test_refused_role_does_not_blame_a_permission_of_sqs() -> None:
    error = ours(refusal("AccessDenied", 403, operation="AssumeRole"))
    assert type(error) is AccessDenied
    assert "AssumeRole" in str(error)
    assert "sqs:SendMessage" not in str(error)


def test_failing_sts_means_that_nothing_was_done() -> None:
    error = ours(refusal("ServiceUnavailable", 503, operation="AssumeRole"))
    assert (error.transient, error.maybe_done) == (True, False)


@pytest.mark.parametrize(
    "cause",
    [
        refusal("IDPCommunicationError", 400, operation="AssumeRoleWithWebIdentity"),
        refusal("Throttling", 400, operation="AssumeRole"),
        refusal("403", 403, "Forbidden", operation="AssumeRole"),  # a page of a proxy
        boto.ConnectTimeoutError(endpoint_url="https://sts"),
        boto.ReadTimeoutError(endpoint_url="https://sts"),
        boto.EndpointConnectionError(endpoint_url="https://sts"),
        boto.CredentialRetrievalError(
            provider="container-role", error_msg="Received non 200 response 500 from container"
        ),
        boto.MetadataRetrievalError(error_msg="cannot be parsed"),
        ConnectionResetError(104, "reset"),
        TimeoutError(),
        botocore.parsers.ResponseParserError("no XML"),
        KeyError("AssumeRoleResult"),
        NotNow("503"),
    ],
    ids=lambda cause: f"{type(cause).__name__} {cause}"[:60],
)
def test_provider_that_fails_for_a_while_is_tried_again(cause: Exception) -> None:
    error = ours(NotSigned(cause))
    assert isinstance(error, QueueError)
    assert not isinstance(error, AccessDenied)
    assert (error.transient, error.maybe_done) == (True, False)
    assert "nothing was sent" in str(error)


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (refusal("AccessDenied", 403, operation="AssumeRole"), "check the role"),
        (refusal("ExpiredTokenException", 400, operation="AssumeRole"), "expired: renew"),
        (refusal("ValidationError", 400, operation="AssumeRole"), "AssumeRole failed"),
        (refusal("ResourceNotFound", 404, operation="GetRoleCredentials"), "GetRoleCr"),
        (FileNotFoundError(2, "No such file", "/var/run/token"), "/var/run/token cannot be read"),
        (PermissionError(13, "Permission denied", "/token"), "may read it"),
        (boto.SSLError(endpoint_url="https://sts", error="certificate expired"), "certificate"),
        (
            boto.CredentialRetrievalError(
                provider="container-role", error_msg="Received non 200 response 404"
            ),
            "404",
        ),
        (ValueError("Unsupported host 'example.org'"), "Unsupported host"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_provider_that_fails_for_good_is_access_denied(cause: Exception, says: str) -> None:
    error = ours(NotSigned(cause))
    assert type(error) is AccessDenied
    assert (error.transient, error.maybe_done) == (False, False)
    assert says in str(error)


def test_file_that_a_session_of_the_callers_cannot_read_is_named() -> None:
    error = ours(FileNotFoundError(2, "No such file", "/var/run/token"))
    assert type(error) is AccessDenied
    assert "/var/run/token" in str(error)


# ------------------------------------------------------------------------- transport

KEY: Any = aiohttp.client_reqrep.ConnectionKey(
    host="sqs",
    port=443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)


@pytest.mark.parametrize(
    "exc",
    [
        boto.EndpointConnectionError(
            endpoint_url=ENDPOINT,
            error=aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")),
        ),
        boto.EndpointConnectionError(
            endpoint_url=ENDPOINT, error=aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2))
        ),
        boto.EndpointConnectionError(endpoint_url=ENDPOINT, error=socket.gaierror(-2, "unknown")),
        boto.EndpointConnectionError(endpoint_url=ENDPOINT),
        boto.ConnectTimeoutError(endpoint_url=ENDPOINT),
        boto.ProxyConnectionError(proxy_url=ENDPOINT),
    ],
    ids=["refused", "DNS", "gaierror", "unknown", "timeout", "proxy"],
)
def test_endpoint_out_of_reach_is_named_and_did_nothing(exc: Exception) -> None:
    error = ours(exc)
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (True, False)
    assert f"{ENDPOINT} is unreachable" in str(error)


@pytest.mark.parametrize(
    "exc",
    [
        boto.ReadTimeoutError(endpoint_url=ENDPOINT),
        boto.ConnectionClosedError(endpoint_url=ENDPOINT),
        # What aiobotocore makes of a connection that is reset after the request was sent.
        boto.EndpointConnectionError(
            endpoint_url=ENDPOINT, error=aiohttp.ClientOSError(104, "reset by peer")
        ),
        boto.HTTPClientError(error=aiohttp.ClientPayloadError("not complete")),
        boto.ResponseStreamingError(error=ConnectionResetError()),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_lost_answer_is_transient_and_may_be_done(exc: Exception) -> None:
    error = ours(exc)
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (True, True)


@pytest.mark.parametrize(
    "exc",
    [
        botocore.parsers.ResponseParserError("invalid XML"),
        ValueError("no JSON"),
        AttributeError("'list' object has no attribute 'get'"),
        KeyError("QueueUrl"),
        RecursionError("maximum recursion depth exceeded while decoding a JSON array"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_unreadable_answer_is_transient_and_may_be_done(exc: Exception) -> None:
    error = ours(exc)
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (True, True)
    assert "cannot be read" in str(error)


def test_untrusted_certificate_is_no_passing_error() -> None:
    reason = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error = ours(boto.SSLError(endpoint_url=ENDPOINT, error=reason))
    assert (error.transient, error.maybe_done) == (False, False)
    assert "AWS_CA_BUNDLE" in str(error)


def test_broken_handshake_is_a_passing_error() -> None:
    reason = ssl.SSLError(1, "unexpected eof")
    error = ours(boto.SSLError(endpoint_url=ENDPOINT, error=reason))
    assert (error.transient, error.maybe_done) == (True, False)


@pytest.mark.parametrize(
    "exc",
    [
        boto.NoRegionError(),
        boto.EndpointResolutionError(msg="no such region"),
        boto.ParamValidationError(report="bad"),
        boto.HTTPClientError(error=aiohttp.InvalidURL("sqs//")),
        boto.HTTPClientError(error=ResourceWarning("as an error")),
        DeprecationWarning("as an error"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_call_that_cannot_be_made_is_lasting(exc: Exception) -> None:
    error = ours(exc)
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (False, False)


# --------------------------------------------------------------------- not our errors


@pytest.mark.parametrize(
    "exc",
    [
        boto.HTTPClientError(error=RuntimeError("Session is closed")),
        boto.HTTPClientError(error=AttributeError("'NoneType' object has no attribute 'get'")),
        boto.EndpointConnectionError(
            endpoint_url=ENDPOINT, error=aiohttp.ClientConnectionError("Connector is closed.")
        ),
    ],
)
def test_closed_client_is_a_mistake_of_the_program(exc: Exception) -> None:
    error = error_of("SendMessageBatch", URL, exc)
    assert type(error) is RuntimeError
    assert "closed" in str(error)


FORGED = "no\nERROR forged\r\x85\u2028\x1b[2J"
ON_ONE_LINE = r"no\nERROR forged\r\x85\u2028\x1b[2J"


@pytest.mark.parametrize(
    "exc",
    [
        refusal("InvalidParameterValue", 400, FORGED),
        refusal("AccessDenied", 403, FORGED),
        refusal("ServiceUnavailable", 503, FORGED),
        refusal("Throttling", 400, FORGED),
        refusal(f"Bad{FORGED}", 400),
        aiohttp.ClientPayloadError(FORGED),
        boto.ParamValidationError(report=FORGED),
        KeyError(FORGED),
    ],
)
def test_what_sqs_said_is_on_one_line(exc: Exception) -> None:
    text = str(ours(exc))
    assert ON_ONE_LINE.lstrip("no") in text
    assert text.isprintable()


def test_what_sqs_said_at_length_is_cut() -> None:
    assert len(str(ours(refusal("InvalidParameterValue", 400, "x" * 1_000_000)))) < 1_000


def test_own_error_and_runtime_error_pass_as_they_are() -> None:
    for exc in (Throttled("slow"), RuntimeError("no running event loop")):
        assert error_of("ListQueues", None, exc) is exc


def test_error_of_a_call_without_queue_names_none() -> None:
    error = error_of("ListQueues", None, refusal("AccessDenied", operation="ListQueues"))
    assert isinstance(error, AccessDenied)
    assert error.queue is None
    assert str(error).startswith("ListQueues: ")


def test_expired_token_blames_no_clock() -> None:
    error = ours(refusal("ExpiredTokenException", 403, "Signature expired with its token"))
    assert "clock" not in str(error)
    assert "renew" in str(error)


def test_connection_of_aiohttp_s_that_took_too_long_was_no_call() -> None:
    error = ours(aiohttp.ServerTimeoutError("Connection timeout to host http://example.com/"))
    assert (error.transient, error.maybe_done) == (True, False)


def test_answer_to_aiohttp_that_took_too_long_may_have_been_a_call() -> None:
    error = ours(aiohttp.ServerTimeoutError("Timeout on reading data from socket"))
    assert (error.transient, error.maybe_done) == (True, True)


# ------------------------------------------------------------- entries of a batch


@pytest.mark.parametrize("sender_fault", [True, False])
@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        ("RequestThrottled", Throttled, True),
        ("OverLimit", Throttled, True),
        ("KmsThrottled", Throttled, True),
        ("InternalError", QueueError, True),
        ("ServiceUnavailable", QueueError, True),
        ("QueueDoesNotExist", QueueNotFound, False),
        ("AccessDenied", AccessDenied, False),
        ("KMS.AccessDeniedException", AccessDenied, False),
        ("KMS.DisabledException", QueueError, False),
        ("InvalidParameterValue", SendError, False),
        ("InvalidMessageContents", SendError, False),
        ("BatchRequestTooLong", SendError, False),
    ],
)
def test_code_of_an_entry_decides_and_not_whose_fault_it_is_said_to_be(
    code: str, kind: type[Exception], transient: bool, sender_fault: bool
) -> None:
    failure = Failure(code, "said so", sender_fault=sender_fault)
    error = error_of_entry("SendMessageBatch", URL, failure)
    assert type(error) is kind
    assert (error.code, error.queue) == (code, URL)
    assert "said so" in str(error)
    assert getattr(error, "transient", False) is transient
    # SQS lists it among what it has not done.
    assert not getattr(error, "maybe_done", False)


def test_entry_with_an_unknown_code_passes_where_it_is_not_the_senders_fault() -> None:
    ours_ = error_of_entry("SendMessageBatch", URL, Failure("Odd", sender_fault=True))
    theirs = error_of_entry("SendMessageBatch", URL, Failure("Odd", sender_fault=False))
    assert type(ours_) is SendError
    assert type(theirs) is QueueError
    assert theirs.transient


def test_entry_that_sqs_may_have_taken_says_so() -> None:
    failure = Failure("MissingResult", "not mentioned", sender_fault=False, maybe_done=True)
    error = error_of_entry("SendMessageBatch", URL, failure)
    assert type(error) is QueueError
    assert (error.transient, error.maybe_done) == (True, True)


# ------------------------------------------------------------------------- sizes


def test_413_is_no_passing_error_whoever_says_it() -> None:
    page = b"<html><body><h1>413 Request Entity Too Large</h1></body></html>"
    said = [Foreign(413, body) for body in (page, b"", b'{"message": "Request Too Long"}')]
    for exc in (*said, refusal("RequestEntityTooLarge", 413), refusal("413", 413)):
        error = ours(exc)
        assert type(error) is QueueError
        assert (error.transient, error.maybe_done, error.code) == (False, False, "413")
        assert "more than the endpoint, or a proxy in between, takes" in str(error)
        assert too_large(error.code, str(error)) == 0


@pytest.mark.parametrize(
    ("code", "text", "limit"),
    [
        ("BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.", 1_048_576),
        ("BatchRequestTooLong", "", 0),
        ("InvalidAttributeValue", "MessageTooLong", 0),  # ElasticMQ
        ("InvalidParameterValue", "Reason: Message must be shorter than 1024 bytes.", 1024),
        ("413", "Request Entity Too Large", 0),
        ("InvalidParameterValue", "The request must contain the parameter MessageGroupId.", None),
        ("InvalidAttributeValue", "Invalid value for the parameter x.", None),
        (None, "", None),
    ],
)
def test_refusal_for_a_size_is_told_from_others(
    code: str | None, text: str, limit: int | None
) -> None:
    assert too_large(code, text) == limit
