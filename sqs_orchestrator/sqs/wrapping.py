"""The door around every API call: what `connect(wrap=…)` takes, and the port that passes by it.

A wrap decides what becomes of a call, as long as what it raises is an error of the port
(`QueueError`) and what it returns is a result of the call. Anything else is a mistake in the wrap,
and must not cost a message: nothing may be sent twice for it, no message be dropped that was
received, and no poller stop. So then the outcome of the call itself counts, if there is one. If the
call was not made, or was broken off, it failed for a transient reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ..core.callables import is_coroutine_function, takes_two
from ..core.checks import shown
from ..core.limits import LIST_QUEUES_PAGE
from ..core.names import is_queue_url, queue_name_of
from ..errors import QueueError
from ..logs import about, get_logger
from .attempts import attempt
from .port import SQS, Attributes, Failure, Page, Received, SendEntry

__all__ = ["Call", "Wrap", "WrappedSQS", "check_wrap"]

logger = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One API call, as a wrap sees it.

    Attributes:
        operation: The operation, by its name in the SQS API, such as `SendMessageBatch`.
        queue_url: The URL of the queue that it is about. `None` where the call has none:
            `GetQueueUrl` and `CreateQueue`, which know only its name, and `ListQueues`.
        queue_name: The name of that queue. `None` for `ListQueues`.
        entries: How many messages a batch call sends, deletes or extends; 1 for all other calls.
        attempt: 1, and one more for each failure in a row before it, where the library tries
            again: an operation on a queue, the batches for one queue, the receives from one.
        message_attributes: Of `SendMessageBatch`, the attributes of each message, those of the
            library included, in the shape of the SQS API
            (`{"DataType": "String", "StringValue": "…"}`). Empty for all other calls.
    """

    operation: str
    queue_url: str | None = None
    queue_name: str | None = None
    entries: int = 1
    attempt: int = 1
    message_attributes: Sequence[Attributes] = field(default=(), repr=False, compare=False)


class Wrap(Protocol):
    """Stands around every API call: what `connect(wrap=…)` takes."""

    async def __call__(self, call: Call, call_next: Callable[[Call], Awaitable[Any]], /) -> Any:
        """Make *call* by `await call_next(call)`, and return what that returns.

        That is the result that the library works with: for a batch one result per entry (of a
        send the message id; `None` where there is nothing to say; a `Failure` for an entry that
        SQS refused), for a receive the messages, for the others a URL, attributes, tags, a page of
        a listing, or `None`. `call_next` raises a `QueueError` where the call failed. Cancelling
        passes through.
        """
        ...


def check_wrap(wrap: object) -> None:
    """Raise `ValueError` where *wrap* is neither `None` nor what can be called as a `Wrap`."""
    if wrap is not None and not (
        callable(wrap) and is_coroutine_function(wrap) and takes_two(wrap)
    ):
        raise ValueError(
            f"wrap is a coroutine function, async def wrap(call, call_next), not {shown(wrap)}"
        )


