"""`send`, `request` and `peek`, on the SQS in memory."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory

from .conftest import Call, counts, dead_letter


async def test_send_sends_body_attributes_and_type(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    await port.create_queue("orders", {}, {})
    done = await call(
        "send", "orders", '{"id": 1}', "-a", "tenant=a=b", "-a", "n:=5", "--type", "t"
    )
    (message,) = memory.messages("orders")
    assert (done.code, done.out, done.err) == (0, f"{message.message_id}\n", "")
    assert message.body == '{"id": 1}'
    assert message.attributes["tenant"]["StringValue"] == "a=b"
    assert message.attributes["n"] == {"DataType": "Number", "StringValue": "5"}
    assert message.attributes["MessageType"]["StringValue"] == "t"


async def test_body_comes_from_a_file_or_from_standard_input(
    call: Call,
    memory: MemoryServer,
    port: MemorySQS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await port.create_queue("orders", {}, {})
    file = tmp_path / "body"
    file.write_bytes("größe".encode())
    assert (await call("send", "orders", "--file", str(file))).code == 0
    for more in ([], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
        assert (await call("send", "orders", *more)).code == 0
    bodies = [each.body for each in memory.messages("orders")]
    assert bodies == ["größe", "piped\n", "piped\n"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["send", "orders", "x", "--file", "y"], 2, "pass either BODY or --file"),
        (["send", "orders", "--file", "/no/such/file"], 1, "/no/such/file: No such file"),
        (["send", "orders", "--file", "/bin/true"], 2, "the body is not UTF-8 text"),
        (["send", "orders", "x", "-a", "tenant"], 2, "name=text or name:=number, not 'tenant'"),
        (["send", "orders", "x", "-a", "n:=five"], 2, "'five' in 'n:=five' is no number"),
        (["send", "orders", "x", "-a", "ReplyTo=x"], 2, "is the library's own"),
        (["send", "orders", "x", "-a", "n:=NaN"], 2, "attribute 'n' is NaN"),
        (["send", "orders", "x", "--delay", "901"], 2, "from 0 to 900"),
        (["send", "orders", "x", "--delay", "901", "--repeat", "9"], 2, "from 0 to 900"),
        (["send", "orders.fifo", "x"], 2, "needs a group_id"),
        (["send", "orders", ""], 2, "the body is empty"),
        (["send", "orders", "x" * 1_048_577], 2, "SQS takes 1048576"),
        (["request", "orders", "x", "--type", ""], 2, "the message_type is empty"),
        (["redrive", "elsewhere", "--to", "or ders"], 2, "is no queue name"),
        (["worker", "shop:orders", "--health-port", "65536"], 2, "a port is from 0 to 65535"),
        (["worker", "shop:orders", "--health-port", "-1"], 2, "a port is from 0 to 65535"),
        (["send", "or ders", "x"], 2, "is no queue name"),
        (["send", "elsewhere", "x"], 1, "check its name, --region and --profile"),
        (["send", "orders", "x", "--repeat", "0"], 2, "must be greater than 0"),
        (["request", "orders", "x", "--timeout", "-1"], 2, "must be greater than 0"),
        (["request", "orders", "x", "--prefix", "a b"], 2, "a prefix has"),
        (["request", "orders", "x", "--timeout", "3"], 1, "is a worker running?"),
        (["sand"], 2, 'Did you mean "send"?'),
        (["send"], 2, "requires an argument"),
    ],
)
async def test_what_cannot_work_is_one_line_and_an_exit_code(
    call: Call, port: MemorySQS, arguments: list[str], code: int, text: str
) -> None:
    await port.create_queue("orders", {}, {})
    done = await call(*arguments)
    assert done.code == code
    assert done.err.startswith("error: ")
    assert text in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


async def test_request_prints_the_reply(call: Call, memory: MemoryServer, port: MemorySQS) -> None:
    await port.create_queue("orders", {}, {})

    async def handle(message: so.Message) -> dict[str, object]:
        if message.json()["id"] == 2:
            raise so.Reject("none left", code="sold_out")
        return {"done": message.json()["id"], "type": message.message_type}

    async with connect_in_memory(memory) as sqs, so.Poller(sqs, "orders", handle) as poller:
        poller.handler("x")(handle)
        done = await call("request", "orders", '{"id": 1}', "--type", "x")
        assert (done.code, done.out, done.err) == (0, '{"done":1,"type":"x"}\n', "")
        done = await call("request", "orders", '{"id": 1}', "--json")
        assert done.json["body"] == '{"done":1,"type":null}'
        done = await call("request", "orders", '{"id": 2}')
        assert (done.code, done.out) == (1, "")
        assert done.err == "error: sold_out (Reject): none left\n"
    # It has taken its reply queue with it.
    assert memory.queues == ["orders"]


async def test_repeat_sums_up(call: Call, memory: MemoryServer, port: MemorySQS) -> None:
    await port.create_queue("orders", {}, {})
    failed: list[str] = []

    async def handle(message: so.Message) -> str:
        if message.message_id not in failed and len(failed) < 2:
            failed.append(message.message_id)
            raise so.Reject("no")
        return "yes"

    async with connect_in_memory(memory) as sqs, so.Poller(sqs, "orders", handle):
        done = await call("request", "orders", "x", "--repeat", "30", "--json")
    assert done.code == 1
    summary = done.json
    assert (summary["succeeded"], summary["failed"]) == (28, {"RemoteError": 2})
    latency = summary["latency_seconds"]
    assert latency["min"] <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    done = await call("send", "orders", "x", "--repeat", "12")
    assert done.code == 0
    assert done.out.startswith("sent")
    assert "12 in" in done.out
    assert len(memory.messages("orders")) == 12


async def test_repeat_ends_where_each_would_fail(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    await port.create_queue("orders", {}, {})
    memory.faults.fail("SendMessageBatch", so.AccessDenied, times=None)
    done = await call("send", "orders", "x", "--repeat", "1000", "--concurrency", "2")
    assert done.code == 1
    assert "doctor QUEUE" in done.err
    assert memory.calls["SendMessageBatch"] <= 2


# --------------------------------------------------------------------------------- peek


async def test_peek_shows_messages_and_gives_them_back(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    url = await port.create_queue("orders", {}, {})
    await port.send(url, [SendEntry(f"body {number}") for number in range(10)])
    await port.send(url, [SendEntry("body 10\x9b31m")])
    done = await call("peek", "orders", "-n", "100")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if "body 10\\x9b31m" in line]
    assert len(done.out.splitlines()) == 1 + 11
    assert await counts(port, url) == ("11", "0")
    found = (await call("peek", "orders", "--json", "-n", "3")).json
    assert [facts["body"] for facts in found] == ["body 0", "body 1", "body 2"]
    assert [facts["receives"] for facts in found] == [2, 2, 2]


async def test_peek_says_why_dead_letters_were_rejected(
    call: Call, port: MemorySQS, orders: str
) -> None:
    await dead_letter(port, f"{orders}_dlq")
    done = await call("peek", "orders", "--dead-letters")
    assert "sold_out: none left (handle)" in done.out
    (facts,) = (await call("peek", "orders_dlq", "--json")).json
    assert facts["rejected"] == {
        "code": "sold_out",
        "reason": "none left",
        "message_id": "m-1",
        "handler": "handle",
    }
    assert facts["attributes"] == {}
    full = await call("peek", "orders_dlq", "--full")
    assert "code='sold_out'" in full.out
    assert '  {"id": 3}\n' in full.out
    done = await call("peek", "orders_dlq", "--dead-letters")
    assert (done.code, done.err) == (1, "error: orders_dlq has no dead-letter queue\n")


async def test_peek_says_what_it_could_not_give_back(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    url = await port.create_queue("orders", {}, {})
    await port.send(url, [SendEntry("x")])
    memory.faults.fail("ChangeMessageVisibilityBatch", so.AccessDenied, times=None)
    done = await call("peek", "orders")
    assert done.code == 0
    assert "1 message could not be given back" in done.err
    assert "within 60 s" in done.err
