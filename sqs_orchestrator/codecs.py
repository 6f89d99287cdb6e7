"""Bodies and values: what a `str` in SQS becomes in the program, and the other way round.

JSON is the default. Pydantic is used where it is installed, imported when the first type
needs it; without it, the standard library's own types and dataclasses work.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final, Protocol, Union, get_args, get_origin
from uuid import UUID

from .core.checks import shown
from .errors import InvalidMessage
from .texts import excerpt

__all__ = ["Codec", "CodecError", "JSONCodec", "encode"]


class CodecError(ValueError):
    """A body is not what its reader asked for.

    Its text may repeat names that whoever sent the body has chosen, such as the keys of an
    object: so it is on one line, and cut where it is long.
    """

    source: object = None
    """The message that was asked for its body as JSON, where that was how."""

    def __str__(self) -> str:
        return excerpt(super().__str__(), _SHOWN_CHARACTERS)


_SHOWN_CHARACTERS: Final = 1000


class _Unreadable(CodecError):
    """No body can be read as the type asked for."""

    def __init__(self, type_: Any, reason: str | None = None) -> None:
        reason = _of_pydantic_1(type_) or reason
        super().__init__(f"bodies cannot be read as {shown(type_)}{f': {reason}' * bool(reason)}")


class Codec(Protocol):
    """Turns values into bodies and back."""

    def encode(self, value: Any) -> tuple[str, str | None]:
        """The body for *value*, and its media type where it is neither plain text nor JSON.

        Raises:
            InvalidMessage: *value* cannot be a body.
        """
        ...

    def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
        """*body* as a value of *type*.

        Raises:
            CodecError: *body* is no such value.
        """
        ...


def codec_or_json(codec: Codec | None) -> Codec:
    """*codec*, or the default one where there is none.

    Raises:
        ValueError: It is no codec, or the class of one.
    """
    if codec is None:
        return JSONCodec()
    methods = (getattr(codec, name, None) for name in ("encode", "decode"))
    if isinstance(codec, type) or not all(map(callable, methods)):
        raise ValueError(f"codec is an object with encode() and decode(), not {shown(codec)}")
    return codec


def check_readable(codec: Codec, type_: Any, what: str) -> None:
    """Check that there are bodies that *codec* can read as *type_*; *what* names that in the
    error. A type that names others which are not defined yet is taken; and what codecs of the
    user's own read, they alone know.

    Raises:
        ValueError: There are none.
    """
    if getattr(type(codec), "decode", None) is JSONCodec.decode:
        fault = _fault(type_)
        if fault is not None:
            raise ValueError(f"{what}: {fault}")


def encode(codec: Codec, value: Any) -> tuple[str, str | None]:
    """The body for *value* and its media type: a `str` travels as it is, by any codec."""
    if isinstance(value, str):
        return str.__str__(value), None
    encoded: Any = codec.encode(value)
    if not isinstance(encoded, tuple) or len(encoded) != 2 or not isinstance(encoded[0], str):
        raise ValueError(
            f"the codec {shown(codec)} must encode to a pair: the body, a str, and its media type"
            f" or None. It made something of type {type(encoded).__name__}"
        )
    body, content_type = encoded
    return body, content_type


class JSONCodec:
    """JSON, the default codec.

    It writes ASCII on one line, and beside JSON's own types dataclasses, pydantic models,
    datetimes, UUIDs, decimals (as text, since JSON's numbers lose digits), enums, paths and
    sets. What it reads as a named type, it checks: by pydantic where that is installed, in
    version 2 or later; models need it.
    """

    def __repr__(self) -> str:
        return "JSONCodec()"

    def encode(self, value: Any) -> tuple[str, str | None]:
        if isinstance(value, str):
            return str.__str__(value), None
        try:
            return _encoder.encode(value), None
        except (TypeError, ValueError, RecursionError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else error
            raise InvalidMessage(
                f"a body of type {type(value).__name__} cannot be sent as JSON: {reason}"
            ) from error

    def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
        if type is str:
            return body
        if content_type is not None and not _is_text_or_json(content_type):
            raise CodecError(f"the body is {content_type!r}, not JSON")
        if get_origin(type) in _UNIONS and str in get_args(type):
            return self._decode_text_or(body, type)
        try:
            return _reader(type)(body)
        except RecursionError as error:
            raise CodecError("the body is nested too deep") from error

    def _decode_text_or(self, body: str, union: Any) -> Any:
        """*body* as a member of a union that has `str` in it: text travels as it is, so
        whatever is none of the others is text."""
        try:
            return self.decode(body, _without_text(union))
        except CodecError:
            return body


_UNIONS = (Union, types.UnionType)


def _without_text(union: Any) -> Any:
    return Union[tuple(member for member in get_args(union) if member is not str)]  # noqa: UP007


def _is_text_or_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind == "application/json" or kind.endswith("+json")


# --------------------------------------------------------------------- encoding


def _plain(value: Any) -> Any:
    """What JSON's own encoder does not know, in what it knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", by_alias=True)
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)
    hint = ""
    if isinstance(value, _BYTES):
        hint = ": encode them first, in base64 for instance"
    elif (reason := _of_pydantic_1(type(value))) is not None:
        hint = f": {reason}"
    raise TypeError(f"{type(value).__name__} is not JSON{hint}")


