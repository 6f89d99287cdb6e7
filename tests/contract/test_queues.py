"""The port's queue operations, on whatever stands behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from sqs_orchestrator.errors import QueueError, QueueNotFound
from sqs_orchestrator.sqs.listing import list_queues
from sqs_orchestrator.sqs.port import SQS, SendEntry

from .conftest import MakeClient, MakeQueue

# -------------------------------------------------------------------------- creation


async def test_create_queue_sets_attributes_and_tags(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("queue", {"VisibilityTimeout": "5"}, {"owner": "tests", "empty": ""})
    attributes = await sqs.get_queue_attributes(url, ["VisibilityTimeout", "QueueArn"])
    assert attributes["VisibilityTimeout"] == "5"
    assert attributes["QueueArn"].endswith(url.rpartition("/")[2])
    assert set(attributes) == {"VisibilityTimeout", "QueueArn"}
    assert await sqs.list_queue_tags(url) == {"owner": "tests", "empty": ""}


async def test_create_queue_again_gives_its_url(sqs: SQS, make_queue: MakeQueue) -> None:
    attributes = {"VisibilityTimeout": "5", "MessageRetentionPeriod": "300"}
    url = await make_queue("queue", attributes)
    assert await make_queue("queue", attributes) == url
    assert await make_queue("queue", {"VisibilityTimeout": "5"}) == url
    assert await make_queue("queue") == url


async def test_create_queue_refuses_other_attributes(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("queue", {"VisibilityTimeout": "5"})
    with pytest.raises(QueueError) as caught:
        await make_queue("queue", {"VisibilityTimeout": "6"})
    assert caught.value.code == "QueueNameExists"
    assert not caught.value.transient
    attributes = await sqs.get_queue_attributes(url, ["VisibilityTimeout"])
    assert attributes == {"VisibilityTimeout": "5"}


@pytest.mark.deviates(
    *("moto", "fauxqs", "elasticmq", "localstack", "ministack"), reason="it is free at once"
)
async def test_create_queue_refuses_a_name_just_deleted(sqs: SQS, make_queue: MakeQueue) -> None:
    await sqs.delete_queue(await make_queue("queue"))
    with pytest.raises(QueueError) as caught:
        await make_queue("queue")
    assert caught.value.code == "QueueDeletedRecently"


takes_any_name = pytest.mark.deviates("fauxqs", "ministack", reason="takes any name")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("with space", marks=takes_any_name),
        pytest.param("dot.ted", marks=takes_any_name),
        pytest.param("x" * 81, id="81 characters", marks=takes_any_name),
        "",
    ],
)
async def test_create_queue_refuses_a_bad_name(sqs: SQS, name: str) -> None:
    with pytest.raises(QueueError) as caught:
        await sqs.create_queue(name, {}, {})
    assert not caught.value.transient
    assert caught.value.operation == "CreateQueue"


@pytest.mark.deviates(
    "moto", "fauxqs", "ministack", reason="makes a standard queue, or a FIFO queue"
)
async def test_create_queue_refuses_a_fifo_name_without_fifo(sqs: SQS, prefix: str) -> None:
    with pytest.raises(QueueError):
        await sqs.create_queue(f"{prefix}queue.fifo", {}, {})


takes_any_value = pytest.mark.deviates("localstack", reason="takes any value")
passes_it_over = pytest.mark.deviates("fauxqs", "ministack", reason="passes over unknown names")


@pytest.mark.deviates("moto", "elasticmq", reason="takes any attribute with any value")
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        pytest.param("VisibilityTimeout", "43201", marks=takes_any_value),
        pytest.param("MessageRetentionPeriod", "59", marks=takes_any_value),
        pytest.param("NoSuch", "1", marks=passes_it_over),
    ],
)
async def test_create_queue_refuses_a_bad_attribute(
    sqs: SQS, make_queue: MakeQueue, attribute: str, value: str
) -> None:
    with pytest.raises(QueueError) as caught:
        await make_queue("queue", {attribute: value})
    assert not caught.value.transient


# ------------------------------------------------------------------------ attributes


async def test_queue_counts_its_messages(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await sqs.send(url, [SendEntry("a"), SendEntry("b"), SendEntry("c", delay=900)])
    assert len(await sqs.receive(url, max_messages=1, wait_time=2)) == 1
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    assert await sqs.get_queue_attributes(url, names) == dict.fromkeys(names, "1")


@pytest.mark.deviates("elasticmq", reason="tells neither its retention nor its size limit")
async def test_queue_describes_itself_in_full(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo")
    attributes = await sqs.get_queue_attributes(url, ["All"])
    assert attributes["FifoQueue"] == "true"
    assert attributes["VisibilityTimeout"] == "30"
    assert attributes["MessageRetentionPeriod"] == "345600"
    assert attributes["MaximumMessageSize"] == str(1024 * 1024)
    assert "RedrivePolicy" not in attributes


# ------------------------------------------------------------------------------ tags


async def test_tags_are_set_replaced_and_removed(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("queue", None, {"a": "1", "b": "1"})
    await sqs.tag_queue(url, {"b": "2", "c.d_e": "3"})
    assert await sqs.list_queue_tags(url) == {"a": "1", "b": "2", "c.d_e": "3"}
    await sqs.untag_queue(url, ["a", "absent"])
    assert await sqs.list_queue_tags(url) == {"b": "2", "c.d_e": "3"}


async def test_queue_without_tags_lists_none(sqs: SQS, make_queue: MakeQueue) -> None:
    assert await sqs.list_queue_tags(await make_queue()) == {}


# --------------------------------------------------------------------------- listing


async def test_list_queues_finds_by_prefix(sqs: SQS, make_queue: MakeQueue, prefix: str) -> None:
    urls = [await make_queue(name) for name in ("a1", "a2", "b1")]
    listing = await list_queues(sqs, f"{prefix}a")
    assert sorted(listing.urls) == sorted(urls[:2])
    assert listing.complete


async def test_list_queues_stops_at_its_limit(sqs: SQS, make_queue: MakeQueue, prefix: str) -> None:
    urls = {await make_queue(f"q{number}") for number in range(5)}
    some = await list_queues(sqs, prefix, limit=3)
    assert len(some.urls) == 3
    assert set(some.urls) < urls
    assert not some.complete


async def test_list_queues_within_its_limit_is_complete(
    sqs: SQS, make_queue: MakeQueue, prefix: str
) -> None:
    urls = {await make_queue(f"q{number}") for number in range(3)}
    for limit in (3, 4):
        listing = await list_queues(sqs, prefix, limit=limit)
        assert set(listing.urls) == urls
        assert listing.complete


async def test_list_queues_finds_none(sqs: SQS, prefix: str) -> None:
    listing = await list_queues(sqs, prefix)
    assert list(listing.urls) == []
    assert listing.complete


@pytest.mark.deviates("elasticmq", reason="lists all in one page")
async def test_pages_of_a_listing_follow_each_other(
    sqs: SQS, make_queue: MakeQueue, prefix: str
) -> None:
    urls = [await make_queue(f"q{number}") for number in range(5)]
    found: list[str] = []
    token = ""
    for most in (2, 2, 1):
        page = await sqs.list_queues(prefix, limit=2, token=token)
        assert len(page.urls) == most
        found += page.urls
        token = page.next_token
    assert sorted(found) == urls
    assert not token


async def test_list_queues_without_prefix_finds_all(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    assert url in (await sqs.list_queues("")).urls


async def test_name_leads_to_its_url(sqs: SQS, make_queue: MakeQueue, prefix: str) -> None:
    url = await make_queue()
    assert await sqs.get_queue_url(f"{prefix}queue") == url
    account = url.split("/")[-2]
    assert await sqs.get_queue_url(f"{prefix}queue", account) == url


# ------------------------------------------------------------------ queues not there

Operation = Callable[[SQS, str], Awaitable[object]]

OPERATIONS: dict[str, Operation] = {
    "SendMessageBatch": lambda sqs, url: sqs.send(url, [SendEntry("x")]),
    "ReceiveMessage": lambda sqs, url: sqs.receive(url, wait_time=0),
    "DeleteMessageBatch": lambda sqs, url: sqs.delete(url, ["handle"]),
    "ChangeMessageVisibilityBatch": lambda sqs, url: sqs.change_visibility(url, [("handle", 0)]),
    "GetQueueAttributes": lambda sqs, url: sqs.get_queue_attributes(url, ["All"]),
    "ListQueueTags": lambda sqs, url: sqs.list_queue_tags(url),
    "TagQueue": lambda sqs, url: sqs.tag_queue(url, {"a": "b"}),
    "UntagQueue": lambda sqs, url: sqs.untag_queue(url, ["a"]),
    "GetQueueUrl": lambda sqs, url: sqs.get_queue_url(url.rpartition("/")[2]),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operation_on_a_deleted_queue_says_not_found(
    sqs: SQS, make_queue: MakeQueue, operation: str
) -> None:
    url = await make_queue()
    await sqs.delete_queue(url)
    with pytest.raises(QueueNotFound) as caught:
        await OPERATIONS[operation](sqs, url)
    error = caught.value
    assert error.operation == operation
    assert error.queue in (url, url.rpartition("/")[2])
    assert error.code == "QueueDoesNotExist"
    assert not error.transient
    assert not error.maybe_done


async def test_deleted_queue_is_not_listed(sqs: SQS, make_queue: MakeQueue, prefix: str) -> None:
    await sqs.delete_queue(await make_queue())
    assert list((await sqs.list_queues(prefix)).urls) == []


# ----------------------------------------------------------------------------- clock


async def test_first_answer_shows_the_clock(make_client: MakeClient, prefix: str) -> None:
    sqs = make_client()
    assert not sqs.clock.known
    await sqs.list_queues(prefix)
    assert sqs.clock.known


async def test_refusal_shows_the_clock_too(make_client: MakeClient, prefix: str) -> None:
    sqs = make_client()
    with pytest.raises(QueueNotFound):
        await sqs.get_queue_url(f"{prefix}absent")
    assert sqs.clock.known


async def test_clients_agree_on_the_time(make_client: MakeClient, prefix: str) -> None:
    one, two = make_client(), make_client()
    await one.list_queues(prefix)
    await two.list_queues(prefix)
    times = one.clock.now(), two.clock.now()
    assert times[0] is not None
    assert times[1] is not None
    assert abs(times[0] - times[1]) < 2


async def test_region_is_known(sqs: SQS) -> None:
    assert sqs.region == "us-east-1"
