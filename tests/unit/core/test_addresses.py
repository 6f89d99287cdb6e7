from __future__ import annotations

import contextlib
from typing import Any

import pytest
from aiobotocore.session import AioSession
from hypothesis import example, given
from hypothesis import strategies as st

from sqs_orchestrator.core.addresses import (
    DEFAULT_PREFIXES,
    Refused,
    check_reply_address,
    region_of,
)
from sqs_orchestrator.core.wire import ReplyTo
from tests.vectors import vectors

HOST = "https://sqs.eu-west-1.amazonaws.com"
ORDERS = f"{HOST}/111122223333/orders"
NAME = "sqs_orchestrator_reply_0123456789abcdef0123456789abcdef"
ANSWER = f"{HOST}/111122223333/{NAME}"
JAVA = f"{HOST}/111122223333/__RequesterClientQueues__"


def check(
    url: str,
    correlation_id: str | None = "c1",
    *,
    queue: str = ORDERS,
    region: str | None = "eu-west-1",
    prefixes: tuple[str, ...] | None = DEFAULT_PREFIXES,
    accounts: tuple[str, ...] = (),
) -> str:
    return check_reply_address(
        ReplyTo(url, correlation_id), queue, region=region, prefixes=prefixes, accounts=accounts
    )


@pytest.mark.parametrize("region", [None, "own"])
@vectors("reply_addresses")
def test_worker_decides_whether_to_answer(vector: Any, region: str | None) -> None:
    local = "amazonaws" not in vector["request_queue"]
    url = None
    with contextlib.suppress(Refused, ValueError):
        url = check_reply_address(
            ReplyTo.parse(vector["reply_address"]),
            vector["request_queue"],
            region=region and ("us-east-1" if local else "eu-west-1"),
            prefixes=vector.get("reply_queue_prefixes", DEFAULT_PREFIXES),
            accounts=vector.get("reply_accounts", []),
        )
    assert url == vector.get("send_to")
    assert vector["decision"] == ("refuse" if url is None else "answer")


@pytest.mark.parametrize(
    "host",
    [
        "sqs.eu-west-1.amazonaws.com",
        "eu-west-1.queue.amazonaws.com",
        "sqs-fips.eu-west-1.amazonaws.com",
        "sqs.eu-west-1.api.aws",
        "sqs-fips.eu-west-1.api.aws",
        "vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com",
        "vpce-0a1b-2c3d-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com",
        "sqs.eu-west-1.amazonaws.com:443",
        # not of AWS: never contacted, and the name decides
        "localhost:4566",
        "10.0.0.5",
        "[::1]:4566",
        "sqs_server:9324",
        "sqs.us-east-1.localhost:4566",
        "evil.example",
    ],
)
def test_worker_answers_at_its_own_endpoint_whatever_the_host(host: str) -> None:
    assert check(f"https://{host}/111122223333/{NAME}") == ANSWER


@pytest.mark.parametrize(
    "host",
    [
        "sqs.us-east-1.amazonaws.com",
        "us-east-1.queue.amazonaws.com",
        "queue.amazonaws.com",
        "sqs-fips.us-east-1.amazonaws.com",
        "sqs.us-east-1.api.aws",
        "vpce-0a1b-2c3d.sqs.us-east-1.vpce.amazonaws.com",
        "sqs.us-east-1.amazonaws.com:443",
        "sqs.cn-north-1.amazonaws.com.cn",
        "cn-north-1.queue.amazonaws.com.cn",
        "sqs.us-gov-west-1.amazonaws.com",
        "sqs.eusc-de-east-1.amazonaws.eu",
        "sqs.us-iso-east-1.c2s.ic.gov",
    ],
)
def test_worker_refuses_another_region_by_any_host(host: str) -> None:
    with pytest.raises(Refused, match="region"):
        check(f"https://{host}/111122223333/{NAME}")


def hosts_of_botocore() -> list[tuple[str, str]]:
    """Each host of SQS that the installed botocore knows, and its region."""
    loader = AioSession().get_component("data_loader")
    hosts = {("queue.amazonaws.com", "us-east-1")}
    for partition in loader.load_data("partitions")["partitions"]:
        suffixes = [partition["outputs"][name] for name in ("dnsSuffix", "dualStackDnsSuffix")]
        for region in partition["regions"]:
            if not region.endswith("-global"):
                for suffix in suffixes:
                    hosts.add((f"sqs.{region}.{suffix}", region))
                    hosts.add((f"sqs-fips.{region}.{suffix}", region))
                    hosts.add((f"vpce-0a1b.sqs.{region}.vpce.{suffix}", region))
    for partition in loader.load_data("endpoints")["partitions"]:
        sqs = partition["services"].get("sqs", {"endpoints": {}})
        legacy = sqs.get("defaults", {}).get("sslCommonName", "")
        for name, endpoint in sqs["endpoints"].items():
            region = endpoint.get("credentialScope", {}).get("region", name)
            for variant in (endpoint, *endpoint.get("variants", ())):
                if "hostname" in variant:
                    hosts.add((variant["hostname"], region))
            if legacy:
                host = legacy.format(region=region, dnsSuffix=partition["dnsSuffix"])
                hosts.add((host, region))
    return sorted(hosts)


