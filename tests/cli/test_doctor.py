"""`doctor` and `policy`, on the SQS in memory; and one permission missing at a time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.cli.permissions import STATEMENTS, least_policy
from sqs_orchestrator.core.names import DEFAULT_PREFIX
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS

from .conftest import Call, counts, interrupt

ROOT = Path(__file__).resolve().parents[2]


def states(result: Any) -> dict[str, str]:
    return {check["name"]: check["state"] for check in result.json}


async def test_doctor_finds_nothing_wrong_and_leaves_nothing(
    call: Call, memory: MemoryServer, port: MemorySQS, orders: str
) -> None:
    await port.send(orders, [SendEntry("of somebody")])
    done = await call("doctor", "orders", "--json")
    assert done.code == 0
    found = states(done)
    assert found.pop("clock") == "warning"  # this server's is of 2023
    assert set(found.values()) == {"ok"}
    assert "round trip" in found
    assert memory.queues == ["orders", "orders_dlq"]
    assert memory.messages("orders_dlq") == []
    (message,) = memory.messages("orders")
    assert message.body == "of somebody"
    assert await counts(port, orders) == ("1", "0")


@pytest.mark.parametrize(
    ("queue", "advice"),
    [
        ("typo", "create_queue('typo', dead_letter_queue=True), or check --region and --profile"),
        ("typo.fifo", "create_queue('typo.fifo', fifo=True, dead_letter_queue=True), or check"),
        ("http://localhost/123456789012/typo", "create it, or check --region and --profile"),
    ],
)
async def test_doctor_says_how_to_make_a_queue_that_is_not_there(
    call: Call, queue: str, advice: str
) -> None:
    done = await call("doctor", queue)
    assert done.code == 1
    assert f"→ {advice}" in " ".join(done.out.split())


async def test_interrupted_doctor_deletes_the_queue_that_it_was_making(
    call: Call, memory: MemoryServer, orders: str
) -> None:
    gate = memory.faults.hold("CreateQueue", answer=True)
    await interrupt(call("doctor", "orders"), gate)
    assert memory.queues == ["orders", "orders_dlq"]


DENIED = [
    ("GetQueueAttributes", "orders", "sqs:GetQueueAttributes on the queue"),
    ("SendMessageBatch", "orders", "sqs:SendMessage on the queue"),
    ("ReceiveMessage", "orders", "sqs:ReceiveMessage on the queue"),
    ("DeleteMessageBatch", "orders", "sqs:DeleteMessage on the queue"),
    ("ChangeMessageVisibilityBatch", "orders", "sqs:ChangeMessageVisibility on the queue"),
    ("SendMessageBatch", "orders_dlq", "sqs:SendMessage on the dead-letter queue"),
    ("CreateQueue", None, "sqs:CreateQueue, sqs:TagQueue on reply queues"),
    ("TagQueue", None, "sqs:TagQueue on reply queues"),
    ("UntagQueue", None, "sqs:UntagQueue on reply queues"),
    ("ListQueueTags", None, "sqs:ListQueueTags on reply queues"),
    ("ListQueues", None, "sqs:ListQueues on *"),
    ("DeleteQueue", None, "sqs:DeleteQueue on reply queues"),
]


@pytest.mark.parametrize(("operation", "queue", "name"), DENIED)
async def test_doctor_names_the_permission_that_is_missing(
    call: Call, memory: MemoryServer, orders: str, operation: str, queue: str | None, name: str
) -> None:
    memory.faults.fail(operation, so.AccessDenied, times=None, queue=queue)
    done = await call("doctor", "orders", "--json")
    assert done.code == 1
    failed = [check for check in done.json if check["state"] == "failed"]
    assert [check["name"] for check in failed] == [name]
    assert "sqs-orchestrator policy orders --" in failed[0]["advice"]
    shown = await call("doctor", "orders")
    assert f"✗ {name}" in shown.out
    assert "→ allow it: sqs-orchestrator policy" in shown.out


def test_every_permission_of_the_policies_is_denied_once_above() -> None:
    tried = {name for _, _, name in DENIED}
    places = {
        "queue": "the queue",
        "replies": "reply queues",
        "dead_letters": "the dead-letter queue",
        "everywhere": "*",
    }
    wanted = {
        f"sqs:{action} on {places[statement.place]}"
        for statement in STATEMENTS
        for action in statement.actions
    }
    # Those of reply queues that a fault by the queue's name cannot single out; and the first call.
    wanted -= {
        f"sqs:{action} on reply queues"
        for action in (
            *("CreateQueue", "GetQueueUrl", "ReceiveMessage", "DeleteMessage"),
            *("GetQueueAttributes", "SendMessage"),
        )
    }
    wanted.discard("sqs:GetQueueUrl on the queue")
    assert wanted <= tried


@pytest.mark.parametrize("operation", ["GetQueueUrl"])
async def test_doctor_ends_where_the_queue_cannot_be_found(
    call: Call, memory: MemoryServer, orders: str, operation: str
) -> None:
    memory.faults.fail(operation, so.AccessDenied, times=None)
    done = await call("doctor", "orders", "--json")
    assert (done.code, states(done)["reachable, with the queue orders"]) == (1, "failed")
    assert "or pass the queue's URL" in done.json[2]["advice"]
    # With the URL it is not needed.
    done = await call("doctor", orders, "--json", "--worker")
    assert done.code == 0
    done = await call("doctor", "elsewhere")
    assert done.code == 1


async def test_doctor_looks_at_what_the_role_needs(
    call: Call, memory: MemoryServer, orders: str
) -> None:
    memory.faults.fail("GetQueueAttributes", so.AccessDenied, times=None, queue="orders")
    memory.faults.fail("ReceiveMessage", so.AccessDenied, times=None, queue="orders")
    done = await call("doctor", "orders", "--requester", "--json")
    assert done.code == 0
    found = states(done)
    assert found["sqs:GetQueueAttributes on the queue"] == "skipped"
    assert found["round trip"] == "skipped"
    done = await call("doctor", "orders", "--worker", "--json")
    assert done.code == 1
    assert "CreateQueue" not in memory.calls or memory.queues == ["orders", "orders_dlq"]


async def test_doctor_takes_no_message_that_would_be_lost_to_the_queue(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    await port.create_queue("dead", {}, {})
    policy = {
        "deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead",
        "maxReceiveCount": 1,
    }
    url = await port.create_queue("orders", {"RedrivePolicy": json.dumps(policy)}, {})
    await port.send(url, [SendEntry("x")])
    done = await call("doctor", "orders", "--json")
    assert states(done)["sqs:ReceiveMessage on the queue"] == "skipped"
    (message,) = memory.messages("orders")
    assert message.receive_count == 0


async def test_doctor_advises_a_dead_letter_queue_and_tells_the_key(
    call: Call, port: MemorySQS
) -> None:
    await port.create_queue("orders", {"KmsMasterKeyId": "alias/orders"}, {})
    done = await call("doctor", "orders", "--json")
    assert done.code == 0
    found = {check["name"]: check for check in done.json}
    assert "dead_letter_queue=True" in found["dead-letter queue"]["advice"]
    assert "alias/orders" in found["encryption"]["found"]


# ------------------------------------------------------------------------------- policy

PAGE = (ROOT / "docs" / "how-to" / "iam.md").read_text("utf-8")
ARN = "arn:aws:sqs:eu-west-1:123456789012:orders"


def test_page_on_iam_has_the_policies_of_the_command() -> None:
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert blocks == [
        least_policy(["requester"], ARN, prefix=DEFAULT_PREFIX),
        least_policy(["worker"], ARN, prefix=DEFAULT_PREFIX, dead_letter_arn=f"{ARN}_dlq"),
    ]


def test_page_on_iam_explains_each_permission() -> None:
    explained = set(re.findall(r"`(sqs:\w+)`(?=[^|\n]*\|)", PAGE))
    assert {f"sqs:{a}" for statement in STATEMENTS for a in statement.actions} <= explained


async def test_policy_of_a_queue_is_read_from_it(
    call: Call, memory: MemoryServer, orders: str
) -> None:
    done = await call("policy", "orders", "--worker")
    assert done.code == 0
    arn = "arn:aws:sqs:us-east-1:123456789012:orders"
    expected = least_policy(["worker"], arn, prefix=DEFAULT_PREFIX, dead_letter_arn=f"{arn}_dlq")
    assert done.json == expected
    calls = memory.calls.total()
    given = await call("policy", arn, "--worker", "--dead-letter-queue", "orders_dlq")
    assert given.json == expected
    assert memory.calls.total() == calls
    both = (await call("policy", "orders")).json["Statement"]
    assert [each["Sid"] for each in both] == [statement.sid for statement in STATEMENTS]
    memory.faults.fail("GetQueueAttributes", so.AccessDenied, times=None)
    done = await call("policy", "orders")
    assert (done.code, done.out) == (1, "")


async def test_policy_without_sweeping_lists_no_queues(call: Call) -> None:
    done = await call("policy", ARN, "--requester", "--no-sweeping", "--prefix", "mine_")
    assert "ListQueue" not in done.out
    assert f"{ARN.rpartition(':')[0]}:mine_*" in done.out


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        ("alias/orders", "arn:aws:kms:us-east-1:123456789012:key/*", "alias/orders"),
        ("1234", "arn:aws:kms:us-east-1:123456789012:key/1234", None),
        ("arn:aws:kms:us-east-1:1:key/5", "arn:aws:kms:us-east-1:1:key/5", None),
        ("alias/aws/sqs", None, None),
    ],
)
async def test_policy_allows_the_key_of_the_queue(
    call: Call, port: MemorySQS, key: str, resource: str | None, alias: str | None
) -> None:
    await port.create_queue("orders", {"KmsMasterKeyId": key}, {})
    last = (await call("policy", "orders", "--requester")).json["Statement"][-1]
    if resource is None:
        assert last["Sid"] != "UseKey"
        return
    assert last["Resource"] == resource
    assert last["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    found = last.get("Condition", {}).get("ForAnyValue:StringEquals")
    assert found == (None if alias is None else {"kms:ResourceAliases": alias})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["arn:aws:sqs:x"], "is no queue's ARN"),
        (["arn:aws:sns:eu-west-1:123456789012:orders"], "is no queue's ARN"),
        ([f"{ARN}*"], "is no queue's ARN"),
        ([f"{ARN}.v2"], "is no queue's ARN"),
        ([f"{ARN}\n"], "is no queue's ARN"),
        (["orders", "--dead-letter-queue", "x"], "is for an ARN"),
        ([ARN, "--dead-letter-queue", "*"], "is a queue's name, not '*'"),
        ([ARN, "--dead-letter-queue", ""], "is a queue's name, not ''"),
        ([ARN, "--dead-letter-queue", f"{ARN}_dlq"], "is a queue's name, not 'arn:"),
        ([ARN, "--prefix", "*"], "a prefix has"),
    ],
)
async def test_policy_refuses_what_it_cannot_read(
    call: Call, orders: str, arguments: list[str], text: str
) -> None:
    done = await call("policy", *arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err
