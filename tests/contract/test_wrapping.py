"""What a wrap sees of the calls of each port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sqs_orchestrator import Call, QueueNotFound
from sqs_orchestrator.sqs.port import SQS, Received, SendEntry
from sqs_orchestrator.sqs.transport import OPERATIONS
from sqs_orchestrator.sqs.wrapping import WrappedSQS


async def test_each_operation_passes_the_wrap_once_with_its_queue_and_its_entries(
    sqs: SQS, prefix: str
) -> None:
    seen: list[tuple[Call, Any]] = []

    async def see(call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        try:
            result = await call_next(call)
        except Exception as error:
            result = error
            raise
        finally:
            seen.append((call, result))
        return result

    wrapped = WrappedSQS(sqs, see)
    name = f"{prefix}queue"
    url = await wrapped.create_queue(name, {}, {})
    assert await wrapped.get_queue_url(name) == url
    await wrapped.get_queue_attributes(url, ["QueueArn"])
    await wrapped.tag_queue(url, {"a": "b"})
    await wrapped.list_queue_tags(url)
    await wrapped.untag_queue(url, ["a"])
    await wrapped.list_queues(prefix)
    await wrapped.send(url, [SendEntry(body) for body in "xyz"])
    received: list[Received] = []
    while len(received) < 3:
        received += await wrapped.receive(url, wait_time=1)
    await wrapped.change_visibility(url, [(each.receipt_handle, 60) for each in received[:2]])
    await wrapped.delete(url, [each.receipt_handle for each in received])
    await wrapped.delete_queue(url)
    with pytest.raises(QueueNotFound):
        await wrapped.get_queue_url(f"{prefix}none")

    calls = [call for call, _ in seen]
    assert {call.operation for call in calls} == set(OPERATIONS)
    entries = {"SendMessageBatch": 3, "ChangeMessageVisibilityBatch": 2, "DeleteMessageBatch": 3}
    for call in calls[:-1]:
        by_name = call.operation in ("CreateQueue", "GetQueueUrl")
        listing = call.operation == "ListQueues"
        assert call == Call(
            call.operation,
            queue_url=None if by_name or listing else url,
            queue_name=None if listing else name,
            entries=entries.get(call.operation, 1),
            attempt=1,
        )
    assert isinstance(seen[-1][1], QueueNotFound)
