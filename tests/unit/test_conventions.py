"""How queues are named for OpenTelemetry."""

from __future__ import annotations

import pytest

from sqs_orchestrator.opentelemetry import conventions
from sqs_orchestrator.opentelemetry.conventions import destination

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"


def test_a_queue_by_its_name_has_that() -> None:
    to = destination("orders")
    assert to.named("send") == "send orders"
    expected = {"messaging.system": "aws_sqs", "messaging.destination.name": "orders"}
    assert to.for_spans == to.for_metrics == expected


def test_a_queue_by_its_url_has_the_server_too() -> None:
    to = destination("http://localhost:9324/000000000000/orders.fifo")
    assert to.named("process") == "process orders.fifo"
    assert to.for_metrics == {
        "messaging.system": "aws_sqs",
        "messaging.destination.name": "orders.fifo",
        "server.address": "localhost",
        "server.port": 9324,
    }
    assert to.for_spans == to.for_metrics | {
        "aws.sqs.queue.url": "http://localhost:9324/000000000000/orders.fifo"
    }
    assert destination(URL).for_metrics["server.address"] == "sqs.eu-west-1.amazonaws.com"
    assert "server.port" not in destination(URL).for_metrics


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("sqs_orchestrator_reply_0123456789abcdef0123456789abcdef", "sqs_orchestrator_reply_{id}"),
        (
            "__RequesterClientQueues__01234567-89AB-cdef-0123-456789abcdef_1",
            "__RequesterClientQueues__{id}_1",
        ),
        ("reply_queue_01234567-89ab-cdef-0123-456789abcdef", "reply_queue_{id}"),
    ],
)
def test_a_reply_queue_goes_without_its_id(name: str, shown: str) -> None:
    to = destination(f"{URL.rpartition('/')[0]}/{name}")
    assert to.named("send") == f"send {shown}"
    assert to.for_spans["messaging.destination.name"] == name
    assert to.for_spans["messaging.destination.template"] == shown
    assert to.for_spans["messaging.destination.temporary"] is True
    # Each would be a series of its own, for as long as the process runs.
    assert name not in to.for_metrics.values()
    assert to.for_metrics["messaging.destination.template"] == shown


def test_reply_queues_are_one_for_metrics() -> None:
    one, other = (destination(f"{URL}_{digit * 32}") for digit in "ab")
    assert one == other
    assert len({one, other, destination(URL)}) == 2
    assert one.for_spans != other.for_spans


@pytest.mark.parametrize("queue", ["", "https://[bad/1/orders", "http://x:port/1/orders"])
def test_what_cannot_be_read_is_left_out(queue: str) -> None:
    to = destination(queue)
    assert "server.address" not in to.for_spans
    assert to.named("process") == ("process orders" if queue else "process")


def test_invented_queues_share_one_series_of_metrics_once_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conventions, "MOST_QUEUES", len(conventions.TOLD_APART) + 10)
    monkeypatch.setattr(conventions, "TOLD_APART", set(conventions.TOLD_APART))
    before = destination("known-before-them")
    seen = {destination(f"sqs_orchestrator_reply_{number}") for number in range(3000)}
    assert len(seen) == 10
    other = destination("sqs_orchestrator_reply_2999")
    assert other.for_metrics == {"messaging.system": "aws_sqs"}
    assert other.for_spans["messaging.destination.name"] == "sqs_orchestrator_reply_2999"
    assert destination("known-before-them") == before
    destination.cache_clear()  # of what only this test has seen so
