from __future__ import annotations

from typing import Any

import pytest

from sqs_orchestrator.core import limits
from sqs_orchestrator.core.names import (
    JAVA_PREFIX,
    account_of,
    check_prefix,
    failover_url,
    is_own_form,
    is_queue_name,
    is_queue_url,
    new_reply_queue_name,
    queue_name_of,
)


@pytest.mark.parametrize("name", ["a", "a" * 80, "a" * 75 + ".fifo", "A-_0"])
def test_name_of_a_queue_is_one_and_its_url_too(name: str) -> None:
    assert is_queue_name(name)
    for place in ("https://sqs.eu-west-1.amazonaws.com/1", "http://localhost:9324/000/queue"):
        assert is_queue_url(f"{place}/{name}")
    assert not is_queue_url(name)


@pytest.mark.parametrize("name", ["", "a" * 81, "a" * 76 + ".fifo", "a.b", "a b", "a\n", "é"])
def test_other_text_is_no_name_of_a_queue(name: str) -> None:
    assert not is_queue_name(name)
    assert not is_queue_url(f"https://sqs.eu-west-1.amazonaws.com/1/{name}")


@pytest.mark.parametrize(
    "url",
    [
        "/orders",
        "sqs/1/orders",
        "ftp://host/1/orders",
        "https://u:p@host/1/orders",
        "x https://h/q",
    ],
)
def test_other_text_is_no_url_of_a_queue(url: str) -> None:
    assert not is_queue_url(url)


def test_new_reply_queue_name_is_of_our_own_form() -> None:
    name = new_reply_queue_name("prefix_")
    assert is_own_form("prefix_", name)
    assert name != new_reply_queue_name("prefix_")


@pytest.mark.parametrize(
    "name",
    [
        "p_",
        "p_" + "a" * 31,
        "p_" + "a" * 33,
        "p_" + "A" * 32,
        "p_" + "g" * 32,
        "q_" + "a" * 32,
        "p_" + "a" * 32 + "\n",
        "p_" + "٣" * 32,
        "x_p_" + "a" * 30,
    ],
)
def test_other_names_are_not_of_our_own_form(name: str) -> None:
    assert not is_own_form("p_", name)


@pytest.mark.parametrize("prefix", ["a", "A-b_9", "a" * 48])
def test_prefix_that_makes_queue_names_is_taken(prefix: str) -> None:
    check_prefix(prefix)
    assert len(new_reply_queue_name(prefix)) <= limits.QUEUE_NAME_CHARACTERS


@pytest.mark.parametrize("prefix", ["", "a" * 49, "a b", "a.", "é", "a/", "a\n", 5, None])
def test_prefix_that_makes_no_queue_names_is_refused(prefix: Any) -> None:
    with pytest.raises(ValueError, match="prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    ("url", "account", "name"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123/orders.fifo", "123", "orders.fifo"),
        ("http://127.0.0.1:4566/000000000000/orders", "000000000000", "orders"),
        ("http://localhost:9324/queue/orders", "queue", "orders"),
        ("http://localhost:4566/queue/us-east-1/000000000000/orders", "000000000000", "orders"),
        ("http://localhost/orders", None, "orders"),
        ("orders", None, "orders"),
    ],
)
def test_url_tells_account_and_name(url: str, account: str | None, name: str) -> None:
    assert account_of(url) == account
    assert queue_name_of(url) == name


def test_failover_name_is_the_java_clients() -> None:
    url = f"https://sqs.us-east-1.amazonaws.com/1/{JAVA_PREFIX}0b1c-0"
    assert failover_url(url) == url + "-Failover"
