"""What type checkers see of the public names. Checked, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict, TypeVar, assert_type

import msgspec
from pydantic import BaseModel

import sqs_orchestrator as so
from sqs_orchestrator import testing


@dataclass
class Order:
    """A body."""

    number: int


@dataclass
class NotFound:
    """Another."""

    number: int


class Shape(TypedDict, total=False):
    """A body that is a `dict`."""

    sides: int


class Parcel(msgspec.Struct):
    """Read by msgspec."""

    weight: float


class Invoice(BaseModel):
    """Read by pydantic."""

    total: int


class Priced(Protocol):
    """No class that could be made."""

    @property
    def price(self) -> int: ...


OrderId = NewType("OrderId", str)
T = TypeVar("T")


async def requester(sqs: so.Connection, shared: so.ReplyQueue) -> None:
    async with so.Publisher(sqs, reply_queue=shared, default_timeout=5) as publisher:
        assert_type(publisher, so.Publisher)
        assert_type(await publisher.send("orders", Order(1), delay=5), str)
        assert_type(await publisher.request("orders", {"id": 1}, timeout=5), so.Reply)
        assert_type(await publisher.request("orders", {"id": 1}, returns=Order), Order)
        assert_type(await publisher.request("orders", {"id": 1}, returns=list[Order]), list[Order])
        assert_type(publisher.statistics(), so.PublisherStatistics)
        assert_type(publisher.statistics().pending, int)


async def returns(publisher: so.Publisher, type_: type[T]) -> T:
    ask = publisher.request
    assert_type(await ask("orders", 1, returns=None), so.Reply)
    assert_type(await ask("orders", 1, returns=Order | NotFound), Order | NotFound)
    assert_type(await ask("orders", 1, returns=list[Order] | None), list[Order] | None)
    assert_type(await ask("orders", 1, returns=dict[str, Order]), dict[str, Order])
    assert_type(await ask("orders", 1, returns=tuple[int, str]), tuple[int, str])
    assert_type(await ask("orders", 1, returns=Shape), Shape)
    assert_type(await ask("orders", 1, returns=list[Shape]), list[Shape])
    assert_type(await ask("orders", 1, returns=Literal["a", "b"]), Literal["a", "b"])
    assert_type(await ask("orders", 1, returns=OrderId), OrderId)
    assert_type(await ask("orders", 1, returns=list[Order]), list[Order])
    assert_type(await ask("orders", 1, returns=Parcel), Parcel)
    assert_type(await ask("orders", 1, returns=Invoice | Parcel), Invoice | Parcel)
    assert_type(await ask("orders", 1, returns=list[Invoice]), list[Invoice])
    assert_type(await ask("orders", 1, returns=Annotated[int, "note"]), int)
    assert_type(await ask("orders", 1, returns=Priced), Priced)
    return await ask("orders", 1, returns=type_)


async def refused(publisher: so.Publisher) -> None:
    await publisher.request("orders", 1, returns=5)  # type: ignore[call-overload]
    await publisher.request("orders", 1, returns=Order(1))  # type: ignore[call-overload]


async def connection() -> None:
    async with so.connect(region_name="eu-west-1") as sqs:
        assert_type(sqs, so.Connection)
        assert_type(await sqs.create_queue("orders", dead_letter_queue=True), str)
        assert_type(await sqs.queue_url("orders"), str)
        assert_type(await so.sweep(sqs, "sqs_orchestrator_reply_", dry_run=True), list[str])
        assert_type(await so.sweep(sqs, "reply_queue_", legacy=True), list[str])
        await so.sweep(sqs, "reply_queue_", True)  # type: ignore[call-arg]


async def wrap(call: so.Call, call_next: Callable[[so.Call], Awaitable[Any]]) -> Any:
    assert_type(call.operation, str)
    assert_type(call.queue_url, str | None)
    assert_type(call.entries, int)
    assert_type(call.attempt, int)
    return await call_next(call)


class Wrapping:
    async def __call__(
        self, call: so.Call, call_next: Callable[[so.Call], Awaitable[object]]
    ) -> object:
        return await call_next(call)


def no_wrap(call: so.Call) -> None: ...


def wrapped() -> None:
    so.connect(wrap=wrap)
    so.connect(wrap=Wrapping())
    so.connect(wrap=no_wrap)  # type: ignore[arg-type]
    so.connect(wrap=5)  # type: ignore[arg-type]


async def worker(sqs: so.Connection) -> None:
    poller = so.Poller(sqs, "orders", concurrency=50)

    @poller.handler
    async def handle(message: so.Message) -> dict[str, Any]:
        assert_type(message.body, str)
        assert_type(message.time_remaining(), float)
        return {"done": message.json()["id"]}

    @poller.handler("cancel")
    async def cancel(order: Order, message: so.Message) -> int:
        if message.receive_count > 3:
            raise so.Reject("too often", code="too_often", details={"count": 3})
        return order.number

    # The decorators leave the functions what they were.
    assert_type(await cancel(Order(1), so.Message("{}")), int)
    assert_type(await handle(so.Message("{}")), dict[str, Any])
    assert_type(await poller.run(), None)
    assert_type(poller.statistics(), so.PollerStatistics)


async def tests_of_users(sqs: so.Connection) -> None:
    async with testing.answer(sqs, "orders", error=so.Reject("no", code="sold_out")) as asked:
        assert_type(asked, list[so.Message])
    assert_type(await testing.run_until_idle(so.Poller(sqs, "orders")), so.PollerStatistics)
    assert_type(testing.sent(sqs, "orders"), list[so.Message])
    assert_type(testing.message({"id": 1}, attributes={"tenant": "a"}), so.Message)


def errors(error: so.SQSOrchestratorError) -> None:
    if isinstance(error, so.RemoteError):
        assert_type(error.code, str)
        assert_type(error.queue, str | None)
    elif isinstance(error, so.SendError):
        assert_type(error.maybe_sent, bool)
    elif isinstance(error, so.QueueError):
        assert_type(error.code, str | None)
