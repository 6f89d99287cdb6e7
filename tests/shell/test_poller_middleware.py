"""`Poller(middleware=…)`: what stands around handlers and replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    NO_REPLY,
    Draft,
    InvalidMessage,
    Message,
    Poller,
    QueueNotFound,
    Reject,
    Retry,
    SendError,
    Throttled,
)
from sqs_orchestrator.testing import MemoryServer
from sqs_orchestrator.worker.replies import Replies
from tests.shell.workers import REPLIES, Bench, bench_on, now, text, until

Next = Callable[[Any], Awaitable[Any]]
Work = Callable[[Any, Next], Awaitable[Any]]


class Around:
    """Does what a test wants, around handlers."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def incoming(self, message: Message, call_next: Next) -> Any:
        return await self.work(message, call_next)


class Outside:
    """Does what a test wants, around replies; notes the drafts."""

    def __init__(self, work: Work | None = None) -> None:
        self.work = work
        self.drafts: list[Draft] = []

    async def outgoing(self, draft: Draft, call_next: Next) -> Any:
        self.drafts.append(draft)
        return await (call_next(draft) if self.work is None else self.work(draft, call_next))


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, dead_letter_queue=True) as bench:
        yield bench


async def echo(message: Message) -> str:
    return message.body


async def worked(bench: Bench, handler: Any, *middleware: Any, **options: Any) -> Poller:
    """A poller that has worked until its queue is empty."""
    async with Poller(bench.sqs, "orders", handler, middleware=middleware, **options) as poller:
        await until(lambda: bench.empty)
    return poller


def codes(bench: Bench) -> list[str]:
    return [reply["code"] for reply in bench.replies]


# ------------------------------------------------------------------- around handlers