class WrappedSQS:
    """The port within *port*, with *wrap* around each of its calls."""

    def __init__(self, port: SQS, wrap: Wrap) -> None:
        self.clock = port.clock
        self.region = port.region
        self.client = getattr(port, "client", None)
        self._port = port
        self._wrap = wrap
        self._mistakes: set[tuple[str, type[BaseException]]] = set()

    def __repr__(self) -> str:
        return f"<WrappedSQS around {self._port!r}>"

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        return await self._around(
            _about(
                "SendMessageBatch",
                queue_url,
                len(entries),
                [entry.attributes for entry in entries],
            ),
            lambda: self._port.send(queue_url, entries),
            _is_list_of(len(entries)),
        )

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        return await self._around(
            _about("ReceiveMessage", queue_url),
            lambda: self._port.receive(
                queue_url,
                max_messages=max_messages,
                wait_time=wait_time,
                visibility_timeout=visibility_timeout,
                begun=begun,
            ),
            _are_messages,
        )

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        return await self._around(
            _about("DeleteMessageBatch", queue_url, len(receipt_handles)),
            lambda: self._port.delete(queue_url, receipt_handles),
            _is_list_of(len(receipt_handles)),
        )

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        return await self._around(
            _about("ChangeMessageVisibilityBatch", queue_url, len(changes)),
            lambda: self._port.change_visibility(queue_url, changes),
            _is_list_of(len(changes)),
        )

    async def get_queue_url(self, name: str, account: str | None = None) -> str:
        return await self._around(
            Call("GetQueueUrl", None, name, 1, attempt.get()),
            lambda: self._port.get_queue_url(name, account),
            _is_url,
        )

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        return await self._around(
            Call("CreateQueue", None, name, 1, attempt.get()),
            lambda: self._port.create_queue(name, attributes, tags),
            _is_url,
        )

    async def get_queue_attributes(self, queue_url: str, names: Sequence[str]) -> dict[str, str]:
        return await self._around(
            _about("GetQueueAttributes", queue_url),
            lambda: self._port.get_queue_attributes(queue_url, names),
            _is_dict,
        )

    async def list_queues(
        self, prefix: str, *, limit: int = LIST_QUEUES_PAGE, token: str = ""
    ) -> Page:
        return await self._around(
            Call("ListQueues", None, None, 1, attempt.get()),
            lambda: self._port.list_queues(prefix, limit=limit, token=token),
            _is_page,
        )

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        return await self._around(
            _about("ListQueueTags", queue_url),
            lambda: self._port.list_queue_tags(queue_url),
            _is_dict,
        )

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None:
        await self._around(
            _about("TagQueue", queue_url),
            lambda: self._port.tag_queue(queue_url, tags),
            _is_anything,
        )

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None:
        await self._around(
            _about("UntagQueue", queue_url),
            lambda: self._port.untag_queue(queue_url, keys),
            _is_anything,
        )

    async def delete_queue(self, queue_url: str) -> None:
        await self._around(
            _about("DeleteQueue", queue_url),
            lambda: self._port.delete_queue(queue_url),
            _is_anything,
        )

    async def _around(
        self, call: Call, make: Callable[[], Awaitable[T]], fits: Callable[[Any], bool]
    ) -> T:
        # What has become of the call itself, as often as the wrap has made it: the last counts.
        begun = False
        results: list[T] = []
        failure: Exception | None = None

        async def call_next(_: Call) -> T:
            nonlocal begun, failure
            begun = True
            results.clear()
            failure = None
            try:
                results.append(await make())
            except Exception as error:
                failure = error
                raise
            return results[0]

        try:
            value: T = await self._wrap(call, call_next)
            if (results and value is results[0]) or fits(value):
                return value
            raise TypeError(f"it returned {shown(value)}, which is no result of {call.operation}")
        except QueueError:
            raise
        except (Exception, asyncio.CancelledError) as mistake:
            if mistake is failure or _is_cancelled(mistake):
                raise
            self._tell(call, mistake)
            if results:
                return results[0]
            if failure is not None:
                raise failure from None
            raise QueueError(
                f"{call.operation}{f' on {call.queue_name}' if call.queue_name else ''}: the wrap"
                f" given to connect() failed: {shown(mistake)}",
                operation=call.operation,
                queue=call.queue_url or call.queue_name,
                code=type(mistake).__name__,
                transient=True,
                maybe_done=begun,
            ) from mistake

    def _tell(self, call: Call, mistake: BaseException) -> None:
        # Once of each kind: it may come with every call.
        kind = (call.operation, type(mistake))
        if kind in self._mistakes:
            logger.debug(
                "the wrap given to connect() failed again around %s: %r",
                call,
                mistake,
                extra=about(call.queue_name),
            )
            return
        self._mistakes.add(kind)
        logger.error(
            "the wrap given to connect() failed around %s: it raised no QueueError, or returned no"
            " result of the call. The outcome of the call itself counts",
            call.operation,
            exc_info=mistake,
            extra=about(call.queue_name),
        )


def _is_cancelled(error: BaseException) -> bool:
    """Whether *error* says that the task which makes the call is being cancelled. A wrap may also
    let out the `CancelledError` of another task that it has awaited."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _about(
    operation: str,
    queue_url: str,
    entries: int = 1,
    message_attributes: Sequence[Attributes] = (),
) -> Call:
    name = queue_name_of(queue_url)
    return Call(operation, queue_url, name, entries, attempt.get(), message_attributes)


# -------------------------------------------------------------------- what a result looks like


def _is_list_of(count: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and len(value) == count


def _are_messages(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, Received) for each in value)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and is_queue_url(value)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_page(value: Any) -> bool:
    return isinstance(value, Page)


def _is_anything(_: Any) -> bool:
    return True
