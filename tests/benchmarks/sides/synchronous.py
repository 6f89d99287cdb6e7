"""The synchronous package's way of working, on botocore's own client.

`python-sqs-client` sends each request and each reply by a call of its own; it receives up to ten
messages, and deletes them by the batch when all have been handled. A thread takes the replies,
and whoever waits for one looks for it again and again, without a pause.

The heartbeat and the sweeper, processes of their own there, are left out.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import botocore.session

from tests.benchmarks.side import CLIENT, Side, bodies, told


class _Synchronous(Side):
    async def open(self) -> None:
        self.session = botocore.session.Session()
        self.sqs = self.client()
        self.url: str = self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"]

    def client(self) -> Any:
        """A client for one thread."""
        client = self.session.create_client("sqs", endpoint_url=self.endpoint_url, **CLIENT)
        self.count_calls_of(client)
        return client


def _received(client: Any, url: str, wait: int = 20) -> list[dict[str, Any]]:
    received = client.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=wait,
        MessageAttributeNames=["All"],
    )
    messages: list[dict[str, Any]] = received.get("Messages", [])
    return messages


def _delete(client: Any, url: str, messages: list[dict[str, Any]]) -> None:
    entries = [
        {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
        for index, message in enumerate(messages)
    ]
    client.delete_message_batch(QueueUrl=url, Entries=entries)


class Requester(_Synchronous):
    """Asks and sends; a thread takes the replies."""

    async def open(self) -> None:
        await super().open()
        name = f"reply_queue_{uuid.uuid4().hex}"
        self.replies: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.taken: dict[str, str] = {}
        threading.Thread(target=self._take_replies, args=[self.client()], daemon=True).start()

    def _take_replies(self, client: Any) -> None:
        while True:
            messages = _received(client, self.replies)
            for message in messages:
                attribute = message["MessageAttributes"]["RequestMessageId"]
                self.taken[attribute["StringValue"]] = message["Body"]
            if messages:
                _delete(client, self.replies, messages)

    async def ask(self, count: int, at_a_time: int) -> dict[str, float]:
        """Make *count* requests: *at_a_time*, then wait for the replies to these."""
        return await asyncio.to_thread(self._ask, bodies(count), at_a_time)

    def _ask(self, texts: Iterator[str], at_a_time: int) -> dict[str, float]:
        latencies: list[float] = []
        began = time.monotonic()
        while True:
            asked: list[tuple[str, str, float]] = []
            for text in itertools.islice(texts, at_a_time):
                asked.append((str(uuid.uuid4()), text, time.monotonic()))
                self._request(*asked[-1][:2])
            if not asked:
                return told(began, latencies)
            for correlation_id, text, when in asked:
                while correlation_id not in self.taken:
                    pass
                latencies.append(time.monotonic() - when)
                body = self.taken.pop(correlation_id)
                if body != text:
                    raise AssertionError(f"{text!r} came back as {body!r}")

    def _request(self, correlation_id: str, text: str) -> None:
        self.sqs.send_message(
            QueueUrl=self.url,
            MessageBody=text,
            MessageAttributes={
                "ReplyTo": {"DataType": "String", "StringValue": self.replies},
                "RequestMessageId": {"DataType": "String", "StringValue": correlation_id},
            },
        )

    async def send(self, count: int, at_a_time: int) -> dict[str, float]:
        """Send *count* one-way messages."""
        return await asyncio.to_thread(self._send, bodies(count))

    def _send(self, texts: Iterator[str]) -> dict[str, float]:
        latencies: list[float] = []
        began = time.monotonic()
        for text in texts:
            sent = time.monotonic()
            self.sqs.send_message(QueueUrl=self.url, MessageBody=text)
            latencies.append(time.monotonic() - sent)
        return told(began, latencies)


class Worker(_Synchronous):
    """Answers with what it was asked."""

    async def open(self) -> None:
        await super().open()
        work = (self.client(), self.url)
        threading.Thread(target=self._work, args=work, daemon=True).start()

    def _work(self, client: Any, url: str, *, until_empty: bool = False) -> None:
        while True:
            messages = _received(client, url, wait=0 if until_empty else 20)
            if until_empty and not messages:
                return
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                if "ReplyTo" in attributes:
                    client.send_message(
                        QueueUrl=attributes["ReplyTo"]["StringValue"],
                        MessageBody=message["Body"],
                        MessageAttributes={"RequestMessageId": attributes["RequestMessageId"]},
                    )
                else:
                    self.handle()
            if messages:
                _delete(client, url, messages)

    async def drain(self, queue: str, count: int) -> dict[str, float]:
        """Handle the *count* messages that are in another queue."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        began = time.monotonic()
        await asyncio.to_thread(self._work, self.client(), url, until_empty=True)
        return {"seconds": time.monotonic() - began}
