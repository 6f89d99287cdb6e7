"""`Publisher(middleware=…)`: what stands around sends, requests and replies."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    Draft,
    InvalidMessage,
    Publisher,
    QueueNotFound,
    Reject,
    RemoteError,
    Reply,
    ReplyQueue,
    ReplyQueueClosed,
    ReplyTimeout,
    ReplyTo,
    SendError,
    connect,
)
from sqs_orchestrator.core import wire
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.testing import MemoryServer
from tests.shell.requesters import Bench, connected, publishing, working
from tests.shell.workers import now

Next = Callable[[Draft], Awaitable[Any]]


class Noting:
    """Notes the drafts that it sees, and what came of them."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.results: list[Any] = []

    async def outgoing(self, draft: Draft, call_next: Next) -> Any:
        self.drafts.append(draft)
        try:
            result = await call_next(draft)
        except BaseException as error:
            self.results.append(error)
            raise
        self.results.append(result)
        return result


class Doing:
    """Does what a test wants."""

    def __init__(self, work: Callable[[Draft, Next], Awaitable[Any]]) -> None:
        self.work = work

    async def outgoing(self, draft: Draft, call_next: Next) -> Any:
        return await self.work(draft, call_next)


@pytest_asyncio.fixture
async def noting(server: MemoryServer) -> AsyncIterator[tuple[Bench, Noting]]:
    """A publisher with a middleware that notes."""
    middleware = Noting()
    async with publishing(server, ready=True, middleware=[middleware]) as bench:
        yield bench, middleware


def doing(
    server: MemoryServer, work: Callable[[Draft, Next], Awaitable[Any]], *queues: str, **more: Any
) -> Any:
    return publishing(server, *queues, ready=True, middleware=[Doing(work)], **more)


def own_reply_to(bench: Bench) -> ReplyTo:
    return ReplyTo(bench.live.url, "somebody's")


# --------------------------------------------------------------------- what it sees


async def test_each_send_request_and_reply_is_seen(noting: tuple[Bench, Noting]) -> None:
    bench, middleware = noting
    async with working(bench.server):
        message_id = await bench.publisher.send(
            "orders", {"n": 1}, attributes={"a": 1}, message_type="t", delay=2
        )
        reply = await bench.publisher.request("orders", "b", timeout=7)
        await bench.publisher.reply(own_reply_to(bench), Reject("no"), attributes={"c": "d"})
    send, request, answer = middleware.drafts
    assert send == Draft(
        kind="send", queue="orders", body={"n": 1}, attributes={"a": 1}, message_type="t", delay=2
    )
    assert request == Draft(
        kind="request",
        queue="orders",
        body="b",
        timeout=7,
        correlation_id=request.correlation_id,
    )
    assert request.correlation_id
    assert (answer.kind, answer.queue, answer.correlation_id) == (
        "reply",
        bench.live.url,
        "somebody's",
    )
    assert isinstance(answer.body, Reject)
    assert middleware.results[:2] == [message_id, reply]
    assert middleware.results[1] is reply
    assert isinstance(middleware.results[2], str)
    assert middleware.results[2] not in ("", message_id)
    assert bench.publisher.statistics().replies_sent == 1


async def test_errors_pass_through_it(noting: tuple[Bench, Noting]) -> None:
    bench, middleware = noting
    refusal = Failure("InvalidParameterValue", "no")
    bench.faults.fail_entries("SendMessageBatch", lambda entry: entry.body == "bad", refusal)
    with pytest.raises(SendError) as refused:
        await bench.publisher.send("orders", "bad")
    with pytest.raises(InvalidMessage) as unsealed:
        await bench.publisher.request("orders", "")
    with pytest.raises(ReplyTimeout) as late:
        await bench.publisher.request("orders", "a", timeout=1)
    with pytest.raises(QueueNotFound) as missing:
        await bench.publisher.request("nowhere", "a")
    caught = [each.value for each in (refused, unsealed, late, missing)]
    assert all(a is b for a, b in zip(middleware.results, caught, strict=True))
    assert (refused.value.queue, unsealed.value.queue) == ("orders", "orders")
    statistics = bench.publisher.statistics()
    assert (statistics.requests, statistics.timeouts, statistics.failures) == (3, 1, 2)
    bench.assert_nothing_pends()


