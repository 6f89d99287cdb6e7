"""Bodies and values: what a `str` in SQS becomes in the program, and the other way round."""

from __future__ import annotations

from typing import Any, Protocol

from .adapters import CodecError, reader
from .core.checks import shown
from .errors import InvalidMessage
from .jsontext import dumps

__all__ = ["Codec", "CodecError", "JSONCodec", "encode"]


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
    """Raises `ValueError` where *codec* can read no body as *type_*, which *what* names.

    A type that names others which are not defined yet is taken; and what codecs of the user's own
    read, they alone know.
    """
    if getattr(type(codec), "decode", None) is JSONCodec.decode:
        try:
            reader(type_)
        except CodecError as error:
            raise ValueError(f"{what}: {error}") from error
        except NameError:
            pass  # perhaps a module is not read to its end yet


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

    A value that is a `str` travels as it is, every other value as JSON: in ASCII, on one line.
    Beside JSON's own types it writes dataclasses, `msgspec.Struct`, pydantic models, datetimes,
    timedeltas (as ISO 8601), UUIDs, decimals (as text, since JSON's numbers lose digits), enums,
    paths and sets. Bytes it refuses.

    It reads `Any`, `dict`, `list`, `int`, `float`, `bool` and `None`, `str` and its subclasses by
    itself, every other type by pydantic 2 or msgspec, whichever is installed. What comes back
    equal, the reference says under "Strings and JSON".
    """

    def __repr__(self) -> str:
        return "JSONCodec()"

    def encode(self, value: Any) -> tuple[str, str | None]:
        if isinstance(value, str):
            return str.__str__(value), None
        try:
            return dumps(value), None
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
        try:
            return reader(type)(body)
        except RecursionError as error:
            raise CodecError("the body is nested too deep") from error


def _is_text_or_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind == "application/json" or kind.endswith("+json")
