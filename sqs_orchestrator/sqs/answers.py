"""What is SQS's own answer, and what is somebody else's.

Between the library and SQS may stand an ingress, a firewall, a login page; at the endpoint's
address may be something else altogether. What those say has a status, a `Date` and often a
body, and is not SQS's word: no refusal of theirs ends anything for good, and no clock is set by
it. SQS is known by the form of its answers, and the servers that imitate it have it too:

- A success has status 200 and the media type `application/x-amz-json-1.0`. ElasticMQ says
  `application/json`, as half the web does; there the keys of the answer have to be SQS's.
- A refusal is a JSON object with `__type`, or has the header `x-amzn-query-error`. What is in
  front of SQS at AWS may refuse in the XML of the older protocol, with SQS's own namespace.
  Other XML is read for a code that says that it passes, and for nothing else.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from html import unescape
from typing import Any, Final

import botocore.exceptions as boto

from ..core import limits
from ..jsontext import fast_loads
from .clock import Clock
from .failures import Foreign, date_of, is_passing, is_skew, refusal

__all__ = ["CONTENT_TYPE", "MOST_BYTES", "answer_of", "too_long", "unpacked"]

_read: Final = fast_loads or json.loads

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
"""Of the protocol, and of nothing else."""

MOST_BYTES: Final = limits.BATCH_ENTRIES * (6 * limits.MESSAGE_BYTES + 65_536)
"""The largest answer that SQS can send: a full receive. JSON may write each byte of a message
as six (`\\u0022`), and around it are receipt handle, ids, digests and attribute names."""

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "SendMessageBatch": frozenset({"Successful", "Failed"}),
    "ReceiveMessage": frozenset({"Messages"}),
    "DeleteMessageBatch": frozenset({"Successful", "Failed"}),
    "ChangeMessageVisibilityBatch": frozenset({"Successful", "Failed"}),
    "GetQueueUrl": frozenset({"QueueUrl"}),
    "CreateQueue": frozenset({"QueueUrl"}),
    "GetQueueAttributes": frozenset({"Attributes"}),
    "ListQueues": frozenset({"QueueUrls", "NextToken"}),
    "ListQueueTags": frozenset({"Tags"}),
}
"""What SQS says to an operation, if it says anything."""


def answer_of(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, clock: Clock
) -> dict[str, Any]:
    """The object that SQS answered, an empty one where it had nothing to say. *clock* takes the
    time of an answer that is SQS's beyond doubt, since nobody else's has that form.

    *headers* takes their names in any case; *body* is unpacked.

    Raises:
        ClientError: SQS refused the call; as botocore raises it.
        Foreign: It is nobody's answer that we know.
    """
    if status >= 400:
        raise _refusal(operation, status, headers, body, clock)
    kind = headers.get("Content-Type") or ""
    if status != 200:
        where = headers.get("Location")
        why = f"a redirection to {where}, which is not followed" if where else ""
        raise Foreign(status, body, why)
    sure = kind.startswith(CONTENT_TYPE)
    if not sure and not kind.startswith("application/json") and (body or kind):
        page = "an HTML page" if "html" in kind else f"of the media type {kind or 'of nothing'}"
        raise Foreign(status, body, f"it is {page}")
    try:
        try:
            value = _read(body.decode()) if body else {}
        except Exception:  # where a library refuses it, the standard one decides
            value = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Foreign(status, body, f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Foreign(status, body, "it is no JSON object")
    if value and not sure:
        if _KEYS.get(operation, frozenset()).isdisjoint(value):
            raise Foreign(status, body, f"it says nothing that SQS says to {operation}")
        sure = True
    if sure and (date := headers.get("Date")) != clock.date:
        clock.observe(date)
    return value


# ------------------------------------------------------------------------------ refusals


def _refusal(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, clock: Clock
) -> boto.ClientError | Foreign:
    error = _told(operation, status, headers, body)
    if isinstance(error, boto.ClientError):
        take = clock.correct if is_skew(error) else clock.glimpse
        take(date_of(error))
    return error


def _told(
    operation: str, status: int, headers: Mapping[str, str], body: bytes
) -> boto.ClientError | Foreign:
    kind = headers.get("Content-Type") or ""
    query = (headers.get("x-amzn-query-error") or "").partition(";")[0]
    date = headers.get("Date")
    text = body[:_MOST_SAID].decode("utf-8", "replace")
    html = "html" in kind
    told = None if html else _object(text)
    if told is not None:
        own = told.get("__type")
        own = own if isinstance(own, str) else ""
        # "AWS.SimpleQueueService.NonExistentQueue;Sender": the codes of the older protocol are
        # what SQS is documented by, and finer than the types of the newer.
        if code := query or own.partition(":")[0].rpartition("#")[2]:
            said = told.get("message") or told.get("Message") or ""
            return refusal(operation, status, code, str(said), date)
    elif query:
        return refusal(operation, status, query, text, date)
    elif not html and (code := _first(_CODE, text) or _first(_ROOT, text)):
        said = unescape(_first(_MESSAGE, text))
        if _NAMESPACE.search(text):
            return refusal(operation, status, code, said, date)
        if is_passing(code):
            return refusal(operation, status, code, said, None)
    return Foreign(status, body, "it is an HTML page" if html else "")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


_MOST_SAID: Final = 65_536
"""Bytes of an error in which SQS has said all that it says."""

# The code of an error in XML; the name of the root has it where there is no such element.
_CODE: Final = re.compile(r"<Code>\s*([\w.]{1,100})\s*</Code>")
_ROOT: Final = re.compile(r"^\s*(?:<\?xml[^>]*>\s*)?<(\w{1,100})")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>", re.IGNORECASE)
_NAMESPACE: Final = re.compile(
    r"""^\s*(?:<\?xml[^>]*>\s*)?<ErrorResponse\s[^>]*xmlns=["']https?://queue\.amazonaws\.com/doc/"""
)


# ------------------------------------------------------------------------- what is packed


def unpacked(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """*body* as it was before somebody on the way compressed it, which nobody had asked for.

    Raises:
        Foreign: It is larger than what SQS can send, or cannot be unpacked.
    """
    if len(body) > MOST_BYTES:
        raise too_long(status, body)
    packing = (headers.get("Content-Encoding") or "identity").strip().lower()
    if packing == "identity":
        return body
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise Foreign(status, body, f"it is packed by {packing}, which nobody had asked for")
    try:
        return _unpacked(status, body, raw=packing == "deflate" and body[:1] not in _ZLIB)
    except zlib.error as error:
        raise Foreign(status, body, f"it is no {packing}, as it says that it is: {error}") from None


_ZLIB: Final = (b"\x08", b"\x18", b"\x28", b"\x38", b"\x48", b"\x58", b"\x68", b"\x78")
"""What zlib's format begins with; `deflate` without it is sent, too."""


def _unpacked(status: int, body: bytes, *, raw: bool) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
    unpacked = unpacker.decompress(body, MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise too_long(status, unpacked)
    if body and not unpacker.eof:
        raise zlib.error("it breaks off")
    return unpacked


def too_long(status: int, begins: bytes) -> Foreign:
    """An answer that was given up, since it is larger than what SQS can send."""
    return Foreign(status, begins, f"it is larger than {MOST_BYTES} bytes, the most that SQS sends")
