"""What an error is in HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from sqs_orchestrator import errors
from sqs_orchestrator.errors import (
    AccessDenied,
    InvalidMessage,
    MessageTooLarge,
    QueueError,
    QueueNotFound,
    RemoteError,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    RequestError,
    SendError,
    SQSOrchestratorError,
    Throttled,
)
from sqs_orchestrator.web import http_status

STATUSES: list[tuple[BaseException, int]] = [
    (SQSOrchestratorError(), 500),
    (RequestError("the reply is no Receipt"), 502),
    (ReplyTimeout(confirmed=True), 504),
    (ReplyTimeout(confirmed=False), 504),
    (RemoteError(), 502),
    (RemoteError(code="unknown_route"), 502),
    (ReplyQueueLost(), 503),
    (ReplyQueueClosed(), 503),
    (SendError("not sent in time"), 503),
    (SendError("not confirmed", maybe_sent=True), 504),
    (SendError("refused", code="InvalidParameterValue"), 500),
    (SendError("refused, after a try whose answer got lost", code="x", maybe_sent=True), 504),
    (MessageTooLarge(), 413),
    (MessageTooLarge(code="InvalidParameterValue"), 413),
    (InvalidMessage(), 422),
    (QueueError(), 500),
    (QueueError(transient=True), 503),
    (QueueError(transient=True, maybe_done=True), 503),
    (QueueNotFound(), 500),
    (AccessDenied(), 500),
    (Throttled(), 503),
    (TimeoutError(), 500),
    (KeyError("x"), 500),
]


@pytest.mark.parametrize(
    ("error", "status"), [pytest.param(*each, id=repr(each[0])) for each in STATUSES]
)
def test_error_has_its_status(error: BaseException, status: int) -> None:
    assert http_status(error) == HTTPStatus(status)


def test_every_error_of_the_tree_is_in_the_table() -> None:
    tree = {getattr(errors, name) for name in errors.__all__}
    assert tree == {type(error) for error, _ in STATUSES if type(error) in tree}


def test_codes_of_the_workers_have_the_status_that_the_application_gives_them() -> None:
    codes = {"sold_out": 409, "no_such_drink": HTTPStatus.NOT_FOUND, "handler_error": 500}
    for code, status in [*codes.items(), ("another", 502)]:
        assert http_status(RemoteError(code=code), codes=codes) == status


def test_codes_are_those_of_workers_alone() -> None:
    assert http_status(SendError(code="sold_out"), codes={"sold_out": 409}) == 500


@pytest.mark.parametrize(
    "codes", [{"sold_out": 99}, {"sold_out": 600}, {"sold_out": "409"}, {409: 409}, [("a", 409)]]
)
def test_codes_that_cannot_be_right_are_refused(codes: Any) -> None:
    with pytest.raises(ValueError, match="codes"):
        http_status(RemoteError(), codes=codes)
