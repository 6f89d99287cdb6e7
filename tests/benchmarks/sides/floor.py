"""The floor: a program by hand, on a stock aiobotocore client, that does nothing but its job.

It knows what comes, and batches by ten perfectly: no lingering, no timeouts, no retries, no
look at what SQS says of single entries. Option `batch` 1 makes it the same program with one
message per call.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from typing import Any

from aiobotocore.session import AioSession

from tests.benchmarks.side import CLIENT, Side, bodies, told

LANES = 4
"""Calls of one kind in flight where much is to do. More make nothing faster: one core is the
limit before. Where ten messages are all there is, one does: a second poll would only end empty
whenever the first brings something, as fauxqs wakes both."""


def lanes_for(at_a_time: int) -> int:
    """How many calls of one kind so many messages need."""
    return min(-(-at_a_time // 10), LANES)


class _Floor(Side):
    sqs: Any
    url: str
    batch: int

    async def open(self) -> None:
        self.batch = int(self.options.get("batch", 10))
        self.tasks: set[asyncio.Task[None]] = set()
        client = AioSession().create_client("sqs", endpoint_url=self.endpoint_url, **CLIENT)
        self.sqs = await self.stack.enter_async_context(client)
        self.count_calls_of(self.sqs)
        self.url = (await self.sqs.get_queue_url(QueueName=self.queue))["QueueUrl"]

    async def send_all(self, url: str, entries: list[dict[str, Any]]) -> None:
        """Send up to ten messages."""
        if self.batch == 1:
            for entry in entries:
                del entry["Id"]
                await self.sqs.send_message(QueueUrl=url, **entry)
        else:
            await self.sqs.send_message_batch(QueueUrl=url, Entries=entries)

    async def receive(self, url: str, wait: int = 20) -> list[dict[str, Any]]:
        """Receive up to ten messages."""
        received = await self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=self.batch,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = received.get("Messages", [])
        return messages

    async def delete_all(self, url: str, messages: list[dict[str, Any]]) -> None:
        """Delete up to ten messages."""
        if self.batch == 1:
            for message in messages:
                await self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        else:
            entries = [
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ]
            await self.sqs.delete_message_batch(QueueUrl=url, Entries=entries)

    def spawn(self, what: Any) -> None:
        """Let something go on in the background."""
        task = asyncio.create_task(what)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Requester(_Floor):
    """Asks and sends."""

    async def open(self) -> None:
        await super().open()
        name = f"sqs_orchestrator_reply_{uuid.uuid4().hex}"
        attributes = {"MessageRetentionPeriod": "300", "VisibilityTimeout": "5"}
        created = await self.sqs.create_queue(QueueName=name, Attributes=attributes)
        self.replies: str = created["QueueUrl"]
        self.pending: dict[str, tuple[float, str]] = {}
        self.latencies: list[float] = []
        self.free = asyncio.Semaphore(0)
        self.answered = 0
        # The poll is open before the first request, as it is in a program that asks often.
        self.spawn(self._take_replies())

    async def expect(self, at_a_time: int) -> None:
        while len(self.tasks) < lanes_for(at_a_time):
            self.spawn(self._take_replies())

    async def _take_replies(self) -> None:
        while True:
            messages = await self.receive(self.replies)
            now = time.monotonic()
            for message in messages:
                attribute = message["MessageAttributes"]["__AmazonSQSVirtualQueuesClient.QueueName"]
                asked, text = self.pending.pop(attribute["StringValue"])
                self.latencies.append(now - asked)
                if message["Body"] != text:
                    raise AssertionError(f"{text!r} came back as {message['Body']!r}")
                self.free.release()
            if messages:
                await self.delete_all(self.replies, messages)

    async def ask(self, count: int, at_a_time: int) -> dict[str, float]:
        """Make *count* requests with up to *at_a_time* waiting for their replies."""
        self.latencies = []
        self.free = asyncio.Semaphore(at_a_time)
        texts = bodies(count)
        size = min(self.batch, at_a_time)
        turn = asyncio.Lock()

        async def ask_on() -> None:
            while True:
                async with turn:  # whole batches, not two halves
                    chunk = list(itertools.islice(texts, size))
                    for _ in chunk:
                        await self.free.acquire()
                if not chunk:
                    return
                await self.send_all(self.url, [self._request(text) for text in chunk])

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes_for(at_a_time)):
                group.create_task(ask_on())
        for _ in range(at_a_time):
            await self.free.acquire()
        return told(began, self.latencies)

    def _request(self, text: str) -> dict[str, Any]:
        correlation_id = uuid.uuid4().hex
        self.pending[correlation_id] = time.monotonic(), text
        address = f"{self.replies}#{correlation_id}"
        return {
            "Id": correlation_id,
            "MessageBody": text,
            "MessageAttributes": {
                "ResponseQueueUrl": {"DataType": "String", "StringValue": address},
                "RequestTimeToLive": {"DataType": "Number", "StringValue": "300000"},
            },
        }

    async def send(self, count: int, at_a_time: int) -> dict[str, float]:
        """Send *count* one-way messages."""
        latencies: list[float] = []
        texts = bodies(count)

        async def send_on() -> None:
            while True:
                chunk = list(itertools.islice(texts, self.batch))
                if not chunk:
                    return
                sent = time.monotonic()
                entries: list[dict[str, Any]] = [
                    {"Id": str(index), "MessageBody": text} for index, text in enumerate(chunk)
                ]
                await self.send_all(self.url, entries)
                latencies.append(time.monotonic() - sent)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(send_on())
        return told(began, latencies)


class Worker(_Floor):
    """Answers with what it was asked."""

    async def open(self) -> None:
        await super().open()
        self.spawn(self._work(self.url))

    async def expect(self, at_a_time: int) -> None:
        while len(self.tasks) < lanes_for(at_a_time):
            self.spawn(self._work(self.url))

    async def _work(self, url: str, wait: int = 20, *, until_empty: bool = False) -> None:
        while True:
            messages = await self.receive(url, wait)
            if messages:
                await self._answer(url, messages)
            elif until_empty:
                return

    async def _answer(self, url: str, messages: list[dict[str, Any]]) -> None:
        replies: list[dict[str, Any]] = []
        reply_queue = ""
        for message in messages:
            asked = message.get("MessageAttributes", {}).get("ResponseQueueUrl")
            if asked is None:
                continue
            # One requester, so the replies to a batch are one batch.
            reply_queue, _, correlation_id = asked["StringValue"].partition("#")
            attribute = {"DataType": "String", "StringValue": correlation_id}
            replies.append(
                {
                    "Id": correlation_id,
                    "MessageBody": message["Body"],
                    "MessageAttributes": {"__AmazonSQSVirtualQueuesClient.QueueName": attribute},
                }
            )
        if replies:
            await self.send_all(reply_queue, replies)
        await self.delete_all(url, messages)
        self.handle(len(messages) - len(replies))

    async def drain(self, queue: str, count: int) -> dict[str, float]:
        """Handle the *count* messages that are in another queue."""
        url = (await self.sqs.get_queue_url(QueueName=queue))["QueueUrl"]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._work(url, wait=0, until_empty=True))
        return {"seconds": time.monotonic() - began}
