"""Faults to order: what the in-memory SQS does wrong, when a test says so.

A fault applies to the next *times* calls of an operation (`None`: to all from now on), where
*queue* is given to those on that queue alone. Operations have the names of the SQS API, since
those are what errors, permissions and bills speak of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..errors import AccessDenied, QueueError, QueueNotFound, Throttled, fresh_copy
from ..sqs.port import Failure
from ..sqs.transport import OPERATIONS

__all__ = ["Faults", "Gate"]

AnError: TypeAlias = QueueError | type[QueueError]


class Gate:
    """Holds calls until it is opened, so that a test can act while they are on their way."""

    def __init__(self) -> None:
        self.waiting = 0
        """How many calls it holds."""
        self._arrival = asyncio.Event()
        self._open = asyncio.Event()

    async def arrived(self) -> None:
        """Wait until it holds a call, or has held one."""
        await self._arrival.wait()

    def release(self) -> None:
        """Open it, for good."""
        self._open.set()

    async def pass_through(self) -> None:
        """Wait until it is open: what the held call does."""
        self.waiting += 1
        self._arrival.set()
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


@dataclass(slots=True, eq=False)
class _Fault:
    operation: str
    queue: str | None
    times: int | None
    before: bool = True
    error: AnError | None = None
    seconds: float = 0.0
    gate: Gate | None = None
    predicate: Callable[[Any], bool] | None = None
    failure: Failure | None = None
    batch: Callable[[Sequence[Any]], bool] | None = None

    def spend(self) -> None:
        if self.times is not None:
            self.times -= 1

    def about(self, operation: str, queue: str | None) -> bool:
        # A queue may be meant by its name or by its URL.
        return (
            self.times != 0
            and self.operation in (operation, "*")
            and (self.queue is None or (queue is not None and f"/{queue}".endswith(self._tail)))
        )

    @property
    def _tail(self) -> str:
        return f"/{(self.queue or '').rpartition('/')[2]}"


class Faults:
    """What is to go wrong. Order a fault with one method call, and it happens."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []

    def fail(
        self,
        operation: str,
        error: AnError = QueueError,
        *,
        times: int | None = 1,
        queue: str | None = None,
    ) -> None:
        """Raise *error* instead of doing it. A class becomes what SQS would typically say:
        a permission that is missing, a throttle, or a 503 for the plain `QueueError`."""
        self._add(_Fault(operation, queue, times, error=error))

    def drop_answer(
        self,
        operation: str,
        error: AnError | None = None,
        *,
        times: int | None = 1,
        queue: str | None = None,
    ) -> None:
        """Do it, then raise *error* (a connection that broke off): the answer got lost."""
        lost = error or QueueError(
            f"{operation}: the connection broke off; SQS may have done it all the same",
            operation=operation,
            queue=queue,
            code="ConnectionClosedError",
            transient=True,
            maybe_done=True,
        )
        self._add(_Fault(operation, queue, times, before=False, error=lost))

    def delay(
        self,
        operation: str,
        seconds: float,
        *,
        times: int | None = None,
        queue: str | None = None,
        answer: bool = False,
    ) -> None:
        """Let it take *seconds* longer, before it is done or (*answer*) after."""
        self._add(_Fault(operation, queue, times, before=not answer, seconds=seconds))

    def hold(
        self,
        operation: str,
        *,
        times: int | None = 1,
        queue: str | None = None,
        answer: bool = False,
    ) -> Gate:
        """Stop calls at a gate until it is released, before they are done or (*answer*)
        after. A call that is cancelled at the gate before it is done was never made."""
        gate = Gate()
        self._add(_Fault(operation, queue, times, before=not answer, gate=gate))
        return gate

    def fail_entries(
        self,
        operation: str,
        predicate: Callable[[Any], bool],
        failure: Failure,
        *,
        times: int | None = None,
        queue: str | None = None,
    ) -> None:
        """Refuse those entries of batch calls for which *predicate* is true; *times* counts
        entries. An entry is what the port takes: a `SendEntry`, a receipt handle, or a
        receipt handle with its seconds."""
        self._add(_Fault(operation, queue, times, predicate=predicate, failure=failure))

    def fail_batches(
        self,
        operation: str,
        predicate: Callable[[Sequence[Any]], bool],
        error: AnError,
        *,
        times: int | None = None,
        queue: str | None = None,
    ) -> None:
        """Refuse as a whole, with *error*, those batch calls for whose entries *predicate* is
        true, as servers do that take fewer bytes in a batch, or stumble over one entry. Entries
        are what `fail_entries` says."""
        self._add(_Fault(operation, queue, times, error=error, batch=predicate))

    def clear(self) -> None:
        """Forget all faults. Calls held at a gate stay there until it is released."""
        self._faults.clear()

    # ------------------------------------------------------- for the in-memory SQS

    async def happen(self, operation: str, queue: str | None, *, before: bool) -> None:
        """Let happen what was ordered for this call: before it is done, or after."""
        for fault in self._of(operation, queue):
            if fault.before is not before or fault.predicate or fault.batch:
                continue
            fault.spend()
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            if fault.gate is not None:
                await fault.gate.pass_through()
            if fault.error is not None:
                raise _made(fault.error, operation, queue)

    def refused(self, operation: str, queue: str | None, entry: Any) -> Failure | None:
        """The failure that was ordered for this entry, if one was."""
        for fault in self._of(operation, queue):
            if fault.predicate is not None and fault.predicate(entry):
                fault.spend()
                return fault.failure
        return None

    def check_batch(self, operation: str, queue: str | None, entries: Sequence[Any]) -> None:
        """Raise the error that was ordered for a batch of these entries, if one was."""
        for fault in self._of(operation, queue):
            if fault.batch is not None and fault.error is not None and fault.batch(entries):
                fault.spend()
                raise _made(fault.error, operation, queue)

    def _of(self, operation: str, queue: str | None) -> Iterator[_Fault]:
        if not self._faults:
            return
        for fault in tuple(self._faults):
            if fault.times == 0:
                if fault in self._faults:
                    self._faults.remove(fault)
            elif fault.about(operation, queue):
                yield fault

    def _add(self, fault: _Fault) -> None:
        if fault.operation != "*" and fault.operation not in OPERATIONS:
            raise ValueError(f"no operation {fault.operation!r}; there are {', '.join(OPERATIONS)}")
        error = fault.error
        if error is not None and not isinstance(error, QueueError) and error not in _TYPICAL:
            classes = ", ".join(kind.__name__ for kind in _TYPICAL)
            raise ValueError(
                f"error is a QueueError, or one of {classes} as classes: not {error!r}"
            )
        self._faults.append(fault)


_TYPICAL: Final[dict[type[QueueError], tuple[str, bool, bool]]] = {
    QueueNotFound: ("QueueDoesNotExist", False, False),
    AccessDenied: ("AccessDenied", False, False),
    Throttled: ("RequestThrottled", True, False),
    QueueError: ("ServiceUnavailable", True, True),
}


def _made(error: AnError, operation: str, queue: str | None) -> QueueError:
    if isinstance(error, QueueError):
        return fresh_copy(error)
    code, transient, maybe_done = _TYPICAL[error]
    return error(
        f"{operation}{f' on {queue}' if queue else ''}: {code}, as the test ordered",
        operation=operation,
        queue=queue,
        code=code,
        transient=transient,
        maybe_done=maybe_done,
    )
