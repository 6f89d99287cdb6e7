"""The hook for signals: who is called, what is put back, and what becomes of it afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sqs_orchestrator.worker.signals import on_signal

TERM = signal.SIGTERM


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a test leaves behind is not for the next."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, TERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def turns() -> None:
    """What was called from a signal has its turn."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_handler_that_was_there_is_called_and_put_back() -> None:
    heard: list[Any] = []

    def own(number: int, frame: object) -> None:
        heard.append((number, frame is not None))

    signal.signal(TERM, own)
    with on_signal(heard.append):
        signal.raise_signal(TERM)
        await turns()
        assert heard == [(TERM, True), "SIGTERM"]
    assert signal.getsignal(TERM) is own


async def test_handler_that_the_loop_has_is_called_too() -> None:
    heard: list[str] = []
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(TERM, called.set)
    try:
        with on_signal(heard.append):
            signal.raise_signal(TERM)
            await called.wait()
            await turns()
        assert heard == ["SIGTERM"]
        called.clear()
        signal.raise_signal(TERM)
        await called.wait()
    finally:
        loop.remove_signal_handler(TERM)


def test_ways_to_end_at_once_are_put_off() -> None:
    """Neither the default of Python nor that of `asyncio.run`, which interrupts its task."""
    heard: list[str] = []

    async def program() -> None:
        runners_own = signal.getsignal(signal.SIGINT)
        assert runners_own is not signal.default_int_handler
        signal.signal(TERM, signal.default_int_handler)
        with on_signal(heard.append):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(TERM)
            await turns()
        assert signal.getsignal(signal.SIGINT) is runners_own
        assert signal.getsignal(TERM) is signal.default_int_handler

    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.run(program())
    assert heard == ["SIGINT", "SIGTERM"]


@pytest.mark.parametrize("standing", [signal.SIG_DFL, signal.SIG_IGN])
async def test_what_is_no_function_is_put_back(standing: signal.Handlers) -> None:
    heard: list[str] = []
    signal.signal(TERM, standing)
    with on_signal(heard.append):
        signal.raise_signal(TERM)
        await turns()
    assert heard == ["SIGTERM"]
    assert signal.getsignal(TERM) is standing


async def test_exit_that_a_handler_asks_for_comes_after_the_drain() -> None:
    heard: list[str] = []

    def leave(*_: object) -> None:
        raise SystemExit(3)

    async def work() -> None:
        with on_signal(heard.append):
            signal.raise_signal(TERM)
            await turns()
            heard.append("drained")

    signal.signal(TERM, leave)
    with pytest.raises(SystemExit) as raised:
        await work()
    assert heard == ["SIGTERM", "drained"]
    assert raised.value.code == 3
    assert signal.getsignal(TERM) is leave


async def test_failure_of_a_handler_is_raised_where_it_would_be() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    signal.signal(TERM, fail)
    with on_signal(lambda name: None), pytest.raises(ZeroDivisionError):
        signal.raise_signal(TERM)


async def test_hook_that_is_put_back_later_by_others_does_what_was_there() -> None:
    """uvicorn, for one, puts back what it found, whatever has become of it."""
    heard: list[str] = []
    signal.signal(TERM, lambda *_: heard.append("own"))
    with on_signal(heard.append):
        hook = signal.signal(TERM, lambda *_: heard.append("server"))
    signal.signal(TERM, hook)
    signal.raise_signal(TERM)
    await turns()
    assert heard == ["own"]
    # A new one over it, too.
    with on_signal(heard.append):
        signal.raise_signal(TERM)
        await turns()
    assert heard == ["own", "own", "SIGTERM"]
    assert signal.getsignal(TERM) is hook


async def test_hook_that_others_call_ends_nothing_while_there_is_another() -> None:
    heard: list[str] = []
    signal.signal(TERM, signal.SIG_DFL)

    def between(number: int, frame: Any) -> None:
        heard.append("between")
        assert callable(old)
        old(number, frame)

    with on_signal(heard.append):
        old = signal.signal(TERM, between)
    with on_signal(heard.append):
        signal.raise_signal(TERM)
        await turns()
    assert heard == ["between", "SIGTERM"]


async def test_handler_that_is_not_pythons_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    before = signal.getsignal(TERM)
    real = signal.getsignal

    def foreign(number: int) -> Any:
        return None if number == TERM else real(number)

    monkeypatch.setattr(signal, "getsignal", foreign)
    with on_signal(lambda name: None):
        assert real(TERM) is before
        assert real(signal.SIGINT) is not before
    assert "SIGTERM does not stop the poller" in caplog.text


async def test_it_is_heard_in_the_context_of_who_waits_for_it() -> None:
    """Python calls the hook within whatever task is at work just then."""
    carried: contextvars.ContextVar[str] = contextvars.ContextVar("carried")
    heard: list[str] = []
    carried.set("the poller's own")

    async def request() -> None:
        carried.set("a request's")
        signal.raise_signal(TERM)

    with on_signal(lambda name: heard.append(carried.get())):
        await asyncio.create_task(request())
        await turns()
    assert heard == ["the poller's own"]
