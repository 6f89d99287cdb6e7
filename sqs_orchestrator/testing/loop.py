"""An event loop with virtual time: hours pass in a moment, and each run is the same.

When all tasks wait, the clock jumps to the next timer instead of sleeping until then. It
starts at 0, and belongs to the loop from its birth to its end, so that what a fixture started
lives in the same time as the test. When all tasks wait and no timer is set, nothing can ever
happen again: instead of hanging, the loop says so.

It is for programs whose only outside is in memory. Threads of executors are waited for, while
time stands still; other I/O is seen only when it is ready at once.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

__all__ = ["Deadlock", "VirtualTimeLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_PATIENCE: Final = 5.0
"""Real seconds to wait for threads that may still call back, before it is a deadlock."""


class Deadlock(RuntimeError):
    """All tasks wait, and nothing is left that could wake one."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, but for what `time()` says and for how it waits."""

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self._in_threads: set[asyncio.Future[Any]] = set()
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_time

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        future = super().run_in_executor(executor, func, *args)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads of the default executor, however long they really take."""
        # A timeout would be over at once: that thread is in no executor.
        await super().shutdown_default_executor()

    def jump(self, seconds: float) -> None:
        """Let time pass at once."""
        self._virtual_time += seconds

    @property
    def waits_for_threads(self) -> bool:
        """Whether an executor still works on something."""
        return bool(self._in_threads)


class _Jumping(selectors.DefaultSelector):
    """Where the loop would sleep, it lets time jump."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.waits_for_threads:
            return super().select(_PATIENCE)
        if timeout is not None:
            self._loop.jump(timeout)
            return []
        # The loop itself listens on one socket, for calls from threads and for signals.
        # It is looked at once more even without: a thread may have called, and ended, just now.
        alone = threading.active_count() == 1 and len(self.get_map()) == 1
        ready = super().select(0 if alone else _PATIENCE)
        if ready:
            return ready
        waiting = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        raise Deadlock(
            "all tasks wait, no timer is set, and nothing else can happen: "
            + "; ".join(sorted(map(repr, waiting)))
        )
