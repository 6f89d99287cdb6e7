"""The MD5 digests by which SQS shows what it understood, and what it handed out.

They guard against damage on the way, not against anybody: hence an algorithm that is good for
nothing else.
"""

from __future__ import annotations

from hashlib import md5
from struct import Struct
from typing import Final

from .port import Attributes

__all__ = ["md5_of_attributes", "md5_of_body"]

_length: Final = Struct(">I").pack
_STRING: Final = b"\x01"
_BINARY: Final = b"\x02"


def md5_of_body(body: str) -> str:
    """What SQS calls `MD5OfMessageBody` and `MD5OfBody`."""
    # Half a surrogate pair is no character, and SQS refuses it; not every server does.
    return md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


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
