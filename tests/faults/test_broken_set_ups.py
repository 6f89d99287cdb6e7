"""What cannot work: a queue that is not there, an endpoint out of reach, credentials and
permissions that are missing. It is said at once and by name, and nothing spins."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiobotocore.config import AioConfig

import sqs_orchestrator as so
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import new_reply_queue_name
from sqs_orchestrator.sqs.port import SendEntry
from tests.servers import CREDENTIALS

from .conftest import WHOLE, Connect, cases
from .proxy import PASSING, Fault, FaultProxy
from .rounds import DONE, assert_no_reply_queue, becomes_empty

pytestmark = pytest.mark.server

AT_ONCE = 5.0
"""Seconds within which an error is one that came at once: far below any timeout here."""

CREDENTIALS_BAD = [
    (Fault.EXPIRED, "expired: renew"),
    (Fault.UNKNOWN_KEY, "check the access key"),
    (Fault.WRONG_SECRET, "check the access key, the secret"),
]


def unreachable() -> so.Connection:
    """A connection to a port of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return so.connect(endpoint_url=f"http://127.0.0.1:{port}", **CREDENTIALS)


async def echo(message: so.Message) -> Any:
    return message.json()


@contextlib.asynccontextmanager
async def worker(
    sqs: so.Connection, queue: str, prefix: str, handler: Any = echo, **options: Any
) -> AsyncIterator[so.Poller]:
    options = {"wait_time": 1, "visibility_timeout": 2, "drain_timeout": 3, **options}
    poller = so.Poller(sqs, queue, handler, reply_queue_prefixes=(prefix,), **options)
    async with poller:
        yield poller


def requester(
    sqs: so.Connection, prefix: str, **options: Any
) -> contextlib.AbstractAsyncContextManager[tuple[so.Publisher, so.ReplyQueue]]:
    @contextlib.asynccontextmanager
    async def open_both() -> AsyncIterator[tuple[so.Publisher, so.ReplyQueue]]:
        async with (
            so.ReplyQueue(sqs, prefix=prefix, **options) as replies,
            so.Publisher(sqs, reply_queue=replies) as publisher,
        ):
            yield publisher, replies

    return open_both()


# ---------------------------------------------------------------------- requesters


@pytest.mark.parametrize("by", ["name", "url"])
async def test_request_to_a_missing_queue_names_it(
    connect: Connect, direct: so.Connection, queue: str, prefix: str, by: str
) -> None:
    missing = "no-such-queue"
    if by == "url":
        missing = (await direct.queue_url(queue)).replace(queue, missing)
    async with connect() as sqs, requester(sqs, prefix) as (publisher, _):
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.QueueNotFound, match=r"no-such-queue.*check its name") as caught:
                await publisher.request(missing, 1, timeout=60)
            assert caught.value.queue == missing
            with pytest.raises(so.QueueNotFound, match="no-such-queue"):
                await publisher.send(missing, 1)
    await assert_no_reply_queue(direct, prefix)


async def test_request_to_an_endpoint_out_of_reach_names_it(prefix: str) -> None:
    async with unreachable() as sqs, requester(sqs, prefix) as (publisher, _):
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.QueueError, match=r"endpoint http://127\.0\.0\.1:\d+/? is unre"):
                await publisher.request("orders", 1, timeout=60)
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.QueueError, match=r"unreachable.*check the network"):
                await publisher.send("orders", 1)


@pytest.mark.parametrize(("fault", "advice"), CREDENTIALS_BAD, ids=lambda value: str(value)[:13])
async def test_request_with_bad_credentials_says_what_to_do(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, fault: Fault, advice: str
) -> None:
    proxy.inject(fault)
    async with connect() as sqs, requester(sqs, prefix) as (publisher, _):
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.AccessDenied, match=advice):
                await publisher.request(queue, 1, timeout=60)
            with pytest.raises(so.AccessDenied, match=advice):
                await publisher.send(queue, 1)
            with pytest.raises(so.AccessDenied, match=advice):
                await publisher.ready()
    assert proxy.total() <= 5


