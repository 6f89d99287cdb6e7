"""The policies against the calls that a requester and a worker make: neither lacks a permission,
and none is there for nothing."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.cli.permissions import Role, least_policy
from sqs_orchestrator.core.names import DEFAULT_PREFIX
from sqs_orchestrator.sqs.wrapping import Call
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory

PLACE = "arn:aws:sqs:us-east-1:123456789012"

IDLE = {"__IdleQueueRetentionPeriodSeconds": "60", "__AwsSqsHeartbeatTimestamp": "1000"}


class Allowing:
    """Stands around all calls, and allows those of a policy."""

    def __init__(self, role: Role, **options: Any) -> None:
        made = least_policy(
            [role],
            f"{PLACE}:orders",
            dead_letter_arn=f"{PLACE}:orders_dlq",
            prefix=DEFAULT_PREFIX,
            **options,
        )
        self.allowed = {
            (action, each["Resource"])
            for each in made["Statement"]
            for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
        }
        self.used: set[tuple[str, str]] = set()
        self.denied: set[tuple[str, str | None]] = set()

    async def __call__(self, call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        actions = [f"sqs:{call.operation.removesuffix('Batch')}"]
        if call.operation == "CreateQueue":
            actions.append("sqs:TagQueue")  # it has tags
        for action in actions:
            found = {
                (allowed, resource)
                for allowed, resource in self.allowed
                if allowed == action and fnmatch.fnmatchcase(f"{PLACE}:{call.queue_name}", resource)
            }
            if not found:
                self.denied.add((action, call.queue_name))
                raise so.AccessDenied("no", operation=call.operation, code="AccessDenied")
            self.used |= found
        return await call_next(call)


async def handle(message: so.Message) -> str:
    if message.body == "later" and message.receive_count == 1:
        raise so.Retry(1)
    if message.body == "never":
        raise so.Reject("no")
    await asyncio.sleep(60)  # longer than the visibility timeout
    return "done"


@pytest.mark.parametrize("sweeping", [True, False])
async def test_policies_allow_what_is_called_and_no_more(
    memory: MemoryServer, port: MemorySQS, orders: str, sweeping: bool
) -> None:
    asking, working = Allowing("requester", sweeping=sweeping), Allowing("worker")
    interval = {} if sweeping else {"sweep_interval": None}
    async with (
        connect_in_memory(memory, wrap=asking) as mine,
        connect_in_memory(memory, wrap=working) as theirs,
        so.Poller(theirs, "orders", handle, visibility_timeout=30),
    ):
        for lost in (True, False):
            if lost:
                # SQS has made a reply queue, and nobody hears of it: it is looked up and deleted.
                memory.faults.drop_answer("CreateQueue", so.QueueError, times=None)
            async with (
                so.ReplyQueue(mine, **interval) as replies,  # type: ignore[arg-type]
                so.Publisher(mine, reply_queue=replies) as publisher,
            ):
                if lost:
                    with pytest.raises(so.SQSOrchestratorError):
                        await publisher.request("orders", "x", timeout=300)
                    memory.faults.clear()
                    continue
                for body in ("now", "later"):
                    assert (await publisher.request("orders", body, timeout=300)).body == "done"
                await publisher.send("orders", "never")
                for name in ("0" * 32, "of-java"):
                    await port.create_queue(f"{DEFAULT_PREFIX}{name}", {}, IDLE)
                await asyncio.sleep(6 * 3600)
                # Then sweeping does not work, and it takes back that it does it.
                memory.faults.fail("ListQueues", so.QueueError, times=None)
                await asyncio.sleep(12 * 3600)
    assert len(memory.messages("orders_dlq")) == 1
    assert [name for name in memory.queues if name.startswith(DEFAULT_PREFIX)] == (
        [] if sweeping else [f"{DEFAULT_PREFIX}{'0' * 32}", f"{DEFAULT_PREFIX}of-java"]
    )
    for role in (asking, working):
        assert role.denied == set()
        assert role.allowed - role.used == set()