_BYTES = (bytes, bytearray, memoryview)


def _in_order(values: Collection[Any]) -> list[Any]:
    # The same set makes the same body, for the sake of content-based deduplication.
    try:
        return sorted(values)
    except TypeError:
        return list(values)


_PLAIN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: value.value),
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    ((UUID, Decimal, PurePath), str),
    ((set, frozenset), _in_order),
    (Mapping, dict),
)

# Made once: `json.dumps` makes one for each call that does not take all of its defaults.
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)


# --------------------------------------------------------------------- decoding


def _reader(type: Any) -> Callable[[str], Any]:  # noqa: A002
    try:
        return _cached_reader(type)
    except TypeError:  # a type that cannot be hashed, such as one annotated with a list
        return _make_reader(type)


def _make_reader(type: Any) -> Callable[[str], Any]:  # noqa: A002
    """What reads a body as a value of *type*."""
    if type is Any or type is object:
        return _load
    pydantic = _pydantic()
    if pydantic is None:
        return _plain_reader(type)
    try:
        adapter = pydantic.TypeAdapter(type)
    except pydantic.errors.PydanticUserError as error:
        # It leaves out a few, such as the TypedDict of Python 3.11, that can be read all the
        # same; where not, its reason is the better one.
        try:
            return _plain_reader(type)
        except _Unreadable:
            # Further lines are advice for who defines the models.
            raise _Unreadable(type, str(error).partition("\n")[0][:200]) from error

    def read(body: str) -> Any:
        try:
            return adapter.validate_json(body)
        except pydantic.ValidationError as error:
            raise CodecError(_summary(error)) from error

    return read


def _plain_reader(type: Any) -> Callable[[str], Any]:  # noqa: A002
    """What reads a body as a value of *type* without pydantic."""
    _check(type, set())
    return lambda body: _as(type, _load(body), "$")


_cached_reader = lru_cache(maxsize=512)(_make_reader)


def _fault(type_: Any) -> str | None:
    """Why no body can be read as *type_*; `None` where one can, or that cannot be told yet."""
    try:
        return _cached_fault(type_)
    except TypeError:  # it cannot be hashed
        return _find_fault(type_)


