"""Exceptions of botocore, aiobotocore and aiohttp, as ours: the one place where that happens.

What they do not say by themselves is whether SQS may have carried the call out:

- before a connection stands, it cannot have;
- once the request is on its way (read timeout, reset, an answer that makes no sense, 5xx),
  it may have;
- a 4xx is a refusal, so it has not;
- where there was nothing to sign with, nothing was sent.

What SQS said, or whoever answered in its place, is on one line in the texts of ours: they get
logged.
"""

from __future__ import annotations

import re
import socket
import time
from http.client import responses
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import botocore.exceptions as boto
from botocore.parsers import ResponseParserError

from ..errors import AccessDenied, QueueError, QueueNotFound, SendError, Throttled
from ..texts import excerpt, without_user_info
from .clock import epoch_of
from .port import Failure

__all__ = [
    "Foreign",
    "NotNow",
    "NotSigned",
    "TooSlow",
    "date_of",
    "error_of",
    "error_of_entry",
    "is_passing",
    "is_skew",
    "may_pass_in_parts",
    "own_code",
    "refusal",
    "short",
    "too_large",
    "unreadable",
]


class Foreign(Exception):
    """An answer that is not SQS's own: its status, what it begins with, and what is odd."""

    def __init__(self, status: int, body: bytes = b"", why: str = "") -> None:
        super().__init__(short(why))
        self.status = status
        self.begins = body[:_PAGE_BYTES]


class TooSlow(TimeoutError):
    """A call was given up since it had lasted as long as any may: *limit* seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit


_PAGE_BYTES: Final = 2_000
_PAGE: Final = 200
"""Of somebody else's answer, so many bytes are kept, and so many characters shown."""

_NOT_FOUND: Final = frozenset({"QueueDoesNotExist", "NonExistentQueue", "InvalidAddress"})

_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "KMS.AccessDeniedException",
        "KMS.OptInRequired",
        "KmsAccessDenied",
        "KmsOptInRequired",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})

_THROTTLES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)

_PASSING: Final = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)

_REFUSED: Final = frozenset(
    {
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "MessageNotInflight",
        "MissingParameter",
        "ReceiptHandleIsInvalid",
        "UnsupportedOperation",
    }
)

_TOO_LARGE: Final = frozenset(
    {
        "413",
        "BatchRequestTooLong",
        "MessageTooLong",
        "PayloadTooLarge",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
    }
)

_TOO_LARGE_TEXT: Final = re.compile(
    r"\bmessage ?too ?(?:long|large)\b|\b(?:shorter|longer|larger) than (\d+) bytes", re.IGNORECASE
)
"""What stands in the text where the code is a general one: `InvalidParameterValue` of a queue
that has a limit of its own, ElasticMQ's `InvalidAttributeValue`."""

# One name for one thing: SQS's JSON protocol, its older query protocol and the servers that
# imitate them do not agree.
_OTHER_NAMES: Final = {
    "NonExistentQueue": "QueueDoesNotExist",
    "QueueAlreadyExists": "QueueNameExists",
}

# A batch needs the permission of the single operation.
_PERMISSIONS: Final = {
    "SendMessageBatch": "sqs:SendMessage",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "CreateQueue": "sqs:CreateQueue (and sqs:TagQueue, since the queue is tagged)",
}

_NO_CREDENTIALS: Final[tuple[type[Exception], ...]] = tuple(
    kind
    for name in (
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "UnknownCredentialError",
        "NoAuthTokenError",
        "TokenRetrievalError",
        "MetadataRetrievalError",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "LoginError",  # not in every version of botocore
    )
    if (kind := getattr(boto, name, None)) is not None
)


