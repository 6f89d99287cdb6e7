"""The SQS in memory: what takes long, what goes wrong on demand, and what tests may look at.

What it shares with real servers is in the contract suite.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from sqs_orchestrator.errors import (
    AccessDenied,
    QueueError,
    QueueNotFound,
    SendError,
    Throttled,
)
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop


@pytest.fixture
def server() -> MemoryServer:
    """Without latency, so that times are easy to read."""
    return MemoryServer()


async def make(sqs: MemorySQS, name: str = "orders", **attributes: str) -> str:
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return await sqs.create_queue(name, attributes, {})


async def send(sqs: MemorySQS, url: str, *bodies: str) -> None:
    results = await sqs.send(url, [SendEntry(body) for body in bodies])
    assert all(isinstance(result, str) for result in results)


async def receive_one(sqs: MemorySQS, url: str, **options: Any) -> Received:
    [message] = await sqs.receive(url, max_messages=1, **options)
    return message


# ------------------------------------------------------------------- what takes long


async def test_message_is_gone_after_its_retention(sqs: MemorySQS) -> None:
    url = await make(sqs, MessageRetentionPeriod="60")
    await send(sqs, url, "old")
    await asyncio.sleep(59)
    await send(sqs, url, "young")
    await asyncio.sleep(2)
    assert [message.body for message in await sqs.receive(url)] == ["young"]
    assert [message.body for message in sqs.server.messages(url)] == ["young"]


async def test_fifo_takes_a_deduplication_id_again_after_five_minutes(sqs: MemorySQS) -> None:
    url = await make(sqs, "orders.fifo")
    entry = SendEntry("x", group_id="g", deduplication_id="d")
    [first] = await sqs.send(url, [entry])
    await asyncio.sleep(299)
    assert await sqs.send(url, [entry]) == [first]
    await asyncio.sleep(2)
    assert await sqs.send(url, [entry]) != [first]
    assert len(sqs.server.messages(url)) == 2


async def test_high_throughput_fifo_deduplicates_by_group(sqs: MemorySQS) -> None:
    url = await make(sqs, "orders.fifo", DeduplicationScope="messageGroup")
    for group in ("a", "b", "a"):
        await sqs.send(url, [SendEntry("x", group_id=group, deduplication_id="d")])
    assert len(sqs.server.messages(url)) == 2


async def test_deleted_name_is_refused_for_a_minute(sqs: MemorySQS) -> None:
    await sqs.delete_queue(await make(sqs))
    await asyncio.sleep(59)
    with pytest.raises(QueueError) as caught:
        await make(sqs)
    assert caught.value.code == "QueueDeletedRecently"
    assert caught.value.transient
    await asyncio.sleep(2)
    await make(sqs)


async def test_visibility_ends_twelve_hours_after_the_receive(sqs: MemorySQS) -> None:
    url = await make(sqs)
    await send(sqs, url, "x")
    message = await receive_one(sqs, url, visibility_timeout=43_200)
    await asyncio.sleep(3_600)
    [failure] = await sqs.change_visibility(url, [(message.receipt_handle, 43_200)])
    assert isinstance(failure, Failure)
    assert await sqs.change_visibility(url, [(message.receipt_handle, 39_600)]) == [None]


async def test_poll_ends_when_its_queue_is_deleted(sqs: MemorySQS) -> None:
    url = await make(sqs)
    poll = asyncio.ensure_future(sqs.receive(url))
    await asyncio.sleep(1)
    await sqs.delete_queue(url)
    with pytest.raises(QueueNotFound):
        await poll
    assert asyncio.get_running_loop().time() == 1


async def test_only_one_poll_gets_a_message(sqs: MemorySQS) -> None:
    url = await make(sqs)
    polls = [asyncio.ensure_future(sqs.receive(url, wait_time=5)) for _ in range(3)]
    await asyncio.sleep(1)
    await send(sqs, url, "x")
    assert [len(received) for received in await asyncio.gather(*polls)] == [1, 0, 0]


async def test_poll_wakes_when_a_fifo_group_is_free_again(sqs: MemorySQS) -> None:
    url = await make(sqs, "orders.fifo", ContentBasedDeduplication="true")
    await sqs.send(url, [SendEntry(body, group_id="g") for body in "ab"])
    first = await receive_one(sqs, url)
    poll = asyncio.ensure_future(sqs.receive(url))
    await asyncio.sleep(3)
    await sqs.delete(url, [first.receipt_handle])
    assert [message.body for message in await poll] == ["b"]
    assert asyncio.get_running_loop().time() == 3


async def test_handle_is_stale_once_somebody_else_has_the_message(sqs: MemorySQS) -> None:
    url = await make(sqs, VisibilityTimeout="10")
    await send(sqs, url, "x")
    stale = await receive_one(sqs, url)
    await asyncio.sleep(11)
    fresh = await receive_one(sqs, url)
    assert await sqs.delete(url, [stale.receipt_handle]) == [None]
    assert len(sqs.server.messages(url)) == 1
    [failure] = await sqs.change_visibility(url, [(stale.receipt_handle, 60)])
    assert isinstance(failure, Failure)
    assert await sqs.delete(url, [fresh.receipt_handle]) == [None]
    assert sqs.server.messages(url) == []


async def test_fifo_handle_expires_with_the_visibility(sqs: MemorySQS) -> None:
    url = await make(sqs, "o.fifo", ContentBasedDeduplication="true", VisibilityTimeout="10")
    await sqs.send(url, [SendEntry("x", group_id="g")])
    message = await receive_one(sqs, url)
    await asyncio.sleep(11)
    [failure] = await sqs.delete(url, [message.receipt_handle])
    assert isinstance(failure, Failure)
    assert len(sqs.server.messages(url)) == 1


async def test_buried_message_wakes_a_poll_of_the_dead_letter_queue(sqs: MemorySQS) -> None:
    dead = await make(sqs, "dead")
    arn = (await sqs.get_queue_attributes(dead, ["QueueArn"]))["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
    url = await make(sqs, "orders", RedrivePolicy=policy, VisibilityTimeout="5")
    await send(sqs, url, "poison")
    await sqs.receive(url)
    poll = asyncio.ensure_future(sqs.receive(dead))
    await asyncio.sleep(6)
    assert await sqs.receive(url, wait_time=0) == []
    assert [message.body for message in await poll] == ["poison"]


async def test_redrive_policy_needs_its_queue(sqs: MemorySQS) -> None:
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:x:1:no", "maxReceiveCount": 1})
    with pytest.raises(QueueError, match="does not exist"):
        await make(sqs, RedrivePolicy=policy)


# ----------------------------------------------------------------------------- clock


async def test_clock_has_whole_seconds_and_is_never_early(sqs: MemorySQS) -> None:
    await asyncio.sleep(0.75)
    await sqs.list_queues("")
    assert sqs.server.now() == 1_700_000_000.75
    assert sqs.clock.now() == 1_700_000_000
    assert math.floor(sqs.server.now()) == sqs.clock.now()


async def test_clients_have_their_own_view_of_the_clock(server: MemoryServer) -> None:
    one, two = MemorySQS(server), MemorySQS(server)
    await make(one)
    assert one.clock.known
    assert not two.clock.known


# ------------------------------------------------------------------------- accounts


async def test_account_sees_its_own_queues(server: MemoryServer) -> None:
    ours, theirs = MemorySQS(server), MemorySQS(server, account="999999999999")
    url = await make(theirs)
    assert url.split("/")[-2] == "999999999999"
    assert (await ours.list_queues("")).urls == []
    with pytest.raises(QueueNotFound):
        await ours.get_queue_url("orders")
    assert await ours.get_queue_url("orders", "999999999999") == url
    await send(ours, url, "across")
    assert [message.body for message in await theirs.receive(url)] == ["across"]


# ---------------------------------------------------------------------------- faults


@pytest.mark.parametrize("kind", [QueueError, QueueNotFound, AccessDenied, Throttled])
async def test_ordered_failure_happens_once_and_does_nothing(
    sqs: MemorySQS, kind: type[QueueError]
) -> None:
    url = await make(sqs)
    sqs.fail("SendMessageBatch", kind)
    with pytest.raises(kind) as caught:
        await send(sqs, url, "lost")
    assert caught.value.operation == "SendMessageBatch"
    assert caught.value.queue == url
    assert caught.value.code
    await send(sqs, url, "sent")
    assert [message.body for message in sqs.server.messages(url)] == ["sent"]


async def test_ordered_failure_counts_down(sqs: MemorySQS) -> None:
    sqs.fail("ListQueues", Throttled, times=2)
    for _ in range(2):
        with pytest.raises(Throttled):
            await sqs.list_queues("")
    await sqs.list_queues("")


async def test_ordered_failure_goes_on_until_it_is_cleared(sqs: MemorySQS) -> None:
    sqs.fail("*", times=None)
    for _ in range(3):
        with pytest.raises(QueueError):
            await sqs.list_queues("")
    sqs.clear()
    await sqs.list_queues("")


async def test_each_failure_is_an_error_of_its_own(sqs: MemorySQS) -> None:
    sqs.fail("ListQueues", Throttled("slow", transient=True), times=2)
    errors = []
    for _ in range(2):
        with pytest.raises(Throttled, match="slow") as caught:
            await sqs.list_queues("")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


async def test_failure_of_one_queue_or_client_leaves_the_others(server: MemoryServer) -> None:
    one, two = MemorySQS(server), MemorySQS(server)
    a, b = await make(one, "a"), await make(one, "b")
    one.fail("SendMessageBatch", Throttled, queue="a", times=None)
    await send(one, b, "x")
    await send(two, a, "x")
    with pytest.raises(Throttled):
        await send(one, a, "x")
    server.faults.fail("SendMessageBatch", Throttled, queue=b, times=None)
    for sqs in (one, two):
        with pytest.raises(Throttled):
            await send(sqs, b, "x")


async def test_dropped_answer_comes_after_the_deed(sqs: MemorySQS) -> None:
    url = await make(sqs)
    sqs.drop_answer("SendMessageBatch")
    with pytest.raises(QueueError) as caught:
        await send(sqs, url, "sent all the same")
    assert caught.value.transient
    assert caught.value.maybe_done
    assert len(sqs.server.messages(url)) == 1


async def test_dropped_answer_of_a_receive_hides_messages(sqs: MemorySQS) -> None:
    url = await make(sqs, VisibilityTimeout="5")
    await send(sqs, url, "x")
    sqs.drop_answer("ReceiveMessage")
    with pytest.raises(QueueError):
        await sqs.receive(url)
    message = await receive_one(sqs, url)
    assert message.system["ApproximateReceiveCount"] == "2"
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.001)


async def test_delay_makes_calls_take_longer(sqs: MemorySQS) -> None:
    sqs.delay("ListQueues", 3)
    await sqs.list_queues("")
    await sqs.list_queues("")
    assert asyncio.get_running_loop().time() == 6


async def test_gate_holds_a_call_before_it_is_done(sqs: MemorySQS) -> None:
    url = await make(sqs)
    gate = sqs.hold("SendMessageBatch")
    call = asyncio.ensure_future(send(sqs, url, "x"))
    await gate.arrived()
    assert gate.waiting == 1
    assert sqs.server.messages(url) == []
    gate.release()
    await call
    assert len(sqs.server.messages(url)) == 1


async def test_call_cancelled_at_the_gate_was_never_made(sqs: MemorySQS) -> None:
    url = await make(sqs)
    for answer, there in ((False, 0), (True, 1)):
        gate = sqs.hold("SendMessageBatch", answer=answer)
        call = asyncio.ensure_future(send(sqs, url, "x"))
        await gate.arrived()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert gate.waiting == 0
        assert len(sqs.server.messages(url)) == there


async def test_refused_entries_are_those_that_were_meant(sqs: MemorySQS) -> None:
    url = await make(sqs)
    failure = Failure("InternalError", sender_fault=False)
    sqs.fail_entries("SendMessageBatch", lambda entry: entry.body == "b", failure, times=1)
    entries = [SendEntry(body) for body in "abb"]
    first, second, third = await sqs.send(url, entries)
    assert isinstance(first, str)
    assert second == failure
    assert isinstance(third, str)


async def test_refused_deletes_leave_the_messages(sqs: MemorySQS) -> None:
    url = await make(sqs)
    await send(sqs, url, "x")
    message = await receive_one(sqs, url)
    failure = Failure("InternalError", sender_fault=False)
    sqs.fail_entries("DeleteMessageBatch", lambda handle: True, failure, times=1)
    assert await sqs.delete(url, [message.receipt_handle]) == [failure]
    assert len(sqs.server.messages(url)) == 1
    assert await sqs.delete(url, [message.receipt_handle]) == [None]


async def test_batches_are_refused_as_a_whole_where_that_was_ordered(sqs: MemorySQS) -> None:
    url = await make(sqs)
    refusal = QueueError("no", code="InvalidParameterValue")
    sqs.fail_batches(
        "SendMessageBatch", lambda batch: any(entry.body == "b" for entry in batch), refusal
    )
    with pytest.raises(QueueError, match="no") as caught:
        await sqs.send(url, [SendEntry("a"), SendEntry("b")])
    assert caught.value is not refusal
    assert sqs.server.messages(url) == []
    assert len(await sqs.send(url, [SendEntry("a"), SendEntry("c")])) == 2


@pytest.mark.parametrize("operation", ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
async def test_batches_of_receipts_are_refused_as_a_whole(sqs: MemorySQS, operation: str) -> None:
    url = await make(sqs)
    await send(sqs, url, "x")
    message = await receive_one(sqs, url)
    sqs.server.faults.fail_batches(operation, lambda batch: len(batch) == 1, QueueError, times=1)
    handle = message.receipt_handle
    for _ in range(2):
        call = (
            sqs.delete(url, [handle])
            if operation == "DeleteMessageBatch"
            else sqs.change_visibility(url, [(handle, 60)])
        )
        if sqs.calls[operation] == 0:
            with pytest.raises(QueueError):
                await call
        else:
            assert await call == [None]


def test_fault_of_no_operation_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="SendMessageBatch"):
        MemorySQS().fail("SendMessage")


@pytest.mark.parametrize("error", ["AccessDenied", ValueError, ValueError("x"), SendError])
def test_fault_that_the_port_never_raises_is_a_mistake(error: Any) -> None:
    with pytest.raises(ValueError, match="error is a QueueError, or one of QueueNotFound"):
        MemorySQS().fail("SendMessageBatch", error)


async def test_duplicate_is_handed_out_twice(sqs: MemorySQS) -> None:
    url = await make(sqs)
    await send(sqs, url, "x")
    sqs.server.duplicate(url)
    first, second = await receive_one(sqs, url), await receive_one(sqs, url)
    assert first.message_id == second.message_id
    assert await sqs.receive(url, wait_time=0) == []
    await sqs.delete(url, [first.receipt_handle, second.receipt_handle])
    assert sqs.server.messages(url) == []


async def test_cancelled_poll_swallows_a_message_where_the_server_does_so(
    sqs: MemorySQS,
) -> None:
    url = await make(sqs, VisibilityTimeout="7")
    sqs.server.cancelled_polls_take = True
    poll = asyncio.ensure_future(sqs.receive(url))
    await asyncio.sleep(1)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await send(sqs, url, "x")
    assert await sqs.receive(url, wait_time=1) == []
    message = await receive_one(sqs, url)
    assert message.system["ApproximateReceiveCount"] == "2"


async def test_cancelled_poll_swallows_nothing_by_itself(sqs: MemorySQS) -> None:
    url = await make(sqs)
    poll = asyncio.ensure_future(sqs.receive(url))
    await asyncio.sleep(1)
    poll.cancel()
    await asyncio.wait({poll})
    await send(sqs, url, "x")
    assert len(await sqs.receive(url, wait_time=0)) == 1


async def test_new_and_deleted_queues_lag_in_the_listing(sqs: MemorySQS) -> None:
    sqs.server.listing_lag = 60
    url = await make(sqs)
    assert (await sqs.list_queues("")).urls == []
    await asyncio.sleep(61)
    assert (await sqs.list_queues("")).urls == [url]
    await sqs.delete_queue(url)
    assert (await sqs.list_queues("")).urls == [url]
    await asyncio.sleep(61)
    assert (await sqs.list_queues("")).urls == []


async def test_new_queue_is_not_there_at_once_where_it_lags(sqs: MemorySQS) -> None:
    sqs.server.creation_lag = 1
    url = await make(sqs)
    with pytest.raises(QueueNotFound):
        await sqs.list_queue_tags(url)
    await asyncio.sleep(1)
    assert await sqs.list_queue_tags(url) == {}


# ----------------------------------------------------------------------- looking on


async def test_server_counts_and_logs_the_calls(server: MemoryServer) -> None:
    one, two = MemorySQS(server), MemorySQS(server)
    url = await make(one)
    await asyncio.sleep(2)
    await send(two, url, "a", "b", "c")
    assert server.calls == {"CreateQueue": 1, "SendMessageBatch": 1}
    assert two.calls == {"SendMessageBatch": 1}
    call = server.log[-1]
    assert (call.operation, call.queue, call.time, call.entries) == (
        "SendMessageBatch",
        "orders",
        2,
        3,
    )


def test_server_may_be_looked_at_when_its_loop_has_ended() -> None:
    server = MemoryServer()

    async def main() -> float:
        sqs = MemorySQS(server)
        url = await make(sqs, MessageRetentionPeriod="60")
        await send(sqs, url, "old")
        await asyncio.sleep(100)
        await send(sqs, url, "young")
        return server.now()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        ended = runner.run(main())
    assert [message.body for message in server.messages("orders")] == ["young"]
    assert server.now() == ended
    assert MemoryServer(epoch=7).now() == 7
    with pytest.raises(KeyError, match="no queue 'order'; there are \\['orders'\\]"):
        server.messages("order")


async def test_latency_is_what_a_call_takes() -> None:
    sqs = MemorySQS(MemoryServer(latency=0.5))
    await sqs.list_queues("")
    assert asyncio.get_running_loop().time() == 0.5


async def test_ids_are_the_same_in_each_run() -> None:
    ids = []
    for seed in (1, 1, 2):
        sqs = MemorySQS(MemoryServer(seed=seed))
        url = await make(sqs)
        [message_id] = await sqs.send(url, [SendEntry("x")])
        ids.append(message_id)
    assert ids[0] == ids[1] != ids[2]


# --------------------------------------------------------------------- finer points


async def test_poll_wakes_for_a_message_that_is_released(sqs: MemorySQS) -> None:
    url = await make(sqs)
    await send(sqs, url, "x")
    message = await receive_one(sqs, url, visibility_timeout=600)
    poll = asyncio.ensure_future(sqs.receive(url))
    await asyncio.sleep(3)
    await sqs.change_visibility(url, [(message.receipt_handle, 0)])
    assert len(await poll) == 1
    assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.001)


async def test_fifo_holds_back_released_head_while_another_is_in_flight(sqs: MemorySQS) -> None:
    url = await make(sqs, "orders.fifo", ContentBasedDeduplication="true")
    await sqs.send(url, [SendEntry(body, group_id="g") for body in "abc"])
    a, b = await sqs.receive(url, max_messages=2)
    await sqs.change_visibility(url, [(a.receipt_handle, 0)])
    assert await sqs.receive(url, wait_time=0) == []
    await sqs.change_visibility(url, [(b.receipt_handle, 0)])
    assert [message.body for message in await sqs.receive(url)] == ["a", "b", "c"]


async def test_redrive_policy_is_compared_by_its_meaning(sqs: MemorySQS) -> None:
    await make(sqs, "dead")
    arn = f"arn:aws:sqs:us-east-1:{sqs.account}:dead"
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": 5}
    url = await make(sqs, RedrivePolicy=json.dumps(policy))
    same = json.dumps({"maxReceiveCount": "5", "deadLetterTargetArn": arn})
    assert await make(sqs, RedrivePolicy=same) == url
    with pytest.raises(QueueError, match="RedrivePolicy"):
        await make(sqs, RedrivePolicy=json.dumps({**policy, "maxReceiveCount": 6}))


async def test_dead_letter_queue_is_of_the_same_type(sqs: MemorySQS) -> None:
    await make(sqs, "dead")
    arn = f"arn:aws:sqs:us-east-1:{sqs.account}:dead"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    with pytest.raises(QueueError, match="same type"):
        await make(sqs, "orders.fifo", RedrivePolicy=policy)
