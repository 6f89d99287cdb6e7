"""The port to an SQS elsewhere: what its operations say to SQS, and what they read in its answers.

A `Transport` carries the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..core.limits import LIST_QUEUES_PAGE
from .failures import error_of
from .port import Failure, Page, Received, SendEntry
from .reading import IDS, messages_of, page_of, results_of, texts_of, url_of
from .transport import Transport

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["RemoteSQS"]

_ALL: Final = ["All"]
_SYSTEM_ATTRIBUTES: Final = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]


class RemoteSQS:
    """The SQS port over *transport*. *client* is the aiobotocore client that it was made for."""

    def __init__(self, client: SQSClient, transport: Transport) -> None:
        self.client = client
        """The aiobotocore client, which stays the caller's to close."""
        self.clock = transport.clock
        """SQS's clock, by the `Date` header of every response."""
        self.region: str | None = client.meta.region_name
        """The region that the client signs for."""
        self._transport = transport
        # The parameter was called AttributeNames until 2024.
        model = client.meta.service_model.operation_model("ReceiveMessage")
        system = "MessageSystemAttributeNames"
        self._receive_options: dict[str, Any] = {
            "MessageAttributeNames": _ALL,
            system if system in model.input_shape.members else "AttributeNames": _SYSTEM_ATTRIBUTES,
        }

    def __repr__(self) -> str:
        return f"<RemoteSQS by {self._transport!r}>"

    # ------------------------------------------------------------------- messages

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        batch: list[dict[str, Any]] = []
        for index, entry in enumerate(entries):
            item: dict[str, Any] = {"Id": IDS[index], "MessageBody": entry.body}
            if entry.attributes:
                item["MessageAttributes"] = entry.attributes
            if entry.delay is not None:
                item["DelaySeconds"] = entry.delay
            if entry.group_id is not None:
                item["MessageGroupId"] = entry.group_id
            if entry.deduplication_id is not None:
                item["MessageDeduplicationId"] = entry.deduplication_id
            batch.append(item)
        parameters = {"QueueUrl": queue_url, "Entries": batch}
        answer = await self._call("SendMessageBatch", queue_url, parameters)
        return results_of("SendMessageBatch", queue_url, answer, batch)

    async def receive(
        self,
        queue_url: str,
        *,
        max_messages: int = 10,
        wait_time: int = 20,
        visibility_timeout: int | None = None,
        begun: Callable[[], None] | None = None,
    ) -> list[Received]:
        parameters = {
            "QueueUrl": queue_url,
            "MaxNumberOfMessages": max_messages,
            "WaitTimeSeconds": wait_time,
            **self._receive_options,
        }
        if visibility_timeout is not None:
            parameters["VisibilityTimeout"] = visibility_timeout
        answer = await self._call("ReceiveMessage", queue_url, parameters, begun)
        return messages_of(queue_url, answer)

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        batch = [
            {"Id": IDS[index], "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        ]
        parameters = {"QueueUrl": queue_url, "Entries": batch}
        answer = await self._call("DeleteMessageBatch", queue_url, parameters)
        return results_of("DeleteMessageBatch", queue_url, answer, batch)

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        batch = [
            {"Id": IDS[index], "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for index, (handle, seconds) in enumerate(changes)
        ]
        parameters = {"QueueUrl": queue_url, "Entries": batch}
        answer = await self._call("ChangeMessageVisibilityBatch", queue_url, parameters)
        return results_of("ChangeMessageVisibilityBatch", queue_url, answer, batch)

    # --------------------------------------------------------------------- queues

    async def get_queue_url(self, name: str, account: str | None = None) -> str:
        parameters = {"QueueName": name}
        if account is not None:
            parameters["QueueOwnerAWSAccountId"] = account
        answer = await self._call("GetQueueUrl", name, parameters)
        return url_of("GetQueueUrl", name, answer)

    async def create_queue(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        parameters: dict[str, Any] = {"QueueName": name}
        if attributes:
            parameters["Attributes"] = attributes
        if tags:
            parameters["tags"] = tags
        answer = await self._call("CreateQueue", name, parameters)
        return url_of("CreateQueue", name, answer)

    async def get_queue_attributes(self, queue_url: str, names: Sequence[str]) -> dict[str, str]:
        parameters = {"QueueUrl": queue_url, "AttributeNames": list(names)}
        answer = await self._call("GetQueueAttributes", queue_url, parameters)
        return texts_of("GetQueueAttributes", queue_url, answer, "Attributes")

    async def list_queues(
        self, prefix: str, *, limit: int = LIST_QUEUES_PAGE, token: str = ""
    ) -> Page:
        # Without MaxResults SQS does not page: queues past the first 1000 are silently missing
        # then.
        parameters: dict[str, Any] = {"MaxResults": limit}
        if prefix:
            parameters["QueueNamePrefix"] = prefix
        if token:
            parameters["NextToken"] = token
        return page_of(await self._call("ListQueues", None, parameters))

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        answer = await self._call("ListQueueTags", queue_url, {"QueueUrl": queue_url})
        return texts_of("ListQueueTags", queue_url, answer, "Tags")

    async def tag_queue(self, queue_url: str, tags: Mapping[str, str]) -> None:
        await self._call("TagQueue", queue_url, {"QueueUrl": queue_url, "Tags": tags})

    async def untag_queue(self, queue_url: str, keys: Sequence[str]) -> None:
        parameters = {"QueueUrl": queue_url, "TagKeys": list(keys)}
        await self._call("UntagQueue", queue_url, parameters)

    async def delete_queue(self, queue_url: str) -> None:
        await self._call("DeleteQueue", queue_url, {"QueueUrl": queue_url})

    async def _call(
        self,
        operation: str,
        queue: str | None,
        parameters: Mapping[str, Any],
        begun: Callable[[], None] | None = None,
    ) -> Mapping[str, Any]:
        try:
            return await self._transport.call(operation, parameters, begun)
        except Exception as exc:
            raise error_of(operation, queue, exc, self._transport.endpoint) from exc