class NotSigned(Exception):
    """A call was not made, since the credentials for it could not be fetched.

    Attributes:
        cause: What went wrong.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class NotNow(Exception):
    """A provider of credentials fails, and may well work later."""


_CLOSED_TEXTS: Final = ("Session is closed", "Connector is closed")


def error_of(
    operation: str, queue: str | None, exc: Exception, endpoint: str | None = None
) -> Exception:
    """What to raise instead of *exc*: a `QueueError`, or a `RuntimeError` where the client
    was used after it had been closed. *endpoint* is what *exc* itself may not know."""
    if isinstance(exc, QueueError):
        return exc
    if isinstance(exc, Foreign):
        return _foreign(operation, queue, exc, endpoint)
    if isinstance(exc, boto.ClientError):
        if exc.operation_name == operation:
            return _refusal(operation, queue, exc, endpoint)
        # A session of the caller's fetches its credentials while it signs.
        return _not_signed(operation, queue, exc)
    if isinstance(exc, NotSigned):
        return _not_signed(operation, queue, exc.cause)
    if isinstance(exc, _NO_CREDENTIALS) or _file_of(exc) is not None:
        return _not_signed(operation, queue, exc)
    facts: dict[str, Any] = {"operation": operation, "queue": queue, "code": type(exc).__name__}
    about = f"{operation}{f' on {queue}' if queue else ''}"
    details: dict[str, Any] = getattr(exc, "kwargs", {})
    cause = details.get("error", exc)
    if _means_closed(exc, cause):
        return RuntimeError(f"{about}: the SQS client is closed")
    endpoint, proxy = details.get("endpoint_url") or endpoint, details.get("proxy_url")
    place = f"the endpoint {endpoint}" if endpoint else "the endpoint"
    if proxy:
        place = f"the proxy {without_user_info(proxy)}"
    if isinstance(exc, boto.SSLError | aiohttp.ClientSSLError):
        # A certificate that is not trusted now will not be in a second; a handshake that
        # broke off is one more lost connection.
        return QueueError(
            f"{about}: no secure connection to {place}: {_short(cause)}: check the endpoint URL, a "
            "proxy in between, and the certificates (AWS_CA_BUNDLE)",
            transient="certificate" not in str(cause).lower(),
            **facts,
        )
    if _before_connection(exc, cause):
        return QueueError(
            f"{about}: {place} is unreachable: {_short(cause)}: check the network, the region "
            "and endpoint_url",
            transient=True,
            **facts,
        )
    if isinstance(exc, TooSlow):
        return QueueError(
            f"{about}: {place} did not get its answer across within {exc.limit:.0f} s, the most "
            "that a call may take; SQS may have done it all the same",
            transient=True,
            maybe_done=True,
            **facts,
        )
    if isinstance(exc, boto.ReadTimeoutError | TimeoutError):
        return QueueError(
            f"{about}: {place} did not answer within the read timeout; SQS may have done it "
            "all the same",
            transient=True,
            maybe_done=True,
            **facts,
        )
    # A warning where warnings are errors, as in many tests: trying again would not help.
    if isinstance(cause, aiohttp.InvalidURL | Warning) or (
        isinstance(exc, boto.BotoCoreError) and not isinstance(exc, _TRANSPORT)
    ):
        return QueueError(f"{about}: the call could not be made: {_short(exc)}", **facts)
    if isinstance(exc, _TRANSPORT):
        return QueueError(
            f"{about}: the connection to {place} broke off: {_short(cause)}; SQS may have done "
            "it all the same",
            transient=True,
            maybe_done=True,
            **facts,
        )
    if isinstance(exc, RuntimeError) and not isinstance(exc, RecursionError):
        return exc
    # Left are KeyError, TypeError and their like, out of a parser that met what it does not
    # expect; RecursionError where that is too deep for it.
    name = type(exc).__name__
    return unreadable(operation, queue, f"the client cannot make sense of it: {name}: {exc}", name)


_TRANSPORT: Final = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    aiohttp.ClientError,
    OSError,
)


def _means_closed(exc: Exception, cause: object) -> bool:
    if isinstance(cause, RuntimeError | aiohttp.ClientConnectionError):
        return str(cause).startswith(_CLOSED_TEXTS)
    # aiobotocore drops its sessions when it closes, and stumbles over that.
    return isinstance(exc, boto.HTTPClientError) and isinstance(cause, AttributeError)


def _before_connection(exc: Exception, cause: object) -> bool:
    """Whether *exc* came before a connection stood, so that SQS cannot have seen the call."""
    if isinstance(exc, boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return True
    if isinstance(cause, aiohttp.ClientConnectorError | socket.gaierror | ConnectionRefusedError):
        return True
    # aiohttp has a class of its own for this only since 3.10.
    if isinstance(cause, aiohttp.ServerTimeoutError) and str(cause).startswith("Connection"):
        return True
    # aiobotocore calls a connection that was reset half-way an EndpointConnectionError too:
    # only what aiohttp said tells them apart.
    return isinstance(exc, boto.EndpointConnectionError) and not isinstance(
        cause, OSError | aiohttp.ClientConnectionError
    )


def _foreign(operation: str, queue: str | None, exc: Foreign, endpoint: str | None) -> QueueError:
    """The error of an answer that SQS did not give: passing, whatever it says."""
    status = exc.status
    host = urlsplit(endpoint or "").netloc.rpartition("@")[2] or "the endpoint"
    page = excerpt(exc.begins.decode("utf-8", "replace").strip(), _PAGE)
    facts = [f"{status} {responses.get(status, '')}".strip() + f" from {host}"]
    facts += [str(exc)] if str(exc) else []
    facts += [f"it begins: {page}" if page else "it is empty"]
    text = (
        f"{operation}{f' on {queue}' if queue else ''}: the answer cannot be read as SQS's own"
        f" ({'; '.join(facts)})"
    )
    kind = Throttled if status == 429 else QueueError
    code = "InvalidResponse" if status == 200 else str(status)
    named: dict[str, Any] = {"operation": operation, "queue": queue, "code": code}
    if status == 413:
        # It will be the same the next time, unless there is less to send.
        return QueueError(
            f"{text}: it is more than the endpoint, or a proxy in between, takes", **named
        )
    maybe_done = status < 300 or (status >= 400 and status not in _NOT_PASSED_ON)
    return kind(
        f"{text}: is this an SQS endpoint, or is a proxy, a firewall or a login page in between?"
        f"{' SQS may have done it all the same' if maybe_done else ''}",
        transient=True,
        maybe_done=maybe_done,
        **named,
    )


_NOT_PASSED_ON: Final = frozenset({421, 425, 429})
"""Statuses by which whoever is in between says that it has not passed the request on."""


def _refusal(
    operation: str, queue: str | None, exc: Any, endpoint: str | None = None
) -> QueueError:
    """The error of a response that has an error status."""
    error = exc.response.get("Error") or {}
    metadata = exc.response.get("ResponseMetadata") or {}
    status = metadata.get("HTTPStatusCode") or 0
    code = own_code(short(str(error.get("Code") or ""))) or (str(status) if status else "Unknown")
    said = short(str(error.get("Message") or "no further explanation"))
    facts: dict[str, Any] = {"operation": operation, "queue": queue, "code": code}
    about = f"{operation}{f' on {queue}' if queue else ''}"
    if status and code == str(status):
        # The stock client's word for a code that it has not found.
        return _foreign(operation, queue, Foreign(status, said.encode()), endpoint)
    if status == 413:
        # As often as not a proxy's word, not SQS's; it will be the same the next time.
        return QueueError(
            f"{about}: it is more than the endpoint, or a proxy in between, takes ({code}: {said})",
            **{**facts, "code": "413"},
        )
    if code in _THROTTLES or code.startswith("Throttling.") or status == 429:
        return Throttled(
            f"{about}: SQS asks to slow down ({code}: {said})", transient=True, **facts
        )
    if status >= 500 or status == 408 or code in _PASSING:
        return QueueError(
            f"{about}: the service failed ({code}: {said}); try again later",
            transient=True,
            maybe_done=True,
            **facts,
        )
    if code in _NOT_FOUND:
        return QueueNotFound(
            f"{about}: there is no such queue here, or no permission to see it ({said}): check "
            "its name, the region, the account, and whether it was deleted a moment ago; or make "
            "it, as by create_queue()",
            **facts,
        )
    if is_skew(exc):
        return AccessDenied(
            f"{about}: the signature was refused since this machine's clock is "
            f"{_clock_error(date_of(exc))}: set the clock (NTP) ({code}: {said})",
            **facts,
        )
    if code in _DENIED or status in (401, 403):
        return AccessDenied(f"{about}: {_remedy(operation, code)} ({code}: {said})", **facts)
    if code == "QueueDeletedRecently":
        return QueueError(
            f"{about}: a queue of this name was deleted a moment ago, and SQS refuses the name "
            "for 60 seconds: wait, or take another",
            transient=True,
            **facts,
        )
    if code == "QueueNameExists":
        return QueueError(
            f"{about}: a queue of this name exists with other attributes, and is not altered "
            f"({said})",
            **facts,
        )
    if code.startswith(("KMS.", "Kms")):
        return QueueError(
            f"{about}: the queue's KMS key cannot be used ({code}: {said}): check the key's "
            "state and policy",
            **facts,
        )
    return QueueError(f"{about}: SQS refused it ({code}: {said})", **facts)


def error_of_entry(operation: str, queue: str, failure: Failure) -> QueueError | SendError:
    """The error of one entry of a batch. Its code decides, as that of a refused call does; only
    where the code says nothing, SQS's word on whose fault it is."""
    code, said = failure.code, failure.message
    response = {"Error": {"Code": code, "Message": said}}
    error = _refusal(operation, queue, boto.ClientError(response, operation))
    if type(error) is QueueError and not error.transient and not code.startswith(("KMS.", "Kms")):
        final = code in _REFUSED or too_large(code, said) is not None
        if final or failure.sender_fault:
            text = f"SQS refused an entry of a batch: {code}: {said}"
            return SendError(text, queue=queue, code=code, maybe_sent=failure.maybe_done)
        error.transient = True
    # SQS names what it has not done, so nothing was, unless the port itself says otherwise.
    error.maybe_done = failure.maybe_done
    return error


