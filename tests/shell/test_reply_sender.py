"""Replies on their way: to queues that are too young, have moved or are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sqs_orchestrator.errors import AccessDenied, QueueError, QueueNotFound, SendError, Throttled
from sqs_orchestrator.sending import reply_sender as reply_sender
from sqs_orchestrator.sending.entries import send_lanes
from sqs_orchestrator.sending.reply_sender import REMEMBERED, Answer, ReplySender
from sqs_orchestrator.sqs.port import Failure
from sqs_orchestrator.tasks import TaskOwner
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from tests.shell.workers import now, until


class Desk:
    """A responder, and how its answers ended."""

    def __init__(self, server: MemoryServer, sqs: MemorySQS, owner: TaskOwner) -> None:
        self.server = server
        self.sqs = sqs
        self.reply_sender = ReplySender(send_lanes(owner, sqs))
        self.ends: list[tuple[float, QueueError | SendError | None]] = []

    def post(self, queue: str, body: str = "x", *, within: float = 60) -> Answer:
        def ended(_: str, error: QueueError | SendError | None) -> None:
            self.ends.append((now(), error))

        return self.reply_sender.post(
            self.server.url(queue),
            body,
            {},
            size=len(body),
            expires=now() + within,
            on_end=ended,
        )

    async def ended(self, count: int = 1) -> QueueError | SendError | None:
        await until(lambda: len(self.ends) == count)
        return self.ends[-1][1]

    def bodies(self, queue: str) -> list[str]:
        return [message.body for message in self.server.messages(queue)]


@pytest_asyncio.fixture
async def desk(server: MemoryServer, sqs: MemorySQS) -> AsyncIterator[Desk]:
    async def closing() -> None: ...

    owner = TaskOwner("test", closing)
    await owner.start()
    yield Desk(server, sqs, owner)
    await owner.stop()


async def test_answer_ends_once_sqs_has_it(desk: Desk) -> None:
    await desk.sqs.create_queue("replies", {}, {})
    desk.post("replies")
    assert len(desk.reply_sender) == 1
    assert await desk.ended() is None
    assert desk.bodies("replies") == ["x"]
    assert len(desk.reply_sender) == 0


async def test_queue_that_comes_within_two_seconds_was_too_young(desk: Desk) -> None:
    desk.post("replies")
    await asyncio.sleep(1.9)
    await desk.sqs.create_queue("replies", {}, {})
    assert await desk.ended() is None
    assert desk.bodies("replies") == ["x"]


async def test_queue_that_does_not_exist_is_tried_for_two_seconds_then_its_failover_once(
    desk: Desk,
) -> None:
    desk.post("replies")
    assert isinstance(await desk.ended(), QueueNotFound)
    calls = [call for call in desk.server.log if call.operation == "SendMessageBatch"]
    assert {call.queue for call in calls[:-1]} == {"replies"}
    assert calls[-1].queue == "replies-Failover"
    assert calls[-2].time <= 2.1
    assert calls[-1].time == pytest.approx(2, abs=0.5)
    assert len(calls) <= 10


async def test_answer_reaches_a_requester_that_has_moved(desk: Desk) -> None:
    await desk.sqs.create_queue("replies-Failover", {}, {})
    desk.post("replies")
    assert await desk.ended() is None
    assert desk.bodies("replies-Failover") == ["x"]


async def test_answer_past_its_deadline_is_not_tried_elsewhere(desk: Desk) -> None:
    await desk.sqs.create_queue("replies-Failover", {}, {})
    desk.server.latency = 3.0
    desk.post("replies", within=1)
    assert isinstance(await desk.ended(), QueueNotFound)
    assert desk.bodies("replies-Failover") == []


async def test_deadline_cuts_the_patience_with_a_young_queue_short(desk: Desk) -> None:
    desk.post("replies", within=1)
    assert isinstance(await desk.ended(), QueueNotFound)
    assert now() < 1.2


async def test_missing_queue_holds_up_no_other(desk: Desk) -> None:
    await desk.sqs.create_queue("others", {}, {})
    desk.post("replies")
    desk.post("others")
    assert await desk.ended() is None
    assert now() < 0.1


@pytest.mark.parametrize("error", [AccessDenied, QueueError("no", transient=False)])
async def test_refusal_for_good_ends_it_at_once(
    desk: Desk, error: QueueError | type[QueueError]
) -> None:
    await desk.sqs.create_queue("replies", {}, {})
    desk.server.faults.fail("SendMessageBatch", error)
    desk.post("replies")
    assert isinstance(await desk.ended(), QueueError)
    assert desk.server.calls["SendMessageBatch"] == 1


async def test_refused_entry_ends_alone(desk: Desk) -> None:
    await desk.sqs.create_queue("replies", {}, {})
    desk.server.faults.fail_entries(
        "SendMessageBatch", lambda entry: entry.body == "bad", Failure("Bad", "no")
    )
    for body in ("1", "bad", "2"):
        desk.post("replies", body)
    await desk.ended(3)
    errors = [error for _, error in desk.ends if error is not None]
    assert [getattr(error, "code", None) for error in errors] == ["Bad"]
    assert desk.bodies("replies") == ["1", "2"]


async def test_passing_failures_are_tried_again_until_the_deadline(desk: Desk) -> None:
    await desk.sqs.create_queue("replies", {}, {})
    desk.server.faults.fail("SendMessageBatch", Throttled, times=None)
    desk.post("replies", "1", within=10)
    assert isinstance(await desk.ended(), Throttled)
    assert 10 <= now() < 16
    desk.server.faults.clear()
    desk.post("replies", "2")
    assert await desk.ended(2) is None
    assert desk.bodies("replies") == ["2"]


async def test_withdrawn_answer_is_tried_no_more(desk: Desk) -> None:
    answer = desk.post("replies")
    await asyncio.sleep(1)
    desk.reply_sender.withdraw(answer)
    await desk.sqs.create_queue("replies", {}, {})
    await asyncio.sleep(10)
    assert desk.bodies("replies") == []
    assert desk.ends == []
    assert len(desk.reply_sender) == 0


async def test_flush_waits_for_answers_on_their_way_wherever_they_go(desk: Desk) -> None:
    await desk.sqs.create_queue("replies-Failover", {}, {})
    desk.post("replies")
    await desk.reply_sender.flush()
    assert desk.bodies("replies-Failover") == ["x"]
    await desk.reply_sender.flush()


def sends_to(desk: Desk, queue: str) -> int:
    return sum(c.operation == "SendMessageBatch" and c.queue == queue for c in desk.server.log)


async def test_queue_found_gone_is_not_asked_again_for_a_while(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.post("replies")
    await desk.ended()
    asked, when = len(desk.server.log), now()
    for _ in range(100):
        desk.post("replies")
    assert len(desk.ends) == 1, "nobody hears of an answer before post() has returned"
    await desk.ended(101)
    assert all(isinstance(error, QueueNotFound) for _, error in desk.ends)
    assert now() <= when + 0.02
    assert len(desk.server.log) == asked
    assert caplog.text.count("does not exist") == 1


async def test_all_that_wait_for_a_queue_end_when_it_is_found_gone(desk: Desk) -> None:
    for _ in range(300):
        desk.post("replies")
    await asyncio.sleep(1.5)
    desk.post("replies")
    await desk.ended(301)
    assert now() < 3
    assert desk.reply_sender.held_up == 0


async def test_queue_found_gone_is_asked_again_after_a_while(desk: Desk) -> None:
    desk.post("replies")
    await desk.ended()
    await desk.sqs.create_queue("replies", {}, {})
    await asyncio.sleep(REMEMBERED)
    desk.post("replies")
    assert await desk.ended(2) is None


async def test_requester_that_has_moved_is_found_at_once_the_next_time(desk: Desk) -> None:
    await desk.sqs.create_queue("replies-Failover", {}, {})
    desk.post("replies", "1")
    await desk.ended()
    asked, when = sends_to(desk, "replies"), now()
    desk.post("replies", "2")
    assert await desk.ended(2) is None
    assert now() < when + 0.1
    assert sends_to(desk, "replies") == asked
    assert desk.bodies("replies-Failover") == ["1", "2"]


async def test_requester_that_has_moved_back_is_found_again(desk: Desk) -> None:
    await desk.sqs.create_queue("replies-Failover", {}, {})
    desk.post("replies", "1")
    await desk.ended()
    await desk.sqs.delete_queue(desk.server.url("replies-Failover"))
    await desk.sqs.create_queue("replies", {}, {})
    desk.post("replies", "2")
    assert await desk.ended(2) is None
    assert desk.bodies("replies") == ["2"]


async def test_requester_that_has_moved_back_is_too_late_past_the_deadline(desk: Desk) -> None:
    await desk.sqs.create_queue("replies", {}, {})
    desk.reply_sender.learn(desk.server.url("replies"), "moved")
    desk.server.latency = 3.0
    desk.post("replies", within=1)
    assert isinstance(await desk.ended(), QueueNotFound)
    await asyncio.sleep(60)
    assert len(desk.ends) == 1
    assert desk.bodies("replies") == []


async def test_only_so_many_queues_are_remembered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_sender, "MOST_REMEMBERED", 2)
    sender = ReplySender(desk.reply_sender._lanes)
    for queue in ("one", "two", "three"):
        sender.learn(desk.server.url(queue), "gone")
    known = [sender.known(desk.server.url(queue)) for queue in ("one", "two", "three")]
    assert known == [None, "gone", "gone"]


async def test_withdrawn_answer_to_a_queue_that_is_gone_ends_unheard(desk: Desk) -> None:
    desk.reply_sender.learn(desk.server.url("replies"), "gone")
    desk.reply_sender.withdraw(desk.post("replies"))
    await asyncio.sleep(1)
    assert desk.ends == []
