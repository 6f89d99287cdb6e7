"""An event loop with virtual time: hours pass in a moment, and each run is the same.

When all tasks wait, the clock jumps to the next timer instead of sleeping until then. It
starts at 0, and belongs to the loop from its birth to its end, so that what a fixture started
lives in the same time as the test. When all tasks wait and no timer is set, nothing can ever
happen again: instead of hanging, the loop says so.

It is for programs whose outside is in memory. Threads of executors and of anyio are waited for,
while time stands still. And while a socket or a pipe is open on the loop, somebody outside may
answer by it: then the loop waits in real time, as any other does.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

import anyio.to_thread

__all__ = ["Deadlock", "VirtualTimeLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_TURNS: Final = 100
"""Turns of the loop without a wait before it is looked what keeps it busy; and that many more
in which one scope cancels again and again before that counts as waiting."""

_PATIENCE: Final = 5.0
"""Real seconds to wait for threads that may still call back, before it is a deadlock."""


class Deadlock(RuntimeError):
    """All tasks wait, and nothing is left that could wake one."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, but for what `time()` says and for how it waits.

    A cancelled scope of anyio cancels its tasks in each turn of the loop until they leave it,
    and one that may not leave yet keeps the loop turning: the `asyncio.TaskGroup` of a poller
    that drains, say. After some two hundred such turns, in which there was neither I/O nor a
    timer to wait for, that counts as waiting, and time jumps to the next timer.
    """

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self._in_threads: set[asyncio.Future[Any]] = set()
        self._limiter: anyio.CapacityLimiter | None = None
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

    def cancelling(self) -> set[Any]:
        """The scopes of anyio that cancel their tasks, perhaps again, in the turn to come."""
        # Neither asyncio nor anyio has a public way to see that.
        due: Iterable[asyncio.Handle] = vars(self)["_ready"]
        callbacks = (getattr(handle, "_callback", None) for handle in due)
        return {
            getattr(callback, "__self__", None)
            for callback in callbacks
            if getattr(callback, "__name__", "") == "_deliver_cancellation"
        }

    @property
    def until_next_timer(self) -> float | None:
        """Seconds until the next timer is due; `None` where none is set."""
        timers: list[asyncio.TimerHandle] = vars(self)["_scheduled"]
        return max(0.0, timers[0].when() - self.time()) if timers else None

    def jump(self, seconds: float) -> None:
        """Let time pass at once."""
        self._virtual_time += seconds

    @property
    def waits_for_threads(self) -> bool:
        """Whether an executor, or a thread of anyio's own, still works on something."""
        return bool(self._in_threads) or (
            self._limiter is not None and self._limiter.borrowed_tokens > 0
        )

    def knows_threads(self) -> bool:
        """Whether `waits_for_threads` can be believed; where not, it can in the next turn."""
        if self._limiter is not None or threading.active_count() == 1:
            return True

        async def look() -> None:
            # Only a task may ask for it.
            self._limiter = anyio.to_thread.current_default_thread_limiter()

        self.create_task(look(), name="virtual time: looks for threads")
        return False


class _Jumping(selectors.DefaultSelector):
    """Where the loop would sleep, it lets time jump."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0
        self._cancelling: set[Any] = set()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout == 0 and not self._spins()):
            return ready
        self._turns = 0
        if not self._loop.knows_threads():
            return []
        if timeout == 0:
            timeout = self._loop.until_next_timer
        if self._loop.waits_for_threads:
            return super().select(_PATIENCE)
        # The loop itself listens on one socket, for calls from threads and for signals.
        if len(self.get_map()) > 1:
            return self._wait_really(timeout)
        if timeout is not None:
            self._loop.jump(timeout)
            return []
        # Looked at once more even without: a thread may have called, and ended, just now.
        ready = super().select(0 if threading.active_count() == 1 else _PATIENCE)
        if ready:
            return ready
        waiting = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        raise Deadlock(
            "all tasks wait, no timer is set, and nothing else can happen: "
            + "; ".join(sorted(map(repr, waiting)))
        )

    def _wait_really(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as an ordinary loop does, and let as much time pass."""
        began = time.monotonic()
        ready = super().select(timeout)
        took = time.monotonic() - began
        if timeout is not None:
            took = min(took, timeout) if ready else timeout
        self._loop.jump(took)
        return ready

    def _spins(self) -> bool:
        """Whether the loop, which has something to do in this turn too, only turns round.

        Long computations take many turns as well, and no time passes for them.
        """
        self._turns += 1
        if self._turns <= _TURNS:
            return False
        cancelling = self._loop.cancelling()
        if self._turns > _TURNS + 1:
            cancelling &= self._cancelling
        self._cancelling = cancelling
        if not cancelling:
            self._turns = 0
        return self._turns > 2 * _TURNS