def may_pass_in_parts(error: QueueError) -> bool:
    """Whether a batch that was refused as a whole may go through without one of its entries, or
    with fewer bytes. The codes are too many to tell what for; it is for neither where it will
    pass, or is about the queue, a permission or the connection."""
    code = error.code or ""
    return (
        type(error) is QueueError
        and not error.transient
        and not error.maybe_done
        and not code.startswith(("KMS.", "Kms"))
        and code not in _NO_CONNECTION
    )


_NO_CONNECTION: Final = frozenset(
    {
        "ClientConnectorCertificateError",
        "ClientConnectorSSLError",
        "InvalidURL",
        "InvalidUrlClientError",
        "SSLError",
    }
)


def is_passing(code: str) -> bool:
    """Whether a refusal with that code is over by itself."""
    code = own_code(code)
    return code in _THROTTLES or code in _PASSING or code.startswith("Throttling.")


def too_large(code: str | None, text: str) -> int | None:
    """Whether that refusal is about a size: `None` where it is not, else the most bytes that its
    *text* says are taken, 0 where it does not say."""
    found = _TOO_LARGE_TEXT.search(text)
    if found is None and code not in _TOO_LARGE:
        return None
    return int(found[1] or 0) if found else 0


def _not_signed(operation: str, queue: str | None, cause: Any) -> QueueError:
    """The error where there was nothing to sign with, for the reason *cause*."""
    facts: dict[str, Any] = {"operation": operation, "queue": queue, "code": type(cause).__name__}
    about = f"{operation}{f' on {queue}' if queue else ''}"
    what = _short(cause)
    advice = "set them in the environment, a profile or a role, or pass them to connect()"
    if isinstance(cause, boto.ClientError):
        error = cause.response.get("Error") or {}
        facts["code"] = code = short(str(error.get("Code") or "Unknown"))
        about = f"{about}: {cause.operation_name} failed, which was to bring the credentials"
        what = f"{code}: {short(str(error.get('Message') or 'no further explanation'))}"
        advice = "check the role, and the token or the credentials that may assume it"
        if code in _EXPIRED:
            advice = "the token or the credentials for it have expired: renew them"
    elif (file := _file_of(cause)) is not None:
        what = f"{file} cannot be read: {_short(cause.strerror)}"
        advice = "check that the file is there, and that this process may read it"
    if _passes(cause):
        kind = Throttled if facts["code"] in _THROTTLES else QueueError
        return kind(
            f"{about}: the AWS credentials cannot be fetched just now ({what}); nothing was sent",
            transient=True,
            **facts,
        )
    return AccessDenied(
        f"{about}: there are no usable AWS credentials ({what}): {advice}; nothing was sent",
        **facts,
    )


