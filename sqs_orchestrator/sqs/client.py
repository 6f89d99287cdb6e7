"""aiobotocore's SQS client behind the port, and its errors as ours.

Calls, not messages, are what costs here (about a millisecond of CPU each), so every call
goes straight to the client's own method, and nothing is wrapped, copied or logged on the way.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions as boto

from ..core import limits
from .clock import Clock
from .config import make_config, read_timeout_of
from .failures import date_of, error_of, own_code, short, unreadable
from .port import NO_ATTRIBUTES, Failure, Listing, Received, SendEntry

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["BotoSQS", "make_config", "read_timeout_of"]

_IDS: Final = tuple(str(index) for index in range(limits.BATCH_ENTRIES))
INDICES: Final = {entry_id: index for index, entry_id in enumerate(_IDS)}
"""Which entry of a batch an answer means."""
_ALL: Final = ["All"]
_SYSTEM_ATTRIBUTES: Final = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]


class BotoSQS:
    """The SQS port over aiobotocore clients, which stay the caller's to close.

    *polling_client* takes the receives: one client's pool of connections serves all its
    calls, and a dozen long polls in it would keep the sends waiting for their end.
    """

    def __init__(
        self,
        client: SQSClient,
        polling_client: SQSClient | None = None,
        *,
        region: str | None = None,
    ) -> None:
        # Typed loosely from here on: the stubs want one TypedDict per parameter, and making
        # those costs a copy of every message.
        self._client: Any = client
        polling: Any = client if polling_client is None else polling_client
        self._receive = polling.receive_message
        self._region: str | None = region or getattr(self._client.meta, "region_name", None)
        self._clock = Clock()
        self._client.meta.events.register(
            "before-send.sqs.SendMessageBatch", _stream_large_body, unique_id="sqs-orchestrator"
        )
        # The parameter was called AttributeNames until 2024.
        model = polling.meta.service_model.operation_model("ReceiveMessage")
        system = "MessageSystemAttributeNames"
        self._receive_options: dict[str, Any] = {
            "MessageAttributeNames": _ALL,
            system if system in model.input_shape.members else "AttributeNames": _SYSTEM_ATTRIBUTES,
        }

    def __repr__(self) -> str:
        return f"<BotoSQS {getattr(self._client.meta, 'endpoint_url', None)}>"

    @property
    def client(self) -> SQSClient:
        """The aiobotocore client that all but the receives go through."""
        client: SQSClient = self._client
        return client

    @property
    def clock(self) -> Clock:
        """SQS's clock, by the `Date` header of every response."""
        return self._clock

    @property
    def region(self) -> str | None:
        """The region that the client signs for."""
        return self._region

    # ------------------------------------------------------------------- messages

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        batch: list[dict[str, Any]] = []
        for index, entry in enumerate(entries):
            item: dict[str, Any] = {"Id": _IDS[index], "MessageBody": entry.body}
            if entry.attributes:
                item["MessageAttributes"] = entry.attributes
            if entry.delay is not None:
                item["DelaySeconds"] = entry.delay
            if entry.group_id is not None:
                item["MessageGroupId"] = entry.group_id
            if entry.deduplication_id is not None:
                item["MessageDeduplicationId"] = entry.deduplication_id
            batch.append(item)
        operation = "SendMessageBatch"
        answer = await self._call(
            operation,
            queue_url,
            self._client.send_message_batch,
            QueueUrl=queue_url,
            Entries=batch,
        )
        return _by_entry(operation, queue_url, answer, len(batch), "MessageId")

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        options = self._receive_options
        if visibility_timeout is not None:
            options = {**options, "VisibilityTimeout": visibility_timeout}
        answer = await self._call(
            "ReceiveMessage",
            queue_url,
            self._receive,
            QueueUrl=queue_url,
            MaxNumberOfMessages=max_messages,
            WaitTimeSeconds=wait_time,
            begun=begun,
            **options,
        )
        messages = answer.get("Messages")
        if not messages:
            # Nothing to tell an empty answer from a proxy's page but its media type, and a
            # page taken for an empty answer would make the poll spin.
            headers = answer["ResponseMetadata"].get("HTTPHeaders") or {}
            if headers.get("content-type", "").startswith("text/html"):
                raise unreadable("ReceiveMessage", queue_url, "it is an HTML page")
            return []
        try:
            return [
                Received(
                    _text(message["MessageId"]),
                    _text(message["ReceiptHandle"]),
                    _text(message["Body"]),
                    message.get("MessageAttributes", NO_ATTRIBUTES),
                    message.get("Attributes", _NO_SYSTEM),
                )
                for message in messages
            ]
        except _MALFORMED as exc:
            raise unreadable("ReceiveMessage", queue_url, f"{type(exc).__name__}: {exc}") from exc

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        batch = [
            {"Id": _IDS[index], "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        ]
        return await self._settle(
            "DeleteMessageBatch", queue_url, self._client.delete_message_batch, batch
        )

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        batch = [
            {"Id": _IDS[index], "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for index, (handle, seconds) in enumerate(changes)
        ]
        return await self._settle(
            "ChangeMessageVisibilityBatch",
            queue_url,
            self._client.change_message_visibility_batch,
            batch,
        )

    # --------------------------------------------------------------------- queues

    async def get_queue_url(self, name: str, account: str | None = None) -> str:
        options: dict[str, Any] = {}
        if account is not None:
            options["QueueOwnerAWSAccountId"] = account
        answer = await self._call(
            "GetQueueUrl", name, self._client.get_queue_url, QueueName=name, **options
        )
        return _queue_url("GetQueueUrl", name, answer)

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        options: dict[str, Any] = {}
        if attributes:
            options["Attributes"] = attributes
        if tags:
            options["tags"] = tags
        answer = await self._call(
            "CreateQueue", name, self._client.create_queue, QueueName=name, **options
        )
        return _queue_url("CreateQueue", name, answer)

    async def get_queue_attributes(self, queue_url: str, names: Sequence[str]) -> dict[str, str]:
        answer = await self._call(
            "GetQueueAttributes",
            queue_url,
            self._client.get_queue_attributes,
            QueueUrl=queue_url,
            AttributeNames=list(names),
        )
        return dict(answer.get("Attributes") or {})

    async def list_queues(self, prefix: str, *, limit: int | None = None) -> Listing:
        urls: list[str] = []
        options: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
        while True:
            # Without MaxResults SQS does not page: queues past the first 1000 are silently
            # missing then.
            page = limits.LIST_QUEUES_PAGE
            if limit is not None:
                page = max(1, min(page, limit - len(urls)))
            answer = await self._call(
                "ListQueues", None, self._client.list_queues, MaxResults=page, **options
            )
            urls.extend(answer.get("QueueUrls") or ())
            token = answer.get("NextToken")
            if limit is not None and len(urls) >= limit:
                # Some servers do not know MaxResults and give more than was asked for.
                return Listing(urls[:limit], complete=not token and len(urls) == limit)
            if not token:
                return Listing(urls)
            options["NextToken"] = token

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        answer = await self._call(
            "ListQueueTags", queue_url, self._client.list_queue_tags, QueueUrl=queue_url
        )
        return dict(answer.get("Tags") or {})

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None:
        await self._call(
            "TagQueue", queue_url, self._client.tag_queue, QueueUrl=queue_url, Tags=tags
        )

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None:
        await self._call(
            "UntagQueue",
            queue_url,
            self._client.untag_queue,
            QueueUrl=queue_url,
            TagKeys=list(keys),
        )

    async def delete_queue(self, queue_url: str) -> None:
        await self._call("DeleteQueue", queue_url, self._client.delete_queue, QueueUrl=queue_url)

    # -------------------------------------------------------------------- helpers

    async def _call(
        self,
        operation: str,
        queue: str | None,
        method: Callable[..., Any],
        *,
        begun: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        # The stock client tells of an answer only when it has read all of it: *begun* is for
        # the lean path.
        try:
            answer: dict[str, Any] = await method(**parameters)
        except Exception as exc:
            # STS, where credentials may have to be fetched, does not show SQS's time.
            if isinstance(exc, boto.ClientError) and exc.operation_name == operation:
                self._clock.observe(date_of(exc))
            raise error_of(operation, queue, exc) from exc
        headers = answer["ResponseMetadata"].get("HTTPHeaders")
        if headers:
            self._clock.observe(headers.get("date"))
        return answer

    async def _settle(
        self,
        operation: str,
        queue_url: str,
        method: Callable[..., Any],
        batch: list[dict[str, Any]],
    ) -> list[Failure | None]:
        answer = await self._call(operation, queue_url, method, QueueUrl=queue_url, Entries=batch)
        return _by_entry(operation, queue_url, answer, len(batch), None)


def _stream_large_body(request: Any, **_: Any) -> None:
    # aiohttp warns of larger ones in one piece, and where warnings are errors that fails.
    if isinstance(request.body, bytes) and len(request.body) > 2**20:
        request.body = io.BytesIO(request.body)


_NO_SYSTEM: Final[Mapping[str, str]] = {}

_FORGOTTEN: Final = Failure(
    "MissingResult",
    "SQS's answer does not mention this entry",
    sender_fault=False,
    maybe_done=True,
)
DAMAGED: Final = "ChecksumMismatch"
"""The code of an entry that SQS took, but not as it was sent."""


_MALFORMED: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def _by_entry(
    operation: str, queue_url: str, answer: dict[str, Any], count: int, wanted: str | None
) -> list[Any]:
    """One result per entry of a batch: what is *wanted* of the answer, or a `Failure`."""
    successful: Sequence[dict[str, Any]] = answer.get("Successful") or ()
    failed: Sequence[dict[str, Any]] = answer.get("Failed") or ()
    if not successful and not failed:
        raise unreadable(operation, queue_url, "it mentions no entry of the batch")
    results: list[Any] = [_FORGOTTEN] * count
    try:
        for entry in successful:
            results[INDICES[entry["Id"]]] = entry[wanted] if wanted else None
        for entry in failed:
            results[INDICES[entry["Id"]]] = Failure(
                own_code(short(entry.get("Code") or "")),
                short(entry.get("Message") or ""),
                bool(entry.get("SenderFault", True)),
                maybe_done=entry.get("Code") == DAMAGED,
            )
    except _MALFORMED as exc:
        raise unreadable(operation, queue_url, f"{type(exc).__name__}: {exc}") from exc
    return results


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text is due")
    return value


def _queue_url(operation: str, name: str, answer: dict[str, Any]) -> str:
    url = answer.get("QueueUrl")
    if not isinstance(url, str):
        raise unreadable(operation, name, "it has no queue URL")
    return url
