"""The contract's table of outcomes as values: no queue, no loop."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sqs_orchestrator import NO_REPLY, JSONCodec, MessageTooLarge, Reject, Retry
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.attributes import to_attributes
from sqs_orchestrator.core.checks import check_body, check_size, message_bytes
from sqs_orchestrator.core.limits import MESSAGE_BYTES
from sqs_orchestrator.core.wire import ReplyTo
from sqs_orchestrator.worker.outcomes import (
    ABANDON,
    DELETE,
    Abandon,
    Answer,
    DeadLetter,
    Decision,
    Fail,
    failure_to_send,
    of_error,
    of_fault,
    of_result,
    reply_to_send,
    unsendable,
)

TO = ReplyTo("https://sqs.eu-west-1.amazonaws.com/123456789012/sqs_orchestrator_reply_x", "id")


@pytest.mark.parametrize(
    ("result", "wanted", "decision"),
    [
        (1, True, Answer(1)),
        (None, True, Answer(None)),
        (NO_REPLY, True, DELETE),
        (1, False, DELETE),
        (None, False, DELETE),
        (NO_REPLY, False, DELETE),
    ],
)
def test_return(result: Any, wanted: bool, decision: Decision) -> None:
    assert of_result(result, wanted=wanted) == decision


REJECT = Reject("no", code="c", details=[1])


@pytest.mark.parametrize(
    ("error", "wanted", "decision"),
    [
        (REJECT, True, Fail("c", "Reject", "no", [1])),
        (REJECT, False, DeadLetter("c", "no", judged=True)),
        (Retry(5), True, Abandon(5)),
        (Retry(5), False, Abandon(5)),
        (KeyError("x"), True, Fail("handler_error", "KeyError")),
        (KeyError("x"), False, ABANDON),
        (ExceptionGroup("g", [ExceptionGroup("g", [Retry(5)])]), True, Abandon(5)),
        (ExceptionGroup("g", [Retry(5), KeyError()]), False, ABANDON),
        (ExceptionGroup("g", [KeyError()]), True, Fail("handler_error", "ExceptionGroup")),
    ],
)
def test_exception(error: Exception, wanted: bool, decision: Decision) -> None:
    assert of_error(error, wanted=wanted, expose=False) == decision


def test_text_of_exception_travels_only_where_exposed() -> None:
    assert of_error(ValueError("x"), wanted=True, expose=True) == Fail(
        "handler_error", "ValueError", "x"
    )
    assert of_fault("bad_body", "x", wanted=True, expose=True) == Fail("bad_body", None, "x")
    assert of_fault("bad_body", "x", wanted=True, expose=False) == Fail("bad_body")
    assert unsendable(ValueError("x"), expose=True) == Fail("bad_reply", "ValueError", "x")
    assert unsendable(ValueError("x"), expose=False) == Fail("bad_reply", "ValueError")


def test_what_nobody_judged_is_never_to_be_deleted() -> None:
    fault = of_fault("bad_body", "x", wanted=False, expose=True)
    assert fault == DeadLetter("bad_body", "x", judged=False)


def test_result_too_large_has_a_code_of_its_own() -> None:
    with pytest.raises(MessageTooLarge) as caught:
        reply_to_send(JSONCodec(), TO, "x" * MESSAGE_BYTES)
    assert unsendable(caught.value, expose=False) == Fail("reply_too_large", "MessageTooLarge")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    code=st.text(min_size=1, max_size=2000),
    kind=st.none() | st.text(max_size=2000),
    message=st.text(max_size=30_000),
    details=JSON | st.binary() | st.just(object()),
)
def test_there_always_is_an_error_reply_that_can_be_sent(
    code: str, kind: str | None, message: str, details: Any
) -> None:
    body, attributes, size = failure_to_send(TO, Fail(code, kind, message, details))
    check_body(body)
    assert size == message_bytes(body, attributes)
    check_size(size)
    for name, value in attributes.items():
        to_attributes({"x": value}, wire.RESERVED)
        assert value["StringValue"], name
    assert json.loads(body).keys() == {"code", "type", "message", "details"}


@given(JSON)
def test_reply_is_what_the_handler_returned(value: Any) -> None:
    assume(not isinstance(value, str))
    body, attributes, size = reply_to_send(JSONCodec(), TO, value)
    assert size == message_bytes(body, attributes)
    assert json.loads(body) == value
    assert wire.parse_reply(attributes).correlation_id == "id"
