"""`ReplyQueue`: the temporary queue, its receives, and who waits on it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    AccessDenied,
    Connection,
    Publisher,
    QueueError,
    Reply,
    ReplyQueue,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    Throttled,
)
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import DEFAULT_PREFIX, is_own_form, queue_name_of
from sqs_orchestrator.requester.live_queue import YOUNG
from sqs_orchestrator.requester.reply_queue import CLOSE_PATIENCE, CREATION_PATIENCE
from sqs_orchestrator.sqs.port import Received, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect
from tests.shell.requesters import Bench, connected, echo, publishing, working
from tests.shell.workers import now, until

UNREACHABLE = QueueError("unreachable", code="EndpointConnectionError", transient=True)


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    """A publisher whose reply queue is made, and a queue `orders`."""
    async with publishing(server, ready=True) as made:
        yield made


async def ended(task: asyncio.Task[Any]) -> BaseException:
    """What *task* ends with, an error."""
    await asyncio.wait({task})
    error = task.exception()
    assert error is not None
    return error


async def asked(bench: Bench, count: int = 1, **settings: Any) -> list[asyncio.Task[Any]]:
    """Requests that are on their way, and wait for their replies."""
    tasks = [bench.task(bench.publisher.request("orders", n, **settings)) for n in range(count)]
    await asyncio.sleep(0.5)
    return tasks


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": "x" * 49}, "prefix"),
        ({"prefix": "no spaces"}, "prefix"),
        ({"heartbeat_interval": 0}, "heartbeat_interval"),
        ({"heartbeat_interval": math.inf}, "heartbeat_interval"),
        ({"heartbeat_interval": math.nan}, "heartbeat_interval"),
        ({"idle_retention": 179.9}, "three heartbeats"),
        ({"idle_retention": math.inf}, "three heartbeats"),
        ({"heartbeat_interval": 101, "idle_retention": 300}, "three heartbeats"),
        ({"message_retention": 59}, "message_retention"),
        ({"message_retention": 1_209_601}, "message_retention"),
        ({"message_retention": 299.5}, "whole seconds only: pass 299 or 300"),
        ({"sweep_interval": 0}, "sweep_interval"),
        ({"sweep_interval": math.inf}, "sweep_interval"),
        ({"prefix": 5}, "prefix"),
        ({"legacy": "no"}, "legacy is True or False"),
        ({"attributes": "x"}, "attributes is a dict"),
        ({"attributes": {"KmsMasterKeyId": None}}, "KmsMasterKeyId"),
        ({"tags": {"team": 5}}, "team"),
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ReplyQueue(connect(), **settings)


def test_reply_queue_is_made_over_a_connection() -> None:
    with pytest.raises(ValueError, match="sqs is the Connection that"):
        ReplyQueue("x")  # type: ignore[arg-type]


def test_read_timeout_too_short_for_any_poll_is_refused() -> None:
    with pytest.raises(ValueError, match="read timeout"):
        ReplyQueue(Connection(connect, read_timeout=2.5))  # type: ignore[arg-type]


async def test_polls_end_before_the_read_timeout(server: MemoryServer) -> None:
    waits: list[int] = []

    class Watched(MemorySQS):
        async def receive(self, queue_url: str, **options: Any) -> list[Received]:
            waits.append(options["wait_time"])
            return await super().receive(queue_url, **options)

    server.create(server.account, "orders", {}, {})
    for read_timeout in (10.0, 60.0):
        inner = connect(port=Watched(server))
        inner.read_timeout = read_timeout
        async with inner as sqs, Publisher(sqs) as publisher:
            with pytest.raises(ReplyTimeout):
                await publisher.request("orders", "a", timeout=1)
    assert waits == [8, 20]


# -------------------------------------------------------------------------- birth


async def test_queue_is_made_as_the_wire_format_has_it(server: MemoryServer) -> None:
    async with (
        connected(server) as bench,
        ReplyQueue(
            bench.sqs, attributes={"KmsMasterKeyId": "alias/a"}, tags={"team": "b"}
        ) as replies,
    ):
        await bench.sqs.queue_url("orders")
        await asyncio.sleep(100)
        made = server.now()
        await replies.ready()
        assert replies.url is not None
        name = queue_name_of(replies.url)
        assert is_own_form(DEFAULT_PREFIX, name)
        queue = server.queue(name)
        assert not queue.fifo
        assert queue.attributes["MessageRetentionPeriod"] == "300"
        assert queue.attributes["VisibilityTimeout"] == "5"
        assert queue.attributes["KmsMasterKeyId"] == "alias/a"
        assert "Policy" not in queue.attributes
        heartbeat = queue.tags.pop("__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp")
        assert made - 1.1 <= int(heartbeat) / 1000 <= made
        assert queue.tags == {
            "__IdleQueueRetentionPeriodSeconds": "300",
            "sqs_orchestrator.sweeping": "1",
            "team": "b",
        }
    assert server.queues == ["orders"]


async def test_queue_that_does_not_sweep_says_so(server: MemoryServer) -> None:
    async with connected(server) as bench, ReplyQueue(bench.sqs, sweep_interval=None) as replies:
        await replies.ready()
        assert "sqs_orchestrator.sweeping" not in server.queue(str(replies.url)).tags


async def test_legacy_queue_has_the_older_heartbeat_too(server: MemoryServer) -> None:
    async with connected(server) as bench:
        replies = ReplyQueue(bench.sqs, prefix="reply_queue_", legacy=True)
        async with replies, Publisher(bench.sqs, reply_queue=replies) as publisher:

            def by_message_id(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
                assert request.attributes["ReplyTo"]["StringValue"] == replies.url
                attribute = request.attributes["RequestMessageId"]
                return [SendEntry("old", {"RequestMessageId": attribute})]

            async with working(server, answer=by_message_id):
                reply = await publisher.request("orders", "a")
            assert reply.body == "old"
            assert abs(int(server.queue(str(replies.url)).tags["heartbeat"]) - server.now()) < 2


async def test_queue_asked_for_by_many_is_made_once(server: MemoryServer) -> None:
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        await asyncio.gather(*(replies.ready() for _ in range(100)))
        assert server.calls["CreateQueue"] == 1
        assert replies.statistics().created == 1


async def test_each_queue_has_a_name_of_its_own(server: MemoryServer) -> None:
    names: set[str | None] = set()
    for _ in range(3):
        async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
            await replies.ready()
            names.add(replies.url)
    assert len(names) == 3


async def test_clock_is_asked_for_before_the_first_tag(server: MemoryServer) -> None:
    server.epoch = 5_000_000_000.0  # nothing like this machine's
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        assert not bench.faults.clock.known
        await replies.ready()
        assert [call.operation for call in server.log][:2] == ["GetQueueUrl", "CreateQueue"]
        tags = server.queue(str(replies.url)).tags
        heartbeat = tags["__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"]
        assert abs(int(heartbeat) / 1000 - server.now()) < 2


async def test_clock_that_is_known_is_not_asked_for(server: MemoryServer) -> None:
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        await bench.sqs.queue_url("orders")
        server.calls.clear()
        await replies.ready()
        assert server.calls["GetQueueUrl"] == 0


async def test_clock_is_learned_from_a_refusal_too(server: MemoryServer) -> None:
    server.faults.fail("GetQueueUrl", AccessDenied)
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        await replies.ready()
        assert any("Heartbeat" in tag for tag in server.queue(str(replies.url)).tags)


async def test_heartbeat_of_a_creation_tried_for_long_is_not_old(server: MemoryServer) -> None:
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies:
        await bench.sqs.queue_url("orders")
        server.faults.fail("CreateQueue", Throttled, times=6)
        await replies.ready()
        made = server.queue(str(replies.url)).created_at
        assert made > 3
        tags = server.queue(str(replies.url)).tags
        heartbeat = tags["__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"]
        assert int(heartbeat) / 1000 > server.epoch + made - 1.1


@pytest.mark.parametrize("kind", [AccessDenied, Throttled])
async def test_failed_creation_reaches_all_and_the_next_starts_anew(
    server: MemoryServer, kind: type[QueueError]
) -> None:
    async with publishing(server) as bench, working(server):
        await bench.sqs.queue_url("orders")
        server.faults.fail("CreateQueue", kind, times=None)
        requests = await asked(bench, 5, timeout=100)
        errors = [await ended(request) for request in requests]
        assert [type(error) for error in errors] == [kind] * 5
        assert len({id(error) for error in errors}) == 5
        server.faults.clear()
        assert isinstance(await bench.publisher.request("orders", "a"), Reply)


async def test_queue_that_is_not_open_says_so(server: MemoryServer) -> None:
    async with connected(server) as bench:
        replies = ReplyQueue(bench.sqs)
        with pytest.raises(RuntimeError, match="not open"):
            await replies.ready()
        assert replies.url is None
        assert "not created" in repr(replies)
        async with Publisher(bench.sqs, reply_queue=replies) as publisher:
            with pytest.raises(RuntimeError, match="not open"):
                await publisher.request("orders", "a")
            async with replies:
                await replies.ready()
                assert str(replies.url) in repr(replies)
            with pytest.raises(RuntimeError, match="not open any more: it was closed"):
                await publisher.request("orders", "a")
            await publisher.send("orders", "needs no reply queue")
        with pytest.raises(RuntimeError, match="entered before"):
            await replies.__aenter__()


# ----------------------------------------------------------------------- receives


async def test_queue_is_polled_only_while_someone_waits(bench: Bench) -> None:
    await asyncio.sleep(100)
    assert bench.server.calls["ReceiveMessage"] == 0
    [request] = await asked(bench, timeout=50)
    await asyncio.sleep(0.1)
    assert bench.server.calls["ReceiveMessage"] == 1
    await ended(request)
    await asyncio.sleep(20)
    assert bench.server.calls["ReceiveMessage"] == 3
    await asyncio.sleep(1000)
    assert bench.server.calls["ReceiveMessage"] == 3


async def test_poll_in_flight_is_kept_for_the_next_request(bench: Bench) -> None:
    for _ in range(10):
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders", "a", timeout=1)
    assert bench.server.calls["ReceiveMessage"] == 1


async def test_receivers_multiply_under_load_and_retire(bench: Bench) -> None:
    requests = await asked(bench, 500, timeout=100)
    bench.faults.delay("ReceiveMessage", 0.5, answer=True)
    async with working(bench.server):
        await until(lambda: bench.live.receivers.in_flight == 8)
        await asyncio.wait(requests)
        [last] = await asked(bench, timeout=10)
        assert isinstance(await last, Reply)
        await asyncio.sleep(100)
    assert bench.live.receivers.in_flight == 0
    assert bench.replies.statistics().replies == 501


async def test_late_duplicate_unknown_and_forged_replies_are_deleted_and_counted(
    bench: Bench,
) -> None:
    address = ReplyAddress(bench)
    bench.server.create(bench.server.account, "elsewhere", {}, {})

    def twice(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        return echo(request, reply_to) * 2

    with pytest.raises(ReplyTimeout):
        await bench.publisher.request("orders", "late", timeout=1)
    await address.send("unknown", id="nobody's")
    await address.send("no id at all")
    await address.send("empty id", raw={QUEUE_NAME: {"DataType": "String", "StringValue": " "}})
    await address.send("binary", raw={QUEUE_NAME: {"DataType": "Binary", "BinaryValue": b"id"}})
    await address.send("long", id="x" * 100_000)
    await address.send(
        "odd",
        raw={
            "ReplyError": {"DataType": "Binary", "BinaryValue": b"\xff"},
            "ReplySequence": {"DataType": "Number", "StringValue": "1e120"},
        },
    )
    async with working(bench.server, answer=twice):
        reply = await bench.publisher.request("orders", "b")
        assert reply.body == "b"
        again = await bench.publisher.request("orders", "c")
        assert again.body == "c"
        # Whatever still lies there is fetched while somebody waits.
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request(bench.server.url("elsewhere"), "d", timeout=6)
    await asyncio.sleep(5)
    assert bench.server.messages(bench.live.url) == []
    statistics = bench.replies.statistics()
    # Six of ours, the late one twice, and each of the two others once more.
    assert statistics.unmatched == 10
    assert statistics.replies == 2
    bench.assert_nothing_pends()


QUEUE_NAME = "__AmazonSQSVirtualQueuesClient.QueueName"


class ReplyAddress:
    """Somebody who knows the reply queue, and writes what they like to it."""

    def __init__(self, bench: Bench) -> None:
        self.client = MemorySQS(bench.server)
        self.url = bench.live.url

    async def send(
        self,
        body: str,
        id: str | None = None,  # noqa: A002
        raw: dict[str, Any] | None = None,
    ) -> None:
        attributes = dict(raw or {})
        if id is not None:
            attributes[QUEUE_NAME] = {"DataType": "String", "StringValue": id}
        [result] = await self.client.send(self.url, [SendEntry(body, attributes)])
        assert isinstance(result, str), result


async def test_waiter_that_stumbles_harms_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy:
        correlation_id = "clumsy"

        def resolve(self, head: wire.ReplyHead, received: Received) -> None:
            raise ZeroDivisionError("a bug")

    clumsy: Any = Clumsy()
    bench.live.register(clumsy)
    await ReplyAddress(bench).send("a", id="clumsy")
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "b")).body == "b"
    assert "a bug" in caplog.text
    await asyncio.sleep(3)
    assert not bench.server.messages(bench.live.url)


async def test_reply_delivered_twice_by_sqs_is_harmless(bench: Bench) -> None:
    bench.server.duplicate(bench.live.url, 100)
    async with working(bench.server):
        replies = await asyncio.gather(*(bench.publisher.request("orders", n) for n in range(100)))
    assert [reply.json() for reply in replies] == list(range(100))


async def test_replies_that_cannot_be_deleted_are_reported_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults.fail("DeleteMessageBatch", AccessDenied, times=None)
    async with working(bench.server):
        for number in range(30):
            await bench.publisher.request("orders", number)
            await asyncio.sleep(0.5)
    warnings = [record for record in caplog.records if "deleted" in record.message]
    assert len(warnings) == 1
    # They come again, and nobody waits for them any more.
    statistics = bench.replies.statistics()
    assert statistics.replies == 30
    assert statistics.unmatched > 0


# ----------------------------------------------------------------------- failures


@pytest.mark.parametrize("error", [Throttled, QueueError, UNREACHABLE])
async def test_passing_errors_of_receives_are_waited_out(bench: Bench, error: Any) -> None:
    bench.faults.fail("ReceiveMessage", error, times=6)
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "a", timeout=60)).body == "a"
        assert 2 < now() < 15
        began = now()
        await bench.publisher.request("orders", "b", timeout=60)
        assert now() < began + 0.2
        bench.faults.fail("ReceiveMessage", error, times=1)
        await bench.publisher.request("orders", "c", timeout=60)
        assert now() < began + 0.5, "a new failure is a first one"
    assert bench.replies.statistics().consecutive_failures == 0


@pytest.mark.parametrize("error", [Throttled, UNREACHABLE])
async def test_receives_that_only_fail_make_few_calls(bench: Bench, error: Any) -> None:
    bench.faults.fail("ReceiveMessage", error, times=None)
    await asked(bench, 100, timeout=math.inf)
    await asyncio.sleep(100)
    assert bench.server.calls["ReceiveMessage"] < 40
    assert bench.replies.statistics().consecutive_failures > 10


async def test_receives_that_fail_together_pause_once(bench: Bench) -> None:
    requests = await asked(bench, 500, timeout=100)
    bench.faults.delay("ReceiveMessage", 0.5, answer=True)
    async with working(bench.server):
        await until(lambda: bench.live.receivers.in_flight == 8)
        bench.faults.clear()
        bench.faults.fail("ReceiveMessage", Throttled, times=8)
        before = len([request for request in requests if request.done()])
        await asyncio.sleep(2)
        assert len([request for request in requests if request.done()]) > before
        await asyncio.wait(requests, timeout=10)
    assert all(request.done() for request in requests)


async def test_fatal_error_of_a_receive_fails_those_who_wait_at_once(bench: Bench) -> None:
    requests = [bench.task(bench.publisher.request("orders", n, timeout=1000)) for n in range(100)]
    await asyncio.sleep(0)
    bench.faults.fail("ReceiveMessage", AccessDenied, times=1)
    errors = [await ended(request) for request in requests]
    assert now() < 1
    assert all(type(error) is AccessDenied for error in errors)
    assert len({id(error) for error in errors}) == 100
    assert all(error.queue == bench.live.url for error in errors if isinstance(error, QueueError))
    bench.assert_nothing_pends()
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "b")).body == "b"


async def test_requester_whose_receives_are_denied_makes_few_calls(bench: Bench) -> None:
    bench.faults.fail("ReceiveMessage", AccessDenied, times=None)
    with pytest.raises(AccessDenied):
        await bench.publisher.request("orders", "a")
    await asyncio.sleep(100)
    assert bench.faults.calls["ReceiveMessage"] == 1


async def test_unexpected_error_of_a_receive_reaches_those_who_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble(*arguments: Any, **options: Any) -> list[Received]:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(bench.faults, "receive", stumble)
        with pytest.raises(QueueError, match="a bug"):
            await bench.publisher.request("orders", "a")
    assert "a bug" in caplog.text
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "b")).body == "b"


# ----------------------------------------------------------------------- the loss


async def test_lost_queue_fails_those_who_wait_and_the_next_makes_a_new_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.sleep(YOUNG + 1)
    old = bench.live.url
    requests = await asked(bench, 50, timeout=1000)
    began = now()
    bench.server.drop(old)
    errors = [await ended(request) for request in requests]
    assert now() < began + 0.1
    for error in errors:
        assert isinstance(error, ReplyQueueLost)
        assert error.queue == "orders"
        assert error.correlation_id
    assert len({id(error) for error in errors}) == 50
    bench.assert_nothing_pends()
    assert bench.replies.url is None
    assert "was deleted under us" in caplog.text
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "a")).body == "a"
    assert bench.live.url != old
    statistics = bench.replies.statistics()
    assert (statistics.created, statistics.lost) == (2, 1)
    assert len(bench.reply_queues) == 1


async def test_loss_is_noticed_by_the_heartbeat_of_an_idle_queue(bench: Bench) -> None:
    bench.server.drop(bench.live.url)
    await asyncio.sleep(70)
    assert bench.replies.url is None
    async with working(bench.server):
        assert (await bench.publisher.request("orders", "a")).body == "a"


async def test_queue_that_is_lost_is_looked_after_no_longer(bench: Bench) -> None:
    await asyncio.sleep(400)
    before = bench.replies.statistics()
    assert before.heartbeats
    url = bench.live.url
    bench.server.drop(url)
    [request] = await asked(bench)
    assert isinstance(await ended(request), ReplyQueueLost)
    assert bench.replies.statistics().heartbeats == before.heartbeats, "they are still counted"
    await bench.publisher.ready()
    bench.server.log.clear()
    await asyncio.sleep(1000)
    assert not [call for call in bench.server.log if queue_name_of(url) in str(call.queue)]
    assert bench.replies.statistics().heartbeats > before.heartbeats


async def test_queue_that_is_too_young_is_waited_for(server: MemoryServer) -> None:
    server.create(server.account, "orders", {}, {})
    await asyncio.sleep(2)
    server.creation_lag = 1.0
    async with publishing(server) as bench, working(server, delay=2):
        assert (await bench.publisher.request("orders", "a", timeout=10)).body == "a"
        assert bench.replies.statistics().lost == 0
        assert server.calls["ReceiveMessage"] < 10


async def test_young_queue_that_stays_away_is_lost(bench: Bench) -> None:
    bench.server.drop(bench.live.url)
    born = bench.live.born
    [request] = await asked(bench, timeout=1000)
    assert isinstance(await ended(request), ReplyQueueLost)
    assert born + YOUNG <= now() <= born + YOUNG + 5


# ------------------------------------------------------------------------- sharing


async def test_publishers_share_a_queue_that_outlives_them(server: MemoryServer) -> None:
    async with connected(server) as bench, ReplyQueue(bench.sqs) as replies, working(server):
        async with Publisher(bench.sqs, reply_queue=replies) as one:
            async with Publisher(bench.sqs, reply_queue=replies) as other:
                await asyncio.gather(one.request("orders", 1), other.request("orders", 2))
                assert server.calls["CreateQueue"] == 1
                waiting = asyncio.create_task(other.request("orders", "a"))
                await asyncio.sleep(0)
            assert isinstance(await ended(waiting), ReplyQueueClosed)
            assert (await one.request("orders", 3)).json() == 3
        assert replies.url is not None
        assert replies.statistics().pending == 0
        assert replies.url in map(server.url, server.queues)
    assert server.queues == ["orders"]


async def test_closing_a_shared_queue_fails_the_requests_of_all(server: MemoryServer) -> None:
    async with connected(server) as bench, AsyncExitStack() as stack:
        replies = ReplyQueue(bench.sqs)
        publishers = [
            await stack.enter_async_context(Publisher(bench.sqs, reply_queue=replies))
            for _ in range(3)
        ]
        async with replies:
            requests = [
                asyncio.create_task(publisher.request("orders", "a")) for publisher in publishers
            ]
            await asyncio.sleep(1)
            began = now()
        for request in requests:
            assert isinstance(await ended(request), ReplyQueueClosed)
        assert now() < began + 0.1


async def test_request_for_a_queue_that_closes_while_it_is_made_fails_at_once(
    server: MemoryServer,
) -> None:
    async with connected(server) as bench:
        replies = ReplyQueue(bench.sqs)
        await replies.__aenter__()
        async with Publisher(bench.sqs, reply_queue=replies) as publisher:
            gate = bench.faults.hold("CreateQueue")
            request = asyncio.create_task(publisher.request("orders", "a"))
            await gate.arrived()
            began = now()
            leaving = asyncio.create_task(replies.aclose())
            assert isinstance(await ended(request), ReplyQueueClosed)
            assert now() == began
            gate.release()
            await leaving
    assert server.queues == ["orders"]


@pytest.mark.parametrize("turns", range(8))
async def test_request_and_closing_race_for_a_new_queue(server: MemoryServer, turns: int) -> None:
    """Whichever of the two hears first that the queue is made, no request hangs."""
    async with connected(server) as bench:
        replies = ReplyQueue(bench.sqs)
        await replies.__aenter__()
        async with Publisher(bench.sqs, reply_queue=replies) as publisher:
            gate = bench.faults.hold("CreateQueue", answer=True)
            request = asyncio.create_task(publisher.request("orders", "a", timeout=1000))
            await gate.arrived()
            gate.release()
            await asyncio.sleep(0.01)  # half a round trip: the answer comes in this turn
            for _ in range(turns):
                await asyncio.sleep(0)
            await replies.aclose()
            assert isinstance(await ended(request), (ReplyQueueClosed, RuntimeError))
            assert now() < 10
    assert server.queues == ["orders"]


async def test_request_for_a_queue_that_ended_already_hears_so(bench: Bench) -> None:
    live = bench.live
    await asyncio.sleep(YOUNG)
    bench.replies._lose(live)
    heard: list[Any] = []

    class Late:
        correlation_id = "late"

        def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
            heard.append(kind)

    late: Any = Late()
    live.register(late)
    assert heard == [ReplyQueueLost]
    assert not live.waiters
    bench.server.drop(live.url)


# ------------------------------------------------------------------------ deletion


async def test_deletion_is_tried_again_while_errors_pass(server: MemoryServer) -> None:
    async with publishing(server, ready=True):
        server.faults.fail("DeleteQueue", Throttled, times=4)
    assert server.queues == ["orders"]


@pytest.mark.parametrize("kind", [AccessDenied, Throttled])
async def test_queue_that_cannot_be_deleted_is_left_with_a_warning(
    server: MemoryServer, kind: type[QueueError], caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(server, ready=True):
        server.faults.fail("DeleteQueue", kind, times=None)
        began = now()
    assert now() <= began + CLOSE_PATIENCE
    assert "left to the sweepers" in caplog.text
    assert len(server.queues) == 2


async def test_deletion_that_hangs_is_given_up_with_a_warning(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(server, ready=True):
        server.faults.hold("DeleteQueue")
        began = now()
    assert now() == began + CLOSE_PATIENCE
    assert "left to the sweepers" in caplog.text


async def test_queue_that_is_too_young_is_deleted_all_the_same(server: MemoryServer) -> None:
    server.creation_lag = 1.0
    async with connected(server) as bench:
        await asyncio.sleep(2)
        async with ReplyQueue(bench.sqs) as replies:
            await replies.ready()
    assert server.queues == ["orders"]


async def test_queue_that_is_gone_already_costs_no_wait(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(server, ready=True) as bench:
        await asyncio.sleep(5)
        server.drop(bench.live.url)
        began = now()
    assert now() < began + 0.1
    assert not caplog.records


async def test_queue_whose_creation_was_never_confirmed_is_deleted(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        server.faults.drop_answer("CreateQueue", times=None)
        with pytest.raises(QueueError):
            await bench.publisher.ready()
        with pytest.raises(QueueError):
            await bench.publisher.ready()
        assert len(bench.reply_queues) == 2
        server.faults.clear()
    assert server.queues == ["orders"]


async def test_leaving_costs_one_call(server: MemoryServer) -> None:
    async with publishing(server, ready=True):
        pass
    assert server.calls == {"DeleteQueue": 1}


async def test_creation_under_way_is_awaited_and_deleted(server: MemoryServer) -> None:
    """Cancelling it would not do: SQS may carry out what it was asked for all the same."""
    async with publishing(server) as bench:
        gate = server.faults.hold("CreateQueue")
        making = bench.task(bench.publisher.ready())
        await gate.arrived()
        asyncio.get_running_loop().call_later(2, gate.release)
    assert isinstance(await ended(making), ReplyQueueClosed)
    assert (server.calls["CreateQueue"], server.calls["DeleteQueue"]) == (1, 1)
    assert server.queues == ["orders"]


async def test_refused_creation_costs_nothing_when_leaving(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        server.faults.fail("CreateQueue", AccessDenied)
        with pytest.raises(AccessDenied):
            await bench.publisher.ready()
        server.calls.clear()
    assert not server.calls


async def test_creation_that_hangs_is_given_up_and_deleted(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        gate = server.faults.hold("CreateQueue", answer=True)
        making = bench.task(bench.publisher.ready())
        await gate.arrived()
        began = now()
    assert now() <= began + CREATION_PATIENCE + CLOSE_PATIENCE
    assert isinstance(await ended(making), ReplyQueueClosed)
    assert server.queues == ["orders"]


async def test_leaving_while_receives_fail_takes_no_time(server: MemoryServer) -> None:
    async with publishing(server, ready=True) as bench:
        bench.faults.fail("ReceiveMessage", Throttled, times=None)
        [request] = await asked(bench, timeout=1000)
        await asyncio.sleep(50)
        began = now()
    assert now() < began + 0.1
    assert isinstance(await ended(request), ReplyQueueClosed)


async def test_failure_in_the_background_fails_those_who_wait(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble() -> None:
        raise ZeroDivisionError("a bug")

    async with publishing(server, ready=True) as bench:
        [request] = await asked(bench, timeout=1000)
        began = now()
        bench.replies._owner.spawn(stumble)
        assert isinstance(await ended(request), ReplyQueueClosed)
        assert now() < began + 0.1
        await bench.replies._owner.wait()
        assert server.queues == ["orders"]
        await bench.publisher.send("orders", "a")
    assert "a bug" in caplog.text
