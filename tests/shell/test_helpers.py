"""What `sqs_orchestrator.testing` has for the tests of users: answers, a worker until it is idle,
and a look at what went out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    Connection,
    Message,
    Poller,
    Publisher,
    QueueNotFound,
    Reject,
    RemoteError,
    ReplyTo,
    Retry,
)
from sqs_orchestrator.sqs.port import SQS, SendEntry
from sqs_orchestrator.testing import (
    MemoryConnection,
    MemoryServer,
    MemorySQS,
    answer,
    connect,
    helpers,
    message,
    run_until_idle,
    sent,
)
from tests.shell.workers import now, until


@pytest_asyncio.fixture
async def memory(server: MemoryServer) -> AsyncIterator[MemoryConnection]:
    """As the fixture of the plugin has it."""
    async with connect(server, strict_queues=False, drop_polls=True) as memory:
        yield memory


@pytest_asyncio.fixture
async def publisher(memory: MemoryConnection) -> AsyncIterator[Publisher]:
    async with Publisher(memory) as publisher:
        yield publisher


@asynccontextmanager
async def entered(port: SQS) -> AsyncIterator[SQS]:
    yield port


async def echo(message: Message) -> Any:
    return message.body


async def fail(message: Message) -> None:
    raise ValueError(message.body)


# ------------------------------------------------------------------------- connections


async def test_first_use_creates_a_queue(memory: MemoryConnection, publisher: Publisher) -> None:
    await publisher.send("orders", "one")
    assert memory.server.queues == ["orders"]
    async with Poller(memory, "invoices", echo):
        assert memory.server.queues == ["invoices", "orders"]


async def test_first_use_by_url_creates_a_queue(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    await publisher.send(memory.server.url("orders", "210987654321"), "one")
    url = memory.server.url("orders", "210987654321")
    assert [each.body for each in memory.server.messages(url)] == ["one"]


async def test_first_use_creates_a_fifo_queue_that_knows_duplicates(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    for body in ("one", "one", "two"):
        await publisher.send("orders.fifo", body, group_id="a")
    assert [(each.body, each.group_id) for each in sent(memory, "orders.fifo")] == [
        ("one", "a"),
        ("two", "a"),
    ]


async def test_create_queue_makes_what_it_is_told_although_first_use_would_create_it(
    memory: MemoryConnection,
) -> None:
    url = await memory.create_queue("orders", dead_letter_queue=True, max_receive_count=2)
    assert memory.server.queue(url).redrive is not None
    assert memory.server.queues == ["orders", "orders_dlq"]


async def test_strict_connection_creates_nothing(server: MemoryServer) -> None:
    async with connect(server) as sqs, Publisher(sqs) as publisher:
        with pytest.raises(QueueNotFound):
            await publisher.send("orders", "one")
    assert server.queues == []


async def test_queue_that_was_deleted_a_moment_ago_is_not_there(
    memory: MemoryConnection,
) -> None:
    await memory.port.delete_queue(await memory.queue_url("orders"))
    memory.queues.forget_url("orders")
    with pytest.raises(QueueNotFound):
        await memory.queue_url("orders")


@pytest.mark.parametrize("drop_polls", [True, False])
async def test_connection_says_whether_a_poller_that_stops_waits_for_its_poll(
    server: MemoryServer, drop_polls: bool
) -> None:
    async with connect(server, strict_queues=False, drop_polls=drop_polls) as sqs:
        poller = Poller(sqs, "orders", echo)
        async with poller:
            await until(lambda: poller.statistics().receives)
            began = now()
    assert (now() - began < 1) is drop_polls


# ---------------------------------------------------------------------- run_until_idle


async def test_run_until_idle_handles_all_and_returns_the_statistics(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    for number in range(30):
        await publisher.send("orders", {"id": number})
    statistics = await run_until_idle(Poller(memory, "orders", echo))
    assert (statistics.handled, statistics.deleted) == (30, 30)
    assert memory.server.messages("orders") == []


async def test_run_until_idle_of_an_empty_queue_ends_at_once(memory: MemoryConnection) -> None:
    assert (await run_until_idle(Poller(memory, "orders", echo))).received == 0
    assert now() < 1


async def test_run_until_idle_waits_for_what_is_hidden_now(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    tries: list[float] = []

    async def handle(message: Message) -> None:
        tries.append(now())
        if len(tries) == 1:
            raise Retry(delay=600)

    await publisher.send("orders", "one", delay=300)
    assert (await run_until_idle(Poller(memory, "orders", handle))).retried == 1
    assert tries == pytest.approx([300, 900], abs=5)


async def test_run_until_idle_waits_for_handlers(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(120)

    await publisher.send("orders", "one")
    assert (await run_until_idle(Poller(memory, "orders", handle))).handled == 1


async def test_run_until_idle_waits_for_a_handler_whose_message_is_gone(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(120)

    await memory.create_queue("orders", attributes={"MessageRetentionPeriod": 60})
    await publisher.send("orders", "one")
    assert (await run_until_idle(Poller(memory, "orders", handle))).handled == 1


async def test_run_until_idle_sees_messages_through_to_the_dead_letter_queue(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    await memory.create_queue("orders", dead_letter_queue=True, max_receive_count=3)
    await publisher.send("orders", {"id": 1}, attributes={"tenant": "a"})
    statistics = await run_until_idle(Poller(memory, "orders", fail))
    assert statistics.failed == 3
    (dead,) = sent(memory, "orders_dlq")
    assert dead.json() == {"id": 1}
    assert dead.attributes == {"tenant": "a"}


async def test_run_until_idle_says_what_never_ends(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    await publisher.send("orders", "one")
    with pytest.raises(TimeoutError, match=r"after 100 s .* 'orders'.*'one' 1\d times"):
        await run_until_idle(Poller(memory, "orders", fail), timeout=100)


async def test_run_until_idle_ends_what_feeds_itself_without_an_hour_passing(
    memory: MemoryConnection, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "PATIENCE", 0.2)

    async def handle(message: Message) -> None:
        await publisher.send("orders", "again")

    await publisher.send("orders", "one")
    with pytest.raises(TimeoutError, match=r"after 0\.2 s .*, and [1-9]\d* messages were handled"):
        async with asyncio.timeout(60):  # which passes in about as many real seconds
            await run_until_idle(Poller(memory, "orders", handle))
    assert now() < 60


async def test_run_until_idle_says_which_handlers_never_end(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.Event().wait()

    await publisher.send("orders", "one")
    with pytest.raises(TimeoutError, match="1 handlers run"):
        await run_until_idle(Poller(memory, "orders", handle), timeout=100)


async def test_run_until_idle_fails_as_the_poller_does(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async def handle(message: Message) -> None:
        await memory.port.delete_queue(memory.server.url("orders"))
        raise Retry

    await publisher.send("orders", "one")
    with pytest.raises(QueueNotFound):
        await run_until_idle(Poller(memory, "orders", handle))


async def test_run_until_idle_works_through_any_port(server: MemoryServer) -> None:
    class Other(MemorySQS):
        """One of whose inside it knows nothing."""

    port = Other(server)
    async with Connection(lambda: entered(port)) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        await publisher.send("orders", "one", delay=30)
        assert (await run_until_idle(Poller(sqs, "orders", echo))).handled == 1
        # Nor does it wait for the end of a poll.
        assert now() < 35
    assert server.messages("orders") == []


# ------------------------------------------------------------------------------ answer


async def test_answer_replies_and_gives_what_was_asked(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async with answer(memory, "orders", {"done": 1}) as asked:
        assert (await publisher.request("orders", {"id": 1})).json() == {"done": 1}
        assert (await publisher.request("orders", 2, message_type="x")).json() == {"done": 1}
    assert [each.json() for each in asked] == [{"id": 1}, 2]


async def test_answer_raises(memory: MemoryConnection, publisher: Publisher) -> None:
    async with answer(memory, "orders", error=Reject("no", code="sold_out")) as asked:
        for _ in range(2):
            with pytest.raises(RemoteError, match="no") as caught:
                await publisher.request("orders", {"id": 1})
            assert caught.value.code == "sold_out"
    assert len(asked) == 2


async def test_answer_calls_a_function_of_the_message(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    def plain(message: Message) -> Any:
        if message.json() == 0:
            raise Reject("zero", code="zero")
        return message.json() + 1

    async def slow(message: Message) -> Any:
        await asyncio.sleep(1)
        return message.json() + 2

    async with answer(memory, "plain", plain), answer(memory, "slow", slow):
        assert (await publisher.request("plain", 1)).json() == 2
        assert (await publisher.request("slow", 1)).json() == 3
        with pytest.raises(RemoteError):
            await publisher.request("plain", 0)


async def test_answer_waits_for_no_poll_on_any_connection(server: MemoryServer) -> None:
    async with connect(server, strict_queues=False) as sqs:
        async with answer(sqs, "orders"):
            await asyncio.sleep(1)
        assert now() < 2


async def test_answer_takes_a_reply_or_an_error(memory: MemoryConnection) -> None:
    with pytest.raises(ValueError, match="not both"):
        async with answer(memory, "orders", 1, error=Reject("no")):
            pass


async def test_answer_is_no_longer_given_afterwards(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async with answer(memory, "orders") as asked:
        assert (await publisher.request("orders", 1)).json() is None
    await publisher.send("orders", 2)
    await asyncio.sleep(600)
    assert len(asked) == 1
    assert len(memory.server.messages("orders")) == 1


# -------------------------------------------------------------------------------- sent


async def test_sent_has_what_went_out_handled_or_not(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    assert sent(memory, "orders") == []
    message_id = await publisher.send(
        "orders", {"id": 1}, attributes={"n": 7}, message_type="created"
    )
    await run_until_idle(Poller(memory, "orders", echo))
    await publisher.send("orders", "two")
    first, second = sent(memory, "orders")
    assert first.json() == {"id": 1}
    assert first.attributes == {"n": 7}
    assert (first.message_id, first.message_type, first.receive_count) == (message_id, "created", 1)
    assert first.sent_at is not None
    assert second.body == "two"


async def test_sent_shows_requests_as_they_were_when_they_were_sent(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async with answer(memory, "orders", 1) as asked:
        await publisher.request("orders", "one", timeout=5)
    await asyncio.sleep(60)
    (request,) = sent(memory, "orders")
    assert request.correlation_id == asked[0].correlation_id is not None
    assert 4 < request.time_remaining() <= 5


async def test_sent_shows_messages_that_break_the_wire_format(memory: MemoryConnection) -> None:
    bench = MemorySQS(memory.server)
    url = await memory.queue_url("orders")
    broken = {"ReplyTo": {"DataType": "Binary", "BinaryValue": b"x"}}
    await bench.send(url, [SendEntry("one", broken)])
    assert [each.body for each in sent(memory, "orders")] == ["one"]


async def test_sent_of_a_rejected_message_has_it_among_the_dead_letters(
    memory: MemoryConnection, publisher: Publisher
) -> None:
    async def handle(message: Message) -> None:
        raise Reject("no", code="bad_order")

    await memory.create_queue("orders", dead_letter_queue=True)
    await publisher.send("orders", {"id": 1})
    await run_until_idle(Poller(memory, "orders", handle))
    assert [each.json() for each in sent(memory, "orders_dlq")] == [{"id": 1}]


async def test_sent_on_a_strict_connection_needs_the_queue(server: MemoryServer) -> None:
    async with connect(server) as sqs:
        with pytest.raises(KeyError, match="orders"):
            sent(sqs, "orders")


async def test_sent_needs_an_sqs_in_memory() -> None:
    with pytest.raises(ValueError, match="SQS in memory"):
        sent(Connection(lambda: entered(MemorySQS())), "orders")


# ----------------------------------------------------------------------------- message


async def test_message_is_one_as_a_handler_gets_it() -> None:
    reply_to = ReplyTo.parse("https://sqs.eu-west-1.amazonaws.com/123456789012/x#1")
    made = message({"id": 1}, attributes={"tenant": "a"}, message_type="t", reply_to=reply_to)
    assert (made.json(), made.attributes) == ({"id": 1}, {"tenant": "a"})
    assert (made.message_type, made.reply_to, made.receive_count) == ("t", reply_to, 1)
    assert message("as it is").body == "as it is"
    assert await echo(message([1])) == "[1]"