def test_region_is_known_of_every_host_that_botocore_knows() -> None:
    hosts = hosts_of_botocore()
    assert ("sqs.eusc-de-east-1.api.amazonwebservices.eu", "eusc-de-east-1") in hosts
    assert len(hosts) > 100
    assert {host: region_of(host) for host, _ in hosts} == dict(hosts)


def test_worker_without_region_takes_that_of_its_queue() -> None:
    assert check(ANSWER, region=None) == ANSWER
    with pytest.raises(Refused, match="region us-east-1, the worker in eu-west-1"):
        check(ANSWER.replace("eu-west-1", "us-east-1"), region=None)


def test_worker_that_knows_no_region_refuses_an_address_that_names_one() -> None:
    with pytest.raises(Refused, match="not known"):
        check(ANSWER, region=None, queue="http://127.0.0.1:4566/111122223333/orders")


@pytest.mark.parametrize(
    ("queue", "address", "answer"),
    [
        (
            "http://127.0.0.1:4566/000000000000/orders",
            f"http://sqs.us-east-1.localhost:4566/000000000000/{NAME}",
            f"http://127.0.0.1:4566/000000000000/{NAME}",
        ),
        (
            "http://localhost:9324/queue/orders",
            f"http://elasticmq:9324/queue/{NAME}",
            f"http://localhost:9324/queue/{NAME}",
        ),
        (
            "http://localhost:4566/queue/us-east-1/000000000000/orders",
            f"http://localstack:4566/queue/us-east-1/000000000000/{NAME}",
            f"http://localhost:4566/queue/us-east-1/000000000000/{NAME}",
        ),
        (
            "http://us-east-1.queue.localhost.localstack.cloud:4566/000000000000/orders",
            f"http://localhost:4566/queue/us-east-1/000000000000/{NAME}",
            f"http://us-east-1.queue.localhost.localstack.cloud:4566/000000000000/{NAME}",
        ),
        (
            "http://localhost:9324/000000000000/orders",
            f"http://localhost:9324/000000000000/{NAME}",
            f"http://localhost:9324/000000000000/{NAME}",
        ),
    ],
)
def test_worker_answers_on_local_servers(queue: str, address: str, answer: str) -> None:
    assert check(address, queue=queue, region="us-east-1") == answer


@pytest.mark.parametrize(
    "url",
    [
        f"https://user@sqs.eu-west-1.amazonaws.com/111122223333/{NAME}",
        f"https://sqs.eu-west-1.amazonaws.com@evil.example/111122223333/{NAME}",
        f"https://a:b@sqs.eu-west-1.amazonaws.com/111122223333/{NAME}",
        f"{HOST}/111122223333/{NAME}%2F..%2Fpayments",
        f"{HOST}/111122223333%2f{NAME}",
        f"{HOST}\\111122223333\\{NAME}",
        f"{HOST}/111122223333\\{NAME}",
        f"{HOST}/111122223333/{NAME} ",
        f" {ANSWER}",
        f"{ANSWER}\n",
        f"{ANSWER}\r\nX: y",
        f"{HOST}/111122223333/sqs_orchestrator_reply_x/../payments",
        f"{HOST}/../111122223333/{NAME}",
        f"{HOST}/111122223333/./{NAME}",
        f"{HOST}//111122223333/{NAME}",
        f"{HOST}/111122223333//{NAME}",
        f"{ANSWER}/",
        f"{ANSWER}?x",
        f"{ANSWER};x",
        f"{HOST}/111122223333/payments?{NAME}",
        f"ftp://sqs.eu-west-1.amazonaws.com/111122223333/{NAME}",
        f"file:///111122223333/{NAME}",
        f"//sqs.eu-west-1.amazonaws.com/111122223333/{NAME}",
        f"HTTPS://sqs.eu-west-1.amazonaws.com/111122223333/{NAME}",
        f"https://SQS.US-EAST-1.AMAZONAWS.COM/111122223333/{NAME}",
        f"https://sqs.us-east-1.amazonaws.com./111122223333/{NAME}",
        f"https://.sqs.us-east-1.amazonaws.com/111122223333/{NAME}",
        f"https://sqs.us-east-1.amazonaws.com:x/111122223333/{NAME}",
        f"https://sqs.us-east-1.amazonaws.com:/111122223333/{NAME}",
        f"https://sqs.us\u2010east\u20101.amazonaws.com/111122223333/{NAME}",
        f"{HOST}/\u0661\u0661\u0661\u0661\u0662\u0662\u0662\u0662\u0663\u0663\u0663\u0663/{NAME}",
        f"{HOST}/111122223333/{NAME}\u0660",
        f"{ANSWER}.fifo",
        f"{HOST}/111122223333/sqs_orchestrator_reply_{'a' * 58}",
        f"{HOST}/{NAME}",
        f"{HOST}/queue/eu-west-1/{NAME}",
        f"{HOST}/a/111122223333/{NAME}",
        "reply please",
        "",
    ],
)
def test_worker_refuses_tricks(url: str) -> None:
    for prefixes in (DEFAULT_PREFIXES, None):
        with pytest.raises(Refused) as caught:
            check(url, prefixes=prefixes)
        assert caught.value.reason.isprintable()
        assert caught.value.reason.isascii()