def _file_of(cause: Exception) -> str | None:
    """The file that could not be read or run, where that is what went wrong."""
    file = cause.filename if isinstance(cause, OSError) else None
    return short(str(file)) if isinstance(file, str | bytes) else None


_PROVIDERS_PASSING: Final = frozenset({"IDPCommunicationError"})

# As botocore calls them, and as profiles do. The others are files and programs: what is wrong
# with one of those stays so until somebody mends it.
_METADATA_SERVICES: Final = frozenset(
    {None, "container-role", "iam-role", "EcsContainer", "Ec2InstanceMetadata"}
)

_PROVIDERS_STATUS: Final = re.compile(r"non 200 response (\d{3})")


def _passes(cause: Exception) -> bool:
    """Whether a provider of credentials that failed by *cause* may well work later."""
    if isinstance(cause, boto.ClientError):
        error = cause.response.get("Error") or {}
        status = (cause.response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0
        code = str(error.get("Code") or "")
        return (
            status >= 500
            or status in _PASSING_STATUS
            or code in ("", str(status))  # a page of whoever is in between
            or code in _THROTTLES | _PASSING | _PROVIDERS_PASSING
        )
    if isinstance(cause, boto.MetadataRetrievalError | boto.CredentialRetrievalError):
        told = _PROVIDERS_STATUS.search(str(cause))
        if told is not None:
            return int(told[1]) in _PASSING_STATUS or int(told[1]) >= 500
        return getattr(cause, "kwargs", {}).get("provider") in _METADATA_SERVICES
    if isinstance(cause, boto.SSLError):
        return "certificate" not in str(cause).lower()
    return (
        isinstance(cause, (NotNow, KeyError, ResponseParserError, *_TRANSPORT))
        and _file_of(cause) is None
    )


_PASSING_STATUS: Final = frozenset({408, 429})


def own_code(code: str) -> str:
    """SQS's code without the prefix of the query protocol, and always the same one."""
    code = code.removeprefix("AWS.SimpleQueueService.")
    return _OTHER_NAMES.get(code, code)


def _remedy(operation: str, code: str) -> str:
    if code in _EXPIRED:
        return "the credentials have expired: renew them"
    if code.startswith(("KMS.", "Kms")):
        return (
            "no access to the queue's KMS key: grant kms:Decrypt to receive, and "
            "kms:GenerateDataKey too to send"
        )
    if code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"):
        permission = _PERMISSIONS.get(operation, f"sqs:{operation}")
        return f"the permission {permission} is missing: grant it in the IAM or queue policy"
    return "the credentials were refused: check the access key, the secret, the token, the region"


def is_skew(exc: Any) -> bool:
    """Whether a refusal came of a clock: the time signed with is too far from SQS's."""
    error = exc.response.get("Error") or {}
    code, said = own_code(str(error.get("Code") or "")), str(error.get("Message"))
    return code in ("RequestTimeTooSkewed", "RequestExpired") or (
        code in _DENIED
        and code not in _EXPIRED
        and ("Signature expired" in said or "not yet current" in said)
    )


def _clock_error(date: str | None) -> str:
    """How far the machine's clock is from the `Date` of a response, in words."""
    epoch = epoch_of(date)
    if epoch is None:
        return "wrong"
    off = time.time() - epoch
    return f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} SQS's"


