"""The MD5 digests by which SQS shows what it understood, and what it handed out.

They guard against damage on the way, not against anybody: hence an algorithm that is good for
nothing else.
"""

from __future__ import annotations

from hashlib import md5
from struct import Struct
from typing import Final

from .port import Attributes

__all__ = ["damage", "md5_of_attributes"]

_length: Final = Struct(">I").pack
_STRING: Final = b"\x01"
_BINARY: Final = b"\x02"


def md5_of_attributes(attributes: Attributes) -> str:
    """What SQS calls `MD5OfMessageAttributes`: names in order, each thing after its length.

    (Amazon SQS Developer Guide, "Calculating the MD5 message digest for message attributes".)
    """
    parts: list[bytes] = []
    for name in sorted(attributes):
        attribute = attributes[name]
        text, kind = name.encode(), attribute["DataType"].encode()
        if "BinaryValue" in attribute:
            mark, value = _BINARY, attribute["BinaryValue"]
        else:
            mark, value = _STRING, attribute["StringValue"].encode("utf-8", "surrogatepass")
        parts += (
            _length(len(text)),
            text,
            _length(len(kind)),
            kind,
            mark,
            _length(len(value)),
            value,
        )
    return md5(b"".join(parts), usedforsecurity=False).hexdigest()


def damage(
    body: str, attributes: Attributes, body_digest: object, attributes_digest: object
) -> str | None:
    """What of a message is not as SQS's digests of it say, if anything: `MD5OfMessageBody`, which
    receives call `MD5OfBody`, and `MD5OfMessageAttributes`. Either may be absent."""
    if body_digest:
        # Half a surrogate pair is no character, and SQS refuses it; not every server does.
        encoded = body.encode("utf-8", "surrogatepass")
        if body_digest != md5(encoded, usedforsecurity=False).hexdigest():
            return "body"
    try:
        if attributes_digest and attributes_digest != md5_of_attributes(attributes):
            return "attributes"
    except KeyError:  # one has no value, or no type
        return "attributes"
    return None
