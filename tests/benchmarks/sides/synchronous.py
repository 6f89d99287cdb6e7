"""The synchronous package's way of working, on botocore's own client.

`python-sqs-client` sends each request and each reply by a call of its own, and deletes each
request by one; it receives up to ten, and deletes replies by the batch. Its waiting costs CPU
besides (it looks for the reply again and again, and four processes stand behind a requester);
that is left out here, so these figures flatter it.
"""

from __future__ import annotations

import asyncio
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


class Requester(_Synchronous):
    """Asks and sends; a thread takes the replies."""

    async def open(self) -> None:
        await super().open()
        name = f"reply_queue_{uuid.uuid4().hex}"
        self.replies: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.pending: dict[str, tuple[float, str]] = {}
        self.latencies: list[float] = []
        self.free = threading.Semaphore(0)
        self.wrong: list[str] = []
        threading.Thread(target=self._take_replies, args=[self.client()], daemon=True).start()

    def _take_replies(self, client: Any) -> None:
        while True:
            messages = _received(client, self.replies)
            now = time.monotonic()
            for message in messages:
                attribute = message["MessageAttributes"]["RequestMessageId"]
                asked, text = self.pending.pop(attribute["StringValue"])
                self.latencies.append(now - asked)
                if message["Body"] != text:
                    self.wrong.append(f"{text!r} came back as {message['Body']!r}")
                self.free.release()
            if messages:
                entries = [
                    {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                    for index, message in enumerate(messages)
                ]
                client.delete_message_batch(QueueUrl=self.replies, Entries=entries)

    async def ask(self, count: int, at_a_time: int) -> dict[str, float]:
        """Make *count* requests with up to *at_a_time* waiting for their replies."""
        return await asyncio.to_thread(self._ask, bodies(count), at_a_time)

    def _ask(self, texts: Iterator[str], at_a_time: int) -> dict[str, float]:
        self.latencies = []
        self.free = threading.Semaphore(at_a_time)
        began = time.monotonic()
        for text in texts:
            self.free.acquire()
            correlation_id = str(uuid.uuid4())
            self.pending[correlation_id] = time.monotonic(), text
            self.sqs.send_message(
                QueueUrl=self.url,
                MessageBody=text,
                MessageAttributes={
                    "ReplyTo": {"DataType": "String", "StringValue": self.replies},
                    "RequestMessageId": {"DataType": "String", "StringValue": correlation_id},
                },
            )
        for _ in range(at_a_time):
            self.free.acquire()
        if self.wrong:
            raise AssertionError(self.wrong[0])
        return told(began, self.latencies)

    async def send(self, count: int, at_a_time: int) -> dict[str, float]:
        """Send *count* one-way messages."""
        return await asyncio.to_thread(self._send, bodies(count))

    def _send(self, texts: Iterator[str]) -> dict[str, float]:
        latencies = []
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
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                if "ReplyTo" not in attributes:
                    self.handle()

    async def drain(self, queue: str, count: int) -> dict[str, float]:
        """Handle the *count* messages that are in another queue."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        began = time.monotonic()
        await asyncio.to_thread(self._work, self.client(), url, until_empty=True)
        return {"seconds": time.monotonic() - began}
