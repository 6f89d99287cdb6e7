"""The port: every operation of SQS that the library uses, and no other.

All that stands behind it keeps the same contract, and one suite of tests holds it to that:

- Values go in and come out as they are here; message attributes keep the shape of the SQS
  API (`{"DataType": "String", "StringValue": "…"}`), so that nothing copies them.
- A call either returns or raises a `QueueError` (`QueueNotFound`, `AccessDenied`,
  `Throttled`), which says whether it is `transient` and whether SQS `maybe_done` it. No
  exception of a client or a transport passes. The port itself never tries again.
- A batch call returns one result per entry, in the order of the entries: what SQS gave, or
  a `Failure`. No entry is ever without a result.
- Every response that carries SQS's time feeds `clock`, refusals too.
- Cancelling a call drops its connection; SQS may have carried it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..core.limits import LIST_QUEUES_PAGE
from .clock import Clock

AttributeValue: TypeAlias = Mapping[str, Any]
"""One message attribute in the shape of the SQS API."""

Attributes: TypeAlias = Mapping[str, AttributeValue]
"""The attributes of one message."""

NO_ATTRIBUTES: Attributes = {}
_NO_SYSTEM: Mapping[str, str] = {}


class SendEntry(NamedTuple):
    """A message about to be sent."""

    body: str
    attributes: Attributes = NO_ATTRIBUTES
    delay: int | None = None
    group_id: str | None = None
    deduplication_id: str | None = None


class Received(NamedTuple):
    """A message as SQS handed it out."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: Attributes = NO_ATTRIBUTES
    system: Mapping[str, str] = _NO_SYSTEM
    """System attributes: `SentTimestamp` (epoch milliseconds, by SQS's clock),
    `ApproximateReceiveCount`, `MessageGroupId`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why SQS did not carry out one entry of a batch."""

    code: str
    message: str = ""
    sender_fault: bool = True
    """Whether the entry itself is at fault, so that trying again is useless."""
    maybe_done: bool = False
    """Whether SQS may have carried it out all the same."""


class Page(NamedTuple):
    """One page of a listing of queues."""

    urls: Sequence[str]
    next_token: str = ""
    """Asks for the page after it; empty where it is the last."""


class SQS(Protocol):
    """What the library asks of SQS. The names follow the operations of the SQS API."""

    @property
    def clock(self) -> Clock:
        """SQS's clock, as far as responses have shown it."""
        ...

    @property
    def region(self) -> str | None:
        """The region of the endpoint, where it has one."""
        ...

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        """Send up to ten messages; per entry the message id, or why not."""
        ...

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        """Receive up to ten messages with all their attributes, waiting for the first.

        *begun* is called once the answer has begun to arrive, where the port can see that.
        """
        ...

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        """Delete up to ten received messages."""
        ...

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        """Set how long up to ten received messages stay hidden: (receipt handle, seconds)."""
        ...

    async def get_queue_url(self, name: str, account: str | None = None) -> str: ...

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        """Create a queue, its tags in the same call; returns its URL.

        A queue of that name with other attributes is a `QueueError` with the code
        `QueueNameExists`; a name deleted within the last minute one with
        `QueueDeletedRecently`. Both codes are the same behind every port.
        """
        ...

    async def get_queue_attributes(
        self, queue_url: str, names: Sequence[str]
    ) -> dict[str, str]: ...

    async def list_queues(
        self, prefix: str, *, limit: int = LIST_QUEUES_PAGE, token: str = ""
    ) -> Page:
        """Up to *limit* queues whose names begin with *prefix*: the first, or those that follow a
        page whose `next_token` is *token*. `sqs.listing.list_queues()` reads page after page."""
        ...

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]: ...

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None: ...

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None: ...

    async def delete_queue(self, queue_url: str) -> None: ...
