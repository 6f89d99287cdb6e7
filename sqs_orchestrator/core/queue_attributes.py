"""The attributes of a queue: as a caller writes them, as SQS does, and whether two are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .checks import check_type, shown
from .policies import meaning

_VALUES = (str, int, float, Decimal, Mapping)
_LARGEST: Final = 2**63 - 1
"""More than any attribute takes. Whether a number is one for its attribute, SQS says."""

_DEFAULTS: Final = {"RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'}
"""What SQS does where it shows no such attribute; any other is off then."""


def queue_attributes(attributes: object) -> dict[str, str]:
    """The attributes of a queue as SQS writes them; none where *attributes* is `None`.

    Raises:
        ValueError: They are no mapping of names to values, or SQS has no form for a value.
    """
    if attributes is None:
        return {}
    check_type("attributes", attributes, Mapping, "a dict of SQS's names and their values")
    assert isinstance(attributes, Mapping)
    for name, value in attributes.items():
        check_type("the name of a queue's attribute", name, str, "a str")
        check_type(f"the attribute {name!r}", value, _VALUES, "a str, a number, a bool or a dict")
    return {str.__str__(name): _text(name, value) for name, value in attributes.items()}


def same_attribute(name: str, wanted: str, found: str | None) -> bool:
    """Whether the attribute of a queue that SQS shows as *found* is the *wanted* one."""
    if found is None:
        # SQS leaves out what is at its default, such as `FifoQueue` on a standard queue.
        found = _DEFAULTS.get(name, "")
        if wanted.lower() in {"false", ""}:
            return True
    if name.endswith("Policy"):
        return bool(meaning(wanted) == meaning(found))
    if wanted.isdecimal() and found.isdecimal():
        return wanted.lstrip("0") == found.lstrip("0")
    return wanted.lower() == found.lower()


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A member of an enum may turn into something else.
        return str.__str__(value)
    if isinstance(value, Mapping):
        return _json(name, value)
    if not _is_whole(value):
        raise ValueError(
            f"the attribute {name!r} is {shown(value)}: SQS's numbers are whole, and none is below"
            " zero; pass an int, or as a str whatever else it should be"
        )
    return str(int(value))


def _is_whole(value: float | Decimal) -> bool:
    if isinstance(value, Decimal) and not value.is_finite():
        return False
    return 0 <= value <= _LARGEST and value == int(value)


def _json(name: str, value: Mapping[Any, Any]) -> str:
    try:
        return _encoder.encode(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(
            f"the attribute {name!r} cannot be written as JSON: {reason}; pass it as a str, or a"
            " dict of what JSON has"
        ) from error


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)