def _find_fault(type_: Any) -> str | None:
    if isinstance(type_, (str, typing.ForwardRef)) or inspect.isroutine(type_):
        return f"pass a type, such as a class, not {shown(type_)}"
    try:
        if _of_pydantic_1(type_) is not None:
            raise _Unreadable(type_)
        if get_origin(type_) in _UNIONS and str in get_args(type_):
            type_ = _without_text(type_)
        _reader(type_)
        return None
    except _Unreadable as error:
        return str(error)
    except NameError:
        return None  # perhaps its module is not read to its end yet
    except Exception as error:
        return f"bodies cannot be read as {shown(type_)}: {type(error).__name__}: {error}"


_cached_fault = lru_cache(maxsize=512)(_find_fault)


def _pydantic() -> Any:
    """pydantic where it is installed, in a version that can read types."""
    pydantic = _installed_pydantic()
    return pydantic if hasattr(pydantic, "TypeAdapter") else None


def _installed_pydantic() -> Any:
    try:
        return sys.modules.get("pydantic") or importlib.import_module("pydantic")
    except ImportError:
        return None


def _of_pydantic_1(type_: Any) -> str | None:
    """What to say of a model of pydantic 1; `None` of any other type."""
    first = "pydantic." if _pydantic() is None else "pydantic.v1."
    bases = type_.__mro__ if isinstance(type_, type) else ()
    if not any(base.__module__.startswith(first) for base in bases):
        return None
    version = getattr(_installed_pydantic(), "VERSION", "unknown")
    return f"models need pydantic 2, this one is of pydantic 1, and installed is {version}"


