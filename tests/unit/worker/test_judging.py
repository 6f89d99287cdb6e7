"""The contract's table of outcomes as values: no queue, no loop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sqs_orchestrator import NO_REPLY, JSONCodec, Message, MessageTooLarge, Reject, Retry
from sqs_orchestrator.codecs import CodecError
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.attributes import to_attributes
from sqs_orchestrator.core.checks import checked, message_bytes
from sqs_orchestrator.core.limits import MESSAGE_BYTES
from sqs_orchestrator.core.wire import ReplyTo, Request
from sqs_orchestrator.drafts import Draft, seal
from sqs_orchestrator.errors import InvalidMessage
from sqs_orchestrator.worker.handlers import Handlers
from sqs_orchestrator.worker.judging import Judge
from sqs_orchestrator.worker.outcomes import (
    EXPIRED,
    HANDLED,
    RELEASED,
    Abandon,
    DeadLetter,
    Judgement,
    Outcome,
    Run,
    SendReply,
)
from sqs_orchestrator.worker.settings import checked_settings

ACCOUNT = "https://sqs.eu-west-1.amazonaws.com/123456789012"
TO = ReplyTo(f"{ACCOUNT}/sqs_orchestrator_reply_x", "id")


async def handle(message: Message) -> None: ...


HANDLERS = Handlers()
ORDER = HANDLERS.register(handle, "order")


def judge(*, expose: bool = False) -> Judge:
    settings = checked_settings(
        concurrency=1,
        visibility_timeout=10,
        max_extension=60,
        wait_time=1,
        drain_timeout=5,
        reply_queue_prefixes=("sqs_orchestrator_reply_",),
        reply_accounts=(),
        expose_errors=expose,
        read_timeout=60,
    )
    return Judge(f"{ACCOUNT}/orders", "eu-west-1", settings, HANDLERS)


def facts(outcome: Outcome) -> Any:
    """What *outcome* says; an exception is equal only to itself."""
    if isinstance(outcome, SendReply) and isinstance(outcome.body, Reject):
        body = outcome.body
        return (body.code, body.type, body.message, body.details), outcome.bare
    return outcome


def of_error(error: BaseException, queue: str | None = None, **options: Any) -> Judgement:
    expose = options.pop("expose", False)
    return judge(expose=expose).of_error(error, queue, **{"message_id": "m", **options})


def reply(code: str, kind: str | None = None, text: str = "", details: Any = None) -> Any:
    return (code, kind, text, details), False


# ------------------------------------------------------------------- messages


def of_message(request: Request, fault: str | None = None, **options: Any) -> Run | Judgement:
    expired = options.pop("expired", False)
    return judge(**options).of_message(request, fault, expired=expired)


def test_message_runs_the_handler_of_its_route() -> None:
    assert of_message(Request(message_type="order")) == Run(ORDER, None)


def test_reply_goes_to_the_requesters_queue() -> None:
    assert of_message(Request(TO, message_type="order")) == Run(ORDER, TO.queue_url)


def test_request_that_has_expired_is_deleted() -> None:
    assert of_message(Request(TO, message_type="order"), expired=True) == EXPIRED


def test_one_way_message_never_expires() -> None:
    assert of_message(Request(message_type="order"), expired=True) == Run(ORDER, None)


def test_message_without_handler_is_rejected() -> None:
    judgement = of_message(Request(TO, message_type="other"))
    assert isinstance(judgement, Judgement)
    assert facts(judgement.outcome) == reply("unknown_route")
    assert judgement.counted == "rejected"
    assert judgement.fault == ("unknown_route", "no handler for its route: 'other'")


def test_message_that_breaks_the_wire_format_is_rejected() -> None:
    judgement = of_message(Request(), "torn")
    assert isinstance(judgement, Judgement)
    assert judgement.outcome == DeadLetter("bad_attribute", "torn", judged=False)


def test_address_that_may_not_be_answered_gets_no_reply() -> None:
    elsewhere = ReplyTo(f"{ACCOUNT}/payroll", "id")
    judgement = of_message(Request(elsewhere, message_type="order"))
    assert isinstance(judgement, Judgement)
    assert isinstance(judgement.outcome, DeadLetter)
    assert judgement.outcome.code == "bad_attribute"


# ------------------------------------------------------------------- results


@pytest.mark.parametrize("result", [1, None, "x"])
def test_result_is_the_reply(result: Any) -> None:
    assert judge().of_result(result, "q") == Judgement(SendReply("q", result), "handled")


LEGACY = ReplyTo(TO.queue_url, None, "id")


@pytest.mark.parametrize(
    ("to", "result", "wanted"),
    [
        (LEGACY, None, False),
        (LEGACY, "", False),
        (LEGACY, 0, True),
        (TO, None, True),
        (TO, "", True),
        (ReplyTo(TO.queue_url, "id", "id"), None, True),
        (ReplyTo(TO.queue_url), None, True),
    ],
)
def test_requester_of_the_synchronous_package_gets_no_reply_where_its_own_workers_send_none(
    to: ReplyTo, result: Any, wanted: bool
) -> None:
    outcome = judge().of_result(result, "q", to).outcome
    assert outcome == (SendReply("q", result) if wanted else HANDLED.outcome)


@pytest.mark.parametrize(("result", "queue"), [(NO_REPLY, "q"), (NO_REPLY, None), (1, None)])
def test_message_that_nobody_answers_is_deleted(result: Any, queue: str | None) -> None:
    assert judge().of_result(result, queue) == HANDLED


# -------------------------------------------------------------------- errors


REJECT = Reject("no", code="c", details=[1])


@pytest.mark.parametrize(
    ("error", "wanted", "outcome", "counted"),
    [
        (REJECT, True, reply("c", "Reject", "no", [1]), "rejected"),
        (REJECT, False, DeadLetter("c", "no", judged=True), "rejected"),
        (Retry(5), True, Abandon(5), "retried"),
        (Retry(5), False, Abandon(5), "retried"),
        (KeyError("x"), True, reply("handler_error", "KeyError"), "failed"),
        (KeyError("x"), False, Abandon(), "failed"),
        (ExceptionGroup("g", [ExceptionGroup("g", [Retry(5)])]), True, Abandon(5), "retried"),
        (ExceptionGroup("g", [Retry(5), KeyError()]), False, Abandon(), "failed"),
        (
            ExceptionGroup("g", [KeyError()]),
            True,
            reply("handler_error", "ExceptionGroup"),
            "failed",
        ),
    ],
)
def test_exception(error: Exception, wanted: bool, outcome: Any, counted: str) -> None:
    judgement = of_error(error, "q" if wanted else None)
    assert facts(judgement.outcome) == outcome
    assert judgement.counted == counted
    assert judgement.error is (error if counted == "failed" else None)


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
def test_message_whose_handler_the_drain_cancelled_is_released(error: BaseException) -> None:
    assert of_error(error, "q", withdrawn=True) == RELEASED


def test_reject_counts_though_the_drain_cancelled_the_handler() -> None:
    assert of_error(REJECT, withdrawn=True).counted == "rejected"


def test_message_is_released_where_somebody_ends_the_program() -> None:
    assert of_error(KeyboardInterrupt(), "q") == RELEASED


def test_handler_past_max_extension_has_timed_out() -> None:
    judgement = of_error(asyncio.CancelledError(), "q", overdue=True)
    assert facts(judgement.outcome) == reply("handler_error", "TimeoutError")
    assert str(judgement.error) == "it ran for longer than it may"


@pytest.mark.parametrize("message_id", ["m", "other"])
def test_body_that_is_no_json_is_the_messages_own_fault_only(message_id: str) -> None:
    message = Message("{", message_id="m")
    with pytest.raises(CodecError) as caught:
        message.replace(body="{{").json()
    judgement = of_error(caught.value, "q", message_id=message_id)
    if message_id == "m":
        assert facts(judgement.outcome) == reply("bad_body")
        assert judgement.fault is not None
        assert judgement.error is None
    else:
        assert facts(judgement.outcome) == reply("handler_error", "CodecError")


def test_text_of_exception_travels_only_where_exposed() -> None:
    judgement = of_error(ValueError("x"), "q", expose=True)
    assert facts(judgement.outcome) == reply("handler_error", "ValueError", "x")
    rejected = of_message(Request(TO), "torn", expose=True)
    assert isinstance(rejected, Judgement)
    assert facts(rejected.outcome) == reply("bad_attribute", None, "torn")


# --------------------------------------------------------- what cannot be sent


def of_unsent(body: Any, error: Exception, *, expose: bool = False, bare: bool = False) -> Any:
    judgement = judge(expose=expose).of_unsent(SendReply("q", body, bare), error)
    return None if judgement is None else (*facts(judgement.outcome), judgement.counted)


def test_result_that_cannot_be_sent_has_codes_of_its_own() -> None:
    large = MessageTooLarge("x", size=2, limit=1)
    assert of_unsent(1, large) == (
        ("reply_too_large", "MessageTooLarge", "", None),
        True,
        "failed",
    )
    assert of_unsent(1, TypeError("x")) == (("bad_reply", "TypeError", "", None), True, "failed")
    assert of_unsent(1, TypeError("x"), expose=True)[0] == ("bad_reply", "TypeError", "x", None)


def test_error_reply_that_is_too_large_is_sent_without_its_text() -> None:
    large = MessageTooLarge("x", size=2, limit=1)
    assert of_unsent(REJECT, large) == (("c", "Reject", "", None), True, None)


def test_attributes_that_sqs_refuses_make_an_error_reply_a_bad_one() -> None:
    refused = InvalidMessage("x")
    assert of_unsent(REJECT, refused)[0] == ("bad_reply", "InvalidMessage", "", None)


def test_nothing_stands_in_for_the_smallest_error_reply() -> None:
    assert of_unsent(Reject(code="c"), MessageTooLarge("x", size=2, limit=1), bare=True) is None
    assert of_unsent(Reject(code="c"), ValueError("x"), bare=True) is None


def test_error_of_middleware_around_a_reply_is_one_of_the_handlers() -> None:
    judgement = judge().of_middleware(SendReply("q", 1), KeyError("x"))
    assert facts(judgement.outcome) == (("handler_error", "KeyError", "", None), True)
    assert judgement.counted == "failed"


# ------------------------------------------------------------------ as they are sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def sealed(body: Any) -> Any:
    draft = Draft(kind="reply", queue=TO.queue_url, body=body, correlation_id="id")
    return seal(draft, JSONCodec(), reply_to=TO)


@given(
    code=st.text(min_size=1, max_size=2000),
    kind=st.none() | st.text(max_size=2000),
    message=st.text(max_size=30_000),
    details=JSON | st.binary() | st.just(object()),
)
def test_there_always_is_an_error_reply_that_can_be_sent(
    code: str, kind: str | None, message: str, details: Any
) -> None:
    reject = Reject(message, details=details)
    reject.code, reject.type = code, kind
    body, attributes, size, _ = sealed(reject)
    checked(body, "body")
    assert size == message_bytes(body, attributes) <= MESSAGE_BYTES
    for name, value in attributes.items():
        to_attributes({"x": value}, wire.RESERVED)
        assert value["StringValue"], name
    assert json.loads(body).keys() == {"code", "type", "message", "details"}


@given(JSON)
def test_reply_is_what_the_handler_returned(value: Any) -> None:
    assume(not isinstance(value, str))
    body, attributes, size, _ = sealed(value)
    assert size == message_bytes(body, attributes)
    assert json.loads(body) == value
    assert wire.parse_reply(attributes).correlation_id == "id"
