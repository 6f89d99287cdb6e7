"""The attributes of a message: in SQS's form, and in the form in which a caller passes them.

Some names belong to the library. They are passed as *reserved*, which is `wire.RESERVED`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias

from ..errors import InvalidMessage
from .checks import checked, quoted
from .limits import ATTRIBUTE_NAME_CHARACTERS, MESSAGE_ATTRIBUTES

AttributeValue: TypeAlias = Mapping[str, Any]
Attributes: TypeAlias = Mapping[str, AttributeValue]
PlainValue: TypeAlias = str | int | float | Decimal | bytes
"""The value of an attribute, for a program. A number becomes an `int` if it is written as one, a
`float` if that keeps all its digits, otherwise a `Decimal`: SQS keeps 38 digits, a `float` 15."""

# Of any length that SQS takes. Whether it is in range, or finite, is decided by its value.
NUMBER = re.compile(r"[+-]?(?:[0-9]{1,256}\.?[0-9]{0,256}|\.[0-9]{1,256})(?:[eE][+-]?[0-9]{1,4})?")
"""The text of a number."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TYPE = re.compile(r"(String|Number|Binary)(?:\.[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+)?")
_SMALLEST = Decimal("1e-128")
_LARGEST = Decimal("1e126")
_NUMBER_DIGITS: Final = 38


def string(text: str) -> AttributeValue:
    return {"DataType": "String", "StringValue": text}


def number(text: str) -> AttributeValue:
    return {"DataType": "Number", "StringValue": text}


def to_attributes(
    values: Mapping[str, Any], reserved: Mapping[str, str]
) -> dict[str, AttributeValue]:
    """The caller's attributes in SQS's form.

    A `str` becomes a String, an `int`, `float` or `Decimal` a Number, `bytes` a Binary. A value
    in SQS's form (`{"DataType": "String", "StringValue": "…"}`) is taken too.

    *reserved* has the names that a caller must not use, each with the reason.

    Raises:
        InvalidMessage: SQS would refuse a name or a value, or the name is reserved.
    """
    if not isinstance(values, Mapping):
        raise InvalidMessage(
            "attributes are a dict of names and values, not of type " + type(values).__name__
        )
    attributes: dict[str, AttributeValue] = {}
    for name, value in values.items():
        fault = _name_fault(name) or reserved.get(name)
        if fault:
            raise InvalidMessage(f"the attribute name {quoted(name)} {fault}")
        if isinstance(value, str):
            attributes[name] = string(checked(value, f"attribute {name!r}"))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            attributes[name] = {"DataType": "Binary", "BinaryValue": _binary(name, value)}
        elif isinstance(value, bool):
            raise InvalidMessage(
                f"attribute {name!r} is a bool, which SQS does not have: use a str or an int"
            )
        elif isinstance(value, (int, float, Decimal)):
            attributes[name] = number(_number_text(name, value))
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
    return None


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
        # Python needs long to write out a huge number, or refuses to.
        _check_number(name, Decimal(value) if abs(value) <= 10**127 else _LARGEST * 10)
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        _check_number(name, Decimal(text))
        return text
    _check_number(name, value)
    # "0" and not "0E+200": SQS refuses an exponent out of its range, even that of a zero.
    return Decimal.__str__(value) if value else "0"


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
    """Check an attribute that the caller passed in SQS's form."""
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
    content = checked(content, f"attribute {name!r}")
    if match[1] == "Number":
        if not NUMBER.fullmatch(content):
            raise InvalidMessage(f"attribute {name!r} is no number: {quoted(content)}")
        _check_number(name, Decimal(content))
    return {"DataType": kind, field: content}


def check_count(
    attributes: Attributes, reserved: Container[str], *, time_to_live: bool = False
) -> None:
    """Check the number of attributes of a message, the caller's and the library's together.
    With *time_to_live*, one more will be added when the message leaves.

    Raises:
        InvalidMessage: There are more than SQS takes.
    """
    count = len(attributes) + time_to_live
    if count > MESSAGE_ATTRIBUTES:
        own = sum(name in reserved for name in attributes) + time_to_live
        raise InvalidMessage(
            f"the message has {count} attributes, and SQS takes {MESSAGE_ATTRIBUTES}: the "
            f"library itself uses {own}, which leaves {MESSAGE_ATTRIBUTES - own} for yours"
        )


def plain_attributes(attributes: Attributes, reserved: Container[str]) -> dict[str, PlainValue]:
    """The attributes of a received message as plain values, without those *reserved*. A Number
    whose text is not a number, or one far beyond SQS's range, stays text."""
    plain: dict[str, PlainValue] = {}
    for name, value in attributes.items():
        if name in reserved or not isinstance(value, Mapping):
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


def labelled(values: Mapping[str, Any], received: Attributes) -> dict[str, AttributeValue]:
    """Those attributes of a *received* message whose type has a label, such as `String.uuid`, and
    whose plain value is that in *values*."""
    found: dict[str, AttributeValue] = {}
    for name, attribute in received.items():
        if name not in values or not isinstance(attribute, Mapping):
            continue
        kind = attribute.get("DataType")
        match = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
        if match is None or match[0] == match[1]:
            continue
        plain = plain_attributes({name: attribute}, ()).get(name)
        if type(plain) not in _PLAIN_TYPES[match[1]] or type(plain) is not type(values[name]):
            continue
        if plain == values[name]:
            field = "BinaryValue" if match[1] == "Binary" else "StringValue"
            found[name] = {"DataType": match[0], field: attribute[field]}
    return found


_PLAIN_TYPES: Final[Mapping[str, Container[type]]] = {
    "String": {str},
    "Number": {int, float, Decimal},
    "Binary": {bytes},
}


def _plain_number(text: str) -> PlainValue:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        return text
    # A float that was sent is the same float again: 0.1 is sent as "0.1".
    shortest = float.__repr__(value)
    if shortest == text:
        return value
    exact = Decimal(text)
    return value if Decimal(shortest) == exact else exact
