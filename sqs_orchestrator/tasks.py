"""Task owners: what keeps the background tasks of a connection, publisher, reply queue or poller.

A task group must be left by the task that entered it. Users cannot promise that: pytest
fixtures and aiohttp's clean-up contexts enter in one task and leave in another, in any order.
So a thing with background tasks has a `TaskOwner`, which runs a task of its own, the *owning
task*: entering starts it, leaving asks it to stop and waits until it has.

That also keeps the clean-up safe: closing runs in the owning task, where a cancellation of the
task that leaves cannot reach it.

And it keeps the context (`contextvars`) in which it was entered. What it runs may begin within
whatever request came first, and lives on after it: that request's trace id or tenant must not
stand on what is done for others.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import anyio

from .errors import SQSOrchestratorError, fresh_copy
from .logs import get_logger, report_repeated

logger = get_logger(__name__)

T = TypeVar("T")

UNWIND: Final = 5.0
"""Seconds that tasks which are cancelled at the end have to unwind."""


class TaskOwner:
    """An owning task, and the tasks that it keeps. Use it once: start, spawn, stop.

    *context* is the one in which it was started. All its tasks run in copies of it.

    It is a task group that ends in its own way. Its tasks are plain ones, since one is made for
    every call to SQS, and a group that cancels by scopes costs several times as much.

    *closing* runs when it is to end, while its tasks still run; those that are left afterwards
    are cancelled. It must bound its own time. It also runs when one of the tasks failed, so
    that whoever waits on that task hears of it.
    """

    def __init__(self, name: str, closing: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.entered = False
        """Whether it has ever run."""
        self.running = False
        """Whether tasks can be spawned."""
        self.stopping = False
        """Whether it has been asked to stop."""
        self.loop: asyncio.AbstractEventLoop
        self.context: contextvars.Context
        self.started: float
        """When it started, by the loop's time."""
        self.started_at: datetime
        """The same in UTC."""
        self.stopping_since: float | None = None
        """When it was asked to stop, by the loop's time; `None` if that was before it started."""
        self._closing = closing
        self._tasks: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._guests: set[anyio.CancelScope] = set()
        self._at_end: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Start the owning task; returns once tasks can be spawned."""
        if self._task is not None:
            raise RuntimeError(f"{self.name} was entered before; make a new one")
        started = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.started, self.started_at = self.loop.time(), datetime.now(UTC)
        self._task = self.task(self._run(started))
        self._task.set_name(self.name)
        try:
            await started.wait()
        except BaseException:
            # Nobody got to use it, so there is nothing to close.
            self._task.cancel()
            await finished(self._task)
            raise
        self.entered = True

    def spawn(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> asyncio.Task[T]:
        """Run *function* in a task that it keeps. It should handle its own failures: one that
        escapes ends the owner. Where tasks begin eagerly it may be over before this returns.

        For code that runs in the owner's loop: `check_loop` is for those that users call.
        """
        if not self.running:
            raise RuntimeError(f"{self.name} is not running; use it inside 'async with'")
        # As `task` does it.
        task = self.context.copy().run(self.loop.create_task, function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._ended, context=self.context)
        return task

    def task(
        self, coroutine: Coroutine[Any, Any, T], context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        """A task that the caller keeps, in a fresh copy of *context*, or of the owner's."""
        # Not by `create_task(context=…)`: programs have set task factories that take none. A
        # copy, since a task that begins eagerly, while that of another runs, may spawn again.
        context = self.context if context is None else context
        return context.copy().run(self.loop.create_task, coroutine)

    def check_loop(self) -> None:
        """Raise `RuntimeError` in another event loop than the one in which it was started: what
        is awaited there would never come."""
        if self._task is not None and asyncio.get_running_loop() is not self.loop:
            raise RuntimeError(
                f"{self.name} belongs to another event loop: use it, and leave it, in the loop in"
                " which it was entered (in pytest, give its fixture and the tests the same"
                " loop scope)"
            )

    def not_open(self, what: str, use: str) -> RuntimeError:
        """Why *what*, whose tasks these are, cannot be used: it was not entered, as *use* says, or
        it is over."""
        if self.failure is not None:
            return RuntimeError(f"{what} is not open any more: it failed, and the log has why")
        if self.stopping:
            return RuntimeError(f"{what} is not open any more: it was closed")
        return RuntimeError(f"{what} is not open; use it inside 'async with {use}'")

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call *callback* when all its tasks have ended, just before the owning task does."""
        self._at_end.append(callback)

    @property
    def cancelled(self) -> bool:
        """Whether it is being cancelled from outside, as `asyncio.run` does at its end."""
        return self._task is not None and self._task.cancelling() > 0

    @property
    def ended(self) -> bool:
        """Whether it has run and is over."""
        return self._task is not None and self._task.done()

    def request_stop(self) -> None:
        """Ask it to stop, and do not wait."""
        if self._task is not None and not self.stopping:
            self.stopping_since = self.loop.time()
        self.stopping = True
        self._stop.set()
        for scope in self._guests:
            scope.cancel()

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has.

        Cancelling the caller does not cut the wait short, since closing is bounded; the
        cancellation is raised afterwards.
        """
        self.check_loop()
        self.request_stop()
        if self._task is not None:
            await finished(self._task)

    async def wait(self) -> None:
        """Wait until it has ended, without asking it to."""
        self.check_loop()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until it is asked to stop."""
        if seconds <= 0:
            return
        with anyio.move_on_after(seconds):
            await self._stop.wait()

    @contextmanager
    def until_stop(self, deadline: float = math.inf) -> Iterator[None]:
        """A scope, for any task, that is cancelled when the owner is asked to stop, and at
        loop time *deadline*. Whoever leaves it without a result tells these two apart."""
        with anyio.CancelScope() as scope:
            self.limit(scope, deadline)
            self._guests.add(scope)
            try:
                yield
            finally:
                self._guests.discard(scope)

    def limit(self, scope: anyio.CancelScope, deadline: float) -> None:
        """Cancel *scope*, which was entered, at loop time *deadline*."""
        # A timer that was cancelled keeps its context until it would have rung, which is long
        # after the request that it was for.
        if deadline != math.inf:
            self.context.copy().run(setattr, scope, "deadline", deadline)

    async def _run(self, started: asyncio.Event) -> None:
        self.running = True
        started.set()
        try:
            await self._stop.wait()
        finally:
            self.request_stop()
            try:
                if self.entered:
                    with anyio.CancelScope(shield=True):
                        await self._closing()
            except Exception as error:
                self._fail(error)
            finally:
                self.running = False
                await self._end_tasks()
                for callback in self._at_end:
                    callback()
                if self.failure is not None:
                    # Kept, not raised: nobody awaits this task but `finished`, and a background
                    # failure must not cancel the body of the caller's `async with`.
                    logger.error("%s failed and has closed", self.name, exc_info=self.failure)
                report_repeated()

    async def _end_tasks(self) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # What users have put around a call may ignore that it is cancelled.
            _, ignoring = await asyncio.wait(set(self._tasks), timeout=UNWIND)
            if ignoring:
                logger.error(
                    "%s: %d tasks ignore that they were cancelled, and are left behind: %s",
                    self.name,
                    len(ignoring),
                    ignoring,
                )
                return

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.request_stop()


class SingleFlight(Generic[T]):
    """Work that many may ask for and that is done once: one flight per key.

    The work runs in a task of the owner, so cancelling one who waits for it disturbs no other. Its
    failure reaches all who wait, and the next to ask starts anew.
    """

    def __init__(self, owner: TaskOwner) -> None:
        self._owner = owner
        # Each who waits has a future of his own, in the order in which they came. With one that
        # they share, by `asyncio.shield`, newer Pythons log a failure for each who has given up.
        self._flights: dict[str, dict[asyncio.Future[T], None]] = {}
        owner.at_end(self._abandon)

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """What *work* returns, from the flight that is under way or a new one.

        Raises a copy of what it raised where that is an error of this library, so that no
        two callers share a traceback.
        """
        waiting = self._flights.get(key)
        if waiting is not None:
            landing = self._landing(waiting)
        else:
            waiting = self._flights[key] = {}
            # Before the flight starts, since it may land at once.
            landing = self._landing(waiting)
            try:
                self._owner.check_loop()
                self._owner.spawn(self._fly, key, work)
            except BaseException:
                self._flights.pop(key, None)
                raise
        try:
            return await landing
        except SQSOrchestratorError as error:
            mine = fresh_copy(error)
        finally:
            waiting.pop(landing, None)
        raise mine

    async def landed(self, key: str) -> T | None:
        """What the flight under way gives, if there is one. Starts none."""
        waiting = self._flights.get(key)
        if waiting is None:
            return None
        landing = self._landing(waiting)
        try:
            return await landing
        finally:
            waiting.pop(landing, None)

    @staticmethod
    def _landing(waiting: dict[asyncio.Future[T], None]) -> asyncio.Future[T]:
        landing: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting[landing] = None
        return landing

    async def _fly(self, key: str, work: Callable[[], Awaitable[T]]) -> None:
        try:
            result = await work()
        except Exception as error:
            self._fail(key, error)
        except BaseException:
            self._fail(key, self._closed())
            raise
        else:
            for landing in self._flights.pop(key):
                if not landing.done():
                    landing.set_result(result)

    def _abandon(self) -> None:
        """The owner has ended: end the flights that it cancelled before they began."""
        for key in list(self._flights):
            self._fail(key, self._closed())

    def _closed(self) -> RuntimeError:
        return RuntimeError(f"{self._owner.name} was closed")

    def _fail(self, key: str, error: Exception) -> None:
        for landing in self._flights.pop(key):
            if not landing.done():
                landing.set_exception(error)
                landing.exception()  # marked as seen: perhaps its task never runs again


class DeferredCall:
    """Calls *function* once, some *seconds* after it was asked for, however often that was; or
    earlier, as soon as there is nothing left to wait for.

    A poll that is opened for what may come need not go out before what is to be sent now: to
    sign and send a call takes a good part of the time that a lone request waits. So the poll is
    asked for at once, and opened when what is to be sent has left. The seconds bound the wait
    where that stays behind, or where there turns out to be nothing to send.
    """

    __slots__ = ("_asked", "_function", "_owner", "_seconds", "_timer")

    def __init__(self, owner: TaskOwner, seconds: float, function: Callable[[], None]) -> None:
        self._owner = owner
        self._seconds = seconds
        self._function = function
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        owner.at_end(self._abandon)

    def __call__(self) -> None:
        """Ask for it."""
        if not self._asked:
            self._asked = True
            owner = self._owner
            self._timer = owner.loop.call_later(self._seconds, self._ring, context=owner.context)

    def hurry(self) -> None:
        """If it was asked for, call it right after whoever is at work now."""
        if self._timer is not None:
            owner = self._owner
            self._timer.cancel()
            self._timer = None
            owner.loop.call_soon(self._ring, context=owner.context)

    def _ring(self) -> None:
        self._asked = False
        self._timer = None
        self._function()

    def _abandon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Changed(asyncio.Event):
    """Set by whoever changes something that others wait for.

    The one way to wait until none is left: of handlers, of replies on their way, of lanes.
    """

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until *holds* is true. It is asked at once, and after each change."""
        while not holds():
            self.clear()
            await self.wait()


async def finished(task: asyncio.Task[Any]) -> None:
    """Wait for *task* to end whatever cancels the caller; the first cancellation is raised
    afterwards. The task's own outcome is not looked at."""
    cancelled: asyncio.CancelledError | None = None
    # The shield is for anyio's scopes, the loop for native cancellations.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
    if cancelled is not None:
        raise cancelled


def unwrap_group(error: BaseException) -> BaseException:
    """The one exception inside nested groups of one, or *error* as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