@given(
    st.text(st.sampled_from("a1./:#?@%\\-_\n\u0661é "), max_size=30),
    st.integers(0, len(ANSWER)),
    st.integers(0, 12),
)
@example("x" * 100_000, 0, 0)
def test_what_is_answered_is_always_a_reply_queue_of_the_account(
    noise: str, at: int, dropped: int
) -> None:
    url = ANSWER[:at] + noise + ANSWER[at + dropped :]
    try:
        answer = check(url)
    except Refused as refused:
        assert len(refused.reason) < 2500  # noqa: PT017
        return
    start = f"{HOST}/111122223333/"
    assert answer.startswith(start)
    name = answer[len(start) :]
    assert name.startswith(DEFAULT_PREFIXES)
    assert name not in DEFAULT_PREFIXES
    assert name.replace("_", "").replace("-", "").isalnum()
    assert name.isascii()


def test_worker_refuses_another_account_even_with_any_name_allowed() -> None:
    with pytest.raises(Refused, match="account 999900001111"):
        check(ANSWER.replace("111122223333", "999900001111"), prefixes=None)


def test_worker_answers_accounts_that_it_was_told_of_in_their_account() -> None:
    other = ANSWER.replace("111122223333", "999900001111")
    assert check(other, accounts=("999900001111",)) == other


def test_worker_with_any_name_allowed_answers_any_queue() -> None:
    assert check(f"{HOST}/111122223333/my-replies", None, prefixes=None)


@pytest.mark.parametrize("prefixes", [DEFAULT_PREFIXES, None, ("__",), ("_", "__Requester")])
@pytest.mark.parametrize("rest", ["", "_DLQ"])
def test_worker_never_feeds_the_java_sweeper(prefixes: Any, rest: str) -> None:
    with pytest.raises(Refused, match="Java client's sweeper"):
        check(JAVA + rest, prefixes=prefixes)


@pytest.mark.parametrize("prefixes", [DEFAULT_PREFIXES, None])
def test_worker_refuses_java_host_queue_without_the_plain_id(prefixes: Any) -> None:
    legacy = ReplyTo(f"{JAVA}0b1c-0", None, "id")
    with pytest.raises(Refused, match="correlation id"):
        check_reply_address(legacy, ORDERS, region=None, prefixes=prefixes)


@pytest.mark.parametrize("prefix", DEFAULT_PREFIXES)
@pytest.mark.parametrize("rest", ["", "_DLQ"])
def test_worker_refuses_the_queues_of_a_sweeper_of_any_prefix(prefix: str, rest: str) -> None:
    with pytest.raises(Refused):
        check(f"{HOST}/111122223333/{prefix}{rest}")


def test_name_has_to_be_longer_than_one_of_its_prefixes() -> None:
    assert check(f"{HOST}/111122223333/my-replies", prefixes=("my-replies", "my-"))
    with pytest.raises(Refused):
        check(f"{HOST}/111122223333/my-replies", prefixes=("my-replies", "my-replies-"))
    with pytest.raises(Refused, match="dead-letter"):
        check(f"{HOST}/111122223333/my-replies_DLQ", prefixes=("my-replies", "my-"))


def test_reason_names_the_setting_to_change() -> None:
    with pytest.raises(Refused, match="reply_queue_prefixes"):
        check(f"{HOST}/111122223333/payments")
    with pytest.raises(Refused, match="reply_accounts"):
        check(ANSWER.replace("1111", "2222"))


def test_reason_is_cut_short() -> None:
    with pytest.raises(Refused) as caught:
        check("https://" + "\u2028" * 100_000)
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 2500


@pytest.mark.parametrize("host", ["", "sqs.amazonaws.com", "s3.eu-west-1.amazonaws.com", "a.aws"])
def test_other_host_names_no_region(host: str) -> None:
    assert region_of(host) is None
