"""The door around API calls: what may stand in it, and what becomes of a call that it handles
wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import sqs_orchestrator
import sqs_orchestrator.testing
from sqs_orchestrator import Call, QueueError, QueueNotFound
from sqs_orchestrator.sqs.attempts import attempt
from sqs_orchestrator.sqs.clock import Clock
from sqs_orchestrator.sqs.counting import counting
from sqs_orchestrator.sqs.port import SQS, Failure, Page, Received, SendEntry
from sqs_orchestrator.sqs.transport import OPERATIONS
from sqs_orchestrator.sqs.wrapping import WrappedSQS

CallNext = Callable[[Call], Awaitable[Any]]

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"

# What is called, the call that a wrap sees, and the result.
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], Call, Any]] = {
    "send": (
        (URL, [SendEntry("a"), SendEntry("b")]),
        {},
        Call("SendMessageBatch", URL, "orders", entries=2),
        ["id", Failure("no")],
    ),
    "receive": (
        (URL,),
        {"max_messages": 3, "wait_time": 4, "visibility_timeout": 5, "begun": print},
        Call("ReceiveMessage", URL, "orders"),
        [Received("id", "handle", "body")],
    ),
    "delete": (
        (URL, ["a", "b", "c"]),
        {},
        Call("DeleteMessageBatch", URL, "orders", entries=3),
        [None, None, Failure("no")],
    ),
    "change_visibility": (
        (URL, [("a", 7), ("b", 8)]),
        {},
        Call("ChangeMessageVisibilityBatch", URL, "orders", entries=2),
        [None, None],
    ),
    "get_queue_url": (("orders", "account"), {}, Call("GetQueueUrl", None, "orders"), URL),
    "create_queue": (
        ("orders", {"a": "1"}, {"t": "2"}),
        {},
        Call("CreateQueue", None, "orders"),
        URL,
    ),
    "get_queue_attributes": (
        (URL, ["All"]),
        {},
        Call("GetQueueAttributes", URL, "orders"),
        {"a": "b"},
    ),
    "list_queues": (
        ("prefix",),
        {"limit": 9, "token": "t"},
        Call("ListQueues", None, None),
        Page([URL]),
    ),
    "list_queue_tags": ((URL,), {}, Call("ListQueueTags", URL, "orders"), {"a": "b"}),
    "tag_queue": ((URL, {"t": "2"}), {}, Call("TagQueue", URL, "orders"), None),
    "untag_queue": ((URL, ["t"]), {}, Call("UntagQueue", URL, "orders"), None),
    "delete_queue": ((URL,), {}, Call("DeleteQueue", URL, "orders"), None),
}


class Recording:
    """A port that keeps what it is called with, and answers as `CALLS` says; or fails."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.region = "eu-west-1"
        self.client = object()
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failure: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            if self.failure is not None:
                raise self.failure
            return CALLS[name][3]

        return call


async def called(port: Any, name: str) -> Any:
    args, kwargs, _, _ = CALLS[name]
    return await getattr(port, name)(*args, **kwargs)


async def passing(call: Call, call_next: CallNext) -> Any:
    return await call_next(call)


def test_table_covers_every_operation_of_the_port() -> None:
    operations = {name for name, value in vars(SQS).items() if inspect.iscoroutinefunction(value)}
    assert operations == set(CALLS)
    assert {call.operation for _, _, call, _ in CALLS.values()} == set(OPERATIONS)


@pytest.mark.parametrize("name", CALLS)
async def test_wrap_sees_the_call_and_what_becomes_of_it(name: str) -> None:
    seen: list[Any] = []

    async def see(call: Call, call_next: CallNext) -> Any:
        seen.append(call)
        result = await call_next(call)
        seen.append(result)
        return result

    args, kwargs, call, result = CALLS[name]
    port = Recording()
    assert await called(WrappedSQS(port, see), name) == result
    assert seen == [call, result]
    assert port.calls == [(name, args, kwargs)]


@pytest.mark.parametrize("name", CALLS)
async def test_error_of_the_call_passes_by_the_wrap(name: str) -> None:
    seen: list[Exception] = []

    async def see(call: Call, call_next: CallNext) -> Any:
        try:
            return await call_next(call)
        except QueueError as error:
            seen.append(error)
            raise

    port = Recording()
    port.failure = QueueNotFound("gone")
    with pytest.raises(QueueNotFound) as caught:
        await called(WrappedSQS(port, see), name)
    assert seen == [caught.value]


