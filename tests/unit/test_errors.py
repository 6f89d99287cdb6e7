"""What errors say of themselves."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from sqs_orchestrator import RemoteError
from sqs_orchestrator.codecs import CodecError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError(code="bad_body"), "bad_body"),
        (RemoteError(type="KeyError"), "handler_error (KeyError)"),
        (RemoteError("no", code="refused", type="Reject"), "refused (Reject): no"),
    ],
)
def test_remote_error_says_what_it_knows(error: RemoteError, text: str) -> None:
    assert str(error) == text
    assert repr(error) == f"RemoteError({text!r})"
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert repr(same) == repr(error)
        assert same.message == error.message


HOSTILE = "no\nERROR forged\r\u2028\x1b[2J"


def test_text_of_a_remote_error_is_one_short_line_and_its_attributes_are_whole() -> None:
    long = HOSTILE + "x" * 600_000
    error = RemoteError(long, code=long, type=long, details={"a": long})
    for text in (str(error), repr(error), "".join(traceback.format_exception(error)).rstrip()):
        assert text.isprintable()
        assert len(text) < 1_500
        assert "forged" in text
    assert (error.message, error.code, error.type) == (long, long, long)
    assert error.details == {"a": long}
    assert pickle.loads(pickle.dumps(error)).message == long


def test_text_of_a_codec_error_is_one_short_line() -> None:
    error = CodecError(f"the body does not fit: $.{HOSTILE}{'x' * 600_000}: missing")
    assert str(error).isprintable()
    assert len(str(error)) < 1_500
