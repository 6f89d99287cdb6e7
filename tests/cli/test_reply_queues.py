"""`queues` and `sweep`, on the SQS in memory."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.core.wire import reply_queue_tags
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory

from .conftest import Call

PREFIX = "sqs_orchestrator_reply_"


async def abandoned(memory: MemoryServer, port: MemorySQS, name: str, silent: float) -> str:
    """A reply queue whose owner has been silent for that many seconds."""
    tags = reply_queue_tags(now=memory.now() - silent, retention=300, sweeping=True)
    return await port.create_queue(name, {}, tags | {"service": "web"})


async def test_queues_shows_who_lives(call: Call, memory: MemoryServer, port: MemorySQS) -> None:
    gone = PREFIX + "0" * 32
    url = await abandoned(memory, port, gone, silent=1000)
    await abandoned(memory, port, f"{PREFIX}made_by_hand", silent=20)
    await port.create_queue(f"{PREFIX}foreign", {}, {})
    await port.send(url, [SendEntry("late reply")])
    await asyncio.sleep(100)
    async with connect_in_memory(memory) as sqs, so.ReplyQueue(sqs) as replies:
        await replies.ready()
        done = await call("queues")
        found = {facts["name"]: facts for facts in (await call("queues", "--json")).json}
    assert done.code == 0
    assert len(found) == 4
    assert found[gone]["state"] == "idle"
    assert found[gone]["owner"] == "sqs-orchestrator"
    assert found[gone]["tags"] == {"service": "web"}
    assert found[gone]["messages"] == 1
    assert found[gone]["heartbeat_seconds"] == pytest.approx(1100, abs=3)
    assert found[gone]["age_seconds"] == pytest.approx(100, abs=3)
    assert found[f"{PREFIX}made_by_hand"]["state"] == "live"
    assert found[f"{PREFIX}made_by_hand"]["owner"] == "other"
    assert found[f"{PREFIX}foreign"]["state"] == "foreign"
    (line,) = (line for line in done.out.splitlines() if line.startswith(gone))
    words = line.split()
    assert words[1:] == [
        *("sqs-orchestrator", "service=web", "100", "s", "18", "min", "1", "0", "yes", "idle")
    ]
    assert (await call("queues", "nothing_")).err == "no queues\n"


async def test_queues_watches_until_it_is_stopped(
    call: Call, memory: MemoryServer, port: MemorySQS, capsys: pytest.CaptureFixture[str]
) -> None:
    await abandoned(memory, port, PREFIX + "0" * 32, silent=0)
    watching = asyncio.ensure_future(call("queues", "--watch", "--json", "--interval", "60"))
    await asyncio.sleep(400)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [look[0]["state"] for look in looks] == ["live"] * 6 + ["idle"]


async def test_sweep_without_consent_deletes_nothing(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    url = await abandoned(memory, port, PREFIX + "0" * 32, silent=1000)
    await abandoned(memory, port, PREFIX + "1" * 32, silent=0)
    done = await call("sweep")
    assert done.code == 2
    assert done.out == f"{url}\n"
    assert "nobody can be asked: pass --yes" in done.err
    done = await call("sweep", "--dry-run", "--json")
    assert (done.code, done.json) == (0, {"idle": [url], "deleted": []})
    assert len(memory.queues) == 2
    done = await call("sweep", "--yes")
    assert (done.code, done.out) == (0, f"{url}\n")
    assert memory.queues == [PREFIX + "1" * 32]


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("", 1)])
async def test_sweep_asks(
    call: Call,
    memory: MemoryServer,
    port: MemorySQS,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: int,
) -> None:
    await abandoned(memory, port, PREFIX + "0" * 32, silent=1000)
    person, terminal = os.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(person, answer.encode() or b"\x04")
        done = await call("sweep")
    os.close(person)
    assert done.code == 0
    assert "Delete 1 queue? [y/N]" in done.err
    assert len(memory.queues) == left


async def test_sweep_clears_up_after_the_synchronous_package_when_asked_to(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    tags = {"heartbeat": str(int(memory.now()))}
    reply = await port.create_queue("reply_queue_1_x", {}, tags)
    await port.create_queue("reply_queue_1_sweeper.fifo", {"FifoQueue": "true"}, {})
    assert (await call("sweep", "reply_queue_", "--legacy", "--dry-run")).out == ""
    facts = {each["name"]: each for each in (await call("queues", "reply_queue_", "--json")).json}
    assert facts["reply_queue_1_x"]["owner"] == "synchronous package"
    assert facts["reply_queue_1_x"]["state"] == "live"
    assert facts["reply_queue_1_x"]["heartbeat_seconds"] == pytest.approx(0, abs=3)
    assert facts["reply_queue_1_x"]["tags"] == {}
    assert facts["reply_queue_1_sweeper.fifo"]["state"] == "foreign"
    await asyncio.sleep(2000)
    states = {each["state"] for each in (await call("queues", "reply_queue_", "--json")).json}
    assert states == {"idle", "foreign"}
    assert (await call("sweep", "reply_queue_", "--yes")).out == ""
    done = await call("sweep", "reply_queue_", "--legacy", "--dry-run")
    assert "2 idle queues with the prefix reply_queue_" in done.err
    done = await call("sweep", "reply_queue_", "--legacy", "--yes")
    assert done.out.splitlines()[0] == reply
    assert not memory.queues


async def test_queues_tells_owners_by_their_tags(
    call: Call, memory: MemoryServer, port: MemorySQS
) -> None:
    tags = reply_queue_tags(now=memory.now(), retention=300, sweeping=True, legacy=True)
    await port.create_queue("reply_queue_" + "0" * 32, {}, tags)
    (facts,) = (await call("queues", "reply_queue_", "--json")).json
    assert facts["owner"] == "sqs-orchestrator"


@pytest.mark.parametrize("prefix", ["", "a b"])
async def test_prefix_that_sqs_would_refuse_is_a_usage_error(call: Call, prefix: str) -> None:
    for command in ("queues", "sweep"):
        done = await call(command, prefix)
        assert done.code == 2
        assert "a prefix has" in done.err