def _summary(error: Any) -> str:
    """What pydantic found, without the values: those are the sender's business."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    shown = "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or '$'}: {fault['msg']}" for fault in faults[:5]
    )
    return f"the body does not fit: {shown}{'; ...' if len(faults) > 5 else ''}"


def _load(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise CodecError(f"the body is not JSON: {error}") from error


# Below: the types of the standard library, for programs without pydantic.


def _check(type_: Any, known: set[Any]) -> None:
    """Check that values can be read as *type_*, and as what it is made of; *known* has the
    classes that need not be looked at again.

    Raises:
        _Unreadable: None can.
    """
    if type_ in (Any, object, None, types.NoneType):
        return
    origin = get_origin(type_)
    if hasattr(type_, "__supertype__"):
        _check(type_.__supertype__, known)
    elif origin is typing.Annotated:
        _check(get_args(type_)[0], known)
    elif origin in _UNIONS:
        for member in get_args(type_):
            _check(member, known)
    elif origin is not typing.Literal:
        _check_class(type_, origin or type_, known)


def _check_class(type_: Any, kind: Any, known: set[Any]) -> None:
    if not isinstance(kind, type):
        raise _Unreadable(type_)
    if kind in _SCALARS or kind in known or issubclass(kind, enum.Enum):
        return
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        known.add(kind)
        for hint in typing.get_type_hints(kind, include_extras=True).values():
            _check(hint, known)
    elif issubclass(kind, Collection) and not issubclass(kind, (*_BYTES, str)):
        for item in get_args(type_):
            if item is not ...:
                _check(item, known)
    else:
        raise _Unreadable(type_)


def _as(type_: Any, value: Any, at: str) -> Any:
    """*value*, read from JSON, as *type_*; *at* is where in the body it stands."""
    if type_ is Any or type_ is object:
        return value
    if type_ is None or type_ is types.NoneType:
        return _expect(value is None, value, at, "null")
    origin = get_origin(type_)
    if origin is typing.Annotated or hasattr(type_, "__supertype__"):
        return _as(get_args(type_)[0] if origin else type_.__supertype__, value, at)
    if origin in _UNIONS:
        return _as_one_of(get_args(type_), value, at)
    if origin is typing.Literal:
        allowed = get_args(type_)
        same = [item for item in allowed if item == value and type(item) is type(value)]
        return _expect(bool(same), value, at, f"one of {allowed!r}")
    if type_ in _SCALARS:
        accepted, make = _SCALARS[type_]
        right = isinstance(value, accepted) and (type_ is bool or not isinstance(value, bool))
        _expect(right, value, at, type_.__name__)
        return _made(make, value, at, type_.__name__)
    kind = origin or type_
    if not isinstance(kind, type):
        raise _Unreadable(type_)
    if issubclass(kind, enum.Enum):
        return _made(kind, value, at, kind.__name__)
    if dataclasses.is_dataclass(kind):
        return _as_dataclass(kind, value, at)
    if issubclass(kind, Mapping):
        return _as_mapping(type_, value, at)
    if issubclass(kind, Collection):
        return _as_collection(kind, get_args(type_), value, at)
    raise _Unreadable(type_)


_SCALARS: dict[Any, tuple[Any, Callable[[Any], Any]]] = {
    bool: (bool, bool),
    int: (int, int),
    float: ((int, float), float),
    str: (str, str),
    Decimal: ((int, float, str), lambda value: Decimal(str(value))),
    UUID: (str, UUID),
    datetime: (str, datetime.fromisoformat),
    date: (str, date.fromisoformat),
    time: (str, time.fromisoformat),
    timedelta: ((int, float), lambda value: timedelta(seconds=value)),
}


def _expect(right: bool, value: Any, at: str, wanted: str) -> Any:
    if not right:
        raise CodecError(f"the body does not fit: {at}: {wanted} expected")
    return value


def _made(make: Callable[[Any], Any], value: Any, at: str, wanted: str) -> Any:
    try:
        return make(value)
    except (ValueError, TypeError, ArithmeticError):
        return _expect(False, value, at, wanted)


def _as_one_of(members: tuple[Any, ...], value: Any, at: str) -> Any:
    faults = []
    # What is of a member's own type needs no reading: 1 is no float where int is allowed.
    for member in sorted(members, key=lambda member: member is not type(value)):
        try:
            return _as(member, value, at)
        except CodecError as error:
            faults.append(str(error))
    raise CodecError(faults[0])


def _as_dataclass(kind: Any, value: Any, at: str) -> Any:
    _expect(isinstance(value, dict), value, at, "an object")
    hints = typing.get_type_hints(kind, include_extras=True)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        if field.name in value:
            given[field.name] = _as(hints[field.name], value[field.name], f"{at}.{field.name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise CodecError(f"the body does not fit: {at}.{field.name}: missing")
    return _made(lambda given: kind(**given), given, at, kind.__name__)


def _as_mapping(type_: Any, value: Any, at: str) -> Any:
    _expect(isinstance(value, dict), value, at, "an object")
    if typing.is_typeddict(type_):
        hints = typing.get_type_hints(type_)
        for name in type_.__required_keys__:
            _expect(name in value, value, f"{at}.{name}", "a value")
        return {
            name: _as(hint, value[name], f"{at}.{name}")
            for name, hint in hints.items()
            if name in value
        }
    key_type, value_type = get_args(type_) or (Any, Any)
    return {
        _as_key(key_type, key, at): _as(value_type, item, f"{at}.{key}")
        for key, item in value.items()
    }


def _as_key(type_: Any, key: str, at: str) -> Any:
    # JSON has only text for keys.
    if type_ is int or type_ is float:
        return _made(type_, key, at, type_.__name__)
    return _as(type_, key, at)


def _as_collection(kind: Any, arguments: tuple[Any, ...], value: Any, at: str) -> Any:
    _expect(isinstance(value, list), value, at, "an array")
    if issubclass(kind, tuple) and arguments and arguments[-1:] != (...,):
        _expect(len(value) == len(arguments), value, at, f"{len(arguments)} items")
        pairs = zip(arguments, value, strict=True)
        return tuple(_as(item_type, item, f"{at}[]") for item_type, item in pairs)
    item_type = arguments[0] if arguments else Any
    items = [_as(item_type, item, f"{at}[]") for item in value]
    for concrete in (tuple, set, frozenset):
        if issubclass(kind, concrete):
            return _made(concrete, items, at, kind.__name__)
    return items
