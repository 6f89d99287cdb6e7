"""What errors say of themselves."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

import sqs_orchestrator
from sqs_orchestrator import (
    InvalidMessage,
    QueueNotFound,
    RemoteError,
    ReplyQueueLost,
    ReplyTimeout,
    SendError,
    SQSOrchestratorError,
)
from sqs_orchestrator.codecs import CodecError
from sqs_orchestrator.errors import fresh_copy

ERRORS = [
    kind
    for kind in vars(sqs_orchestrator).values()
    if isinstance(kind, type) and issubclass(kind, SQSOrchestratorError)
]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError(code="bad_body"), "bad_body: the worker's log says why"),
        (RemoteError(type="KeyError"), "handler_error (KeyError): the worker's log says why"),
        (RemoteError("'a'", type="KeyError"), "handler_error (KeyError): 'a'"),
        (RemoteError(code="sold_out", type="Reject"), "sold_out (Reject)"),
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


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            InvalidMessage("the body is empty"),
            "InvalidMessage('the body is empty', maybe_sent=False)",
        ),
        (
            ReplyQueueLost("gone", queue="orders", correlation_id="7"),
            "ReplyQueueLost('gone', queue='orders', correlation_id='7')",
        ),
        (
            ReplyTimeout("late", queue="orders", timeout=5),
            "ReplyTimeout('late', queue='orders', timeout=5, confirmed=True)",
        ),
        (
            QueueNotFound(operation="GetQueueUrl", code="x"),
            "QueueNotFound(operation='GetQueueUrl', code='x', transient=False, maybe_done=False)",
        ),
    ],
)
def test_error_shows_its_facts(error: SQSOrchestratorError, text: str) -> None:
    assert repr(error) == text


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        fresh_copy,
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_copy_has_the_facts_and_the_notes_of_its_own(kind: Any, copied: Any) -> None:
    error = kind("why", **({} if kind is SQSOrchestratorError else {"queue": "orders"}))
    error.extra = [1]
    error.add_note("first")
    fresh = copied(error)
    assert fresh is not error
    assert type(fresh) is kind
    assert (str(fresh), repr(fresh), fresh.args) == (str(error), repr(error), error.args)
    assert vars(fresh) == vars(error)
    fresh.add_note("second")
    assert error.__notes__ == ["first"]


def chain(error: BaseException | None) -> list[BaseException]:
    """*error* and what led to it."""
    found: list[BaseException] = []
    while error is not None:
        assert all(error is not other for other in found)
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def raised(cause: BaseException | None) -> SendError:
    try:
        raise SendError("no") from cause
    except SendError as error:
        return error


@pytest.mark.parametrize("cause", [None, KeyError("x")])
def test_error_passed_on_is_not_its_own_cause(cause: BaseException | None) -> None:
    error = raised(cause)
    fresh = fresh_copy(fresh_copy(error))
    assert fresh.__cause__ is cause
    assert fresh.__traceback__ is None
    assert [str(each) for each in chain(fresh)] == [str(each) for each in chain(error)]


def test_error_passed_on_keeps_the_context_in_which_it_arose() -> None:
    error = raised(None)
    error.__context__, error.__suppress_context__ = KeyError("x"), False
    assert len(chain(fresh_copy(error))) == len(chain(error)) == 2
