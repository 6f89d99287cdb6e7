"""The wire format, version 1: every name that another program could see.

Attribute names, tag names and the forms of queue names are spelled here and nowhere else.
The format is a contract with programs that are not ours: the Temporary Queue Client for
Java, `python-sqs-client`, and whatever somebody wrote by hand. So what is written is exact,
and what is read is taken as it comes: it may be wrong, hostile or merely old.

From top to bottom: addresses and requests, replies, the caller's own attributes, bodies and
sizes, names of queues, tags and sweeping. Whether an address may be answered is decided in
`addresses`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..errors import InvalidMessage, MessageTooLarge
from .limits import (
    ATTRIBUTE_NAME_CHARACTERS,
    DELAY,
    GROUP_ID_CHARACTERS,
    MESSAGE_ATTRIBUTES,
    MESSAGE_BYTES,
    QUEUE_NAME_CHARACTERS,
    RETENTION,
)

AttributeValue: TypeAlias = Mapping[str, Any]
Attributes: TypeAlias = Mapping[str, AttributeValue]
PlainValue: TypeAlias = str | int | float | bytes

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
_RESERVED: Final = frozenset(
    {
        _REPLY_ADDRESS,
        _TIME_TO_LIVE,
        _MESSAGE_TYPE,
        _CONTENT_TYPE,
        _LEGACY_ADDRESS,
        _LEGACY_ID,
        _CORRELATION_ID,
        _ERROR,
        _STREAM,
        _SEQUENCE,
        _END,
    }
)

DEFAULT_PREFIX: Final = "sqs_orchestrator_reply_"
"""With what the names of our own reply queues begin, if nothing else is said."""

JAVA_PREFIX: Final = "__RequesterClientQueues__"
"""With what the names of the Java client's reply queues begin."""

LEGACY_PREFIX: Final = "reply_queue_"
"""With what the names of `python-sqs-client`'s reply queues begin."""

# SQS names the characters that it takes. Those that it does not are few, and compile faster.
_NOT_FOR_SQS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_URL = re.compile(r"https?://[^/\s#]+/[^\s#]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,128}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,256}\.?[0-9]{0,256}|\.[0-9]{1,256})(?:[eE][+-]?[0-9]{1,4})?")


def quoted(text: object, most: int = 80) -> str:
    """*text* in a form that is safe in a log line: quoted, ASCII, on one line, cut short."""
    text = text if isinstance(text, str) else repr(text)
    return ascii(text) if len(text) <= most else f"{text[:most]!a}..."


def _string(text: str) -> AttributeValue:
    return {"DataType": "String", "StringValue": text}


def _number(text: str) -> AttributeValue:
    return {"DataType": "Number", "StringValue": text}


# -------------------------------------------------------------------- addresses


