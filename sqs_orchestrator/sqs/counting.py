"""A port that counts the calls that go through it, by the names of the SQS API.

What SQS bills and throttles by is the call, so that is what demos, benchmarks and tests of
batching look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..core.limits import LIST_QUEUES_PAGE
from .clock import Clock
from .port import SQS, Failure, Page, Received, SendEntry

__all__ = ["Counting"]


class Counting:
    """Passes every call on to *port*, and counts it in *calls* as it begins.

    Whatever becomes of it: SQS bills for refusals too.
    """

    def __init__(self, port: SQS, calls: Counter[str] | None = None) -> None:
        self._port = port
        self.calls: Counter[str] = Counter() if calls is None else calls
        """Calls begun so far, by operation."""

    def __repr__(self) -> str:
        return f"<Counting {self._port!r}, {self.calls.total()} calls>"

    @property
    def clock(self) -> Clock:
        """The clock of the port within."""
        return self._port.clock

    @property
    def region(self) -> str | None:
        """The region of the port within."""
        return self._port.region

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        self.calls["SendMessageBatch"] += 1
        return await self._port.send(queue_url, entries)

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        self.calls["ReceiveMessage"] += 1
        return await self._port.receive(
            queue_url,
            max_messages=max_messages,
            wait_time=wait_time,
            visibility_timeout=visibility_timeout,
            begun=begun,
        )

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        self.calls["DeleteMessageBatch"] += 1
        return await self._port.delete(queue_url, receipt_handles)

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        self.calls["ChangeMessageVisibilityBatch"] += 1
        return await self._port.change_visibility(queue_url, changes)

    async def get_queue_url(self, name: str, account: str | None = None) -> str:
        self.calls["GetQueueUrl"] += 1
        return await self._port.get_queue_url(name, account)

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        self.calls["CreateQueue"] += 1
        return await self._port.create_queue(name, attributes, tags)

    async def get_queue_attributes(self, queue_url: str, names: Sequence[str]) -> dict[str, str]:
        self.calls["GetQueueAttributes"] += 1
        return await self._port.get_queue_attributes(queue_url, names)

    async def list_queues(
        self, prefix: str, *, limit: int = LIST_QUEUES_PAGE, token: str = ""
    ) -> Page:
        self.calls["ListQueues"] += 1
        return await self._port.list_queues(prefix, limit=limit, token=token)

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        self.calls["ListQueueTags"] += 1
        return await self._port.list_queue_tags(queue_url)

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None:
        self.calls["TagQueue"] += 1
        await self._port.tag_queue(queue_url, tags)

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None:
        self.calls["UntagQueue"] += 1
        await self._port.untag_queue(queue_url, keys)

    async def delete_queue(self, queue_url: str) -> None:
        self.calls["DeleteQueue"] += 1
        await self._port.delete_queue(queue_url)