async def test_middleware_sees_message_and_result_and_may_change_both(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        return [await call_next(message.replace(body=message.body.upper()))]

    await bench.ask("a")
    await worked(bench, echo, Around(work))
    assert bench.replies == [["A"]]


async def test_first_middleware_is_the_outermost(bench: Bench) -> None:
    def adding(letter: str) -> Around:
        async def work(message: Message, call_next: Next) -> Any:
            result = await call_next(message.replace(body=message.body + letter))
            return f'"{letter}{json.loads(result) if result[0] == chr(34) else result}"'

        return Around(work)

    await bench.ask("x")
    await worked(bench, echo, adding("a"), adding("b"))
    assert bench.replies == ["abxab"]


async def test_middleware_may_skip_the_handler(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        return 7

    async def handle(message: Message) -> None:
        pytest.fail("it was skipped")

    await bench.ask("a")
    poller = await worked(bench, handle, Around(work))
    assert bench.replies == [7]
    assert poller.statistics().handled == 1


async def test_what_middleware_raises_counts_as_the_handlers_own(bench: Bench) -> None:
    errors = {"reject": Reject("no", code="c"), "fail": ValueError("x"), "retry": Retry(3)}

    async def work(message: Message, call_next: Next) -> Any:
        if message.body == "none":
            await call_next(message)
            return NO_REPLY
        if message.receive_count == 1:
            raise errors[message.body]
        return 1

    await bench.ask("reject", "fail", "retry", "none")
    poller = await worked(bench, echo, Around(work))
    found = sorted(json.dumps(reply) for reply in bench.replies)
    assert [json.loads(each) for each in found] == [
        1,
        {"code": "c", "type": "Reject", "message": "no", "details": None},
        {"code": "handler_error", "type": "ValueError", "message": "", "details": None},
    ]
    statistics = poller.statistics()
    assert (statistics.rejected, statistics.failed, statistics.retried) == (1, 1, 1)


async def test_middleware_sees_what_the_handler_raises(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        try:
            return await call_next(message)
        except KeyError as error:
            raise Reject(f"no {error.args[0]}", code="missing") from error

    async def handle(message: Message) -> None:
        raise KeyError("id")

    await bench.ask("a")
    await worked(bench, handle, Around(work))
    assert [(reply["code"], reply["message"]) for reply in bench.replies] == [("missing", "no id")]


async def test_max_extension_cancels_through_the_middleware(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        try:
            return await call_next(message)
        except asyncio.CancelledError:
            if message.body == "b":
                return "late"
            raise

    async def handle(message: Message) -> None:
        await asyncio.sleep(1000)

    await bench.ask("a", "b")
    await worked(bench, handle, Around(work), max_extension=20)
    failed = {"code": "handler_error", "type": "TimeoutError", "message": "", "details": None}
    assert [message.body for message in bench.at(REPLIES)] in (
        [json.dumps(failed, separators=(",", ":")), "late"],
        ["late", json.dumps(failed, separators=(",", ":"))],
    )


@dataclass
class Order:
    id: int


async def decrypting(message: Message, call_next: Next) -> Any:
    body = message.body.removeprefix("secret:")
    return await call_next(message.replace(body=body, attributes={"decrypted": 1}))


async def test_typed_handler_decodes_what_the_middleware_hands_on(bench: Bench) -> None:
    async def handle(order: Order, message: Message) -> list[Any]:
        return [order.id, dict(message.attributes), message.correlation_id]

    await bench.ask('secret:{"id":7}')
    await worked(bench, handle, Around(decrypting))
    assert bench.replies == [[7, {"decrypted": 1}, 'secret:{"id":7}']]


@pytest.mark.parametrize("typed", [True, False])
async def test_replaced_body_that_does_not_decode_is_a_bad_body(bench: Bench, typed: bool) -> None:
    async def take(order: Order) -> None: ...

    async def read(message: Message) -> Any:
        return message.json()

    await bench.ask("secret:{")
    poller = await worked(bench, take if typed else read, Around(decrypting))
    assert codes(bench) == ["bad_body"]
    assert (poller.statistics().rejected, poller.statistics().failed) == (1, 0)


async def test_only_a_message_is_handed_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        return await call_next(message.body)

    await bench.ask("a")
    await worked(bench, echo, Around(work))
    assert codes(bench) == ["handler_error"]
    assert "call_next() takes a Message" in caplog.text


async def test_what_the_library_rejects_does_not_reach_the_middleware(bench: Bench) -> None:
    seen: list[str] = []

    async def work(message: Message, call_next: Next) -> Any:
        seen.append(message.body)
        return await call_next(message)

    await bench.ask("expired", timeout=1)
    await bench.ask("route", route="other")
    await bench.send("torn", RequestTimeToLive=text("x"))
    await bench.ask("good", route="order")
    await asyncio.sleep(2)
    poller = Poller(bench.sqs, "orders", middleware=[Around(work)])
    poller.handler("order")(echo)
    async with poller:
        await until(lambda: bench.empty)
    assert seen == ["good"]


async def test_exit_in_middleware_fails_one_message_only(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        if message.body == "a":
            raise SystemExit
        return await call_next(message)

    await bench.ask("a", "b")
    await worked(bench, echo, Around(work))
    assert min(message.body for message in bench.at(REPLIES)) == "b"
    assert len(bench.at(REPLIES)) == 2


async def test_middleware_is_checked_at_construction(bench: Bench) -> None:
    with pytest.raises(ValueError, match="no middleware"):
        Poller(bench.sqs, "orders", echo, middleware=[object()])  # type: ignore[list-item]


async def test_pollers_share_a_middleware(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        return [await call_next(message)]

    around = Around(work)
    await bench.sqs.create_queue("others")
    await bench.ask("a")
    async with (
        Poller(bench.sqs, "orders", echo, middleware=[around]),
        Poller(bench.sqs, "others", echo, middleware=[around]),
    ):
        await until(lambda: bench.empty)
    assert bench.replies == [["a"]]


# ---------------------------------------------------------------- attributes of replies


def carried(bench: Bench) -> list[Any]:
    """What the replies carry beside the library's own."""
    return [
        {
            name: value["StringValue"]
            for name, value in message.attributes.items()
            if not name.startswith(("__Amazon", "Reply"))
        }
        for message in bench.at(REPLIES)
    ]


async def test_handler_gives_its_reply_attributes(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        message.reply_attributes["tenant"] = "a"
        message.reply_attributes["n"] = 7
        if message.body == "bad":
            raise Reject("no")
        return 1

    await bench.ask("a", "bad")
    await worked(bench, handle)
    assert carried(bench) == [{"tenant": "a", "n": "7"}] * 2


async def test_replaced_message_shares_the_attributes_of_the_reply(bench: Bench) -> None:
    async def work(message: Message, call_next: Next) -> Any:
        result = await call_next(message.replace(body="x"))
        message.reply_attributes["outer"] = "1"
        return result

    async def handle(message: Message) -> int:
        message.reply_attributes["inner"] = "1"
        return 1

    await bench.ask("a")
    await worked(bench, handle, Around(work))
    assert carried(bench) == [{"outer": "1", "inner": "1"}]


async def test_attribute_that_goes_back_as_it_came_keeps_the_label_of_its_type(
    bench: Bench,
) -> None:
    given: dict[str, Any] = {
        "id": {"DataType": "String.uuid", "StringValue": "5f2b"},
        "n": {"DataType": "Number.int", "StringValue": "7"},
        "plain": {"DataType": "String", "StringValue": "x"},
    }
    labels: list[Any] = []
    outside = Outside()

    async def handle(message: Message) -> int:
        labels.append(message.attribute_labels)
        message.reply_attributes.update(message.attributes)
        message.reply_attributes["n"] += 1
        return 1

    await bench.ask("a", **given)
    await worked(bench, handle, outside)
    assert labels == [{"id": "uuid", "n": "int"}]
    assert [draft.attributes for draft in outside.drafts] == [{"id": "5f2b", "n": 8, "plain": "x"}]
    (reply,) = bench.at(REPLIES)
    types = {name: value["DataType"] for name, value in reply.attributes.items()}
    assert types["id"] == "String.uuid"
    assert types["n"] == "Number"
    assert types["plain"] == "String"


@pytest.mark.parametrize("attributes", [{"a": None}, {"ReplyError": "x"}, {"a b": "x"}])
async def test_attributes_that_sqs_refuses_make_a_bad_reply(
    bench: Bench, attributes: dict[str, Any]
) -> None:
    async def handle(message: Message) -> int:
        message.reply_attributes.update(attributes)
        if message.body == "error":
            raise ValueError
        return 1

    await bench.ask("value", "error")
    poller = await worked(bench, handle)
    assert codes(bench) == ["bad_reply", "bad_reply"]
    assert carried(bench) == [{}, {}]
    assert poller.statistics().replies == 2


# -------------------------------------------------------------------- around replies


async def test_draft_says_what_the_reply_says(bench: Bench) -> None:
    async def handle(message: Message) -> Any:
        message.reply_attributes["n"] = 1
        return {"id": 1}

    outside = Outside()
    await bench.ask("a")
    await worked(bench, handle, outside)
    assert outside.drafts == [
        Draft(
            kind="reply",
            queue=bench.server.url(REPLIES),
            body={"id": 1},
            attributes={"n": 1},
            correlation_id="a",
        )
    ]
    assert bench.replies == [{"id": 1}]


async def test_error_replies_are_drafts_with_a_reject(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        raise Reject("no", code="c", details=[1]) if message.body == "a" else KeyError("secret")

    outside = Outside()
    await bench.ask("a", "b")
    await bench.ask("c", route="other")
    poller = Poller(bench.sqs, "orders", middleware=[outside])
    poller.handler("none")(handle)
    async with poller:
        await until(lambda: bench.empty)
    assert [(d.body.code, d.body.type, d.body.message) for d in outside.drafts] == [
        ("unknown_route", None, "")
    ] * 3

    outside.drafts.clear()
    await bench.ask("a", "b")
    await worked(bench, handle, outside)
    found = [(d.body.code, d.body.type, d.body.message, d.body.details) for d in outside.drafts]
    assert found == [("c", "Reject", "no", [1]), ("handler_error", "KeyError", "", None)]


async def test_middleware_changes_the_reply_and_gets_its_message_id(bench: Bench) -> None:
    ids: list[str] = []

    async def work(draft: Draft, call_next: Next) -> Any:
        await asyncio.sleep(1)
        ids.append(await call_next(draft.replace(body=[draft.body], attributes={"n": 1})))

    await bench.ask("a")
    poller = await worked(bench, echo, Outside(work))
    assert bench.replies == [["a"]]
    assert carried(bench) == [{"n": "1"}]
    assert ids == [message.message_id for message in bench.at(REPLIES)]
    assert poller.statistics().replies == 1


async def test_reply_is_confirmed_before_its_request_is_deleted(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch", queue=REPLIES, answer=True)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", echo, middleware=[Outside()]) as poller:
        await gate.arrived()
        await asyncio.sleep(30)
        assert bench.calls("DeleteMessageBatch") == 0
        assert poller.statistics().answering == 1
        gate.release()
        await until(lambda: bench.empty)
    assert poller.statistics().answering == 0


async def test_middleware_that_sends_nothing_ends_the_request(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        return None

    await bench.ask("a")
    poller = await worked(bench, echo, Outside(work))
    assert bench.replies == []
    assert poller.statistics().failed == 0


async def test_reply_may_be_sent_twice(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        await call_next(draft)
        return await call_next(draft)

    await bench.ask("a")
    poller = await worked(bench, echo, Outside(work))
    assert len(bench.at(REPLIES)) == 2
    assert poller.statistics().replies == 2


class Odd(BaseException):
    """As `pytest.fail` raises one."""


ERRORS = [ValueError("x"), SystemExit(1), asyncio.CancelledError(), GeneratorExit(), Odd()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_error_of_middleware_becomes_an_error_reply_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        raise error

    outside = Outside(work)
    await bench.ask("a")
    poller = await worked(bench, echo, outside)
    assert bench.replies == [
        {
            "code": "handler_error",
            "type": type(error).__name__,
            "message": "",
            "details": None,
        }
    ]
    assert len(outside.drafts) == 1
    assert (poller.statistics().failed, poller.statistics().handled) == (1, 1)
    assert caplog.text.count("the middleware around the reply to message") == 1


@pytest.mark.parametrize("error", [*ERRORS, "unsendable"], ids=repr)
async def test_error_of_middleware_after_the_reply_is_no_reply(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: Any
) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        await call_next(draft)
        if error == "unsendable":
            await call_next(draft.replace(body=object()))
        raise error

    await bench.ask("a")
    await bench.ask("b")
    poller = await worked(bench, echo, Outside(work))
    assert sorted(message.body for message in bench.at(REPLIES)) == ["a", "b"]
    counts = poller.statistics()
    assert (counts.failed, counts.handled, counts.replies) == (0, 2, 2)
    assert caplog.text.count("the middleware around the reply to message") == 2


async def test_reply_that_is_closed_with_its_loop_is_no_failure_of_its_middleware(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(draft: Draft, call_next: Next) -> Any:
        await asyncio.sleep(1e6)

    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", echo, middleware=[Outside(hang)])
    await poller.__aenter__()
    await until(lambda: poller.statistics().answering)
    (reply,) = (each for each in asyncio.all_tasks() if "_through_middleware" in repr(each))
    # As Python does it with a task that its loop has left behind.
    coroutine: Any = reply.get_coro()
    coroutine.close()
    assert poller.statistics().answering == 0
    # The loop here lives on, and wakes up the task.
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await poller.__aexit__(None, None, None)
    assert bench.replies == []
    assert "the middleware around the reply" not in caplog.text


async def test_message_of_middlewares_error_travels_only_where_exposed(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        raise ValueError("x")

    await bench.ask("a")
    await worked(bench, echo, Outside(work), expose_errors=True)
    assert [reply["message"] for reply in bench.replies] == ["x"]


@pytest.mark.parametrize(
    ("value", "code"), [(object(), "bad_reply"), ("x" * 2_000_000, "reply_too_large")]
)
async def test_value_that_cannot_be_sent_has_its_code_though_in_middleware(
    bench: Bench, value: Any, code: str
) -> None:
    async def handle(message: Message) -> Any:
        return value

    outside = Outside()
    await bench.ask("a")
    poller = await worked(bench, handle, outside)
    assert codes(bench) == [code]
    assert len(outside.drafts) == 1
    assert poller.statistics().failed == 1


async def test_middleware_may_mend_what_cannot_be_sent(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        try:
            return await call_next(draft)
        except InvalidMessage:
            return await call_next(draft.replace(body="mended"))

    async def handle(message: Message) -> Any:
        return object()

    await bench.ask("a")
    await worked(bench, handle, Outside(work))
    assert [message.body for message in bench.at(REPLIES)] == ["mended"]


@pytest.mark.parametrize("change", ["kind", "queue"])
async def test_reply_stays_a_reply_to_its_requester(bench: Bench, change: str) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        kind: Any = "send" if change == "kind" else "reply"
        queue = bench.url if change == "queue" else draft.queue
        return await call_next(Draft(kind=kind, queue=queue, body=1))

    await bench.ask("a")
    await worked(bench, echo, Outside(work))
    assert codes(bench) == ["handler_error"]


async def test_reply_that_sqs_does_not_take_in_time_is_dropped(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a", timeout=10)
    poller = await worked(bench, echo, Outside())
    assert (poller.statistics().replies_dropped, poller.statistics().failed) == (1, 0)
    assert "dropped the reply to message" in caplog.text


async def test_reply_to_a_requester_without_deadline_is_done_again(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", echo, middleware=[Outside()]) as poller:
        await asyncio.sleep(65)
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert [message.body for message in bench.at(REPLIES)] == ["a"]
    assert poller.statistics().handled == 2


async def test_middleware_that_hangs_ends_with_the_requests_deadline(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        await asyncio.sleep(1e6)

    await bench.ask("a", timeout=10)
    async with Poller(bench.sqs, "orders", echo, middleware=[Outside(work)]) as poller:
        await until(lambda: bench.empty, within=15)
    assert poller.statistics().replies_dropped == 1


async def test_middleware_that_hangs_after_the_reply_does_not_repeat_it(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        await call_next(draft)
        await asyncio.sleep(1e6)

    await bench.ask("a")
    poller = await worked(bench, echo, Outside(work))
    assert [message.body for message in bench.at(REPLIES)] == ["a"]
    assert (poller.statistics().handled, poller.statistics().replies_dropped) == (1, 0)


async def test_reply_whose_middleware_gives_up_is_withdrawn(bench: Bench) -> None:
    async def work(draft: Draft, call_next: Next) -> Any:
        try:
            async with asyncio.timeout(3):
                return await call_next(draft)
        except TimeoutError:
            return None

    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", echo, middleware=[Outside(work)]) as poller:
        await until(lambda: bench.empty)
        assert poller.statistics().answering == 0
        bench.faults.clear()
        await asyncio.sleep(60)
    assert bench.replies == []


async def test_reply_to_a_queue_that_is_gone_is_dropped(bench: Bench) -> None:
    errors: list[Exception] = []

    async def work(draft: Draft, call_next: Next) -> Any:
        try:
            return await call_next(draft)
        except QueueNotFound as error:
            errors.append(error)
            raise

    gone = bench.server.url(REPLIES).replace(REPLIES, f"{REPLIES[:-1]}2")
    await bench.ask("a", to=gone)
    poller = await worked(bench, echo, Outside(work))
    assert len(errors) == 1
    assert (poller.statistics().replies_dropped, poller.statistics().failed) == (1, 0)


async def test_draining_waits_for_the_middleware_around_replies(bench: Bench) -> None:
    started = asyncio.Event()

    async def work(draft: Draft, call_next: Next) -> Any:
        started.set()
        await asyncio.sleep(10)
        return await call_next(draft)

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", echo, middleware=[Outside(work)]) as poller:
        await started.wait()
    assert [message.body for message in bench.at(REPLIES)] == ["a"]
    assert bench.empty
    assert poller.statistics().deleted == 1


async def test_drain_that_ends_lets_the_message_come_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def work(draft: Draft, call_next: Next) -> Any:
        started.set()
        await asyncio.sleep(1e6)

    await bench.ask("a")
    async with Poller(
        bench.sqs, "orders", echo, middleware=[Outside(work)], drain_timeout=5, wait_time=1
    ) as poller:
        await started.wait()
    assert "given up, and their messages come back: 1 replies, 0 deletes" in caplog.text
    assert poller.statistics().answering == 0
    assert len(bench.messages) == 1
    assert bench.replies == []


async def test_drain_ends_with_the_last_reply_though_that_is_dropped(bench: Bench) -> None:
    started = asyncio.Event()

    async def work(draft: Draft, call_next: Next) -> Any:
        started.set()
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError as cancelled:
            raise ValueError("too late for an error reply, too") from cancelled

    await bench.ask("a", timeout=10)
    async with Poller(
        bench.sqs, "orders", echo, middleware=[Outside(work)], drain_timeout=500, wait_time=1
    ) as poller:
        await started.wait()
        began = now()
    assert now() < began + 12
    assert bench.empty
    assert (poller.statistics().answering, poller.statistics().replies_dropped) == (0, 1)


async def test_reply_that_is_passed_on_after_the_poller_has_ended_is_an_error(
    bench: Bench,
) -> None:
    go = asyncio.Event()
    late: list[asyncio.Task[Any]] = []

    async def work(draft: Draft, call_next: Next) -> Any:
        async def later() -> Any:
            await go.wait()
            return await call_next(draft)

        late.append(asyncio.create_task(later()))

    await bench.ask("a")
    await worked(bench, echo, Outside(work))
    go.set()
    await asyncio.wait(late, timeout=60)
    with pytest.raises(SendError, match="the poller has closed"):
        late[0].result()
    assert bench.replies == []


async def test_next_of_a_group_does_not_wait_for_the_reply(server: MemoryServer) -> None:
    started: list[str] = []

    async def work(draft: Draft, call_next: Next) -> Any:
        await asyncio.sleep(5)
        return await call_next(draft)

    async def handle(message: Message) -> str:
        started.append(f"{message.body}{now() - began:.0f}")
        return message.body

    async with bench_on(server, "orders.fifo") as bench:
        await bench.ask("a", "b", group="g")
        began = now()
        async with Poller(bench.sqs, "orders.fifo", handle, middleware=[Outside(work)]):
            await until(lambda: bench.empty)
    assert started == ["a0", "b0"]
    assert len(bench.at(REPLIES)) == 2


@pytest.mark.parametrize("middleware", [[], [Around(decrypting)]], ids=["none", "incoming"])
async def test_reply_takes_a_task_only_for_what_stands_around_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, middleware: list[Any]
) -> None:
    monkeypatch.delattr(Replies, "_send_through_middleware")
    await bench.ask("a")
    await worked(bench, echo, *middleware)
    assert [message.body for message in bench.at(REPLIES)] == ["a"]