class Malformed(Exception):
    """A request whose attributes break the wire format.

    Attributes:
        reason: What is wrong with it, safe to log.
        reply_to: Where to say so, if an address could be read all the same.
    """

    def __init__(self, reason: str, reply_to: ReplyTo | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply_to = reply_to


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where, and under which id, a request wants its reply.

    It turns into a string and back (`ReplyTo.parse`), so that a reply can be sent later,
    from any process.

    Attributes:
        queue_url: The reply queue, as the requester names it.
        correlation_id: The id that the reply must carry; `None` where the address is a
            queue of its own and needs none.
        request_message_id: The id that a requester of the older Python package looks for.
    """

    queue_url: str
    correlation_id: str | None = None
    request_message_id: str | None = None

    @property
    def id(self) -> str | None:
        """The id that ties the reply to its request, whichever attribute carries it."""
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
        """The address that *text*, made by `str()`, stands for.

        Raises:
            ValueError: It stands for none.
        """
        if not isinstance(text, str):
            raise ValueError(f"not a reply address: {quoted(text)}")
        attributes: dict[str, AttributeValue] = {_REPLY_ADDRESS: _string(text)}
        if text.startswith("{"):
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                values = {}
            attributes = {name: _string(value) for name, value in values.items()}
        try:
            reply_to = _reply_to(attributes)
        except Malformed as error:
            raise ValueError(f"not a reply address: {error.reason}") from None
        if reply_to is None:
            raise ValueError(f"not a reply address: {quoted(text)}")
        return reply_to


# --------------------------------------------------------------------- requests


def request_attributes(
    *,
    reply_queue_url: str,
    correlation_id: str,
    message_type: str | None = None,
    content_type: str | None = None,
    legacy: bool = False,
) -> dict[str, AttributeValue]:
    """The library's own attributes of a request, all but the time to live: that is known
    only when the request leaves (`with_time_to_live`)."""
    attributes = one_way_attributes(message_type, content_type)
    attributes[_REPLY_ADDRESS] = _string(f"{reply_queue_url}#{correlation_id}")
    if legacy:
        attributes[_LEGACY_ADDRESS] = _string(reply_queue_url)
        attributes[_LEGACY_ID] = _string(correlation_id)
    return attributes


def one_way_attributes(
    message_type: str | None = None, content_type: str | None = None
) -> dict[str, AttributeValue]:
    """The library's own attributes of a message that wants no reply."""
    attributes: dict[str, AttributeValue] = {}
    if message_type is not None:
        attributes[_MESSAGE_TYPE] = _string(_checked(message_type, "message_type"))
    if content_type is not None:
        attributes[_CONTENT_TYPE] = _string(_checked(content_type, "content type"))
    return attributes


# No message outlives SQS's longest retention, so neither need its time to live; and a
# number of at most ten digits has a known size before it is known itself.
_LONGEST_TIME_TO_LIVE: Final = RETENTION * 1000

TIME_TO_LIVE_BYTES: Final = len(_TIME_TO_LIVE) + len("Number") + len(str(_LONGEST_TIME_TO_LIVE))
"""The most bytes that `with_time_to_live` adds to a message."""


def with_time_to_live(attributes: Attributes, seconds: float) -> Attributes:
    """*attributes* and the time to live of a request that leaves now, with *seconds* left;
    just *attributes* where that is forever. What leaves too late has a millisecond left."""
    if seconds == math.inf:
        return attributes
    milliseconds = int(min(max(seconds * 1000, 1), _LONGEST_TIME_TO_LIVE))
    return {**attributes, _TIME_TO_LIVE: _number(str(milliseconds))}


@dataclass(frozen=True, slots=True)
class Request:
    """What the wire's attributes of a received message say.

    Attributes:
        reply_to: Where the reply goes; `None` for a one-way message.
        time_to_live: Seconds from SQS's `SentTimestamp` on; `None` means forever.
        message_type: The route.
        content_type: The media type of the body, where it is neither plain text nor JSON.
    """

    reply_to: ReplyTo | None = None
    time_to_live: float | None = None
    message_type: str | None = None
    content_type: str | None = None


_ONE_WAY: Final = Request()


def parse_request(attributes: Attributes) -> Request:
    """What the wire's attributes of a received message say.

    Raises:
        Malformed: They break the wire format.
    """
    if _RESERVED.isdisjoint(attributes):
        return _ONE_WAY
    reply_to = _reply_to(attributes)
    time_to_live: float | None = None
    text = _text(attributes, _TIME_TO_LIVE, reply_to)
    if text is not None:
        if not _NUMBER.fullmatch(text) or not 0 <= (milliseconds := float(text)) < math.inf:
            raise Malformed(f"{_TIME_TO_LIVE} is {quoted(text)}", reply_to)
        time_to_live = milliseconds / 1000
    return Request(
        reply_to,
        time_to_live,
        _text(attributes, _MESSAGE_TYPE, reply_to),
        _text(attributes, _CONTENT_TYPE, reply_to),
    )


def _text(attributes: Attributes, name: str, reply_to: ReplyTo | None = None) -> str | None:
    """The text of an attribute, `None` where there is no such attribute."""
    value = attributes.get(name)
    if value is None:
        return None
    text = value.get("StringValue")
    if not isinstance(text, str) or not text:
        raise Malformed(f"{name} is not text", reply_to)
    return text


def _reply_to(attributes: Attributes) -> ReplyTo | None:
    """Where the reply goes. The plain address wins over the legacy one."""
    address = _text(attributes, _REPLY_ADDRESS)
    if address is not None:
        queue_url, mark, correlation_id = address.partition("#")
        if not _URL.fullmatch(queue_url):
            raise Malformed(f"{_REPLY_ADDRESS} is no queue URL: {quoted(address)}")
        if mark and not correlation_id:
            raise Malformed(f"{_REPLY_ADDRESS} has an empty correlation id: {quoted(address)}")
        _check_sendable(_REPLY_ADDRESS, correlation_id)
        plain = ReplyTo(queue_url, correlation_id or None)
        legacy_id = _text(attributes, _LEGACY_ID, plain)
        _check_sendable(_LEGACY_ID, legacy_id, plain)
        return plain if legacy_id is None else ReplyTo(queue_url, correlation_id or None, legacy_id)
    address = _text(attributes, _LEGACY_ADDRESS)
    if address is None:
        return None
    if not _URL.fullmatch(address):
        raise Malformed(f"{_LEGACY_ADDRESS} is no queue URL: {quoted(address)}")
    legacy_id = _text(attributes, _LEGACY_ID)
    _check_sendable(_LEGACY_ID, legacy_id)
    return ReplyTo(address, None, legacy_id)


def _check_sendable(name: str, id_: str | None, reply_to: ReplyTo | None = None) -> None:
    """Refuse an id that no reply can carry: it would spoil the batch that its reply is in."""
    if id_ and _NOT_FOR_SQS.search(id_):
        raise Malformed(f"{name} has a character that SQS refuses: {quoted(id_)}", reply_to)


# ---------------------------------------------------------------------- replies


def reply_attributes(
    reply_to: ReplyTo,
    *,
    content_type: str | None = None,
    error_code: str | None = None,
    stream: str | None = None,
    sequence: int | None = None,
    end: bool = False,
) -> dict[str, AttributeValue]:
    """The attributes of a reply. One with an *error_code* has an `error_body`."""
    attributes: dict[str, AttributeValue] = {}
    if reply_to.correlation_id is not None:
        attributes[_CORRELATION_ID] = _string(reply_to.correlation_id)
    if reply_to.request_message_id is not None:
        attributes[_LEGACY_ID] = _string(reply_to.request_message_id)
    if content_type is not None:
        attributes[_CONTENT_TYPE] = _string(content_type)
    if error_code is not None:
        attributes[_ERROR] = _string(_acceptable(error_code) or _UNNAMED_ERROR)
    if stream is not None:
        attributes[_STREAM] = _string(stream)
    if sequence is not None:
        attributes[_SEQUENCE] = _number(str(sequence))
    if end:
        attributes[_END] = _string("true")
    return attributes


class ReplyHead(NamedTuple):
    """What the attributes of a reply say."""

    correlation_id: str | None = None
    error_code: str | None = None
    content_type: str | None = None
    stream: str | None = None
    sequence: int | None = None
    end: bool = False


def parse_reply(attributes: Attributes) -> ReplyHead:
    """What the attributes of a reply say. What cannot be read counts as absent, except that
    a reply with an unreadable error code is still a failure."""
    correlation_id = _lenient(attributes, _CORRELATION_ID)
    if correlation_id is None:
        correlation_id = _lenient(attributes, _LEGACY_ID)
    elif len(attributes) == 1:
        return ReplyHead(correlation_id)
    error_code = _lenient(attributes, _ERROR)
    if error_code is None and _ERROR in attributes:
        error_code = _UNNAMED_ERROR
    sequence = _lenient(attributes, _SEQUENCE)
    return ReplyHead(
        correlation_id,
        error_code,
        _lenient(attributes, _CONTENT_TYPE),
        _lenient(attributes, _STREAM),
        int(sequence) if sequence is not None and _DIGITS.fullmatch(sequence) else None,
        _lenient(attributes, _END) == "true",
    )


def _lenient(attributes: Attributes, name: str) -> str | None:
    value = attributes.get(name)
    text = value.get("StringValue") if isinstance(value, Mapping) else None
    return text if isinstance(text, str) and text else None


_UNNAMED_ERROR: Final = "handler_error"
_ERROR_TEXT_CHARACTERS: Final = 16_384

ERROR_BODY_BYTES: Final = MESSAGE_BYTES - 8_192
"""The most bytes in the body of an error reply: room is left for its attributes."""


def error_body(
    code: str,
    type: str | None = None,  # noqa: A002 - the name is part of the wire format
    message: str = "",
    details: Any = None,
    *,
    limit: int = ERROR_BODY_BYTES,
) -> str:
    """The body of an error reply: JSON that SQS takes, whatever went wrong.

    Details that JSON cannot carry travel as their `repr`, or not at all; so do those that
    make the body longer than *limit* bytes. The message is then cut, too.
    """
    head = {"code": _cut(code, 256), "type": None if type is None else _cut(type, 256)}
    text = _cut(message, _ERROR_TEXT_CHARACTERS)
    body = _json({**head, "message": text, "details": details})
    if body is None:
        try:
            shown = _cut(repr(details), 4096)
        except Exception:  # somebody else's __repr__ may do anything
            shown = None
        body = _json({**head, "message": text, "details": shown})
    if body is None or len(body) > limit:
        body = _json({**head, "message": text, "details": None})
    if body is None or len(body) > limit:
        # An escaped character takes at most twelve bytes; the rest may, too.
        text = text[: max(0, limit // 12 - 600)]
        body = _json({**head, "message": text, "details": None})
    assert body is not None
    return body


def _cut(text: object, most: int) -> str:
    if not isinstance(text, str):
        try:
            text = str(text)
        except Exception:  # somebody else's __str__ may do anything
            text = type(text).__name__
    return text if len(text) <= most else f"{text[:most]}..."


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def parse_error(body: str, code: str) -> tuple[str, str | None, str, Any]:
    """Code, type, message and details of an error reply.

    The code is that of the attribute. A body that is not as it should be, since somebody
    wrote the responder by hand, is the message.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return code, None, _cut(body, _ERROR_TEXT_CHARACTERS), None
    kind, message = value.get("type"), value.get("message")
    return (
        code,
        kind if isinstance(kind, str) and kind else None,
        message if isinstance(message, str) else "",
        value.get("details"),
    )


def _acceptable(text: str, most: int = 256) -> str:
    """*text* without what SQS refuses, cut short."""
    return _NOT_FOR_SQS.sub("?", text[:most])


# -------------------------------------------------- the caller's own attributes

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TYPE = re.compile(r"(String|Number|Binary)(?:\.[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+)?")
_SMALLEST = Decimal("1e-128")
_LARGEST = Decimal("1e126")
_NUMBER_DIGITS: Final = 38


def to_attributes(values: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The caller's attributes as SQS wants them.

    A `str` is a String, an `int`, `float` or `Decimal` a Number, `bytes` a Binary. A value
    in the shape of the SQS API (`{"DataType": "String", "StringValue": "…"}`) is taken too.

    Raises:
        InvalidMessage: SQS would refuse a name or a value, or the name is the library's.
    """
    attributes: dict[str, AttributeValue] = {}
    for name, value in values.items():
        fault = _name_fault(name)
        if fault:
            raise InvalidMessage(f"the attribute name {quoted(name)} {fault}")
        if isinstance(value, str):
            attributes[name] = _string(_checked(value, f"attribute {name!r}"))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            attributes[name] = {"DataType": "Binary", "BinaryValue": _binary(name, value)}
        elif isinstance(value, bool):
            raise InvalidMessage(
                f"attribute {name!r} is a bool, which SQS does not have: use a str or an int"
            )
        elif isinstance(value, (int, float, Decimal)):
            attributes[name] = _number(_number_text(name, value))
        elif value is None:
            raise InvalidMessage(f"attribute {name!r} is None, which SQS does not have: omit it")
        elif isinstance(value, Mapping):
            attributes[name] = _as_given(name, value)
        else:
            raise InvalidMessage(
                f"attribute {name!r} is of type {type(value).__name__}: SQS has str, numbers "
                "and bytes"
            )
    return attributes


@lru_cache(maxsize=1024)
def _name_fault(name: object) -> str | None:
    if not isinstance(name, str):
        return "is not a str"
    if not name:
        return "is empty"
    if len(name) > ATTRIBUTE_NAME_CHARACTERS:
        return f"is longer than the {ATTRIBUTE_NAME_CHARACTERS} characters that SQS takes"
    if not _NAME.fullmatch(name):
        return "has characters that SQS refuses: it takes A-Z, a-z, 0-9, '_', '-' and '.'"
    if name.startswith(".") or name.endswith(".") or ".." in name:
        return "begins or ends with a period, or has two in a row: SQS refuses that"
    if name.lower().startswith(("aws.", "amazon.")):
        return "begins with a prefix that SQS keeps for itself"
    if name == _MESSAGE_TYPE:
        return "is the library's own: pass message_type= instead"
    if name in _RESERVED:
        return "is the library's own"
    return None


def _checked(text: object, what: str) -> str:
    """*text*, which SQS takes as the value of an attribute."""
    if not isinstance(text, str):
        raise InvalidMessage(f"the {what} is of type {type(text).__name__}, not str")
    if not text:
        raise InvalidMessage(f"the {what} is empty: SQS refuses empty strings")
    _check_characters(text, what)
    # A subclass, such as a member of a StrEnum, may turn into something else on its way.
    return text if type(text) is str else str.__str__(text)


def _binary(name: str, value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise InvalidMessage(f"attribute {name!r} has a BinaryValue that is not bytes")
    data = bytes(value)
    if not data:
        raise InvalidMessage(f"attribute {name!r} is empty: SQS refuses empty values")
    return data


def _number_text(name: str, value: float | Decimal) -> str:
    if isinstance(value, int):
        if -(10**_NUMBER_DIGITS) < value < 10**_NUMBER_DIGITS:
            return int.__repr__(value)
        # Turning a huge number into text could take long, or be refused by Python.
        _check_number(name, Decimal(value) if abs(value) <= 10**127 else _LARGEST * 10)
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        _check_number(name, Decimal(text))
        return text
    _check_number(name, value)
    return str(value)


def _check_number(name: str, value: Decimal) -> None:
    if not value.is_finite():
        raise InvalidMessage(f"attribute {name!r} is {value}, which SQS does not have")
    if value and not _SMALLEST <= value.copy_abs() <= _LARGEST:
        raise InvalidMessage(
            f"attribute {name!r} is out of range: SQS takes magnitudes of 1e-128 to 1e126"
        )
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    if len(digits) > _NUMBER_DIGITS:
        raise InvalidMessage(
            f"attribute {name!r} has {len(digits)} digits: SQS takes {_NUMBER_DIGITS}"
        )


def _as_given(name: str, value: Mapping[Any, Any]) -> AttributeValue:
    """An attribute in the shape of the SQS API."""
    kind = value.get("DataType")
    match = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if match is None or len(match[0]) > ATTRIBUTE_NAME_CHARACTERS:
        raise InvalidMessage(
            f"attribute {name!r} has the DataType {quoted(kind)}: SQS takes String, Number and "
            "Binary, and each with a label, such as String.iso-date"
        )
    field = "BinaryValue" if match[1] == "Binary" else "StringValue"
    if field not in value or any(value[key] for key in value.keys() - {"DataType", field}):
        raise InvalidMessage(f"attribute {name!r} of DataType {kind} must have just a {field}")
    content = value[field]
    if field == "BinaryValue":
        return {"DataType": kind, field: _binary(name, content)}
    content = _checked(content, f"attribute {name!r}")
    if match[1] == "Number":
        if not _NUMBER.fullmatch(content):
            raise InvalidMessage(f"attribute {name!r} is no number: {quoted(content)}")
        _check_number(name, Decimal(content))
    return {"DataType": kind, field: content}


def check_count(attributes: Attributes, *, time_to_live: bool = False) -> None:
    """Check the number of attributes of a message, the caller's and the library's; with
    *time_to_live* one more will join them when it leaves.

    Raises:
        InvalidMessage: There are more than SQS takes.
    """
    count = len(attributes) + time_to_live
    if count > MESSAGE_ATTRIBUTES:
        own = len(_RESERVED.intersection(attributes)) + time_to_live
        raise InvalidMessage(
            f"the message has {count} attributes, and SQS takes {MESSAGE_ATTRIBUTES}: the "
            f"library itself uses {own}, which leaves {MESSAGE_ATTRIBUTES - own} for yours"
        )


def plain_attributes(attributes: Attributes) -> dict[str, PlainValue]:
    """The attributes of a received message as plain values, without the wire's own. What
    says that it is a number and is none stays text."""
    plain: dict[str, PlainValue] = {}
    for name, value in attributes.items():
        if name in _RESERVED or not isinstance(value, Mapping):
            continue
        text = value.get("StringValue")
        kind = value.get("DataType")
        if not isinstance(text, str):
            data = value.get("BinaryValue")
            if isinstance(data, bytes):
                plain[name] = data
        elif isinstance(kind, str) and kind.startswith("Number"):
            plain[name] = _plain_number(text)
        else:
            plain[name] = text
    return plain


def _plain_number(text: str) -> PlainValue:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


# ------------------------------------------------------------- bodies and sizes


def check_body(body: str) -> None:
    """Check that SQS takes *body*.

    Raises:
        InvalidMessage: It is empty, or has a character that SQS refuses.
    """
    if not body:
        raise InvalidMessage("the body is empty: SQS refuses empty bodies")
    _check_characters(body, "body")


def _check_characters(text: str, what: str) -> None:
    # Both ways round the search are many times faster than it. In ASCII only control
    # characters can be wrong; and what is printable is a subset of what SQS takes.
    if text.isascii():
        if not text.encode().translate(None, _ASCII_FOR_SQS):
            return
    elif text.isprintable():
        return
    found = _NOT_FOR_SQS.search(text)
    if found:
        raise InvalidMessage(
            f"the {what} has U+{ord(found[0]):04X} at position {found.start()}, a character "
            "that SQS refuses"
        )


_ASCII_FOR_SQS: Final = bytes([9, 10, 13, *range(32, 128)])


def message_bytes(body: str, attributes: Attributes) -> int:
    """The size of a message by SQS's count: body, and names, types and values of attributes."""
    size = _bytes(body)
    for name, value in attributes.items():
        content = value.get("StringValue")
        if content is None:
            size += len(value.get("BinaryValue", b""))
        else:
            size += _bytes(content)
        size += len(name) + _bytes(value["DataType"])
    return size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def check_size(size: int, queue: str | None = None) -> None:
    """Check the `message_bytes` of a message.

    Raises:
        MessageTooLarge: There are more than SQS takes.
    """
    if size > MESSAGE_BYTES:
        raise MessageTooLarge(
            f"the message has {size} bytes with its attributes, and SQS takes {MESSAGE_BYTES}",
            queue=queue,
            size=size,
            limit=MESSAGE_BYTES,
        )


_GROUP_ID = re.compile(r"[!-~]+")


def check_group_id(group_id: object) -> None:
    """Raises `InvalidMessage` where SQS would refuse *group_id*."""
    _check_id(group_id, "group_id")


def check_deduplication_id(deduplication_id: object) -> None:
    """Raises `InvalidMessage` where SQS would refuse *deduplication_id*."""
    _check_id(deduplication_id, "deduplication_id")


def _check_id(value: object, what: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= GROUP_ID_CHARACTERS:
        raise InvalidMessage(f"{what} is not a str of 1 to {GROUP_ID_CHARACTERS} characters")
    if not _GROUP_ID.fullmatch(value):
        raise InvalidMessage(
            f"{what} is {quoted(value)}: SQS takes ASCII letters, digits and punctuation"
        )


def check_delay(delay: object) -> int:
    """*delay* in the whole seconds that SQS knows, rounded up: never early.

    Raises:
        InvalidMessage: It is not within 0 to 900.
    """
    if not isinstance(delay, (int, float)) or not 0 <= delay <= DELAY:
        raise InvalidMessage(f"the delay is {quoted(delay)}: SQS takes 0 to {DELAY:.0f} seconds")
    return math.ceil(delay)


# -------------------------------------------------------------- names of queues

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RANDOM = re.compile(r"[0-9a-f]{32}")
_RANDOM_DIGITS: Final = 32
_DEAD_LETTERS: Final = "_DLQ"
_FAILOVER: Final = "-Failover"


def new_correlation_id() -> str:
    """An id that nobody can guess: 128 random bits, in hex."""
    # Straight from the system: a store of random bytes would be shared across a fork.
    return os.urandom(16).hex()


def new_reply_queue_name(prefix: str) -> str:
    """A name that was never used before: SQS refuses a deleted one for a minute."""
    return prefix + os.urandom(_RANDOM_DIGITS // 2).hex()


def is_own_form(prefix: str, name: str) -> bool:
    """Whether *name* is one of `new_reply_queue_name`: nobody but its maker can read it."""
    return name.startswith(prefix) and _RANDOM.fullmatch(name, len(prefix)) is not None


def check_prefix(prefix: str) -> None:
    """Check the prefix of reply queues.

    Raises:
        ValueError: SQS would refuse the names that it makes.
    """
    most = QUEUE_NAME_CHARACTERS - _RANDOM_DIGITS
    if not 0 < len(prefix) <= most:
        raise ValueError(f"a prefix has 1 to {most} characters, not {quoted(prefix)}")
    if not _QUEUE_NAME.fullmatch(prefix):
        raise ValueError(
            f"a prefix has ASCII letters, digits, '-' and '_', not {quoted(prefix)}: SQS takes "
            "no others in a queue's name"
        )


def queue_name_of(url: str) -> str:
    """The queue's name, from its URL or from the name itself."""
    return url.rpartition("/")[2]


def account_of(url: str) -> str | None:
    """The account in a queue's URL; `None` where it has none."""
    parts = url.rsplit("/", 2)
    return parts[1] if len(parts) == 3 and "://" in parts[0] else None


def failover_url(url: str) -> str:
    """Where a Java requester listens too, when its reply queue has vanished."""
    return url + _FAILOVER


def is_sweepers(prefix: str, name: str) -> bool:
    """Whether *name* is a queue of the Java sweeper of *prefix*. They carry serialized
    objects: nobody else may write to them, read them or delete them."""
    return name == prefix or is_sweepers_dead_letters(prefix, name)


def is_sweepers_dead_letters(prefix: str, name: str) -> bool:
    """Whether *name* is the dead-letter queue of the Java sweeper of *prefix*."""
    return name == prefix + _DEAD_LETTERS


# ----------------------------------------------------------- tags and sweeping

SWEEPING_TAG: Final = "sqs_orchestrator.sweeping"
"""On a reply queue while its owner sweeps."""

_RETENTION_TAG: Final = "__IdleQueueRetentionPeriodSeconds"
_HEARTBEAT_TAG: Final = "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"
_LEGACY_HEARTBEAT_TAG: Final = "heartbeat"

Verdict: TypeAlias = Literal["live", "idle", "foreign"]


def reply_queue_tags(
    *, now: float | None, retention: float, sweeping: bool, legacy: bool = False
) -> dict[str, str]:
    """The tags that a reply queue is created with; *now* in epoch seconds by SQS's clock.

    While that is not known, the queue bears no mark of the idle at all: one without a
    heartbeat counts as idle, and the next sweeper would delete it.
    """
    tags = {} if now is None else heartbeat_tags(now=now, retention=retention, legacy=legacy)
    if sweeping:
        tags[SWEEPING_TAG] = "1"
    return tags


def heartbeat_tags(*, now: float, retention: float, legacy: bool = False) -> dict[str, str]:
    """The tags of one heartbeat; *now* in epoch seconds by SQS's clock."""
    tags = {
        # Rounded so that nobody ever takes the queue for idle too early.
        _RETENTION_TAG: str(math.ceil(retention)),
        _HEARTBEAT_TAG: str(math.ceil(now * 1000)),
    }
    if legacy:
        tags[_LEGACY_HEARTBEAT_TAG] = str(math.ceil(now))
    return tags


def is_sweeping(tags: Mapping[str, str]) -> bool:
    """Whether the owner of a live reply queue sweeps."""
    return SWEEPING_TAG in tags


def verdict(tags: Mapping[str, str], now_ms: int) -> Verdict:
    """What the tags of a queue say at *now_ms*, epoch milliseconds by SQS's clock.

    What cannot be read belongs to somebody else: such a queue is never touched.
    """
    retention = tags.get(_RETENTION_TAG)
    if retention is None or not _DIGITS.fullmatch(retention):
        return "foreign"
    heartbeat = tags.get(_HEARTBEAT_TAG)
    if heartbeat is None:
        return "idle"
    if not _DIGITS.fullmatch(heartbeat):
        return "foreign"
    return "idle" if now_ms > int(heartbeat) + int(retention) * 1000 else "live"


def may_sweep(prefix: str, name: str) -> bool:
    """Whether a queue may be looked at with a mind to delete it."""
    return (
        name.startswith(prefix)
        and not is_sweepers(prefix, name)
        and not is_sweepers(JAVA_PREFIX, name)
    )


def sweep_decision(
    prefix: str, name: str, verdict: Verdict, empty: bool
) -> Literal["delete", "keep"]:
    """What to do with a queue; *empty* means that SQS counts no message of any kind in it.

    Nobody can read what is left in an idle queue of our own form. Any other may have a
    reader that is only late, so it goes only once it is empty.
    """
    if verdict != "idle" or not may_sweep(prefix, name):
        return "keep"
    return "delete" if empty or is_own_form(prefix, name) else "keep"
