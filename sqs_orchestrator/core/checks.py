"""What SQS takes of a message: its characters, size, ids and delay; and the types of settings.

What SQS would refuse is refused here, with a reason, before anything is sent. `quoted` shows
it, in errors and in the log. Attributes have rules of their own, in `attributes`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidMessage, MessageTooLarge
from .limits import DELAY, GROUP_ID_CHARACTERS, MESSAGE_BYTES

# SQS names the characters that it takes. Those that it does not are few, and compile faster.
NOT_FOR_SQS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""One character that SQS refuses, in a body or in the text of an attribute."""

_ASCII_FOR_SQS: Final = bytes([9, 10, 13, *range(32, 128)])
_GROUP_ID = re.compile(r"[!-~]+")


def quoted(text: object, most: int = 80) -> str:
    """*text* in a form that is safe in a log line: quoted, ASCII, on one line, cut short. What
    is none is `shown`."""
    if not isinstance(text, str):
        return shown(text, most)
    return ascii(text) if len(text) <= most else f"{text[:most]!a}..."


def shown(value: object, most: int = 80) -> str:
    """*value* as an error shows what was passed: in ASCII and cut short, and whatever its
    `__repr__` may do. (Python itself refuses to write out a very long int.)"""
    try:
        text = ascii(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[:most]}..."


def text_of(value: object) -> str:
    """*value* as `str()` writes it, whose `__str__` may do anything; its type's name then."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__


# ------------------------------------------------------------------- characters


def check_body(body: str) -> None:
    """Check that SQS takes *body*.

    Raises:
        InvalidMessage: It is empty, or has a character that SQS refuses.
    """
    if not body:
        raise InvalidMessage("the body is empty: SQS refuses empty bodies")
    _check_characters(body, "body")


def checked(text: object, what: str) -> str:
    """*text*, which SQS takes as the value of an attribute.

    Raises:
        InvalidMessage: It is no text, is empty, or has a character that SQS refuses.
    """
    if not isinstance(text, str):
        raise InvalidMessage(f"the {what} is of type {type(text).__name__}, not str")
    if not text:
        raise InvalidMessage(f"the {what} is empty: SQS refuses empty strings")
    _check_characters(text, what)
    # A subclass, such as a member of a StrEnum, may turn into something else on its way.
    return text if type(text) is str else str.__str__(text)


def _check_characters(text: str, what: str) -> None:
    # Both ways round the search are many times faster than it. In ASCII only control
    # characters can be wrong; and what is printable is a subset of what SQS takes.
    if text.isascii():
        if not text.encode().translate(None, _ASCII_FOR_SQS):
            return
    elif text.isprintable():
        return
    found = NOT_FOR_SQS.search(text)
    if found:
        raise InvalidMessage(
            f"the {what} has U+{ord(found[0]):04X} at position {found.start()}, a character "
            "that SQS refuses"
        )


# ------------------------------------------------------------ sizes, ids, delay


def message_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of a message by SQS's count: body, and names, types and values of attributes."""
    return _bytes(body) + attribute_bytes(attributes)


def attribute_bytes(attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """What attributes add to that."""
    size = 0
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


def check_group_id(group_id: object) -> None:
    """Raises `InvalidMessage` where SQS would refuse *group_id*."""
    _check_id(group_id, "group_id")


def check_deduplication_id(deduplication_id: object) -> None:
    """Raises `InvalidMessage` where SQS would refuse *deduplication_id*."""
    _check_id(deduplication_id, "deduplication_id")


def _check_id(value: object, what: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= GROUP_ID_CHARACTERS:
        raise InvalidMessage(
            f"{what} is {shown(value)}: SQS takes a str of 1 to {GROUP_ID_CHARACTERS} characters"
        )
    if not _GROUP_ID.fullmatch(value):
        raise InvalidMessage(
            f"{what} is {quoted(value)}: SQS takes ASCII letters, digits and punctuation"
        )


def check_seconds(name: str, value: object) -> None:
    """Check the type of a duration.

    Raises:
        ValueError: It is not an `int` or a `float`, or not a number at all.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"{name} is a number of seconds, an int or a float, not {shown(value)}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(
            f"{name} is {shown(value)}, more seconds than any clock counts: pass math.inf where"
            " there is no limit"
        )


def whole_seconds(name: str, value: float) -> int:
    """*value*, a setting of SQS's, which knows whole seconds only.

    To round it would give another setting than was asked for: of a `wait_time` of 0.1 either
    polls that do not wait, or ten times as long a wait.

    Raises:
        ValueError: It is a fraction.
    """
    if not float(value).is_integer():
        raise ValueError(
            f"{name} is {value!r}, and SQS knows whole seconds only: pass {math.floor(value)} or"
            f" {math.ceil(value)}"
        )
    return int(value)


def check_delay(delay: object) -> int:
    """*delay* in the whole seconds that SQS knows.

    Raises:
        InvalidMessage: It is not within 0 to 900, or no whole number.
    """
    if (
        isinstance(delay, bool)
        or not isinstance(delay, (int, float))
        or not 0 <= delay <= DELAY
        or delay != int(delay)
    ):
        raise InvalidMessage(
            f"the delay is {shown(delay)}: SQS takes whole seconds, from 0 to {DELAY:.0f}"
        )
    return int(delay)


# --------------------------------------------------------------------- settings


def check_type(name: str, value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Check the type of a setting; *wanted* describes what it is.

    Raises:
        ValueError: It is of another type.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {wanted}, not {shown(value)} of type {type(value).__name__}")


def check_flag(name: str, value: object) -> None:
    """Raises `ValueError` where *value* is no `bool`: any text, "no" included, is true."""
    check_type(name, value, bool, "True or False")


def check_text(name: str, value: object, example: str) -> None:
    """Raises `ValueError` where *value* is no `str`, or an empty one."""
    check_type(name, value, str, f"a str such as {example!r}")
    if not value:
        raise ValueError(f"{name} is empty: leave it out, or pass a str such as {example!r}")


def checked_tags(tags: object) -> dict[str, str]:
    """The tags of a queue; none where *tags* is `None`.

    Raises:
        ValueError: They are no mapping of text to text.
    """
    if tags is None:
        return {}
    check_type("tags", tags, Mapping, "a dict of names and values")
    assert isinstance(tags, Mapping)
    for name, value in tags.items():
        check_type("the name of a tag", name, str, "a str")
        check_type(f"the tag {name!r}", value, str, "a str")
    return dict(tags)
