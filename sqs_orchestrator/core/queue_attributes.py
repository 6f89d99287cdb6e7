"""The attributes of a queue: from the caller's form to SQS's, and whether two mean the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .checks import checked_items, shown
from .policies import meaning

_VALUES = (str, int, float, Decimal, Mapping)
_LARGEST: Final = 2**63 - 1
"""More than any attribute takes. Whether a number fits its attribute is for SQS to decide."""

_DEFAULTS: Final = {"RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'}
"""The value in force if SQS does not show the attribute. Any other attribute is off then."""


def queue_attributes(attributes: object) -> dict[str, str]:
    """The attributes of a queue in SQS's form; none if *attributes* is `None`.

    Raises:
        ValueError: It is not a mapping of names to values, or SQS has no form for a value.
    """
    wanted = "a str, a number, a bool or a dict"
    checked = checked_items("attribute", attributes, _VALUES, wanted)
    return {name: _text(name, value) for name, value in checked.items()}


def same_attribute(name: str, wanted: str, found: str | None) -> bool:
    """Whether an attribute of a queue that SQS shows as *found* means the same as *wanted*."""
    if found is None:
        # SQS does not show an attribute at its default, such as `FifoQueue` of a standard queue.
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
        # The text of an enum may turn into something else.
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