async def test_remote_error_passes_through_it(noting: tuple[Bench, Noting]) -> None:
    bench, middleware = noting

    def refuse(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        body = wire.error_body("sold_out", message="none left")
        return [SendEntry(body, wire.reply_attributes(reply_to, error_code="sold_out"))]

    async with working(bench.server, answer=refuse):
        with pytest.raises(RemoteError) as caught:
            await bench.publisher.request("orders", "a")
    assert middleware.results == [caught.value]
    assert bench.publisher.statistics().remote_errors == 1


async def test_cancelling_passes_through_it_and_leaves_nothing(
    noting: tuple[Bench, Noting],
) -> None:
    bench, middleware = noting
    task = bench.task(bench.publisher.request("orders", "a"))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    [error] = middleware.results
    assert isinstance(error, asyncio.CancelledError)
    assert bench.publisher.statistics().cancelled == 1
    bench.assert_nothing_pends()


async def test_closing_passes_through_it(server: MemoryServer) -> None:
    middleware = Noting()
    async with publishing(server, ready=True, middleware=[middleware]) as bench:
        task = bench.task(bench.publisher.request("orders", "a"))
        await asyncio.sleep(1)
    with pytest.raises(ReplyQueueClosed):
        await task
    [error] = middleware.results
    assert isinstance(error, ReplyQueueClosed)


@pytest.mark.parametrize("method", ["send", "request", "reply"])
@pytest.mark.parametrize("closed", [False, True])
async def test_what_it_passes_on_too_late_is_not_sent(
    server: MemoryServer, method: str, closed: bool
) -> None:
    go = asyncio.Event()

    async def wait(draft: Draft, call_next: Next) -> Any:
        await go.wait()
        return await call_next(draft)

    # The reply queue outlives the publisher: the end of that alone must end the wait.
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        await replies.ready()
        await bench.sqs.queue_url("orders")
        publisher = Publisher(
            bench.sqs,
            middleware=[Doing(wait)],
            reply_queue=replies,
            default_timeout=math.inf if closed else 30,
        )
        async with publisher:
            if method == "reply":
                assert replies.url is not None
                task = bench.task(publisher.reply(ReplyTo(replies.url, "somebody's"), "a"))
            else:
                task = bench.task(getattr(publisher, method)("orders", "a"))
            await asyncio.sleep(31)
            if not closed:
                go.set()
                await asyncio.wait({task}, timeout=1)
        go.set()
        await asyncio.wait({task}, timeout=1)
        assert task.done()
        error = task.exception()
        late = {"request": ReplyQueueClosed if closed else ReplyTimeout}
        assert isinstance(error, late.get(method, SendError))
        assert "was not sent" in str(error)
        assert not getattr(error, "maybe_sent", False)
        assert bench.bodies() == []
        assert replies.statistics().unmatched == 0


async def test_publishers_share_one(server: MemoryServer) -> None:
    middleware = Noting()
    async with (
        publishing(server, middleware=[middleware]) as one,
        publishing(server, middleware=[middleware]) as other,
    ):
        await asyncio.gather(one.publisher.send("orders", 1), other.publisher.send("orders", 2))
    assert sorted(draft.body for draft in middleware.drafts) == [1, 2]


async def test_first_is_the_outermost(server: MemoryServer) -> None:
    def adding(letter: str) -> Doing:
        async def add(draft: Draft, call_next: Next) -> Any:
            reply = await call_next(draft.replace(body=draft.body + letter))
            return reply.replace(body=reply.body + letter)

        return Doing(add)

    async with publishing(server, middleware=[adding("1"), adding("2")]) as bench, working(server):
        assert (await bench.publisher.request("orders", "a")).body == "a1221"


# --------------------------------------------------------------------- what it changes


async def test_what_it_changes_is_what_is_sent(server: MemoryServer) -> None:
    async def change(draft: Draft, call_next: Next) -> Any:
        return await call_next(
            draft.replace(body={"wrapped": draft.body}, attributes={**draft.attributes, "id": "1"})
        )

    async with doing(server, change) as bench:
        await bench.publisher.send("orders", "a", attributes={"tenant": "b"})
        [message] = server.messages("orders")
        assert json.loads(message.body) == {"wrapped": "a"}
        assert message.attributes.keys() == {"tenant", "id"}
        await bench.publisher.reply(own_reply_to(bench), "late")
        [reply] = server.messages(bench.live.url)
        assert json.loads(reply.body) == {"wrapped": "late"}
        assert reply.attributes["id"]["StringValue"] == "1"


@pytest.mark.parametrize("method", ["send", "request"])
async def test_queue_that_it_names_is_looked_up_like_the_callers(
    server: MemoryServer, method: str
) -> None:
    async def redirect(draft: Draft, call_next: Next) -> Any:
        return await call_next(draft.replace(queue=draft.body))

    server.create(server.account, "other", {}, {})
    async with doing(server, redirect) as bench, working(server, "other"):
        for queue in ("other", server.url("other")):
            await getattr(bench.publisher, method)("orders", queue)
        assert not bench.bodies("orders")
        assert server.calls["GetQueueUrl"] == 1
        for wrong in ("no name", 5):
            with pytest.raises(ValueError, match="queue"):
                await getattr(bench.publisher, method)("orders", wrong)
        with pytest.raises(QueueNotFound):
            await getattr(bench.publisher, method)("orders", "nowhere")
        bench.assert_nothing_pends()


async def test_fifo_queue_that_it_names_has_its_rules(server: MemoryServer) -> None:
    async def redirect(draft: Draft, call_next: Next) -> Any:
        return await call_next(draft.replace(queue="other.fifo", group_id=draft.body))

    server.create(server.account, "other.fifo", {"FifoQueue": "true"}, {})
    async with doing(server, redirect) as bench, working(server, "other.fifo"):
        assert (await bench.publisher.request("orders", "a")).body == "a"
        with pytest.raises(InvalidMessage, match="group_id") as caught:
            await bench.publisher.request("orders", "no group")
        assert caught.value.queue == "other.fifo"


async def test_reply_goes_where_its_request_wants_it(server: MemoryServer) -> None:
    async def redirect(draft: Draft, call_next: Next) -> Any:
        return await call_next(Draft(kind="reply", queue="orders", body="mine"))

    async with doing(server, redirect) as bench:
        with pytest.raises(ValueError, match="to the queue of its request"):
            await bench.publisher.reply(own_reply_to(bench), "a")
        assert not bench.bodies("orders")


async def test_one_kind_of_message_does_not_become_another(server: MemoryServer) -> None:
    async def turn(draft: Draft, call_next: Next) -> Any:
        return await call_next(Draft(kind="send", queue=draft.queue, body=draft.body))

    async with doing(server, turn) as bench:
        await bench.publisher.send("orders", "stays a send")
        with pytest.raises(ValueError, match="a request cannot become a send"):
            await bench.publisher.request("orders", "a")
        assert bench.publisher.statistics().failures == 1


@dataclass
class Order:
    number: int


class Encrypting:
    """As good as any."""

    async def outgoing(self, draft: Draft, call_next: Next) -> Any:
        secret = base64.b64encode(json.dumps(draft.body).encode()).decode()
        reply = await call_next(draft.replace(body=secret))
        if draft.kind == "request":
            reply = reply.replace(body=base64.b64decode(reply.body).decode())
        return reply


async def test_bodies_that_it_encrypts_are_decoded_as_the_type_asked_for(
    server: MemoryServer,
) -> None:
    async with (
        publishing(server, middleware=[Encrypting()]) as bench,
        working(server) as worker,
    ):
        order = await bench.publisher.request("orders", {"number": 7}, returns=Order)
        assert order == Order(7)
        assert "number" not in worker.requests[0].body
        assert (await bench.publisher.request("orders", {"number": 8})).json() == {"number": 8}


# ----------------------------------------------------------------- skipping, repeating


async def test_call_that_it_skips_sends_nothing(server: MemoryServer) -> None:
    async def from_memory(draft: Draft, call_next: Next) -> Any:
        return Reply('{"number": 1}') if draft.kind == "request" else "an id"

    async with doing(server, from_memory) as bench:
        assert await bench.publisher.request("orders", "a", returns=Order) == Order(1)
        assert await bench.publisher.send("orders", "a") == "an id"
        await bench.publisher.reply(own_reply_to(bench), "a")
        assert not server.calls
        statistics = bench.publisher.statistics()
        assert (statistics.requests, statistics.replies, statistics.sent) == (1, 1, 0)


@pytest.mark.parametrize("method", ["send", "request"])
async def test_result_that_it_forgets_is_an_error(server: MemoryServer, method: str) -> None:
    async def forget(draft: Draft, call_next: Next) -> Any:
        await call_next(draft)

    async with doing(server, forget) as bench, working(server):
        with pytest.raises(TypeError, match=f"has returned None for a {method}"):
            await getattr(bench.publisher, method)("orders", "a")
        await bench.publisher.reply(own_reply_to(bench), "of a reply nothing is made")


async def test_second_call_is_a_question_of_its_own(server: MemoryServer) -> None:
    answered: list[Any] = []

    async def twice(draft: Draft, call_next: Next) -> Any:
        first, second = await asyncio.gather(call_next(draft), call_next(draft))
        answered.extend([first.body, second.body])
        return first

    def numbered(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        return [SendEntry(str(reply_to.id), wire.reply_attributes(reply_to))]

    async with (
        doing(server, twice, "orders.fifo") as bench,
        working(server, "orders.fifo", numbered) as worker,
    ):
        await bench.publisher.request("orders.fifo", "a", group_id="g")
        assert len(set(answered)) == 2
        assert len(worker.requests) == 2, "each has a deduplication id of its own"
        bench.assert_nothing_pends()
        statistics = bench.publisher.statistics()
        assert (statistics.requests, statistics.replies) == (1, 1)


async def test_first_call_has_the_correlation_id_that_the_draft_names(
    server: MemoryServer,
) -> None:
    seen: list[str | None] = []

    async def hand_made(draft: Draft, call_next: Next) -> Any:
        seen.append(draft.correlation_id)
        return await call_next(Draft(kind="request", queue=draft.queue, body=draft.body))

    async with doing(server, hand_made) as bench, working(server) as worker:
        await bench.publisher.request("orders", "a", timeout=3)
    [request] = worker.requests
    parsed = wire.parse_request(request.attributes)
    assert parsed.reply_to is not None
    assert parsed.reply_to.id == seen[0]
    assert parsed.time_to_live == pytest.approx(3, abs=0.01)


async def test_request_is_repeated_until_it_is_answered(server: MemoryServer) -> None:
    async def insist(draft: Draft, call_next: Next) -> Any:
        try:
            return await call_next(draft.replace(timeout=2))
        except ReplyTimeout:
            return await call_next(draft)

    async with doing(server, insist) as bench:
        task = bench.task(bench.publisher.request("orders", "a", timeout=10))
        await asyncio.sleep(3)
        async with working(server) as worker:
            assert (await task).body == "a"
            assert len(worker.requests) == 2
        statistics = bench.publisher.statistics()
        assert (statistics.replies, statistics.timeouts) == (1, 0)


# ------------------------------------------------------------------------- its time


async def test_its_time_counts_towards_the_timeout(server: MemoryServer) -> None:
    async def dawdle(draft: Draft, call_next: Next) -> Any:
        await asyncio.sleep(3)
        return await call_next(draft)

    async with doing(server, dawdle) as bench:
        began = now()
        with pytest.raises(ReplyTimeout) as caught:
            await bench.publisher.request("orders", "a", timeout=5)
        assert now() == began + 5
        assert caught.value.timeout == 5
        [sent] = server.messages("orders")
        assert int(sent.attributes["RequestTimeToLive"]["StringValue"]) <= 2000
        began = now()
        with pytest.raises(ReplyTimeout, match="was not sent within 2 s"):
            await bench.publisher.request("orders", "b", timeout=2)
        # Its own waits are its own: nobody cuts them short.
        assert now() == began + 3
        assert len(bench.bodies()) == 1


@pytest.mark.parametrize("timeout", [0, -1.5])
@pytest.mark.parametrize("by_middleware", [False, True])
async def test_timeout_of_which_nothing_is_left_is_over(
    server: MemoryServer, timeout: float, by_middleware: bool
) -> None:
    # What is left of a limit may be less than nothing, whoever has computed it.
    async def work(draft: Draft, call_next: Next) -> Any:
        return await call_next(draft.replace(timeout=timeout) if by_middleware else draft)

    async with publishing(server, middleware=[Doing(work)]) as bench:
        with pytest.raises(ReplyTimeout, match=f"was not sent within {timeout} s") as caught:
            await bench.publisher.request("orders", "a", timeout=None if by_middleware else timeout)
        assert caught.value.timeout == timeout
    assert server.messages("orders") == []
    assert not server.calls["CreateQueue"]


@pytest.mark.parametrize("timeout", [float("nan"), "5"])
async def test_timeout_that_it_makes_up_is_checked(server: MemoryServer, timeout: Any) -> None:
    async def change(draft: Draft, call_next: Next) -> Any:
        return await call_next(draft.replace(timeout=timeout))

    async with doing(server, change) as bench:
        with pytest.raises(ValueError, match="timeout is a number of seconds"):
            await bench.publisher.request("orders", "a")


# ----------------------------------------------------------------------- its errors


@pytest.mark.parametrize("method", ["send", "request", "reply"])
async def test_its_error_is_the_calls_own(server: MemoryServer, method: str) -> None:
    fault = ZeroDivisionError("mine")

    async def stumble(draft: Draft, call_next: Next) -> Any:
        raise fault

    async with doing(server, stumble) as bench:
        to: Any = own_reply_to(bench) if method == "reply" else "orders"
        with pytest.raises(ZeroDivisionError) as caught:
            await getattr(bench.publisher, method)(to, "a")
        assert caught.value is fault
        assert not server.calls
        statistics = bench.publisher.statistics()
        assert statistics.failures == statistics.requests == (method == "request")
        assert statistics.pending == 0


async def test_its_error_after_the_reply_is_a_failure(server: MemoryServer) -> None:
    async def stumble(draft: Draft, call_next: Next) -> Any:
        await call_next(draft)
        raise KeyError("mine")

    async with doing(server, stumble) as bench, working(server):
        with pytest.raises(KeyError, match="mine"):
            await bench.publisher.request("orders", "a")
        statistics = bench.publisher.statistics()
        assert (statistics.replies, statistics.failures) == (0, 1)
        bench.assert_nothing_pends()


async def test_what_is_no_draft_is_a_type_error(server: MemoryServer) -> None:
    async def careless(draft: Draft, call_next: Any) -> Any:
        return await call_next(draft.body)

    async with doing(server, careless) as bench:
        with pytest.raises(TypeError, match=r"call_next\(\) takes a Draft"):
            await bench.publisher.send("orders", "a")


async def test_what_is_no_middleware_is_refused_at_construction() -> None:
    class Wrong:
        async def outgoing(self, draft: Draft) -> Any: ...

    for wrong in ([Wrong()], [object()], Noting()):
        with pytest.raises(ValueError, match=r"middleware|async def outgoing"):
            Publisher(connect(), middleware=wrong)  # type: ignore[arg-type]