async def test_requests_fail_when_credentials_expire_and_go_on_when_they_are_renewed(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, queue: str, prefix: str
) -> None:
    async with connect() as sqs, requester(sqs, prefix) as (publisher, _):
        async with connect() as working, worker(working, queue, prefix):
            assert (await publisher.request(queue, 1)).json() == 1
        waiting = asyncio.create_task(publisher.request(queue, 2, timeout=60))
        async with asyncio.timeout(DONE):
            while len(proxy.accepted) < 3:  # noqa: ASYNC110 - request, reply, request
                await asyncio.sleep(0.02)
        proxy.inject(Fault.EXPIRED)
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.AccessDenied, match="renew"):
                await publisher.request(queue, 3, timeout=60)
        # That the poll which is under way fails too needs another request to arrive.
        proxy.heal()
        async with connect() as working, worker(working, queue, prefix):
            assert (await publisher.request(queue, 4)).json() == 4
            with contextlib.suppress(so.AccessDenied):
                assert (await waiting).json() == 2
            await becomes_empty(direct, queue)
    await assert_no_reply_queue(direct, prefix)


@pytest.mark.parametrize(
    ("operation", "permission"),
    cases(
        [
            ("GetQueueUrl", "sqs:GetQueueUrl"),
            ("CreateQueue", r"sqs:CreateQueue \(and sqs:TagQueue"),
            ("SendMessageBatch", "sqs:SendMessage "),
            ("ReceiveMessage", "sqs:ReceiveMessage"),
        ],
        ("SendMessageBatch", "sqs:SendMessage "),
        ("ReceiveMessage", "sqs:ReceiveMessage"),
    ),
)
async def test_request_names_the_permission_that_it_lacks(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    operation: str,
    permission: str,
) -> None:
    proxy.inject(Fault.DENIED, on=[operation])
    async with connect() as sqs, requester(sqs, prefix) as (publisher, _):
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(so.AccessDenied, match=f"the permission {permission}") as caught:
                await publisher.request(queue, 1, timeout=60)
            assert caught.value.operation == operation
        proxy.heal()
        async with connect() as working, worker(working, queue, prefix):
            assert (await publisher.request(queue, 2)).json() == 2
    await assert_no_reply_queue(direct, prefix)


async def test_requests_go_on_without_permission_to_delete_replies(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str
) -> None:
    proxy.inject(Fault.DENIED, on=["DeleteMessageBatch"], queue=prefix)
    async with (
        connect() as sqs,
        requester(sqs, prefix) as (publisher, replies),
        connect() as working,
        worker(working, queue, prefix),
    ):
        for number in range(20):
            assert (await publisher.request(queue, number)).json() == number
        assert replies.statistics().consecutive_failures == 0


async def an_idle_queue(sqs: so.Connection, prefix: str) -> str:
    """A reply queue whose owner died long ago."""
    tags = wire.reply_queue_tags(now=1.0, retention=1.0, sweeping=True, legacy=False)
    return await sqs.port.create_queue(new_reply_queue_name(prefix), {}, tags)


@pytest.mark.parametrize(
    "operation",
    cases(["ListQueues", "ListQueueTags", "DeleteQueue", "TagQueue"], "DeleteQueue"),
)
async def test_requests_go_on_without_permission_to_sweep_and_one_warning_says_so(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    # Else it would take minutes until what was refused is tried again.
    monkeypatch.setattr("sqs_orchestrator.requester.sweeper.RARELY", 1)
    idle = await an_idle_queue(direct, prefix)
    # Its own queue it may delete.
    where = idle.rpartition("/")[2] if operation == "DeleteQueue" else ""
    proxy.inject(Fault.DENIED, on=[operation], queue=where)
    options = {"sweep_interval": 0.05, "heartbeat_interval": 0.3, "idle_retention": 60.0}
    async with (
        connect() as sqs,
        requester(sqs, prefix, **options) as (publisher, replies),
        connect() as working,
        worker(working, queue, prefix),
    ):
        number = 0
        async with asyncio.timeout(DONE):
            while number < 10 or proxy.injected[Fault.DENIED] < (3 if WHOLE else 2):
                number += 1
                assert (await publisher.request(queue, number)).json() == number
                await asyncio.sleep(0.05)
        statistics = replies.statistics()
        assert statistics.sweep_failures + statistics.heartbeat_failures >= 1
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("sqs_orchestrator")
    ]
    assert len(warnings) == 1, warnings
    assert f"sqs:{operation}" in warnings[0]
    if operation != "TagQueue":
        await direct.port.delete_queue(idle)
    await assert_no_reply_queue(direct, prefix)


