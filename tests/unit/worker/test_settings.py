"""What a poller may be told, and how it says no."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sqs_orchestrator import Message, Poller
from sqs_orchestrator.connection import Connection
from sqs_orchestrator.testing import connect
from sqs_orchestrator.worker.settings import checked_settings

GOOD: dict[str, Any] = {
    "concurrency": 10,
    "visibility_timeout": 30.0,
    "max_extension": 3600.0,
    "wait_time": 20.0,
    "drain_timeout": 25.0,
    "reply_queue_prefixes": ("reply_",),
    "reply_accounts": (),
    "expose_errors": False,
    "read_timeout": 60.0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", -1),
        ("concurrency", 1.5),
        ("concurrency", math.inf),
        ("visibility_timeout", 0),
        ("visibility_timeout", 43_201),
        ("visibility_timeout", math.nan),
        ("max_extension", 0),
        ("max_extension", 43_171),
        ("max_extension", math.inf),
        ("max_extension", math.nan),
        ("wait_time", -1),
        ("wait_time", 20.5),
        ("wait_time", math.nan),
        ("drain_timeout", 0),
        ("drain_timeout", math.nan),
        ("reply_queue_prefixes", "reply_"),
        ("reply_queue_prefixes", ("",)),
        ("reply_accounts", "123456789012"),
        ("reply_accounts", (123456789012,)),
        ("reply_accounts", ("arn:aws:iam::1",)),
        ("concurrency", True),
        ("concurrency", "5"),
        ("reply_queue_prefixes", 5),
        ("reply_queue_prefixes", (5,)),
        ("reply_accounts", None),
        ("expose_errors", "no"),
    ],
)
def test_wrong_setting_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        checked_settings(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 1),
        ("visibility_timeout", 1),
        ("max_extension", 0.5),
        ("max_extension", 43_170),
        ("wait_time", 0),
        ("drain_timeout", 0.1),
        ("drain_timeout", math.inf),
        ("reply_queue_prefixes", None),
        ("reply_queue_prefixes", []),
        ("reply_accounts", {"012345678901"}),
    ],
)
def test_ends_of_ranges_are_taken(name: str, value: Any) -> None:
    checked_settings(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [("wait_time", 0.1, "0 or 1"), ("visibility_timeout", 29.5, "29 or 30")],
)
def test_fraction_of_a_second_is_refused_where_sqs_knows_none(
    name: str, value: float, instead: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}.* whole seconds only: pass {instead}"):
        checked_settings(**{**GOOD, name: value})


def test_whole_seconds_may_be_floats() -> None:
    settings = checked_settings(**{**GOOD, "visibility_timeout": 2.0, "wait_time": 1.0})
    assert repr(settings.visibility_timeout) == "2"
    assert repr(settings.wait_time) == "1"


@pytest.mark.parametrize(
    ("drain_timeout", "wait_time", "most", "least"),
    [(21, 20, "19", "22"), (10, 20, "8", "22"), (8, 7, "6", "9"), (1, 1, "0", "3")],
)
def test_drain_that_is_too_short_for_a_poll_is_unwise(
    drain_timeout: float, wait_time: int, most: str, least: str
) -> None:
    options = {**GOOD, "drain_timeout": drain_timeout, "wait_time": wait_time}
    said = checked_settings(**options).unwise()
    assert said is not None
    assert f"wait_time to {most} or less" in said
    assert f"drain_timeout to {least} or more" in said
    # What it says to set is not unwise.
    assert checked_settings(**{**options, "wait_time": int(most)}).unwise() is None
    assert checked_settings(**{**options, "drain_timeout": int(least)}).unwise() is None


def test_defaults_are_not_unwise() -> None:
    assert checked_settings(**GOOD).unwise() is None


@pytest.mark.parametrize("read_timeout", [20, 19.5, 5])
def test_read_timeout_must_be_longer_than_a_long_poll(read_timeout: float) -> None:
    with pytest.raises(ValueError, match=r"read timeout .* longer than wait_time"):
        checked_settings(**{**GOOD, "read_timeout": read_timeout})
    checked_settings(**{**GOOD, "read_timeout": read_timeout, "wait_time": 4})


# ------------------------------------------------------------------ handlers


async def handle(message: Message) -> None: ...


@pytest.fixture
def sqs() -> Connection:
    return connect()


def test_handler_may_be_passed_or_registered(sqs: Connection) -> None:
    poller = Poller(sqs, "orders", handle)
    with pytest.raises(ValueError, match="already"):
        poller.handler(handle)
    assert poller.handler("route")(handle) is handle
    with pytest.raises(ValueError, match="already"):
        poller.handler("route")(handle)
    assert Poller(sqs, "orders").handler(handle) is handle


def test_handler_that_is_none_is_refused(sqs: Connection) -> None:
    def plain(message: Message) -> None: ...

    with pytest.raises(ValueError, match="coroutine function"):
        Poller(sqs, "orders", plain)


def test_poller_is_made_over_a_connection_with_a_codec(sqs: Connection) -> None:
    with pytest.raises(ValueError, match=r"sqs is the Connection that connect\(\) gives, not 5"):
        Poller(5, "orders", handle)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="codec is an object with"):
        Poller(sqs, "orders", handle, codec=5)  # type: ignore[arg-type]


def test_async_generator_is_refused_until_streams_exist(sqs: Connection) -> None:
    async def parts(message: Message) -> Any:
        yield 1

    with pytest.raises(ValueError, match="async generator"):
        Poller(sqs, "orders", parts)
    poller = Poller(sqs, "orders")
    for register in (poller.handler, poller.handler("route")):
        with pytest.raises(ValueError, match="async generator"):
            register(parts)
    # Nothing of it stays.
    poller.handler(handle)
    poller.handler("route")(handle)


@pytest.mark.parametrize(
    "name", ["visibility_timeout", "max_extension", "wait_time", "drain_timeout"]
)
@pytest.mark.parametrize("value", ["5", None, True])
def test_durations_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number of seconds"):
        checked_settings(**{**GOOD, name: value})
