"""SIGINT and SIGTERM for all the pollers of a process: one hook, put back by the last.

The program's own handlers keep working: those that it gave `signal.signal` are called by the
hook, those that it gave the loop are called by the loop, which hears of signals another way.
Python's defaults alone wait until the pollers have drained: to end the program at once is what
the hook is there to prevent.

Not `loop.add_signal_handler`: that forgets a handler that the application gave the loop
before, and leaves SIGINT with Python's default instead of what `asyncio.run` had set up.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..logs import get_logger

logger = get_logger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Hears = Callable[[str], None]


@contextmanager
def on_signal(hears: Hears) -> Iterator[None]:
    """While inside, call *hears* in the running loop, and in the context that there is now, with
    the name of each signal.

    Outside the main thread, where Python allows no signal handlers, it does nothing.

    Raises:
        SystemExit, KeyboardInterrupt: On leaving as the last, where a handler of the program
            raised it meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook = _current() or _Hook()
    hearer = (asyncio.get_running_loop(), hears, contextvars.copy_context())
    hook.hearers.append(hearer)
    hook.put_up()
    try:
        yield
    finally:
        hook.hearers.remove(hearer)
        if not hook.hearers:
            hook.put_back()


class _Hook:
    """Stands where the program's handlers stood.

    It may outlive its time: who replaced it meanwhile may put it back later, or call it, and
    a process that is forked inherits it. So a hook without hearers does what was there before.
    """

    def __init__(self) -> None:
        self.hearers: list[tuple[asyncio.AbstractEventLoop, Hears, contextvars.Context]] = []
        self.process = os.getpid()
        self._before: dict[int, Any] = {}
        self._raised: BaseException | None = None

    def put_up(self) -> None:
        """Take the place of what is there, unless it has."""
        global _hook
        if _hook is self:
            return
        _hook = self
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before is None:
                logger.warning(
                    "%s does not stop the poller: a handler that was not set from Python has it,"
                    " and could be neither called nor put back",
                    number.name,
                )
                continue
            self._before[number] = before
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        heard = _current()
        if heard is self:
            name = signal.Signals(number).name
            for loop, hears, context in self.hearers:
                # Also wakes a loop that sleeps: the handler runs between two instructions of it,
                # and of whatever task is at work, in that one's context.
                if not loop.is_closed():
                    loop.call_soon_threadsafe(hears, name, context=context)
        before = self._before[number]
        if heard is None:
            _act(before, number, frame)
        elif callable(before) and not _ends_at_once(before):
            try:
                before(number, frame)
            except (SystemExit, KeyboardInterrupt) as error:
                if heard is not self:
                    raise
                # The program shall end: so it does, but after the drain.
                self._raised = self._raised or error

    def put_back(self) -> None:
        """Put back what was there; raises what it has raised meanwhile."""
        global _hook
        _hook = None
        for number, before in self._before.items():
            # Unless somebody has set another meanwhile.
            if signal.getsignal(number) is self:
                signal.signal(number, before)
        if self._raised is not None:
            raise self._raised


_hook: _Hook | None = None


def _current() -> _Hook | None:
    """The hook that has hearers in this process, and not in the one that it was forked from."""
    return _hook if _hook is not None and _hook.process == os.getpid() else None


def _ends_at_once(handler: Any) -> bool:
    """Whether it is one of Python's two defaults for Ctrl-C: the other is `asyncio.run`'s."""
    owner = getattr(getattr(handler, "func", None), "__self__", None)
    return handler is signal.default_int_handler or isinstance(owner, asyncio.Runner)


def _act(before: Any, number: int, frame: FrameType | None) -> None:
    """Do what *before* would do if it were still there."""
    if callable(before):
        before(number, frame)
    elif before == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
