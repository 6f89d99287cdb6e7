"""`redrive`, on the SQS in memory."""

from __future__ import annotations

import asyncio

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import Failure, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory

from .conftest import Call, counts, dead_letter, interrupt


async def test_redrive_sends_all_back_as_they_were(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    attributes = {"tenant": {"DataType": "String", "StringValue": "a"}}
    await port.send(f"{orders}_dlq", [SendEntry("by SQS", attributes)])
    for number in range(24):
        await dead_letter(port, f"{orders}_dlq", body=f"body {number}")
    done = await call("redrive", "orders", "--json")
    assert done.code == 0
    assert done.json == {
        "from": "orders_dlq",
        "to": "orders",
        "sent": 25,
        "left": 0,
        "failed": 0,
        "doubled": 0,
    }
    assert memory.messages("orders_dlq") == []
    first, *others = memory.messages("orders")
    assert (first.body, first.attributes) == ("by SQS", attributes)
    assert {each.body for each in others} == {f"body {number}" for number in range(24)}
    assert all(each.attributes == {} for each in others)


@pytest.mark.parametrize(
    ("filters", "sent"),
    [
        (["--code", "sold_out"], {"a", "b"}),
        (["--contains", "b"], {"b"}),
        (["--id", "m-2"], {"b"}),
        (["--type", "refund"], {"d"}),
        (["-a", "tenant=x", "-a", "n:=1"], {"d"}),
        (["-a", "tenant=x", "-a", "n:=2"], set()),
        (["--limit", "2"], {"a", "b"}),
    ],
)
async def test_redrive_leaves_what_the_filter_does_not_mean(
    call: Call,
    memory: MemoryServer,
    port: MemorySQS,
    orders: str,
    filters: list[str],
    sent: set[str],
) -> None:
    await dead_letter(port, f"{orders}_dlq", "a")
    await dead_letter(port, f"{orders}_dlq", "b", message_id="m-2")
    await dead_letter(port, f"{orders}_dlq", "c", code="handler_error")
    more = {
        "tenant": {"DataType": "String", "StringValue": "x"},
        "n": {"DataType": "Number", "StringValue": "1"},
        "MessageType": {"DataType": "String", "StringValue": "refund"},
    }
    await port.send(f"{orders}_dlq", [SendEntry("d", more)])
    shown = await call("redrive", "orders", "--dry-run", "--json", *filters)
    assert {facts["body"] for facts in shown.json["would_send"]} == sent
    assert await counts(port, f"{orders}_dlq") == ("4", "0")
    done = await call("redrive", "orders", *filters)
    assert done.code == 0
    assert {each.body for each in memory.messages("orders")} == sent
    # What stays can be received at once.
    assert await counts(port, f"{orders}_dlq") == (str(4 - len(sent)), "0")


async def test_redrive_deletes_only_what_was_sent_back(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    for number in range(5):
        await dead_letter(port, f"{orders}_dlq", f"{number}")
    memory.faults.fail_entries(
        "SendMessageBatch",
        lambda entry: entry.body == "3",
        Failure("InvalidMessageContents", "no"),
    )
    done = await call("redrive", "orders", "--json")
    assert (done.code, done.json["sent"], done.json["failed"]) == (1, 4, 1)
    assert "stays: InvalidMessageContents: no" in done.err
    assert [each.body for each in memory.messages("orders_dlq")] == ["3"]
    assert await counts(port, f"{orders}_dlq") == ("1", "0")


async def test_interrupted_redrive_deletes_what_it_has_sent_back(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    await dead_letter(port, f"{orders}_dlq")
    gate = memory.faults.hold("DeleteMessageBatch")
    await interrupt(call("redrive", "orders"), gate)
    assert len(memory.messages("orders")) == 1
    assert memory.messages("orders_dlq") == []


async def test_redrive_says_what_is_in_both_queues(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    message_id = await dead_letter(port, f"{orders}_dlq")
    memory.faults.fail("DeleteMessageBatch", so.AccessDenied)
    done = await call("redrive", "orders")
    assert done.code == 1
    assert f"sent back, and not deleted: {message_id}" in done.err
    memory.faults.fail_entries("DeleteMessageBatch", lambda _: True, Failure("InternalError"))
    done = await call("redrive", "orders", "--json")
    assert (done.code, done.json["doubled"]) == (1, 1)


async def test_redrive_does_not_go_round_with_what_is_rejected_again(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    async def reject(_: so.Message) -> None:
        raise so.Reject("again", code="no")

    memory.latency = 0.02  # else no time would pass, were it to go round for ever
    for number in range(15):
        await dead_letter(port, f"{orders}_dlq", f"{number}")
    async with connect_in_memory(memory) as sqs, so.Poller(sqs, "orders", reject, concurrency=50):
        async with asyncio.timeout(60):
            done = await call("redrive", "orders", "--json")
    assert done.json["sent"] == 15
    assert done.json["left"] > 0
    assert len(memory.messages("orders_dlq")) == 15


async def test_redrive_keeps_to_its_rate(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    for number in range(30):
        await dead_letter(port, f"{orders}_dlq", f"{number}")
    await call("redrive", "orders", "--rate", "2")
    sent = [call.time for call in memory.log if call.operation == "SendMessageBatch"][-3:]
    assert [later - sent[0] for later in sent] == pytest.approx([0, 5, 10], abs=0.01)


async def test_redrive_of_fifo_queues_keeps_groups_and_is_not_doubled_by_lost_answers(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    async with connect_in_memory(memory) as sqs:
        url = await sqs.create_queue("orders.fifo", fifo=True, dead_letter_queue=True)
    dead = url.replace("orders.fifo", "orders_dlq.fifo")
    entries = [
        SendEntry(f"{number}", group_id=f"g{number % 2}", deduplication_id=f"{number}")
        for number in range(4)
    ]
    await port.send(dead, entries)
    memory.faults.drop_answer("SendMessageBatch")
    done = await call("redrive", "orders.fifo", "--json")
    assert (done.code, done.json["sent"]) == (0, 4)
    found = [(each.body, each.group_id) for each in memory.messages("orders.fifo")]
    # In the order of each group; between groups there is none.
    assert sorted(found, key=lambda each: each[1] or "") == [
        *(("0", "g0"), ("2", "g0")),
        *(("1", "g1"), ("3", "g1")),
    ]


async def test_looking_at_a_fifo_queue_says_that_there_may_be_more(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    async with connect_in_memory(memory) as sqs:
        url = await sqs.create_queue("orders.fifo", fifo=True, dead_letter_queue=True)
    dead = url.replace("orders.fifo", "orders_dlq.fifo")
    for tens in range(3):
        entries = [
            SendEntry(f"{tens}{ones}", group_id="g", deduplication_id=f"{tens}{ones}")
            for ones in range(10)
        ]
        await port.send(dead, entries)
    for arguments in (["redrive", "orders.fifo", "--dry-run"], ["peek", dead, "-n", "30"]):
        done = await call(*arguments, "--json")
        shown = done.json["would_send"] if arguments[0] == "redrive" else done.json
        assert len(shown) < 30
        assert "there may be more" in done.err
    assert len(memory.messages(dead)) == 30
    assert memory.messages("orders.fifo") == []
    # Others hide none.
    await dead_letter(port, f"{orders}_dlq")
    for arguments in (["redrive", "orders", "--dry-run"], ["peek", f"{orders}_dlq"]):
        assert "there may be more" not in (await call(*arguments)).err


async def test_redrive_says_which_queue_it_cannot_find(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    done = await call("redrive", "orders_dlq")
    assert (done.code, done.out) == (1, "")
    assert "SQS does not say whose dead-letter queue orders_dlq is" in done.err
    assert "Pass the queue itself, or --to" in done.err
    await dead_letter(port, f"{orders}_dlq")
    assert (await call("redrive", "orders_dlq", "--to", "orders")).code == 0
    assert len(memory.messages("orders")) == 1
    assert (await call("redrive", "orders_dlq", "--to", "orders_dlq")).code == 2
