"""SIGINT and SIGTERM for all the pollers of a process: one hook, put back by the last.

Not `loop.add_signal_handler`: that forgets a handler that the application gave the loop
before, and leaves SIGINT with Python's default instead of what `asyncio.run` had set up.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Hears = Callable[[str], None]

_hearers: list[tuple[asyncio.AbstractEventLoop, Hears]] = []
_before: dict[signal.Signals, Any] = {}


@contextmanager
def on_signal(hears: Hears) -> Iterator[None]:
    """While inside, call *hears* in the running loop with the name of each signal.

    Outside the main thread, where Python allows no signal handlers, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hearer = (asyncio.get_running_loop(), hears)
    if not _hearers:
        for number in SIGNALS:
            _before[number] = signal.signal(number, _heard)
    _hearers.append(hearer)
    try:
        yield
    finally:
        _hearers.remove(hearer)
        if not _hearers:
            for number, before in _before.items():
                # Unless somebody has set another meanwhile. One that was not set from Python
                # cannot be put back from there; the default at least ends the process.
                if signal.getsignal(number) is _heard:
                    signal.signal(number, signal.SIG_DFL if before is None else before)
            _before.clear()


def _heard(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    for loop, hears in _hearers:
        # Also wakes a loop that sleeps: the handler runs between two instructions of it.
        if not loop.is_closed():
            loop.call_soon_threadsafe(hears, name)
