"""aiobotocore's SQS client behind the port, and its errors as ours.

Calls, not messages, are what costs here (about a millisecond of CPU each), so every call
goes straight to the client's own method, and nothing is wrapped, copied or logged on the way.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import botocore.exceptions as boto

from ...core import limits
from ...errors import QueueError
from ..answers import check, unpacked, value_of
from ..clock import Clock
from ..config import attempts_of, longest_call, make_config, read_timeout_of
from ..failures import Foreign, TooSlow, date_of, error_of, is_skew, unreadable
from ..port import Failure, Listing, Received, SendEntry
from ..reading import IDS, Unreadable, messages_of, results_of, text_of, texts_of, urls_of

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["BotoSQS", "make_config", "read_timeout_of"]

P = ParamSpec("P")
T = TypeVar("T")

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
        self._endpoint: str | None = getattr(self._client.meta, "endpoint_url", None)
        self._longest_call = longest_call(self._client.meta.config)
        self._attempts = attempts_of(self._client.meta.config)
        self._client.meta.events.register(
            "before-send.sqs.SendMessageBatch", _stream_large_body, unique_id="sqs-orchestrator"
        )
        for each in (self._client, polling):
            each.meta.events.register("before-parse.sqs", _see, unique_id="sqs-orchestrator-sees")
        # The parameter was called AttributeNames until 2024.
        model = polling.meta.service_model.operation_model("ReceiveMessage")
        system = "MessageSystemAttributeNames"
        self._receive_options: dict[str, Any] = {
            "MessageAttributeNames": _ALL,
            system if system in model.input_shape.members else "AttributeNames": _SYSTEM_ATTRIBUTES,
        }

    def __repr__(self) -> str:
        return f"<BotoSQS {self._endpoint}>"

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
        operation = "SendMessageBatch"
        answer = await self._call(
            operation,
            queue_url,
            self._client.send_message_batch,
            QueueUrl=queue_url,
            Entries=batch,
        )
        return _read(operation, queue_url, results_of, answer, batch, harm=self._harm_sent)

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
        if not answer.get("Messages"):
            return []
        return _read("ReceiveMessage", queue_url, messages_of, answer, self._harm)

    async def delete(self, queue_url: str, receipt_handles: Sequence[str]) -> list[Failure | None]:
        batch = [
            {"Id": IDS[index], "ReceiptHandle": handle}
            for index, handle in enumerate(receipt_handles)
        ]
        return await self._settle(
            "DeleteMessageBatch", queue_url, self._client.delete_message_batch, batch
        )

    async def change_visibility(
        self, queue_url: str, changes: Sequence[tuple[str, int]]
    ) -> list[Failure | None]:
        batch = [
            {"Id": IDS[index], "ReceiptHandle": handle, "VisibilityTimeout": seconds}
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
        return _read("GetQueueAttributes", queue_url, texts_of, answer, "Attributes")

    async def list_queues(self, prefix: str, *, limit: int | None = None) -> Listing:
        urls: list[str] = []
        options: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
        tokens: set[str] = set()
        while True:
            # Without MaxResults SQS does not page: queues past the first 1000 are silently
            # missing then.
            page = limits.LIST_QUEUES_PAGE
            if limit is not None:
                page = max(1, min(page, limit - len(urls)))
            answer = await self._call(
                "ListQueues", None, self._client.list_queues, MaxResults=page, **options
            )
            urls += _read("ListQueues", None, urls_of, answer, "QueueUrls")
            token = _read("ListQueues", None, text_of, answer, "NextToken")
            if limit is not None and len(urls) >= limit:
                # Some servers do not know MaxResults and give more than was asked for.
                return Listing(urls[:limit], complete=not token and len(urls) == limit)
            if not token:
                return Listing(urls)
            if token in tokens or len(tokens) >= MOST_PAGES:
                raise QueueError(
                    f"ListQueues: the listing does not end: after {len(tokens) + 1} pages there is "
                    f"one more{', which it had before' if token in tokens else ''}",
                    operation="ListQueues",
                    code="EndlessListing",
                )
            tokens.add(token)
            options["NextToken"] = token

    async def list_queue_tags(self, queue_url: str) -> dict[str, str]:
        answer = await self._call(
            "ListQueueTags", queue_url, self._client.list_queue_tags, QueueUrl=queue_url
        )
        return _read("ListQueueTags", queue_url, texts_of, answer, "Tags")

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
        seen = _Seen()
        token = _seen.set(seen)
        try:
            answer = await self._answered(operation, seen, method, parameters)
            if (response := seen.response) is not None:
                self._judge(operation, **response)
                if len(answer) <= 1:
                    # The parser takes for empty what it cannot read.
                    value_of(response["status"], response["body"])
            return answer
        except Exception as exc:
            raise error_of(operation, queue, exc, self._endpoint) from exc
        finally:
            _seen.reset(token)

    async def _answered(
        self,
        operation: str,
        seen: _Seen,
        method: Callable[..., Any],
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What *method* returns, within the time that a call has."""
        limit = self._limit(parameters) * self._attempts
        # Around all of it: what brings the credentials may hang as well as SQS may.
        scope = asyncio.timeout(None if limit == math.inf else limit)
        try:
            async with scope:
                answer: dict[str, Any] = await method(**parameters)
                return answer
        except TimeoutError as exc:
            if not scope.expired():
                raise
            raise TooSlow(limit) from exc
        except boto.BotoCoreError:
            raise
        except Exception as exc:
            response = seen.response
            fetching = isinstance(exc, boto.ClientError) and exc.operation_name != operation
            if response is None or fetching:
                raise
            why = f"the client cannot make sense of it: {type(exc).__name__}: {exc}"
        # What the client makes of an answer says less than the answer, and may repeat a whole
        # page: so it does not go along.
        self._judge(operation, **response)
        raise Foreign(response["status"], response["body"], why)

    def _limit(self, parameters: Mapping[str, Any]) -> float:
        """Seconds that one call may last, its long poll included."""
        return self._longest_call + float(parameters.get("WaitTimeSeconds", 0))

    def _judge(self, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Pass an answer of SQS's, and heed its time; raise what any other is."""
        try:
            sure = check(operation, status, headers, body)
        except boto.ClientError as refusal:
            if is_skew(refusal):
                self._clock.correct(date_of(refusal))
            else:
                self._clock.glimpse(date_of(refusal))
            raise
        if sure:
            self._clock.observe(headers.get("Date"))

    @staticmethod
    def _harm_sent(entry: Mapping[str, Any], done: Mapping[str, Any]) -> str | None:
        """What SQS confirms of an entry to be another than was sent; the same holds."""
        return None

    @staticmethod
    def _harm(message: Mapping[str, Any], received: Received) -> str | None:
        """What of a received message was damaged on its way, as far as that is looked for."""
        return None

    async def _settle(
        self,
        operation: str,
        queue_url: str,
        method: Callable[..., Any],
        batch: list[dict[str, Any]],
    ) -> list[Failure | None]:
        answer = await self._call(operation, queue_url, method, QueueUrl=queue_url, Entries=batch)
        return _read(operation, queue_url, results_of, answer, batch)


class _Seen:
    """The answer to a call of ours, as it came."""

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None


_seen: ContextVar[_Seen | None] = ContextVar("sqs_orchestrator_answer", default=None)


def _see(response_dict: dict[str, Any], **_: Any) -> None:
    """Keep the answer that is about to be parsed, if it is to a call of ours, and unpack it."""
    seen = _seen.get()
    if seen is None:
        return
    status, headers = response_dict["status_code"], response_dict["headers"]
    response_dict["body"] = body = unpacked(status, headers, response_dict["body"])
    seen.response = {"status": status, "headers": headers, "body": body}


def _stream_large_body(request: Any, **_: Any) -> None:
    # aiohttp warns of larger ones in one piece, and where warnings are errors that fails.
    if isinstance(request.body, bytes) and len(request.body) > 2**20:
        request.body = io.BytesIO(request.body)


MOST_PAGES: Final = 1_000
"""Pages that a listing may have: a million queues, ten times what a fleet can be."""


def _read(
    operation: str,
    queue: str | None,
    read: Callable[P, T],
    *args: P.args,
    **options: P.kwargs,
) -> T:
    try:
        return read(*args, **options)
    except Unreadable as exc:
        raise unreadable(operation, queue, str(exc)) from None


def _queue_url(operation: str, name: str, answer: dict[str, Any]) -> str:
    url = _read(operation, name, text_of, answer, "QueueUrl")
    if url is None:
        raise unreadable(operation, name, "it has no queue URL")
    return url
