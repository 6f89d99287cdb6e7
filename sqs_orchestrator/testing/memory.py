"""An SQS in memory, behind the same port as the real one.

It keeps to SQS's rules where programs depend on them: visibility timeouts, long polls,
receive counts, dead-letter queues, the order and the deduplication of FIFO queues, limits,
refusals and their codes. And it can be told to go wrong: see `Faults`.

Its time is the running loop's, so a loop with virtual time runs hours of it in a moment.
"""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..core import limits
from ..errors import AccessDenied, QueueError, QueueNotFound, Throttled
from ..sqs.clock import Clock
from ..sqs.port import Failure, Page, Received, SendEntry
from .faults import Faults
from .queues import Queue, Refused, StoredMessage, check_new, size_of

__all__ = ["LoggedCall", "MemorySQS", "MemoryServer"]

_T = TypeVar("_T")

NAME_REFUSED: Final = 60.0
"""Seconds for which SQS refuses the name of a deleted queue (DeleteQueue)."""

_TICK: Final = 1e-6


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One API call, as the server's log has it."""

    operation: str
    queue: str | None
    """The queue's name."""
    time: float
    """When, by the loop's clock."""
    entries: int = 1
    """Entries of the batch, or 1."""


class MemoryServer:
    """The queues, shared by all the clients that a test needs.

    Args:
        region: The region that URLs and ARNs name.
        account: The account of clients that name none.
        epoch: Epoch seconds, by SQS's clock, at the zero of the loop's time.
        latency: How long each call takes, in seconds; half of it before it is done.
        seed: For the ids, which are the same in each run.
    """

    def __init__(
        self,
        *,
        region: str = "us-east-1",
        account: str = "123456789012",
        epoch: float = 1_700_000_000.0,
        latency: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.region = region
        self.account = account
        self.epoch = epoch
        self.latency = latency
        self.faults = Faults()
        """Faults for the calls of every client."""
        self.calls: Counter[str] = Counter()
        """How often each operation was called."""
        self.log: list[LoggedCall] = []
        """Every call, in order."""
        self.creation_lag = 0.0
        """Seconds for which a new queue is not there yet for other calls."""
        self.listing_lag = 0.0
        """Seconds for which ListQueues does not notice that queues come and go."""
        self.cancelled_polls_take = False
        """Whether a cancelled long poll takes messages until its wait would have ended, as
        happens with SQS: it hides what it hands to a connection that is gone."""
        self._random = random.Random(seed)
        self._queues: dict[tuple[str, str], Queue] = {}
        self._deleted: dict[tuple[str, str], float] = {}
        self._waiting: dict[Queue, dict[asyncio.Future[None], None]] = {}
        self._ghosts: dict[Queue, list[tuple[float, int, int]]] = {}

    def __repr__(self) -> str:
        return f"<MemoryServer {self.region}, {len(self._queues)} queues>"

    # ------------------------------------------------------------- for the tests

    def now(self) -> float:
        """Epoch seconds by this server's clock; outside of a loop, when it was last called."""
        return self.epoch + self._now_or_last()

    @property
    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return sorted(name for _, name in self._queues)

    def queue(self, name_or_url: str) -> Queue:
        """A queue's inside. `KeyError` where there is none."""
        queue = self._queues.get(self._key(name_or_url))
        if queue is None:
            raise KeyError(f"no queue {name_or_url!r}; there are {self.queues}")
        return queue

    def messages(self, name_or_url: str) -> list[StoredMessage]:
        """All that is in a queue, in the order of sending, hidden messages included. May be
        asked outside of a loop too: when the loop has ended, no more time passes."""
        return list(self.queue(name_or_url).messages(self._now_or_last()))

    def duplicate(self, name_or_url: str, times: int = 1) -> None:
        """Hand the next *times* messages of a standard queue out twice."""
        self.queue(name_or_url).duplicates += times

    def url(self, name: str, account: str | None = None) -> str:
        """The URL that a queue of this name has, whether or not it exists."""
        return f"https://sqs.{self.region}.amazonaws.com/{account or self.account}/{name}"

    # ---------------------------------------------------------------- for clients

    def find(self, name_or_url: str, account: str | None = None) -> Queue:
        """The queue, or the refusal of SQS."""
        queue = self._queues.get(self._key(name_or_url, account))
        if queue is None or _now() < queue.created_at + self.creation_lag:
            raise Refused("QueueDoesNotExist", "The specified queue does not exist.")
        return queue

    def create(
        self, account: str, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        now = _now()
        check_new(name, attributes, self._by_arn)
        key = (account, name)
        existing = self._queues.get(key)
        if existing is not None:
            differing = existing.differing(attributes)
            if differing:
                raise Refused(
                    "QueueNameExists",
                    "A queue already exists with the same name and a different value for "
                    f"attribute {', '.join(differing)}",
                )
            return self.url(name, account)
        if now < self._deleted.get(key, -math.inf) + NAME_REFUSED:
            raise Refused(
                "QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another "
                "with the same name.",
                transient=True,
            )
        self._queues[key] = Queue(
            name, account, self.region, attributes, tags, now, epoch=self.epoch
        )
        return self.url(name, account)

    def drop(self, queue_url: str) -> None:
        queue = self.find(queue_url)
        key = (queue.account, queue.name)
        del self._queues[key]
        self._deleted[key] = _now()
        self._wake(queue)

    def page(self, account: str, prefix: str, limit: int, token: str) -> Page:
        """A page of a listing; *token* is the last name of the page before."""
        _check_range("MaxResults", limit, 1, limits.LIST_QUEUES_PAGE)
        now = _now()
        names = [
            name
            for (owner, name), queue in self._queues.items()
            if owner == account and queue.created_at + self.listing_lag <= now
        ]
        names += [
            name
            for (owner, name), at in self._deleted.items()
            if owner == account and now < at + self.listing_lag and name not in names
        ]
        names = sorted(name for name in names if name.startswith(prefix) and name > token)
        urls = [self.url(name, account) for name in names[:limit]]
        return Page(urls, names[limit - 1] if len(names) > limit else "")

    def send(self, queue: Queue, entry: SendEntry) -> str | Failure:
        result = queue.send(entry, self._new_id, _now(), epoch=self.epoch)
        self._feed_ghosts(queue)
        self._wake(queue)
        return result

    def delete(self, queue: Queue, receipt_handle: str) -> Failure | None:
        result = queue.delete(receipt_handle, _now())
        if queue.fifo:
            self._wake(queue)
        return result

    def change_visibility(self, queue: Queue, receipt_handle: str, seconds: int) -> Failure | None:
        result = queue.change_visibility(receipt_handle, seconds, _now())
        self._wake(queue)
        return result

    async def poll(
        self, queue: Queue, count: int, wait_time: int, visibility: int
    ) -> list[Received]:
        """A long poll: take what is there, or wait for the first to come or come back."""
        loop = asyncio.get_running_loop()
        deadline = _now() + wait_time
        while True:
            now = _now()
            taken = self._take(queue, count, visibility)
            if taken or now >= deadline - _TICK:
                return taken
            arrival: asyncio.Future[None] = loop.create_future()
            waiting = self._waiting.setdefault(queue, {})
            waiting[arrival] = None
            # A tick late rather than early: a timer may fire a moment before its time.
            timer = loop.call_at(min(deadline, queue.next_change(now) + _TICK), _resolve, arrival)
            try:
                await arrival
            except asyncio.CancelledError:
                if self.cancelled_polls_take:
                    self._ghosts.setdefault(queue, []).append((deadline, count, visibility))
                    self._feed_ghosts(queue)
                raise
            finally:
                timer.cancel()
                waiting.pop(arrival, None)
                if not waiting:
                    self._waiting.pop(queue, None)
            if self._queues.get((queue.account, queue.name)) is not queue:
                raise Refused("QueueDoesNotExist", "The specified queue does not exist.")

    # --------------------------------------------------------------------- inside

    def _key(self, name_or_url: str, account: str | None = None) -> tuple[str, str]:
        # As with SQS, a URL's host does not count: calls go to the client's endpoint.
        parts = name_or_url.rstrip("/").split("/")
        return account or (parts[-2] if len(parts) > 1 else self.account), parts[-1]

    def _now_or_last(self) -> float:
        try:
            return _now()
        except RuntimeError:
            return self.log[-1].time if self.log else 0.0

    def _by_arn(self, arn: str) -> Queue | None:
        account, name = arn.split(":")[-2:] if arn.count(":") >= 5 else ("", "")
        return self._queues.get((account, name))

    def _take(self, queue: Queue, count: int, visibility: int) -> list[Received]:
        now = _now()

        def bury(message: StoredMessage) -> bool:
            redrive = queue.redrive
            target = self._by_arn(redrive[0]) if redrive else None
            if target is None:
                return False
            target.adopt(message, now)
            self._wake(target)
            return True

        return queue.take(count, visibility, self._new_handle, bury, now)

    def _feed_ghosts(self, queue: Queue) -> None:
        for ghost in self._ghosts.pop(queue, ()):
            deadline, count, visibility = ghost
            if _now() < deadline and not self._take(queue, count, visibility):
                self._ghosts.setdefault(queue, []).append(ghost)

    def _wake(self, queue: Queue) -> None:
        for arrival in tuple(self._waiting.get(queue, ())):
            _resolve(arrival)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _new_handle(self) -> str:
        return f"{self._random.getrandbits(256):064x}"


def _now() -> float:
    # The loop's time, not the epoch's: those large numbers would round it.
    return asyncio.get_running_loop().time()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class MemorySQS(Faults):
    """One client of an in-memory SQS: the port, and the faults of this client.

    Without *server* it has one of its own. Each client has its own view of SQS's clock.
    """

    def __init__(self, server: MemoryServer | None = None, *, account: str | None = None) -> None:
        super().__init__()
        self.server = server if server is not None else MemoryServer()
        self.account = account or self.server.account
        self.calls: Counter[str] = Counter()
        """How often this client called each operation."""
        self.clock = Clock()
        self.region = self.server.region

    def __repr__(self) -> str:
        return f"<MemorySQS of {self.server!r}>"

    # ------------------------------------------------------------------- messages

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        operation = "SendMessageBatch"

        def do() -> list[str | Failure]:
            queue = self.server.find(queue_url)
            self._check_batch(operation, queue_url, entries)
            size = sum(size_of(entry) for entry in entries)
            if size > limits.BATCH_BYTES:
                raise Refused(
                    "BatchRequestTooLong",
                    f"Batch requests cannot be longer than {limits.BATCH_BYTES} bytes. You have "
                    f"sent {size} bytes.",
                )
            return [
                self._refused(operation, queue_url, entry) or self.server.send(queue, entry)
                for entry in entries
            ]

        return await self._call(operation, queue_url, do, entries=len(entries))

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        operation = "ReceiveMessage"
        await self._begin(operation, queue_url, 1)
        try:
            queue = self.server.find(queue_url)
            _check_range("MaxNumberOfMessages", max_messages, 1, limits.BATCH_ENTRIES)
            _check_range("WaitTimeSeconds", wait_time, 0, int(limits.WAIT_TIME))
            visibility = visibility_timeout
            if visibility is None:
                visibility = queue.seconds("VisibilityTimeout")
            _check_range("VisibilityTimeout", visibility, 0, int(limits.VISIBILITY_TIMEOUT))
            received = await self.server.poll(queue, max_messages, wait_time, visibility)
        except Refused as refusal:
            raise self._error(operation, queue_url, refusal) from None
        await self._end(operation, queue_url)
        if begun is not None:
            begun()
        return received

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        operation = "DeleteMessageBatch"

        def do() -> list[Failure | None]:
            queue = self.server.find(queue_url)
            self._check_batch(operation, queue_url, receipt_handles)
            return [
                self._refused(operation, queue_url, handle) or self.server.delete(queue, handle)
                for handle in receipt_handles
            ]

        return await self._call(operation, queue_url, do, entries=len(receipt_handles))

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        operation = "ChangeMessageVisibilityBatch"

        def do() -> list[Failure | None]:
            queue = self.server.find(queue_url)
            self._check_batch(operation, queue_url, changes)
            return [
                self._refused(operation, queue_url, change)
                or self.server.change_visibility(queue, *change)
                for change in changes
            ]

        return await self._call(operation, queue_url, do, entries=len(changes))

    # --------------------------------------------------------------------- queues

    async def get_queue_url(self, name: str, account: str | None = None) -> str:
        owner = account or self.account

        def do() -> str:
            queue = self.server.find(name, owner)
            return self.server.url(queue.name, queue.account)

        return await self._call("GetQueueUrl", name, do)

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        return await self._call(
            "CreateQueue",
            name,
            lambda: self.server.create(self.account, name, dict(attributes), dict(tags)),
        )

    async def get_queue_attributes(self, queue_url: str, names: Sequence[str]) -> dict[str, str]:
        return await self._call(
            "GetQueueAttributes",
            queue_url,
            lambda: self.server.find(queue_url).described(list(names), _now()),
        )

    async def list_queues(
        self, prefix: str, *, limit: int = limits.LIST_QUEUES_PAGE, token: str = ""
    ) -> Page:
        return await self._call(
            "ListQueues", None, lambda: self.server.page(self.account, prefix, limit, token)
        )

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        return await self._call(
            "ListQueueTags", queue_url, lambda: dict(self.server.find(queue_url).tags)
        )

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None:
        await self._call(
            "TagQueue", queue_url, lambda: self.server.find(queue_url).tags.update(tags)
        )

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None:
        def do() -> None:
            tags = self.server.find(queue_url).tags
            for key in keys:
                tags.pop(key, None)

        await self._call("UntagQueue", queue_url, do)

    async def delete_queue(self, queue_url: str) -> None:
        await self._call("DeleteQueue", queue_url, lambda: self.server.drop(queue_url))

    # -------------------------------------------------------------------- helpers

    async def _call(
        self, operation: str, queue: str | None, do: Callable[[], _T], *, entries: int = 1
    ) -> _T:
        await self._begin(operation, queue, entries)
        try:
            result = do()
        except Refused as refusal:
            raise self._error(operation, queue, refusal) from None
        except QueueError:
            self._observe()
            raise
        await self._end(operation, queue)
        return result

    async def _begin(self, operation: str, queue: str | None, entries: int) -> None:
        self.calls[operation] += 1
        self.server.calls[operation] += 1
        name = queue.rpartition("/")[2] if queue else None
        self.server.log.append(LoggedCall(operation, name, _now(), entries))
        # Even a call that takes no time lets other tasks run, as each real one does.
        await asyncio.sleep(self.server.latency / 2)
        await self._happen(operation, queue, before=True)

    async def _end(self, operation: str, queue: str | None) -> None:
        await self._happen(operation, queue, before=False)
        if self.server.latency:
            await asyncio.sleep(self.server.latency / 2)
        self._observe()

    async def _happen(self, operation: str, queue: str | None, *, before: bool) -> None:
        try:
            for faults in (self, self.server.faults):
                await faults.happen(operation, queue, before=before)
        except (AccessDenied, QueueNotFound, Throttled):
            self._observe()  # these are answers of SQS; others are of the network, or may be
            raise

    def _check_batch(self, operation: str, queue: str | None, entries: Sequence[Any]) -> None:
        _check_batch(entries)
        for faults in (self, self.server.faults):
            faults.check_batch(operation, queue, entries)

    def _refused(self, operation: str, queue: str | None, entry: Any) -> Failure | None:
        return self.refused(operation, queue, entry) or self.server.faults.refused(
            operation, queue, entry
        )

    def _observe(self) -> None:
        # The Date header of HTTP has whole seconds.
        self.clock.observe_epoch(math.floor(self.server.now()))

    def _error(self, operation: str, queue: str | None, refusal: Refused) -> QueueError:
        self._observe()
        kind = QueueNotFound if refusal.code == "QueueDoesNotExist" else QueueError
        return kind(
            f"{operation}{f' on {queue}' if queue else ''}: {refusal.message} ({refusal.code})",
            operation=operation,
            queue=queue,
            code=refusal.code,
            transient=refusal.transient,
        )


def _check_batch(entries: Sequence[Any]) -> None:
    if not entries:
        raise Refused("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > limits.BATCH_ENTRIES:
        raise Refused(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {limits.BATCH_ENTRIES}. You have sent "
            f"{len(entries)}.",
        )


def _check_range(parameter: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise Refused(
            "InvalidParameterValue",
            f"Value {value} for parameter {parameter} is invalid. Reason: Must be >= {low} and "
            f"<= {high}, if provided.",
        )
