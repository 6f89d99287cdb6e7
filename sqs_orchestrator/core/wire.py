"""The wire format, version 1: every name that another program could see.

Attribute names and tag names are spelled here and nowhere else, the forms of queue names in
`names`. The format is a contract with programs that are not ours: the Temporary Queue Client
for Java, `python-sqs-client`, and programs that somebody wrote by hand. So the library writes
exactly what is described, and reads with care: what it reads may be wrong, hostile or old.

From top to bottom: addresses, requests, replies and their errors, dead letters, tags. The
caller's own attributes are in `attributes`. Which addresses may be answered is decided in
`addresses`, and which queues are idle in `sweeping`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .attributes import NUMBER, Attributes, AttributeValue, string
from .checks import NOT_FOR_SQS, checked, message_bytes, quoted, text_of
from .limits import MESSAGE_ATTRIBUTES, MESSAGE_BYTES, RETENTION

_REPLY_ADDRESS: Final = "ResponseQueueUrl"
_TIME_TO_LIVE: Final = "RequestTimeToLive"
_MESSAGE_TYPE: Final = "MessageType"
_CONTENT_TYPE: Final = "ContentType"
_LEGACY_ADDRESS: Final = "ReplyTo"
_LEGACY_ID: Final = "RequestMessageId"
_CORRELATION_ID: Final = "__AmazonSQSVirtualQueuesClient.QueueName"
_ERROR: Final = "ReplyError"
_STREAM: Final = "ReplyStream"
_SEQUENCE: Final = "ReplySequence"
_END: Final = "ReplyEnd"

# The trace context is not among them: those names are the W3C's, and a program that carries
# its own context by hand must be able to write and read them.
RESERVED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            _REPLY_ADDRESS,
            _TIME_TO_LIVE,
            _CONTENT_TYPE,
            _LEGACY_ADDRESS,
            _LEGACY_ID,
            _CORRELATION_ID,
            _ERROR,
            _STREAM,
            _SEQUENCE,
            _END,
        ),
        "is the library's own",
    ),
    _MESSAGE_TYPE: "is the library's own: pass message_type= instead",
}
"""The names that a caller's attributes cannot have, each with the reason."""

_NAMES: Final = RESERVED.keys()

ERROR_CODE_CHARACTERS: Final = 256
"""Characters in the code of an error reply."""

_URL = re.compile(r"https?://[^/\s#]+/[^\s#]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}")


# -------------------------------------------------------------------- addresses


