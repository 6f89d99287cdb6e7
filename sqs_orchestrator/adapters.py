"""Reading a body as a type, by pydantic or msgspec: whichever is installed, and reads it.

One rule ties types to the wire: a value that is a `str` travels as it is, every other value as
JSON. So where all values of a type are `str`, one is the body itself; where none is, it is read
from JSON. A type that has both at its top is refused: the body `5` could be either.
"""

from __future__ import annotations

import json
import re
import typing
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache, partial
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from .core.checks import shown
from .jsontext import installed, loads
from .texts import excerpt

__all__ = ["CodecError", "make_reader", "reader"]

Read: TypeAlias = Callable[[str], Any]


class CodecError(ValueError):
    """A body is not what its reader asked for.

    Its text may repeat names that whoever sent the body has chosen, such as the keys of an
    object: so it is on one line, and cut where it is long.
    """

    source: object = None
    """The message that was asked for its body as JSON, where that was how."""

    def __str__(self) -> str:
        return excerpt(super().__str__(), 1000)


def reader(type_: Any) -> Read:
    """What reads a body as a value of *type_*, and raises `CodecError` where it is none.

    Raises:
        CodecError: No body can be read as that.
        NameError: It names what is not defined, perhaps not yet.
    """
    try:
        return _cached_reader(type_)
    except TypeError:  # a type that cannot be hashed, such as one annotated with a list
        return make_reader(type_)


def make_reader(type_: Any) -> Read:
    """What `reader` remembers."""
    of_builtin = type(type_).__module__ == "builtins" and not isinstance(type_, (type, NoneType))
    if of_builtin or isinstance(type_, (str, typing.ForwardRef)):
        raise CodecError(f"pass a type, such as a class, not {shown(type_)}")
    texts = _texts(type_)
    if len(texts) > 1:
        raise CodecError(
            f"bodies cannot be read as {shown(type_)}: a str among its values travels as it is, and"
            " others as JSON, so the body 5 could be either. Put the value into an object, such as"
            " a dataclass with one field"
        )
    type_ = _named(type_)
    if isinstance(type_, type) and issubclass(type_, str) and not hasattr(type_, _HOOK):
        return partial(_made, type_)
    if type_ is Any or type_ is object:
        return _load
    for own, kind in _JSON:
        if own == type_:
            return partial(_as_it_is, kind)
    read = _adapter(type_)
    return (lambda body: read(json.dumps(body))) if True in texts else read


_HOOK: Final = "__get_pydantic_core_schema__"  # has a class whose values pydantic checks
_cached_reader = lru_cache(maxsize=512)(make_reader)
_JSON: Final[tuple[tuple[Any, type], ...]] = (
    *((kind, kind) for kind in (NoneType, bool, int, float, dict, list)),
    *((None, NoneType), (dict[str, Any], dict), (list[Any], list)),
)


def _texts(type_: Any) -> set[bool]:
    """Whether values of *type_* are `str`: both answers where some are."""
    type_ = _named(type_)
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Literal:
        return {isinstance(value, str) for value in arguments}
    if origin is typing.Annotated:
        return _texts(arguments[0])
    if origin in (Union, UnionType):
        return set[bool]().union(*map(_texts, arguments))
    return {isinstance(type_, type) and issubclass(type_, str)}


def _named(type_: Any) -> Any:
    """What a `NewType` or the alias of a `type` statement stands for; any other type itself."""
    if hasattr(type_, "__supertype__"):
        return _named(type_.__supertype__)
    return _named(type_.__value__) if type(type_).__name__ == "TypeAliasType" else type_


def _load(body: str) -> Any:
    try:
        return loads(body)
    except ValueError as error:
        raise CodecError(f"the body is not JSON: {error}") from error


def _made(kind: type, value: Any) -> Any:
    try:
        return kind(value)
    except (ValueError, OverflowError) as error:
        raise CodecError(f"the body does not fit: $: {kind.__name__} expected") from error


def _as_it_is(kind: type, body: str) -> Any:
    """*body* as a value of one of JSON's own types."""
    value = _load(body)
    if kind is float and type(value) is int:  # others write 1.0 as 1
        value = _made(float, value)
    if type(value) is not kind:
        raise CodecError(f"the body does not fit: $: {kind.__name__} expected")
    return value


def _adapter(type_: Any) -> Read:
    """What reads JSON as a value of *type_*, by a library."""
    reasons = []
    for name, make in (("pydantic", _by_pydantic), ("msgspec", _by_msgspec)):
        library = installed(name)
        try:
            if library is not None:
                return make(library, type_)
        except NameError:
            raise
        except Exception as error:  # further lines are advice for who defines the type
            reasons.append(f"{name}: {str(error).partition(chr(10))[0][:200]}")
    install = "pip install 'sqs-orchestrator[pydantic]' or '[msgspec]'"
    if not reasons:
        raise CodecError(f"reading bodies as {shown(type_)} needs pydantic or msgspec: {install}")
    if isinstance(type_, type) and type_.__bases__ == (object,) and not is_dataclass(type_):
        reasons.append("make it a dataclass")
    elif len(reasons) == 1:
        reasons.append(f"perhaps the other library can: {install}")
    raise CodecError(f"bodies cannot be read as {shown(type_)}: {'; '.join(reasons)}")


def _by_pydantic(pydantic: Any, type_: Any) -> Read:
    if not hasattr(pydantic, "TypeAdapter"):
        raise TypeError(f"models need pydantic 2, and installed is {pydantic.VERSION}")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Mixing V1 models")  # they fail when they are read
        adapter = pydantic.TypeAdapter(type_)
    if not getattr(adapter, "pydantic_complete", True):
        raise NameError(f"{shown(type_)} names types that are not defined")
    return partial(_adapted, adapter.validate_json, pydantic.ValidationError)


def _by_msgspec(msgspec: Any, type_: Any) -> Read:
    msgspec.json.schema(type_)  # refuses what a decoder takes, and cannot read
    return partial(_adapted, msgspec.json.Decoder(type_).decode, msgspec.MsgspecError)


def _adapted(read: Read, refusal: type[Exception], body: str) -> Any:
    try:
        return read(body)
    except (refusal, ValueError) as error:
        # Without the values: those are the sender's business. Msgspec quotes them.
        said = [re.sub(r" (['\"]).*\1", " ...", str(error), flags=re.DOTALL)]
        if hasattr(error, "errors"):
            said = [f"{'.'.join(map(str, e['loc'])) or '$'}: {e['msg']}" for e in error.errors()]
        fault = "; ".join(said[:5] + ["..."] * (len(said) > 5))
        raise CodecError(f"the body does not fit: {fault}") from error
