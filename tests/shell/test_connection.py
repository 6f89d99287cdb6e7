"""`Connection`: queue names, queues, and what is closed with it."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import botocore.session
import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

import sqs_orchestrator
from sqs_orchestrator import AccessDenied, Connection, QueueError, QueueNotFound, Throttled
from sqs_orchestrator.connection import CONTROL_PATIENCE, FIRST_PATIENCE
from sqs_orchestrator.queues import check_queue
from sqs_orchestrator.sqs.port import SQS
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect
from tests.shell.workers import now


@pytest_asyncio.fixture
async def connection(server: MemoryServer) -> AsyncIterator[Connection]:
    async with connect(server) as opened:
        yield opened


UNREACHABLE = QueueError("unreachable", code="EndpointConnectionError", transient=True)


# ------------------------------------------------------------------ configuration


def test_session_and_profile_together_are_refused() -> None:
    with pytest.raises(ValueError, match="session or profile_name"):
        sqs_orchestrator.connect(session=get_session(), profile_name="x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", 5),
        ("config", {"read_timeout": 5}),
        ("session", 5),
        ("session", botocore.session.get_session()),
        ("endpoint_url", ""),
        ("endpoint_url", 5),
        ("endpoint_url", "localhost:5566"),
        ("endpoint_url", "ftp://host"),
        ("region_name", ""),
        ("region_name", 5),
        ("profile_name", ""),
        ("aws_access_key_id", ""),
        ("aws_secret_access_key", b"secret"),
        ("aws_session_token", b"secret"),
    ],
)
def test_wrong_argument_of_connect_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is ") as caught:
        sqs_orchestrator.connect(**{name: value})
    assert "secret" not in str(caught.value).removeprefix(name)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass-word@host",
        "https://user:pass-word@host:5566/path",
        "http://pass-word@host/",
        "https://user:p@ss-word@host",
        "https://user:pass-word@ho st",
        "ftp://user:pass-word@host",
    ],
)
def test_password_in_a_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="a user name or a password") as caught:
        sqs_orchestrator.connect(endpoint_url=url)
    assert "ss-word" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValueError, match="no queue URL") as caught:
        check_queue(f"{url}/123456789012/orders")
    assert "ss-word" not in str(caught.value)


def test_arguments_of_connect_that_boto_takes_are_taken() -> None:
    sqs_orchestrator.connect(
        endpoint_url="https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        aws_session_token="",
        config=AioConfig(read_timeout=70),
        session=get_session(),
    )


def test_what_tests_connect_to_is_a_server_in_memory() -> None:
    with pytest.raises(ValueError, match="server is a MemoryServer, not 'http"):
        connect("http://127.0.0.1")  # type: ignore[arg-type]


async def test_connection_that_is_not_open_says_so(server: MemoryServer) -> None:
    sqs = connect(server)
    with pytest.raises(RuntimeError, match="async with"):
        _ = sqs.port
    with pytest.raises(RuntimeError, match="connection is not open; use it inside"):
        await sqs.queue_url("orders")
    assert "not open" in repr(sqs)


async def test_connection_that_was_closed_knows_no_queue_any_more(server: MemoryServer) -> None:
    async with connect(server) as sqs:
        await sqs.create_queue("orders")
        await sqs.queue_url("orders")
    with pytest.raises(RuntimeError, match="connection is not open any more: it was closed"):
        await sqs.queue_url("orders")
    with pytest.raises(RuntimeError, match="it was closed"):
        await sqs.create_queue("orders")


async def test_connection_cannot_be_entered_twice(connection: Connection) -> None:
    with pytest.raises(RuntimeError, match="entered before"):
        await connection.__aenter__()
    assert connection.port.clock is not None


async def test_connection_without_aiobotocore_has_no_client(connection: Connection) -> None:
    with pytest.raises(RuntimeError, match="no aiobotocore client"):
        _ = connection.client


async def test_opening_that_fails_raises_the_cause_and_leaves_nothing() -> None:
    def opener() -> AbstractAsyncContextManager[SQS]:
        raise ValueError("no AWS region")

    sqs = Connection(opener)
    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="no AWS region"):
        await sqs.__aenter__()
    assert asyncio.all_tasks() == before


async def test_opening_cancelled_closes_what_was_opened(server: MemoryServer) -> None:
    closed = asyncio.Event()

    @asynccontextmanager
    async def opener() -> AsyncIterator[SQS]:
        try:
            await asyncio.sleep(100)
            yield MemorySQS(server)
        finally:
            closed.set()

    before = asyncio.all_tasks()
    task = asyncio.create_task(Connection(opener).__aenter__())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()
    assert asyncio.all_tasks() == before


async def test_error_of_the_body_leaves_as_it_is(server: MemoryServer) -> None:
    error = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:
        async with connect(server):
            raise error
    assert caught.value is error


# --------------------------------------------------------------------- queue_url


async def test_queue_url_is_looked_up_once(connection: Connection, server: MemoryServer) -> None:
    await connection.create_queue("orders")
    server.calls.clear()
    other = connect(server)
    async with other:
        assert await other.queue_url("orders") == server.url("orders")
        assert await other.queue_url("orders") == server.url("orders")
    assert server.calls["GetQueueUrl"] == 1


async def test_queue_url_asked_for_by_many_is_looked_up_once(server: MemoryServer) -> None:
    await MemorySQS(server).create_queue("orders", {}, {})
    async with connect(server) as sqs:
        urls = await asyncio.gather(*(sqs.queue_url("orders") for _ in range(100)))
    assert set(urls) == {server.url("orders")}
    assert server.calls["GetQueueUrl"] == 1


async def test_queue_url_of_a_url_needs_no_call(
    connection: Connection, server: MemoryServer
) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/999999999999/theirs"
    assert await connection.queue_url(url) == url
    assert not server.calls


@pytest.mark.parametrize(
    "name",
    ["", "two words", "x" * 81, "a.fifo.fifo", "ordérs", "orders\n", "x" * 76 + ".fifo", "a.b"],
)
async def test_queue_url_refuses_what_is_no_name(
    connection: Connection, server: MemoryServer, name: str
) -> None:
    with pytest.raises(ValueError, match="no queue name"):
        await connection.queue_url(name)
    assert not server.calls


@pytest.mark.parametrize("url", ["https://", "a/b", "https://host/", "/", "ftp://host/1/q"])
async def test_queue_url_refuses_what_is_no_url(
    connection: Connection, server: MemoryServer, url: str
) -> None:
    with pytest.raises(ValueError, match="is no queue"):
        await connection.queue_url(url)
    assert not server.calls


async def test_missing_queue_is_not_remembered(
    connection: Connection, server: MemoryServer
) -> None:
    with pytest.raises(QueueNotFound) as caught:
        await connection.queue_url("orders")
    assert caught.value.queue == "orders"
    await connection.create_queue("orders")
    assert await connection.queue_url("orders")


async def test_cancelled_lookup_disturbs_no_other(server: MemoryServer) -> None:
    await MemorySQS(server).create_queue("orders", {}, {})
    async with connect(server) as sqs:
        first, second = (asyncio.create_task(sqs.queue_url("orders")) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        assert await second == server.url("orders")
        with pytest.raises(asyncio.CancelledError):
            await first
    assert server.calls["GetQueueUrl"] == 1


async def test_lookup_is_tried_again_while_errors_pass(server: MemoryServer) -> None:
    await MemorySQS(server).create_queue("orders", {}, {})
    server.faults.fail("GetQueueUrl", Throttled, times=5)
    async with connect(server) as sqs:
        assert await sqs.queue_url("orders") == server.url("orders")
    assert server.calls["GetQueueUrl"] == 6


async def test_lookup_gives_up_with_what_went_wrong(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("other")
    server.faults.fail("GetQueueUrl", Throttled, times=None)
    began = now()
    with pytest.raises(Throttled):
        await connection.queue_url("orders")
    assert CONTROL_PATIENCE - 6 <= now() - began <= CONTROL_PATIENCE
    assert server.calls["GetQueueUrl"] < 20


async def test_endpoint_that_never_answered_is_given_up_soon(server: MemoryServer) -> None:
    server.faults.fail("*", UNREACHABLE, times=None)
    async with connect(server) as sqs:
        with pytest.raises(QueueError, match="unreachable"):
            await sqs.queue_url("orders")
        assert now() <= FIRST_PATIENCE + 1


async def test_denied_lookup_is_not_tried_again(
    connection: Connection, server: MemoryServer
) -> None:
    server.faults.fail("GetQueueUrl", AccessDenied)
    with pytest.raises(AccessDenied):
        await connection.queue_url("orders")
    assert server.calls["GetQueueUrl"] == 1


async def test_lookups_of_a_closed_connection_are_refused(server: MemoryServer) -> None:
    async with connect(server) as sqs:
        pass
    with pytest.raises(RuntimeError, match="was closed"):
        await sqs.queue_url("orders")


async def test_lookup_under_way_hears_when_the_connection_closes(server: MemoryServer) -> None:
    server.faults.hold("GetQueueUrl")
    async with connect(server) as sqs:
        lookup = asyncio.create_task(sqs.queue_url("orders"))
        await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="closed"):
        await lookup


async def test_trouble_is_told_while_it_lasts_and_of_its_own_operation(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("orders")
    connection.queues.forget_url("orders")
    server.faults.fail("GetQueueUrl", Throttled, times=3, queue="orders")
    lookup = asyncio.create_task(connection.queue_url("orders"))
    await asyncio.sleep(0.1)
    assert isinstance(connection.trouble("orders"), Throttled)
    assert connection.trouble("other") is None
    await lookup
    assert connection.trouble("orders") is None


# ------------------------------------------------------------------ create_queue


async def test_queue_is_created_with_attributes_and_tags(
    connection: Connection, server: MemoryServer
) -> None:
    url = await connection.create_queue(
        "orders",
        attributes={"VisibilityTimeout": 60, "SqsManagedSseEnabled": False},
        tags={"team": "a"},
    )
    assert url == server.url("orders")
    queue = server.queue("orders")
    assert queue.attributes["VisibilityTimeout"] == "60"
    assert queue.attributes["SqsManagedSseEnabled"] == "false"
    assert queue.tags == {"team": "a"}
    assert connection.queues.known["orders"] == url


async def test_creating_again_gives_the_same_queue(
    connection: Connection, server: MemoryServer
) -> None:
    async def create() -> str:
        return await connection.create_queue(
            "orders",
            dead_letter_queue=True,
            attributes={"VisibilityTimeout": 60, "SqsManagedSseEnabled": True},
            tags={"team": "a"},
        )

    assert await create() == await create()
    assert server.queues == ["orders", "orders_dlq"]


async def test_creating_with_other_attributes_names_them_and_alters_nothing(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("orders", attributes={"VisibilityTimeout": 60, "DelaySeconds": 1})
    before = dict(server.queue("orders").attributes)
    with pytest.raises(QueueError) as caught:
        await connection.create_queue(
            "orders", attributes={"VisibilityTimeout": 61, "DelaySeconds": 1}
        )
    assert "VisibilityTimeout is '60', not '61'" in str(caught.value)
    assert "DelaySeconds" not in str(caught.value)
    assert (caught.value.code, caught.value.queue) == ("QueueNameExists", "orders")
    assert server.queue("orders").attributes == before


async def test_creating_with_another_receive_count_names_the_policy(
    connection: Connection,
) -> None:
    await connection.create_queue("orders", dead_letter_queue=True)
    with pytest.raises(QueueError, match="RedrivePolicy"):
        await connection.create_queue("orders", dead_letter_queue=True, max_receive_count=6)


async def test_attributes_not_passed_may_differ(connection: Connection) -> None:
    url = await connection.create_queue("orders", attributes={"VisibilityTimeout": 60})
    assert await connection.create_queue("orders", tags={"a": "b"}) == url


async def test_policies_are_compared_as_json(connection: Connection, server: MemoryServer) -> None:
    url = await connection.create_queue("orders", dead_letter_queue=True)
    queue = server.queue("orders")
    policy = json.loads(queue.attributes["RedrivePolicy"])
    policy["maxReceiveCount"] = str(policy["maxReceiveCount"])
    queue.attributes["RedrivePolicy"] = json.dumps(dict(reversed(policy.items())), indent=1)
    assert await connection.create_queue("orders", dead_letter_queue=True) == url


async def test_creating_again_takes_an_access_policy_that_sqs_has_rewritten(
    connection: Connection, server: MemoryServer
) -> None:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": ["123456789012"]},
        "Action": "sqs:SendMessage",
        "Resource": "*",
    }
    policy: dict[str, Any] = {"Version": "2012-10-17", "Statement": [statement]}
    allowing: dict[str, Any] = {
        "redrivePermission": "byQueue",
        "sourceQueueArns": ["arn:a", "arn:b"],
    }
    wanted = {"Policy": policy, "RedriveAllowPolicy": allowing, "VisibilityTimeout": 60.0}
    url = await connection.create_queue("orders", attributes=wanted)
    queue = server.queue("orders")
    assert queue.attributes["VisibilityTimeout"] == "60"
    rewritten: dict[str, Any] = {
        "Statement": {
            **statement,
            "Action": ["SQS:SendMessage"],
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        },
        "Version": "2012-10-17",
    }
    queue.attributes["Policy"] = json.dumps(rewritten)
    queue.attributes["RedriveAllowPolicy"] = json.dumps(
        {**allowing, "sourceQueueArns": ["arn:b", "arn:a"]}
    )
    assert await connection.create_queue("orders", attributes=wanted) == url
    denying = {**policy, "Statement": {**statement, "Effect": "Deny"}}
    with pytest.raises(QueueError, match="attributes: Policy is"):
        await connection.create_queue("orders", attributes={**wanted, "Policy": denying})


async def test_queue_may_be_told_twice_that_it_is_standard(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("orders", attributes={"FifoQueue": False})
    await connection.create_queue("orders.fifo", fifo=True, attributes={"FifoQueue": True})
    assert "FifoQueue" not in server.queue("orders").attributes


async def test_racing_creators_get_the_same_queue(server: MemoryServer) -> None:
    async with connect(server) as one, connect(server) as other:
        settings = {"VisibilityTimeout": 60}
        first, second = await asyncio.gather(
            one.create_queue("orders", attributes=settings, dead_letter_queue=True),
            other.create_queue("orders", attributes=settings, dead_letter_queue=True),
        )
    assert first == second


async def test_racing_creator_of_another_kind_is_told(server: MemoryServer) -> None:
    async with connect(server) as one, connect(server) as other:
        outcomes = await asyncio.gather(
            one.create_queue("orders", attributes={"VisibilityTimeout": 60}),
            other.create_queue("orders", attributes={"VisibilityTimeout": 61}),
            return_exceptions=True,
        )
    urls = [outcome for outcome in outcomes if isinstance(outcome, str)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, QueueError)]
    assert (len(urls), len(errors)) == (1, 1)
    assert "VisibilityTimeout is" in str(errors[0])


async def test_creation_whose_answer_got_lost_is_completed(
    connection: Connection, server: MemoryServer
) -> None:
    server.faults.drop_answer("CreateQueue")
    url = await connection.create_queue("orders", attributes={"VisibilityTimeout": 60})
    assert url == server.url("orders")


async def test_fifo_queue_is_created(connection: Connection, server: MemoryServer) -> None:
    await connection.create_queue("orders.fifo", fifo=True)
    assert server.queue("orders.fifo").fifo
    assert await connection.create_queue("orders.fifo", fifo=True)


async def test_dead_letter_queue_is_made_and_keeps_for_14_days(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("orders", dead_letter_queue=True, max_receive_count=3)
    assert server.queue("orders").redrive == (server.queue("orders_dlq").arn, 3)
    assert server.queue("orders_dlq").attributes["MessageRetentionPeriod"] == "1209600"


async def test_dead_letter_queue_of_a_fifo_queue_is_fifo(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("orders.fifo", fifo=True, dead_letter_queue=True)
    assert server.queue("orders_dlq.fifo").fifo


async def test_existing_dead_letter_queue_is_taken_as_it_is(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("graveyard", attributes={"MessageRetentionPeriod": 3600})
    await connection.create_queue("orders", dead_letter_queue="graveyard")
    assert server.queue("orders").redrive == (server.queue("graveyard").arn, 5)
    assert server.queue("graveyard").attributes["MessageRetentionPeriod"] == "3600"


async def test_dead_letter_queue_that_is_too_young_is_waited_for(
    connection: Connection, server: MemoryServer
) -> None:
    server.creation_lag = 1.0
    await connection.create_queue("orders", dead_letter_queue=True)
    assert server.queue("orders").redrive


async def test_dead_letter_queue_deleted_since_is_made_again(
    connection: Connection, server: MemoryServer
) -> None:
    await connection.create_queue("graveyard")
    await connection.queue_url("graveyard")
    await MemorySQS(server).delete_queue("graveyard")
    await asyncio.sleep(61)
    await connection.create_queue("orders", dead_letter_queue="graveyard")
    assert server.queues == ["graveyard", "orders"]


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("orders", {"fifo": True}, "ends in '.fifo'"),
        ("orders.fifo", {}, "ends in '.fifo'"),
        ("no name", {}, "no queue name"),
        ("orders", {"max_receive_count": 0}, "max_receive_count"),
        ("orders", {"max_receive_count": 1001}, "max_receive_count"),
        ("orders", {"dead_letter_queue": "orders"}, "its own dead-letter queue"),
        ("orders", {"dead_letter_queue": "other.fifo"}, "ends in '.fifo'"),
        ("orders", {"attributes": {"FifoQueue": True}}, "contradicts fifo=False"),
        ("orders.fifo", {"fifo": True, "attributes": {"FifoQueue": False}}, "contradicts fifo="),
        (
            "orders",
            {"dead_letter_queue": True, "attributes": {"RedrivePolicy": {}}},
            "dead_letter_queue or the attribute",
        ),
    ],
)
async def test_contradictory_settings_of_a_queue_are_refused(
    connection: Connection, server: MemoryServer, name: str, settings: dict[str, bool], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        await connection.create_queue(name, **settings)  # type: ignore[arg-type]
    assert server.queues == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fifo", "no"),
        ("max_receive_count", "5"),
        ("max_receive_count", True),
        ("max_receive_count", 2.5),
        ("attributes", "x"),
        ("attributes", {"VisibilityTimeout": None}),
        ("attributes", {5: "x"}),
        ("tags", "x"),
        ("tags", {"team": 5}),
        ("dead_letter_queue", ""),
        ("dead_letter_queue", 5),
    ],
)
async def test_setting_of_a_queue_of_a_wrong_type_is_refused(
    connection: Connection, server: MemoryServer, name: str, value: Any
) -> None:
    match = {"tags": "tag", "dead_letter_queue": "is no queue name", "attributes": "attribute"}
    with pytest.raises(ValueError, match=match.get(name, name)):
        await connection.create_queue("orders", **{name: value})
    assert server.queues == []


async def test_denied_creation_says_so(connection: Connection, server: MemoryServer) -> None:
    server.faults.fail("CreateQueue", AccessDenied)
    with pytest.raises(AccessDenied):
        await connection.create_queue("orders")


# ----------------------------------------------------------------------- closing


class Dependent:
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def aclose(self) -> None:
        await asyncio.sleep(1)
        self.log.append(self.name)


async def test_leaving_closes_what_was_made_over_it_newest_first(server: MemoryServer) -> None:
    log: list[str] = []
    async with connect(server) as sqs:
        one, two, three = (Dependent(log, name) for name in ("one", "two", "three"))
        for dependent in (one, two, three):
            assert sqs.adopt(dependent) is sqs.port
        sqs.release(two)
        sqs.release(two)
    assert log == ["three", "one"]


async def test_leaving_cancelled_still_closes_all(server: MemoryServer) -> None:
    log: list[str] = []
    sqs = connect(server)
    await sqs.__aenter__()
    sqs.adopt(Dependent(log, "one"))
    sqs.adopt(Dependent(log, "two"))
    leaving = asyncio.create_task(sqs.aclose())
    await asyncio.sleep(0.5)
    leaving.cancel()
    await asyncio.sleep(0.1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert log == ["two", "one"]
    assert "not open" in repr(sqs)


async def test_dead_letter_queue_is_not_made_for_a_queue_that_has_another(
    server: MemoryServer,
) -> None:
    async with connect(server) as sqs:
        await sqs.create_queue("orders", dead_letter_queue=True)
        with pytest.raises(QueueError, match="dead-letter queue is not 'typo'") as caught:
            await sqs.create_queue("orders", dead_letter_queue="typo")
    # That there is no queue 'typo' is no news, and would be the most of the traceback.
    assert caught.value.__suppress_context__
    assert server.queues == ["orders", "orders_dlq"]