class Malformed(Exception):
    """A request whose attributes break the wire format.

    Attributes:
        reason: What is wrong with it, safe to log.
        reply_to: Where an error reply can go; `None` if no address could be read.
    """

    def __init__(self, reason: str, reply_to: ReplyTo | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply_to = reply_to


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where a request wants its reply, and under which id.

    `str()` turns it into text and `ReplyTo.parse` turns that back, so that a reply can be sent
    later, from any process.

    Attributes:
        queue_url: The reply queue, as the requester names it.
        correlation_id: The id that the reply must carry; `None` if the queue is for this
            reply alone, so that it needs no id.
        request_message_id: The id that a requester of the older Python package looks for.
    """

    queue_url: str
    correlation_id: str | None = None
    request_message_id: str | None = None

    @property
    def id(self) -> str | None:
        """The id by which the requester finds the request, in either of the two attributes."""
        return self.correlation_id if self.correlation_id is not None else self.request_message_id

    def __str__(self) -> str:
        address = (
            self.queue_url
            if self.correlation_id is None
            else f"{self.queue_url}#{self.correlation_id}"
        )
        if self.request_message_id is None:
            return address
        return json.dumps(
            {_REPLY_ADDRESS: address, _LEGACY_ID: self.request_message_id}, separators=(",", ":")
        )

    @classmethod
    def parse(cls, text: object) -> ReplyTo:
        """The address that `str()` turned into *text*.

        Raises:
            ValueError: It is not the text of an address.
        """
        if not isinstance(text, str):
            raise ValueError(f"not a reply address: {quoted(text)}")
        attributes: dict[str, AttributeValue] = {_REPLY_ADDRESS: string(text)}
        if text.startswith("{"):
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                values = {}
            attributes = {name: string(value) for name, value in values.items()}
        try:
            reply_to = _reply_to(attributes)
        except Malformed as error:
            raise ValueError(f"not a reply address: {error.reason}") from None
        if reply_to is None:
            raise ValueError(f"not a reply address: {quoted(text)}")
        return reply_to


def is_legacy(reply_to: ReplyTo) -> bool:
    """Whether the address is of the form that requesters of `python-sqs-client` write, and only
    they."""
    return reply_to.correlation_id is None and reply_to.request_message_id is not None


# --------------------------------------------------------------------- requests


def new_correlation_id() -> str:
    """An id that nobody can guess: 128 random bits, in hex."""
    # From the system each time: a forked process would share a store of random bytes.
    return os.urandom(16).hex()


def request_attributes(
    *,
    reply_queue_url: str,
    correlation_id: str,
    message_type: str | None = None,
    content_type: str | None = None,
    legacy: bool = False,
) -> dict[str, AttributeValue]:
    """The library's own attributes of a request, without the time to live: that is known only
    when the request leaves (`with_time_to_live`)."""
    attributes: dict[str, AttributeValue] = {
        _REPLY_ADDRESS: {"DataType": "String", "StringValue": f"{reply_queue_url}#{correlation_id}"}
    }
    if message_type is not None or content_type is not None:
        attributes |= one_way_attributes(message_type, content_type)
    if legacy:
        attributes[_LEGACY_ADDRESS] = string(reply_queue_url)
        attributes[_LEGACY_ID] = string(correlation_id)
    return attributes


def one_way_attributes(
    message_type: str | None = None, content_type: str | None = None
) -> dict[str, AttributeValue]:
    """The library's own attributes of a message that wants no reply."""
    attributes: dict[str, AttributeValue] = {}
    if message_type is not None:
        attributes[_MESSAGE_TYPE] = string(checked(message_type, "message_type"))
    if content_type is not None:
        attributes[_CONTENT_TYPE] = string(checked(content_type, "content type"))
    return attributes


# SQS keeps no message longer than this, so no time to live need be longer. It also bounds the
# number's digits to ten, so the size of the attribute is known before the number is.
_LONGEST_TIME_TO_LIVE: Final = RETENTION * 1000

TIME_TO_LIVE_BYTES: Final = len(_TIME_TO_LIVE) + len("Number") + len(str(_LONGEST_TIME_TO_LIVE))
"""The most bytes that `with_time_to_live` adds to a message."""


def with_time_to_live(attributes: Attributes, seconds: float) -> Attributes:
    """*attributes*, and the time to live of a request that leaves with *seconds* left; only
    *attributes* if the seconds are infinite. A request that leaves too late gets one
    millisecond."""
    if seconds == math.inf:
        return attributes
    milliseconds = int(min(max(seconds * 1000, 1), _LONGEST_TIME_TO_LIVE))
    value = {"DataType": "Number", "StringValue": str(milliseconds)}
    return {**attributes, _TIME_TO_LIVE: value}


class Request(NamedTuple):
    """What the library's attributes of a received message say.

    Attributes:
        reply_to: Where the reply goes; `None` for a one-way message.
        time_to_live: Seconds, counted from SQS's `SentTimestamp`; `None` means for ever.
        message_type: The route.
        content_type: The media type of the body, if it is neither plain text nor JSON.
    """

    reply_to: ReplyTo | None = None
    time_to_live: float | None = None
    message_type: str | None = None
    content_type: str | None = None


_ONE_WAY: Final = Request()


def parse_request(attributes: Attributes) -> Request:
    """Read the library's attributes of a received message.

    Raises:
        Malformed: They break the wire format.
    """
    if _NAMES.isdisjoint(attributes):
        return _ONE_WAY
    reply_to = _reply_to(attributes)
    time_to_live: float | None = None
    message_type = content_type = None
    if _TIME_TO_LIVE in attributes:
        text = _text(attributes, _TIME_TO_LIVE, reply_to)
        if text is not None:
            if not NUMBER.fullmatch(text) or not 0 <= (milliseconds := float(text)) < math.inf:
                raise Malformed(f"{_TIME_TO_LIVE} is {quoted(text)}", reply_to)
            time_to_live = milliseconds / 1000
    if _MESSAGE_TYPE in attributes:
        message_type = _text(attributes, _MESSAGE_TYPE, reply_to)
    if _CONTENT_TYPE in attributes:
        content_type = _text(attributes, _CONTENT_TYPE, reply_to)
    return Request(reply_to, time_to_live, message_type, content_type)


def _text(attributes: Attributes, name: str, reply_to: ReplyTo | None = None) -> str | None:
    """The text of an attribute; `None` if there is no such attribute."""
    value = attributes.get(name)
    if value is None:
        return None
    text = value.get("StringValue")
    if not isinstance(text, str) or not text:
        raise Malformed(f"{name} is not text", reply_to)
    return text


def _reply_to(attributes: Attributes) -> ReplyTo | None:
    """Where the reply goes. If there are two addresses, the one of the legacy mode is ignored."""
    address = _text(attributes, _REPLY_ADDRESS)
    if address is not None:
        queue_url, mark, correlation_id = address.partition("#")
        if not _URL.fullmatch(queue_url):
            raise Malformed(f"{_REPLY_ADDRESS} is no queue URL: {quoted(address)}")
        if mark and not correlation_id:
            raise Malformed(f"{_REPLY_ADDRESS} has an empty correlation id: {quoted(address)}")
        # An id that no reply can carry would spoil the batch that its reply is in.
        if NOT_FOR_SQS.search(correlation_id):
            raise Malformed(
                f"{_REPLY_ADDRESS} has a character that SQS refuses: {quoted(correlation_id)}"
            )
        plain = ReplyTo(queue_url, correlation_id or None)
        if _LEGACY_ID not in attributes:
            return plain
        return ReplyTo(queue_url, correlation_id or None, _legacy_id(attributes, plain))
    address = _text(attributes, _LEGACY_ADDRESS)
    if address is None:
        return None
    if not _URL.fullmatch(address):
        raise Malformed(f"{_LEGACY_ADDRESS} is no queue URL: {quoted(address)}")
    return ReplyTo(address, None, _legacy_id(attributes))


def _legacy_id(attributes: Attributes, reply_to: ReplyTo | None = None) -> str | None:
    legacy_id = _text(attributes, _LEGACY_ID, reply_to)
    if legacy_id is not None and NOT_FOR_SQS.search(legacy_id):
        raise Malformed(
            f"{_LEGACY_ID} has a character that SQS refuses: {quoted(legacy_id)}", reply_to
        )
    return legacy_id


# ---------------------------------------------------------------------- replies


def reply_attributes(
    reply_to: ReplyTo,
    *,
    content_type: str | None = None,
    error_code: str | None = None,
) -> dict[str, AttributeValue]:
    """The attributes of a reply. The body of a reply with an *error_code* is an `error_body`."""
    attributes: dict[str, AttributeValue] = {}
    if reply_to.correlation_id is not None:
        attributes[_CORRELATION_ID] = {
            "DataType": "String",
            "StringValue": reply_to.correlation_id,
        }
    if reply_to.request_message_id is not None:
        attributes[_LEGACY_ID] = string(reply_to.request_message_id)
    if content_type is not None:
        attributes[_CONTENT_TYPE] = string(content_type)
    if error_code is not None:
        attributes[_ERROR] = string(_acceptable(error_code) or _UNNAMED_ERROR)
    return attributes


class ReplyHead(NamedTuple):
    """What the attributes of a reply say."""

    correlation_id: str | None = None
    error_code: str | None = None
    content_type: str | None = None


def parse_reply(attributes: Attributes) -> ReplyHead:
    """Read the attributes of a reply. An attribute that cannot be read counts as absent, with
    one exception: a reply with an unreadable error code is still an error reply."""
    correlation_id = _lenient(attributes, _CORRELATION_ID)
    if correlation_id is None:
        correlation_id = _lenient(attributes, _LEGACY_ID)
    elif len(attributes) == 1:
        return ReplyHead(correlation_id)
    error_code = _lenient(attributes, _ERROR)
    if error_code is None and _ERROR in attributes:
        error_code = _UNNAMED_ERROR
    return ReplyHead(correlation_id, error_code, _lenient(attributes, _CONTENT_TYPE))


def _lenient(attributes: Attributes, name: str) -> str | None:
    value = attributes.get(name)
    text = value.get("StringValue") if isinstance(value, Mapping) else None
    return text if isinstance(text, str) and text else None


_UNNAMED_ERROR: Final = "handler_error"
_ERROR_TEXT_CHARACTERS: Final = 16_384

ERROR_BODY_BYTES: Final = MESSAGE_BYTES - 8_192
"""The most bytes in the body of an error reply. The rest is left for its attributes."""


def error_body(
    code: str,
    type: str | None = None,  # noqa: A002 - the name is part of the wire format
    message: str = "",
    details: Any = None,
    *,
    limit: int = ERROR_BODY_BYTES,
) -> str:
    """The body of an error reply: JSON that SQS takes, whatever went wrong.

    Details that JSON cannot express travel as their `repr`, or not at all. Details with which
    the body is longer than *limit* bytes are left out. If it is still too long, the message is
    cut short.
    """
    kind = None if type is None else _cut(type, 256)
    head = {"code": _cut(code, ERROR_CODE_CHARACTERS), "type": kind}
    text = _cut(message, _ERROR_TEXT_CHARACTERS)
    body = _json({**head, "message": text, "details": details})
    if body is None:
        try:
            shown = _cut(repr(details), 4096)
        except Exception:  # the __repr__ of a user's class may raise anything
            shown = None
        body = _json({**head, "message": text, "details": shown})
    if body is None or len(body) > limit:
        body = _json({**head, "message": text, "details": None})
    if body is None or len(body) > limit:
        # An escaped character takes at most twelve bytes. 600 characters are for the rest.
        text = text[: max(0, limit // 12 - 600)]
        body = _json({**head, "message": text, "details": None})
    assert body is not None
    return body


def _cut(text: object, most: int) -> str:
    text = text if isinstance(text, str) else text_of(text)
    return text if len(text) <= most else f"{text[:most]}..."


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def parse_error(body: str, code: str) -> tuple[str, str | None, str, Any]:
    """The code, type, message and details of an error reply.

    *code* is that of the attribute, and it counts. A body of another form, from a responder
    that somebody wrote by hand, becomes the message.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return code, None, body, None
    kind, message = value.get("type"), value.get("message")
    return (
        code,
        kind if isinstance(kind, str) and kind else None,
        message if isinstance(message, str) else "",
        value.get("details"),
    )


def _acceptable(code: str) -> str:
    """*code*, cut short, with a question mark for each character that SQS refuses."""
    return NOT_FOR_SQS.sub("?", code[:ERROR_CODE_CHARACTERS])


# ----------------------------------------------------------------- dead letters

# These names are not reserved, so that programs that read a dead-letter queue find them among
# the attributes. No caller uses such names by chance.
_WHY_DEAD: Final = ("code", "reason", "message_id", "handler")
_WHY_DEAD_PREFIX: Final = "sqs_orchestrator."
_REASON_CHARACTERS: Final = 1_000


def dead_letter_attributes(
    attributes: Attributes,
    body: str,
    *,
    code: str,
    reason: str,
    message_id: str,
    handler: str,
) -> dict[str, AttributeValue]:
    """The attributes of a dead letter: those of the message, and four that tell why it is here.

    The four are a code, a reason, the id that the message had, and the handler that rejected
    it, if one did. The attributes of the message come first. If SQS has no room for all four, in
    number or in bytes, the handler is left out first, then the id, and so on. If the message was
    a dead letter before, the four of that time are replaced.
    """
    names = {field: f"{_WHY_DEAD_PREFIX}{field}" for field in _WHY_DEAD}
    whole = {name: value for name, value in attributes.items() if name not in names.values()}
    why = {"code": code, "reason": reason, "message_id": message_id, "handler": handler}
    room = MESSAGE_BYTES - message_bytes(body, whole)
    for field in _WHY_DEAD:
        text = NOT_FOR_SQS.sub("?", why[field][:_REASON_CHARACTERS])
        if not text:
            continue
        more = {names[field]: string(text)}
        room -= message_bytes("", more)
        if len(whole) >= MESSAGE_ATTRIBUTES or room < 0:
            break
        whole |= more
    return whole


def split_dead_letter(attributes: Attributes) -> tuple[dict[str, AttributeValue], dict[str, str]]:
    """The attributes that a dead letter had before it was one, and why it is one: those of
    `code`, `reason`, `message_id` and `handler` that it says."""
    names = {f"{_WHY_DEAD_PREFIX}{field}": field for field in _WHY_DEAD}
    before = {name: value for name, value in attributes.items() if name not in names}
    said = {field: _lenient(attributes, name) for name, field in names.items()}
    return before, {field: text for field, text in said.items() if text is not None}


# ------------------------------------------------------------------------- tags

SWEEPING_TAG: Final = "sqs_orchestrator.sweeping"
"""On a reply queue while its owner sweeps."""

_RETENTION_TAG: Final = "__IdleQueueRetentionPeriodSeconds"
_HEARTBEAT_TAG: Final = "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"
_LEGACY_HEARTBEAT_TAG: Final = "heartbeat"


def reply_queue_tags(
    *, now: float | None, retention: float, sweeping: bool, legacy: bool = False
) -> dict[str, str]:
    """The tags that a reply queue is created with; *now* in epoch seconds by SQS's clock.

    While that time is not known, the queue gets no retention and no heartbeat. With a
    retention alone it would count as idle, and the next sweeper would delete it.
    """
    tags = {} if now is None else heartbeat_tags(now=now, retention=retention, legacy=legacy)
    if sweeping:
        tags[SWEEPING_TAG] = "1"
    return tags


def heartbeat_tags(*, now: float, retention: float, legacy: bool = False) -> dict[str, str]:
    """The tags of one heartbeat; *now* in epoch seconds by SQS's clock."""
    tags = {
        # Rounded up, so that no sweeper takes the queue for idle too early.
        _RETENTION_TAG: str(math.ceil(retention)),
        _HEARTBEAT_TAG: str(math.ceil(now * 1000)),
    }
    if legacy:
        tags[_LEGACY_HEARTBEAT_TAG] = str(math.ceil(now))
    return tags


class Lifetime(NamedTuple):
    """What the tags of a reply queue say about its owner."""

    retention: int
    """Seconds after the heartbeat for which the queue counts as in use."""
    heartbeat_ms: int | None
    """Epoch milliseconds by SQS's clock; `None` where the owner has never written any."""


def parse_lifetime(tags: Mapping[str, str]) -> Lifetime | None:
    """The retention and the heartbeat that *tags* tell. `None` where the queue has no
    retention, or where one of the two cannot be read: then it is not a reply queue of ours."""
    retention = tags.get(_RETENTION_TAG)
    if retention is None or not _DIGITS.fullmatch(retention):
        return None
    heartbeat = tags.get(_HEARTBEAT_TAG)
    if heartbeat is None:
        return Lifetime(int(retention), None)
    return Lifetime(int(retention), int(heartbeat)) if _DIGITS.fullmatch(heartbeat) else None


def parse_legacy_heartbeat(tags: Mapping[str, str]) -> int | None:
    """The heartbeat of a reply queue of `python-sqs-client`, in epoch seconds by the clock of
    its owner's machine. `None` if it is not one: our own, in the legacy mode, have this tag and
    those of a lifetime."""
    heartbeat = tags.get(_LEGACY_HEARTBEAT_TAG)
    if heartbeat is None or not _DIGITS.fullmatch(heartbeat):
        return None
    return None if _RETENTION_TAG in tags or _HEARTBEAT_TAG in tags else int(heartbeat)


def is_sweeping(tags: Mapping[str, str]) -> bool:
    """Whether the owner of a reply queue says that it sweeps."""
    return SWEEPING_TAG in tags


def other_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a reply queue that are not those of its heartbeat: its owner's own."""
    ours = {SWEEPING_TAG, _RETENTION_TAG, _HEARTBEAT_TAG, _LEGACY_HEARTBEAT_TAG}
    return {name: value for name, value in tags.items() if name not in ours}
