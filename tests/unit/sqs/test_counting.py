from __future__ import annotations

import inspect
from typing import Any

import pytest

from sqs_orchestrator.errors import AccessDenied
from sqs_orchestrator.sqs.clock import Clock
from sqs_orchestrator.sqs.counting import Counting
from sqs_orchestrator.sqs.port import SQS, SendEntry

CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "send": ("SendMessageBatch", ("url", [SendEntry("hello")]), {}),
    "receive": (
        "ReceiveMessage",
        ("url",),
        {"max_messages": 3, "wait_time": 4, "visibility_timeout": 5, "begun": print},
    ),
    "delete": ("DeleteMessageBatch", ("url", ["handle"]), {}),
    "change_visibility": ("ChangeMessageVisibilityBatch", ("url", [("handle", 7)]), {}),
    "get_queue_url": ("GetQueueUrl", ("name", "account"), {}),
    "create_queue": ("CreateQueue", ("name", {"a": "1"}, {"t": "2"}), {}),
    "get_queue_attributes": ("GetQueueAttributes", ("url", ["All"]), {}),
    "list_queues": ("ListQueues", ("prefix",), {"limit": 9, "token": "t"}),
    "list_queue_tags": ("ListQueueTags", ("url",), {}),
    "tag_queue": ("TagQueue", ("url", {"t": "2"}), {}),
    "untag_queue": ("UntagQueue", ("url", ["t"]), {}),
    "delete_queue": ("DeleteQueue", ("url",), {}),
}


class Recording:
    """A port that answers each call with the call itself."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.region = "eu-west-1"

    def __getattr__(self, operation: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return operation, args, kwargs

        return call


def test_table_covers_every_operation_of_the_port() -> None:
    operations = {name for name, value in vars(SQS).items() if inspect.iscoroutinefunction(value)}
    assert operations == set(CALLS)


@pytest.mark.parametrize("operation", CALLS)
async def test_counting_passes_a_call_on_and_counts_it(operation: str) -> None:
    name, args, kwargs = CALLS[operation]
    counting = Counting(Recording())
    answer = await getattr(counting, operation)(*args, **kwargs)
    # Those that return nothing have nothing to show for it here.
    if operation not in {"tag_queue", "untag_queue", "delete_queue"}:
        assert answer == (operation, args, kwargs)
    assert counting.calls == {name: 1}


async def test_counting_counts_a_call_that_fails() -> None:
    class Refusing(Recording):
        async def delete_queue(self, queue_url: str) -> None:
            raise AccessDenied(f"no {queue_url}")

    counting = Counting(Refusing())
    with pytest.raises(AccessDenied, match="no url"):
        await counting.delete_queue("url")
    assert counting.calls == {"DeleteQueue": 1}


async def test_counting_shows_clock_and_region_of_the_port_within() -> None:
    port = Recording()
    counting = Counting(port)
    assert counting.clock is port.clock
    assert counting.region == "eu-west-1"
