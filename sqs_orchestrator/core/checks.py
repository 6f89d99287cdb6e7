"""Checks of what a caller passes: characters, size, ids and delay of messages; types of settings.

What SQS would refuse is refused here, with the reason, before anything is sent. `quoted` and
`shown` write a value so that it is safe in errors and in the log. The rules for a message's
attributes are in `attributes`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidMessage
from .limits import DELAY, GROUP_ID_CHARACTERS

# SQS names the characters that it takes. This has the others: they are few, and compile faster.
NOT_FOR_SQS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""One character that SQS refuses, in a body or in the text of an attribute."""

_ASCII_FOR_SQS: Final = bytes([9, 10, 13, *range(32, 128)])
_GROUP_ID = re.compile(r"[!-~]+")


def quoted(text: object, most: int = 80) -> str:
    """*text* in a form that is safe in a log line: in quotes, in ASCII, on one line, cut short. A
    value that is not a `str` is written by `shown`."""
    if not isinstance(text, str):
        return shown(text, most)
    return ascii(text) if len(text) <= most else f"{text[:most]!a}..."


def shown(value: object, most: int = 80) -> str:
    """The `repr` of *value*, for errors: in ASCII and cut short. A `__repr__` that raises does no
    harm, nor does an int that is so long that Python refuses to write it out."""
    try:
        text = ascii(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[:most]}..."


def text_of(value: object) -> str:
    """`str(value)`, or the name of its type if its `__str__` raises."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__


# ------------------------------------------------------------------- characters


def checked(text: object, what: str) -> str:
    """*text*, which SQS takes as a body or as the value of an attribute.

    Raises:
        InvalidMessage: It is no text, is empty, or has a character that SQS refuses.
    """
    if not isinstance(text, str):
        raise InvalidMessage(f"the {what} is of type {type(text).__name__}, not str")
    if not text:
        raise InvalidMessage(f"the {what} is empty: SQS refuses empty strings")
    # Both ways round the search are many times faster than it. In ASCII only control
    # characters can be wrong; and what is printable is a subset of what SQS takes.
    if text.isascii():
        suspect = bool(text.encode().translate(None, _ASCII_FOR_SQS))
    else:
        suspect = not text.isprintable()
    if suspect and (found := NOT_FOR_SQS.search(text)):
        raise InvalidMessage(
            f"the {what} has U+{ord(found[0]):04X} at position {found.start()}, a character "
            "that SQS refuses"
        )
    # A subclass, such as a member of a StrEnum, may turn into something else on its way.
    return text if type(text) is str else str.__str__(text)


# ------------------------------------------------------------ sizes, ids, delay


def message_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of a message by SQS's count: body, and names, types and values of attributes."""
    size = len(body) if body.isascii() else _utf8_bytes(body)
    for name, value in attributes.items():
        content = value.get("StringValue")
        if content is None:
            size += len(value.get("BinaryValue", b""))
        else:
            size += len(content) if content.isascii() else _utf8_bytes(content)
        kind = value["DataType"]
        size += len(name) + (len(kind) if kind.isascii() else _utf8_bytes(kind))
    return size


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def check_group_id(group_id: object) -> None:
    """Raise `InvalidMessage` if SQS would refuse *group_id*."""
    _check_id(group_id, "group_id")


def check_deduplication_id(deduplication_id: object) -> None:
    """Raise `InvalidMessage` if SQS would refuse *deduplication_id*."""
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
        ValueError: It is neither an `int` nor a `float`, is NaN, or is more than any clock counts.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"{name} is a number of seconds, an int or a float, not {shown(value)}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(
            f"{name} is {shown(value)}, more seconds than any clock counts: pass math.inf where"
            " there is no limit"
        )


def whole_seconds(name: str, value: float) -> int:
    """*value* as an `int`, for a setting of SQS, which knows whole seconds only.

    It is not rounded, because that would be another setting than the caller asked for: a
    `wait_time` of 0.1 would become polls that do not wait, or that wait ten times as long.

    Raises:
        ValueError: It is not whole.
    """
    if not float(value).is_integer():
        raise ValueError(
            f"{name} is {value!r}, and SQS knows whole seconds only: pass {math.floor(value)} or"
            f" {math.ceil(value)}"
        )
    return int(value)


def check_delay(delay: object) -> int:
    """*delay* as an `int`: SQS knows whole seconds only.

    Raises:
        InvalidMessage: It is not a whole number from 0 to 900.
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
    """Check the type of a setting; *wanted* describes what it should be.

    Raises:
        ValueError: It is of another type.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {wanted}, not {shown(value)} of type {type(value).__name__}")


def check_flag(name: str, value: object) -> None:
    """Raise `ValueError` if *value* is not a `bool`: any text would be true, even "no"."""
    check_type(name, value, bool, "True or False")


def check_text(name: str, value: object, example: str) -> None:
    """Raise `ValueError` if *value* is not a `str`, or is empty."""
    check_type(name, value, str, f"a str such as {example!r}")
    if not value:
        raise ValueError(f"{name} is empty: leave it out, or pass a str such as {example!r}")


def checked_items(
    kind: str, items: object, types: type | tuple[type, ...], wanted: str
) -> dict[str, Any]:
    """*items*, a setting that maps names to values; empty if it is `None`. In errors, one of them
    is called *kind*, and *wanted* describes the *types* of their values.

    Raises:
        ValueError: It is not a mapping, a name is not a `str`, or a value is of another type.
    """
    if items is None:
        return {}
    check_type(f"{kind}s", items, Mapping, "a dict of names and values")
    assert isinstance(items, Mapping)
    for name, value in items.items():
        check_type(f"the name of a queue's {kind}", name, str, "a str")
        check_type(f"the {kind} {name!r}", value, types, wanted)
    # Names of an enum may turn into something else.
    return {str.__str__(name): value for name, value in items.items()}


def checked_tags(tags: object) -> dict[str, str]:
    """The tags of a queue; none if *tags* is `None`.

    Raises:
        ValueError: It is not a mapping of text to text.
    """
    return checked_items("tag", tags, str, "a str")