# ------------------------------------------------------------------------- workers


async def run_until_it_fails(sqs: so.Connection, queue: str) -> so.Poller:
    poller = so.Poller(sqs, queue, echo, wait_time=1, drain_timeout=3)
    async with asyncio.timeout(DONE):
        await poller.run(handle_signals=False)
    return poller


@pytest.mark.parametrize("by", cases(["name", "url"], "name"))
async def test_worker_on_a_missing_queue_raises(
    connect: Connect, direct: so.Connection, queue: str, by: str
) -> None:
    missing = "no-such-queue"
    if by == "url":
        missing = (await direct.queue_url(queue)).replace(queue, missing)
    async with connect() as sqs:
        with pytest.raises(so.QueueNotFound, match=r"no-such-queue.*check its name"):
            await run_until_it_fails(sqs, missing)


async def test_worker_waits_for_an_endpoint_that_is_not_up_yet(
    server_url: str, direct: so.Connection, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = urlsplit(server_url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, outward = await asyncio.open_connection(upstream.hostname, upstream.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
            sink.close()

        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, outward))
            both.create_task(pump(onward, writer))

    await direct.port.send(await direct.queue_url(queue), [SendEntry("1")])
    handled = asyncio.Event()

    async def handle(message: so.Message) -> None:
        handled.set()

    with socket.socket() as listener:
        # Bound and not listening: who connects is refused, and nobody else gets the port.
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with so.connect(endpoint_url=url, **CREDENTIALS) as sqs:
            poller = so.Poller(sqs, queue, handle, wait_time=1, drain_timeout=3)
            running = asyncio.create_task(poller.run(handle_signals=False))
            async with asyncio.timeout(DONE):
                warnings: list[logging.LogRecord] = []
                while not warnings:
                    await asyncio.sleep(0.05)
                    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
                assert poller.statistics().consecutive_failures
                [warning] = warnings
                assert f"{url}/ is unreachable" in warning.getMessage()
                server = await asyncio.start_server(relay, sock=listener)
                await handled.wait()
                poller.stop()
                await running
            assert poller.statistics().consecutive_failures == 0
        # Not before: newer Pythons wait for its connections then.
        server.close()
        await server.wait_closed()


async def test_worker_raises_when_its_queue_is_deleted(
    proxy: FaultProxy, connect: Connect, queue: str
) -> None:
    async with connect() as sqs:
        poller = so.Poller(sqs, queue, echo, wait_time=1, drain_timeout=3)
        running = asyncio.create_task(poller.run(handle_signals=False))
        async with asyncio.timeout(DONE):
            while poller.statistics().seconds_since_poll is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            proxy.inject(Fault.QUEUE_DELETED, on=["ReceiveMessage"])
            with pytest.raises(so.QueueNotFound, match=queue):
                await running
        assert isinstance(poller.statistics().failure, so.QueueNotFound)


@pytest.mark.parametrize(
    ("fault", "advice"),
    cases(CREDENTIALS_BAD, CREDENTIALS_BAD[0]),
    ids=lambda value: str(value)[:13],
)
@pytest.mark.parametrize("operation", ["GetQueueUrl", "ReceiveMessage"])
async def test_worker_with_bad_credentials_raises(
    proxy: FaultProxy, connect: Connect, queue: str, fault: Fault, advice: str, operation: str
) -> None:
    proxy.inject(fault, on=[operation])
    async with connect() as sqs:
        with pytest.raises(so.AccessDenied, match=advice):
            await run_until_it_fails(sqs, queue)
    assert proxy.calls[operation] == 1


@pytest.mark.parametrize("operation", ["GetQueueUrl", "ReceiveMessage"])
async def test_worker_raises_and_names_the_permission_that_it_lacks(
    proxy: FaultProxy, connect: Connect, queue: str, operation: str
) -> None:
    proxy.inject(Fault.DENIED, on=[operation])
    async with connect() as sqs:
        with pytest.raises(so.AccessDenied, match=f"the permission sqs:{operation} is missing"):
            await run_until_it_fails(sqs, queue)


@pytest.mark.parametrize(
    "operation",
    cases(
        [
            "SendMessageBatch",
            "DeleteMessageBatch",
            "ChangeMessageVisibilityBatch",
            "GetQueueAttributes",
        ],
        "SendMessageBatch",
    ),
)
async def test_worker_goes_on_without_a_permission_that_only_one_message_needs(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    operation: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def slowly(message: so.Message) -> Any:
        await asyncio.sleep(1.5)  # past the time at which it is hidden for longer
        return message.json()

    async with (
        connect() as sqs,
        # The requester may do all.
        so.connect(endpoint_url=proxy.upstream, **CREDENTIALS) as requesters,
        requester(requesters, prefix) as (publisher, _),
        worker(sqs, queue, prefix, slowly) as poller,
    ):
        proxy.inject(Fault.DENIED, on=[operation])
        # One that belongs into a dead-letter queue.
        odd = {"ResponseQueueUrl": {"DataType": "String", "StringValue": "nowhere"}}
        await direct.port.send(await direct.queue_url(queue), [SendEntry("1", odd)])
        if operation == "SendMessageBatch":
            with pytest.raises(so.ReplyTimeout):
                await publisher.request(queue, 1, timeout=2.5)
            assert poller.statistics().replies_dropped >= 1
            assert "the permission sqs:SendMessage is missing" in caplog.text
        else:
            assert (await publisher.request(queue, 1, timeout=DONE)).json() == 1
        async with asyncio.timeout(DONE):
            while not proxy.injected[Fault.DENIED]:  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.05)
        proxy.heal()
        assert (await publisher.request(queue, 2, timeout=DONE)).json() == 2
        assert poller.statistics().failure is None


LASTS = [
    Fault.INTERNAL_ERROR,
    Fault.UNAVAILABLE,
    Fault.THROTTLED,
    Fault.RESET,
    Fault.DROPPED,
    Fault.CUT,
    Fault.GARBAGE,
]
assert set(LASTS) <= set(PASSING)


@pytest.mark.parametrize(
    "fault", cases(LASTS, Fault.THROTTLED), ids=lambda fault: fault.name.lower()
)
async def test_worker_keeps_trying_and_its_health_shows_it(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, fault: Fault
) -> None:
    async with (
        connect() as sqs,
        worker(sqs, queue, prefix) as poller,
        so.connect(endpoint_url=proxy.upstream, **CREDENTIALS) as requesters,
        requester(requesters, prefix) as (publisher, _),
    ):
        assert (await publisher.request(queue, 1)).json() == 1
        proxy.inject(fault, on=["ReceiveMessage"])
        async with asyncio.timeout(DONE):
            while poller.statistics().consecutive_failures < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        statistics = poller.statistics()
        assert statistics.seconds_since_poll is not None
        assert statistics.seconds_since_poll > 0
        assert statistics.failure is None
        proxy.heal()
        assert (await publisher.request(queue, 2, timeout=DONE)).json() == 2
        assert poller.statistics().consecutive_failures == 0


# ------------------------------------------------------------------- nothing spins

FIRST_TRIES = 2.0
"""Seconds in which failures may be tried again quickly."""

WATCHED = 20.0 if WHOLE else 2.0
"""Seconds for which calls are counted after that."""

A_FEW = 5
"""Calls a second, at most."""


async def calls_a_second(proxy: FaultProxy) -> float:
    await asyncio.sleep(FIRST_TRIES)
    before = proxy.total()
    await asyncio.sleep(WATCHED)
    return (proxy.total() - before) / WATCHED


FAILING = [*LASTS, Fault.DENIED, Fault.EXPIRED, Fault.QUEUE_DELETED]


@pytest.mark.parametrize(
    "fault",
    cases(FAILING, Fault.RESET),
    ids=lambda fault: fault.name.lower(),
)
async def test_requester_does_not_spin_when_every_call_fails(
    proxy: FaultProxy, queue: str, prefix: str, fault: Any
) -> None:
    async def request(publisher: so.Publisher, number: int) -> None:
        with contextlib.suppress(so.SQSOrchestratorError):
            await publisher.request(queue, number, timeout=600)

    async def send(publisher: so.Publisher, number: int) -> None:
        with contextlib.suppress(so.SQSOrchestratorError):
            await publisher.send(queue, number)

    # With polls of a second, so that one which is under way now ends soon.
    sqs = so.connect(endpoint_url=proxy.url, config=AioConfig(read_timeout=3), **CREDENTIALS)
    async with sqs, requester(sqs, prefix) as (publisher, _):
        waiting = [asyncio.create_task(request(publisher, number)) for number in range(30)]
        async with asyncio.timeout(DONE):
            while len(proxy.accepted) < len(waiting):  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0.02)
        proxy.inject(fault)
        waiting += [asyncio.create_task(request(publisher, number)) for number in range(30)]
        waiting += [asyncio.create_task(send(publisher, number)) for number in range(30)]
        rate = await calls_a_second(proxy)
        print(rate, proxy.calls)
        assert rate <= A_FEW
        proxy.heal()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    "fault",
    cases(FAILING, Fault.RESET),
    ids=lambda fault: fault.name.lower(),
)
async def test_worker_does_not_spin_when_every_call_fails(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, fault: Any
) -> None:
    go_on = asyncio.Event()

    async def handle(message: so.Message) -> Any:
        await go_on.wait()
        if message.json() % 3 == 0:
            raise so.Reject("no")
        if message.json() % 3 == 1:
            raise so.Retry(delay=1)
        return message.json()

    async with (
        so.connect(endpoint_url=proxy.upstream, **CREDENTIALS) as requesters,
        requester(requesters, prefix) as (publisher, _),
        connect() as sqs,
    ):
        waiting = [
            asyncio.create_task(publisher.request(queue, number, timeout=600))
            for number in range(30)
        ]
        sends = [asyncio.create_task(publisher.send(queue, number)) for number in range(30)]
        await asyncio.gather(*sends)
        options: dict[str, Any] = {"wait_time": 1, "drain_timeout": 3, "visibility_timeout": 5}
        poller = so.Poller(
            sqs, queue, handle, concurrency=40, reply_queue_prefixes=(prefix,), **options
        )
        running = asyncio.create_task(poller.run(handle_signals=False))
        async with asyncio.timeout(DONE):
            while poller.statistics().running < 40:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        proxy.inject(fault)
        go_on.set()
        rate = await calls_a_second(proxy)
        print(rate, proxy.calls)
        assert rate <= A_FEW
        proxy.heal()
        poller.stop()
        with contextlib.suppress(so.QueueError):
            await running
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("who", ["worker", "requester"])
async def test_nobody_spins_when_long_polls_end_at_once(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, who: str
) -> None:
    proxy.inject(Fault.EMPTY)
    async with connect() as sqs, contextlib.AsyncExitStack() as stack:
        if who == "worker":
            await stack.enter_async_context(worker(sqs, queue, prefix))
        else:
            publisher, _ = await stack.enter_async_context(requester(sqs, prefix))
            waiting = asyncio.create_task(publisher.request(queue, 1, timeout=600))
            stack.callback(waiting.cancel)
        assert await calls_a_second(proxy) <= A_FEW
