"""JSON, by the fastest library that is installed, with the results of the standard library.

msgspec reads and orjson writes. Where one refuses, or might differ from `json`, `json` does it
again and decides: what is installed changes how fast this is, and nothing else.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

__all__ = ["dumps", "installed", "loads", "plain"]


def installed(name: str) -> Any:
    """The library *name*; `None` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def loads(text: str) -> Any:
    """The value that *text* stands for; raises `ValueError`, or `RecursionError`."""
    if fast_loads is not None:
        try:
            return fast_loads(text)
        except Exception:  # NaN, 1e400 and lone surrogates among others, which `json` reads
            pass
    return json.loads(text)


def dumps(value: Any) -> str:
    """*value* as JSON: ASCII, on one line; raises `TypeError`, `ValueError`, `RecursionError`."""
    if fast_dumps is not None:
        try:
            text: bytes = fast_dumps(value)
        except Exception:  # large numbers, keys that are no text, subclasses
            text = b"null"
        # NaN is null there, DEL is not escaped, and exponents differ. Some text only looks so.
        exponent = b"0.0000" in text or b"0e" in text.translate(_DIGITS_AS_ZERO)
        if text.isascii() and not (exponent or b"null" in text or b"\x7f" in text):
            return text.decode()
    return _encoder.encode(value)


_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")


def plain(value: Any) -> Any:
    """What JSON does not have, in what it has; what is inside *value* comes later."""
    kind = type(value)
    if isinstance(value, (str, int, float, list, tuple, dict)):
        raise TypeError  # a subclass, which orjson leaves to `json`
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if hasattr(kind, "__struct_config__"):
        return _of_struct(value, kind.__struct_config__)
    for known, form in _FORMS:
        if isinstance(value, known):
            return form(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{kind.__name__} is not JSON: encode it first, in base64 for instance")
    raise TypeError(f"{kind.__name__} is not JSON")


def _of_struct(struct: Any, config: Any) -> Any:
    """A `msgspec.Struct` as msgspec reads it: with its tag, under the names for JSON."""
    names = zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True)
    fields = {} if config.tag is None else {config.tag_field: config.tag}
    fields.update((name, getattr(struct, attribute)) for name, attribute in names)
    if config.array_like:
        return list(fields.values())
    return {name: value for name, value in fields.items() if value is not _msgspec.UNSET}


def _iso(value: timedelta) -> str:
    """ISO 8601: a number of seconds loses the microseconds of long times."""
    size = abs(value)
    fraction = f".{size.microseconds:06}" if size.microseconds else ""
    return f"{'-' if value.days < 0 else ''}P{size.days}DT{size.seconds}{fraction}S"


_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (enum.Enum, lambda value: value.value),
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, _iso),
    ((UUID, Decimal, PurePath), str),
    ((set, frozenset), lambda value: sorted(value, key=repr)),  # the same set, the same body
    (Mapping, dict),
)

_encoder: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=plain)
_msgspec: Final = installed("msgspec")
_orjson: Final = installed("orjson")
_OPTIONS: Final = (
    "OPT_PASSTHROUGH_DATACLASS",
    "OPT_PASSTHROUGH_DATETIME",
    "OPT_PASSTHROUGH_SUBCLASS",
)
fast_loads = _msgspec and _msgspec.json.decode
fast_dumps = _orjson and partial(
    _orjson.dumps, default=plain, option=sum(getattr(_orjson, name) for name in _OPTIONS)
)
