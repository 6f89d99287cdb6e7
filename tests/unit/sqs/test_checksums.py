"""MD5 digests as SQS calculates them, spelled out byte by byte."""

from __future__ import annotations

from hashlib import md5
from typing import Any

import pytest

from sqs_orchestrator.sqs.checksums import damage, md5_of_attributes


@pytest.mark.parametrize("body", ["x", "ünï€", "\U0001f600", "line\r\nline"])
def test_digest_of_a_body_is_that_of_its_utf_8(body: str) -> None:
    assert damage(body, {}, md5(body.encode()).hexdigest(), None) is None
    assert damage(body, {}, md5(body.encode() + b" ").hexdigest(), None) == "body"


def test_digest_of_attributes_takes_them_in_order_of_their_names() -> None:
    attributes: dict[str, dict[str, Any]] = {
        "b": {"DataType": "Number.int", "StringValue": "42"},
        "B": {"DataType": "Binary.gif", "BinaryValue": b"\x00\xff\x00"},
        "aa": {"DataType": "String", "StringValue": "ü"},
    }
    told = (
        b"\0\0\0\x01B\0\0\0\x0aBinary.gif\x02\0\0\0\x03\x00\xff\x00"
        b"\0\0\0\x02aa\0\0\0\x06String\x01\0\0\0\x02\xc3\xbc"
        b"\0\0\0\x01b\0\0\0\x0aNumber.int\x01\0\0\0\x0242"
    )
    assert md5_of_attributes(attributes) == md5(told).hexdigest()


def test_half_a_surrogate_pair_breaks_no_digest() -> None:
    half = "\ud83d"
    assert damage(half, {}, "0" * 32, None) == "body"
    assert md5_of_attributes({"a": {"DataType": "String", "StringValue": half}})