async def test_call_carries_the_attempt_that_it_is() -> None:
    seen: list[int] = []

    async def see(call: Call, call_next: CallNext) -> Any:
        seen.append(call.attempt)
        return await call_next(call)

    attempt.set(3)
    for name in CALLS:
        await called(WrappedSQS(Recording(), see), name)
    assert seen == [3] * len(CALLS)


@pytest.mark.parametrize("name", CALLS)
async def test_wrap_may_fail_a_call_without_making_it(name: str) -> None:
    async def refuse(call: Call, call_next: CallNext) -> Any:
        raise QueueError("no", transient=True)

    port = Recording()
    with pytest.raises(QueueError, match="no"):
        await called(WrappedSQS(port, refuse), name)
    assert port.calls == []


@pytest.mark.parametrize("name", CALLS)
async def test_wrap_may_skip_a_call_and_give_its_result(name: str) -> None:
    async def skip(call: Call, call_next: CallNext) -> Any:
        return CALLS[name][3]

    port = Recording()
    assert await called(WrappedSQS(port, skip), name) == CALLS[name][3]
    assert port.calls == []


RETURNING = [name for name, call in CALLS.items() if call[3] is not None]


@pytest.mark.parametrize("name", RETURNING)
@pytest.mark.parametrize("wrong", [None, 7, ["x"] * 5])
async def test_wrap_that_returns_no_result_changes_none(
    name: str, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget(call: Call, call_next: CallNext) -> Any:
        await call_next(call)
        return wrong

    port = WrappedSQS(Recording(), forget)
    for _ in range(3):
        assert await called(port, name) == CALLS[name][3]
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info
    assert "no result of" in str(record.exc_info[1])


@pytest.mark.parametrize("name", CALLS)
async def test_mistake_of_a_wrap_after_the_call_undoes_nothing(name: str) -> None:
    async def stumble(call: Call, call_next: CallNext) -> Any:
        await call_next(call)
        raise KeyError("bug")

    port = Recording()
    assert await called(WrappedSQS(port, stumble), name) == CALLS[name][3]
    assert len(port.calls) == 1


async def test_mistake_of_a_wrap_hides_no_error_of_the_call() -> None:
    async def stumble(call: Call, call_next: CallNext) -> Any:
        try:
            return await call_next(call)
        except QueueError as error:
            raise KeyError("bug") from error

    port = Recording()
    port.failure = QueueNotFound("gone")
    with pytest.raises(QueueNotFound, match="gone"):
        await called(WrappedSQS(port, stumble), "send")


async def test_mistake_of_a_wrap_before_the_call_is_a_transient_error() -> None:
    async def stumble(call: Call, call_next: CallNext) -> Any:
        raise KeyError("bug")

    with pytest.raises(QueueError, match=r"SendMessageBatch on orders: .* KeyError") as caught:
        await called(WrappedSQS(Recording(), stumble), "send")
    error = caught.value
    assert (error.transient, error.maybe_done) == (True, False)
    assert (error.operation, error.queue, error.code) == ("SendMessageBatch", URL, "KeyError")
    assert isinstance(error.__cause__, KeyError)


async def test_call_that_a_wrap_breaks_off_may_have_been_done() -> None:
    async def hurry(call: Call, call_next: CallNext) -> Any:
        async with asyncio.timeout(0):
            return await call_next(call)

    class Silent(Recording):
        async def send(self, *_: Any) -> None:
            await asyncio.Event().wait()

    with pytest.raises(QueueError) as caught:
        await called(WrappedSQS(Silent(), hurry), "send")  # type: ignore[arg-type]
    assert (caught.value.transient, caught.value.maybe_done) == (True, True)


async def test_last_of_several_calls_by_one_wrap_counts() -> None:
    port = Recording()
    outcomes: list[QueueError | None] = []

    async def insist(call: Call, call_next: CallNext) -> Any:
        for port.failure in outcomes:
            with contextlib.suppress(QueueError):
                await call_next(call)
        raise KeyError("bug")

    outcomes = [QueueError("first"), None]
    assert await called(WrappedSQS(port, insist), "send") == CALLS["send"][3]
    outcomes = [None, QueueError("second")]
    with pytest.raises(QueueError, match="second"):
        await called(WrappedSQS(port, insist), "send")


async def test_call_that_was_broken_off_is_the_last_though_another_failed_before() -> None:
    class Silent(Recording):
        async def send(self, *_: Any) -> None:
            self.calls.append(("send", (), {}))
            if len(self.calls) == 1:
                raise QueueError("first")
            await asyncio.Event().wait()

    async def insist(call: Call, call_next: CallNext) -> Any:
        with contextlib.suppress(QueueError):
            await call_next(call)
        async with asyncio.timeout(0):
            await call_next(call)

    with pytest.raises(QueueError, match="TimeoutError") as caught:
        await called(WrappedSQS(Silent(), insist), "send")  # type: ignore[arg-type]
    assert caught.value.maybe_done


async def test_error_of_the_port_that_is_none_of_sqs_s_is_not_blamed_on_the_wrap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = Recording()
    port.failure = RuntimeError("the SQS client is closed")
    with pytest.raises(RuntimeError) as caught:
        await called(WrappedSQS(port, passing), "send")
    assert caught.value is port.failure
    assert caplog.records == []


async def test_cancelling_passes_through() -> None:
    ended: list[type[BaseException]] = []

    async def see(call: Call, call_next: CallNext) -> Any:
        try:
            return await call_next(call)
        except BaseException as error:
            ended.append(type(error))
            raise

    class Silent(Recording):
        async def send(self, *_: Any) -> None:
            await asyncio.Event().wait()

    task = asyncio.create_task(called(WrappedSQS(Silent(), see), "send"))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended == [asyncio.CancelledError]


@pytest.mark.parametrize("made", [False, True])
async def test_cancelling_of_another_task_does_not_end_this_one(made: bool) -> None:
    async def stumble(call: Call, call_next: CallNext) -> Any:
        if made:
            await call_next(call)
        other = asyncio.create_task(asyncio.sleep(60))
        other.cancel()
        return await other

    wrapped = WrappedSQS(Recording(), stumble)
    if made:
        assert await called(wrapped, "send") == CALLS["send"][-1]
        return
    with pytest.raises(QueueError) as caught:
        await called(wrapped, "send")
    assert (caught.value.transient, caught.value.code) == (True, "CancelledError")


def test_port_shows_what_is_within() -> None:
    port = Recording()
    wrapped = WrappedSQS(port, passing)
    assert wrapped.clock is port.clock
    assert wrapped.region == "eu-west-1"
    assert wrapped.client is port.client
    assert repr(wrapped) == f"<WrappedSQS around {port!r}>"


# ---------------------------------------------------------------------- at construction


class Wrapping:
    """Several ways to be one."""

    async def __call__(self, call: Call, call_next: CallNext) -> Any:
        return await call_next(call)

    async def method(self, call: Call, call_next: CallNext) -> Any:
        return await call_next(call)


async def with_more(name: str, call: Call, call_next: CallNext) -> Any:
    return await call_next(call)


CONNECTS = [sqs_orchestrator.connect, sqs_orchestrator.testing.connect]


@pytest.mark.parametrize("connect", CONNECTS)
@pytest.mark.parametrize(
    "wrap",
    [passing, Wrapping(), Wrapping().method, functools.partial(with_more, "name"), None],
)
def test_wrap_is_anything_that_can_be_awaited_with_two_arguments(connect: Any, wrap: Any) -> None:
    connect(wrap=wrap)


async def no_argument() -> None: ...


async def generator(call: Call, call_next: CallNext) -> Any:
    yield


@pytest.mark.parametrize("connect", CONNECTS)
@pytest.mark.parametrize(
    "wrong",
    [5, "passing", lambda call, call_next: None, Wrapping, no_argument, with_more, generator],
)
def test_what_is_no_wrap_is_a_wrong_argument(connect: Any, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"async def wrap\(call, call_next\)"):
        connect(wrap=wrong)


# ----------------------------------------------------------------------------- counting


async def test_calls_are_counted_as_they_begin_whatever_becomes_of_them() -> None:
    calls: Counter[str] = Counter()
    port = Recording()
    wrapped = WrappedSQS(port, counting(calls))
    for name in CALLS:
        await called(wrapped, name)
    port.failure = QueueNotFound("gone")
    with pytest.raises(QueueNotFound):
        await called(wrapped, "delete_queue")
    assert calls == Counter(OPERATIONS) + Counter(["DeleteQueue"])