def date_of(exc: Any) -> str | None:
    metadata = exc.response.get("ResponseMetadata") or {}
    date: str | None = (metadata.get("HTTPHeaders") or {}).get("date")
    return date


def _short(cause: object) -> str:
    return short(str(cause)) or type(cause).__name__


def short(text: str) -> str:
    """*text* on one line, cut where it is long, and without the password of a URL."""
    return without_user_info(excerpt(text, _MOST))


_MOST: Final = 500
"""Characters of what SQS said that an error repeats."""


def unreadable(
    operation: str, queue: str | None, why: str, code: str = "InvalidResponse"
) -> QueueError:
    return QueueError(
        f"{operation}{f' on {queue}' if queue else ''}: the answer cannot be read ({short(why)}): "
        "is this an SQS endpoint, or is a proxy in between? SQS may have done it all the same",
        operation=operation,
        queue=queue,
        code=code,
        transient=True,
        maybe_done=True,
    )


def refusal(
    operation: str, status: int, code: str, said: str, date: str | None
) -> boto.ClientError:
    """The exception that botocore raises where SQS refuses a call. *date* is the `Date` of the
    refusal, where that can be believed."""
    response = {
        "Error": {"Code": excerpt(code, _MOST), "Message": excerpt(said, 2 * _MOST)},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"date": date}},
    }
    return boto.ClientError(response, operation)
