"""The synchronous package, `python-sqs-client`, as others see it on the wire.

It cannot be installed from a registry, so this stands in for it, on botocore's own client: the same
calls with the same names, attributes and tags, in the same order, and its mistakes. What
takes a process there is a thread here, or is done when a test says so.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import botocore.config
import botocore.session

from tests.servers import CREDENTIALS

Attributes: TypeAlias = dict[str, dict[str, str]]

PAUSE: Final = 0.03
"""Seconds between two polls, which are long ones of 20 s there: nobody can stop one of those, and
each test would have to wait for it."""

IDLE_RETENTION: Final = 120
"""Seconds of silence after which its sweepers take a reply queue for idle."""


class TimedOut(Exception):
    """`ReplyTimeout` there."""


@functools.cache
def _session() -> Any:
    # One, which reads the description of SQS once.
    return botocore.session.Session()


def _client(endpoint_url: str) -> Any:
    config = botocore.config.Config(max_pool_connections=4)
    return _session().create_client("sqs", endpoint_url=endpoint_url, config=config, **CREDENTIALS)


def _text(value: str) -> dict[str, str]:
    return {"StringValue": value, "DataType": "String"}


class Requester:
    """A process that sends, and asks.

    Args:
        endpoint_url: The server.
        name: What the names of its queues begin with.
        clock_error: Seconds by which the clock of its machine is off.
    """

    def __init__(
        self, endpoint_url: str, name: str = "reply_queue_", *, clock_error: float = 0.0
    ) -> None:
        self._client = _client(endpoint_url)
        self._name = name
        self.clock_error = clock_error
        # The default of a parameter there, one dict for all messages.
        self._default: Attributes = {}
        self._replies: dict[str | None, str] = {}
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.url = ""
        self.sweepers_url = ""

    def open(self) -> Requester:
        """Make the queues, which the first request does there."""
        self.url = self._client.create_queue(
            QueueName=f"{self._name}{uuid.uuid4()}",
            Attributes={"MessageRetentionPeriod": "60"},
            tags=self._heartbeat(),
        )["QueueUrl"]
        self.sweepers_url = self._client.create_queue(
            QueueName=f"{self._name}sweeper.fifo",
            Attributes={
                "FifoQueue": "true",
                "ContentBasedDeduplication": "true",
                "ReceiveMessageWaitTimeSeconds": "20",
            },
        )["QueueUrl"]
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()
        return self

    def ask(self, queue_url: str, body: str, attributes: Attributes | None = None) -> str:
        """Send a request; its id, to wait for the reply with."""
        request_id = str(uuid.uuid4().int)
        attributes = self._default if attributes is None else attributes
        attributes["ReplyTo"] = _text(self.url)
        attributes["RequestMessageId"] = _text(request_id)
        self._send(queue_url, body, attributes)
        return request_id

    def send(self, queue_url: str, body: str, attributes: Attributes | None = None) -> None:
        """Send a one-way message: with whatever was left behind in the default."""
        self._send(queue_url, body, self._default if attributes is None else attributes)

    def _send(self, queue_url: str, body: str, attributes: Attributes) -> None:
        self._client.send_message(
            QueueUrl=queue_url, MessageBody=body, DelaySeconds=0, MessageAttributes=attributes
        )

    def response(self, request_id: str, timeout: float = 30.0) -> str:
        """Wait for a reply; its body."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: request_id in self._replies, timeout):
                raise TimedOut(request_id)
            return self._replies[request_id]

    @property
    def taken(self) -> dict[str | None, str]:
        """All replies that have come, by the ids that they carry."""
        with self._arrived:
            return dict(self._replies)

    def beat(self) -> None:
        """Write a heartbeat: once a minute there, by the clock of its machine."""
        self._client.tag_queue(QueueUrl=self.url, Tags=self._heartbeat())

    def _heartbeat(self) -> dict[str, str]:
        return {"heartbeat": str(int(time.time() + self.clock_error))}

    def sweep(self) -> tuple[list[str], list[str]]:
        """What one of its sweepers does, every few minutes there: the URLs of the queues that it
        deletes, and of those at which it stumbles, since they have no heartbeat."""
        deleted, stumbled = [], []
        listed = self._client.list_queues(QueueNamePrefix=self._name, MaxResults=1000)
        for url in listed.get("QueueUrls", []):
            if url == self.sweepers_url:
                continue
            tags = self._client.list_queue_tags(QueueUrl=url).get("Tags", {})
            if "heartbeat" not in tags:
                stumbled.append(url)
            elif time.time() + self.clock_error - int(tags["heartbeat"]) > IDLE_RETENTION:
                self._client.delete_queue(QueueUrl=url)
                deleted.append(url)
        return deleted, stumbled

    def remove_queue(self) -> None:
        """End: the reply queue is deleted, and the sweepers' queue is left behind."""
        self._client.delete_queue(QueueUrl=self.url)
        self.die()

    def die(self) -> None:
        """End as by SIGKILL: nothing is deleted."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join()
        self._client.close()

    def _receive(self) -> None:
        try:
            while not self._stopping:
                self._receive_once()
        except self._client.exceptions.QueueDoesNotExist:
            return  # and nobody hears of it

    def _receive_once(self) -> None:
        messages = _received(self._client, self.url, ["RequestMessageId"])
        with self._arrived:
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                request_id = attributes.get("RequestMessageId", {}).get("StringValue")
                self._replies[request_id] = message["Body"]
            self._arrived.notify_all()
        _delete(self._client, self.url, messages)


class Worker:
    """A process that handles the messages of a queue, one after the other.

    Args:
        endpoint_url: The server.
        queue_url: The queue.
        process_message: Gets the body and those attributes that the package asks for; a text that
            is not empty is sent as the reply.
        visibility: Seconds after which a message comes back that is not deleted; 30 there.
    """

    def __init__(
        self,
        endpoint_url: str,
        queue_url: str,
        process_message: Callable[[str, Mapping[str, Any]], str | None],
        *,
        visibility: int = 30,
    ) -> None:
        self._client = _client(endpoint_url)
        self._queue_url = queue_url
        self._process_message = process_message
        self._visibility = visibility
        self._stopping = False
        self._dying = False
        self._thread = threading.Thread(target=self._work)

    def start(self) -> Worker:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after the messages that it has."""
        self._stopping = True
        self._thread.join()
        self._client.close()

    def die(self) -> None:
        """End as by SIGKILL: after what it is doing now it deletes nothing more."""
        self._dying = True
        self.stop()

    def _work(self) -> None:
        while not self._stopping:
            messages = _received(
                self._client, self._queue_url, ["RequestMessageId", "ReplyTo"], self._visibility
            )
            handled = []
            for message in messages:
                try:
                    attributes = message.get("MessageAttributes", {})
                    response = self._process_message(message["Body"], attributes)
                except Exception:
                    continue  # logged there; it comes back
                if self._dying:
                    return
                if response and "ReplyTo" in attributes:
                    self._reply(attributes, response)
                handled.append(message)
            _delete(self._client, self._queue_url, handled)

    def _reply(self, attributes: Mapping[str, Any], response: str) -> None:
        with contextlib.suppress(self._client.exceptions.ClientError):  # logged there
            self._client.send_message(
                QueueUrl=attributes["ReplyTo"]["StringValue"],
                MessageBody=response,
                DelaySeconds=0,
                MessageAttributes={"RequestMessageId": attributes["RequestMessageId"]},
            )


def _received(
    client: Any, url: str, names: list[str], visibility: int = 30
) -> list[dict[str, Any]]:
    received = client.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=names,
        VisibilityTimeout=visibility,
        WaitTimeSeconds=0,
    )
    messages: list[dict[str, Any]] = received.get("Messages", [])
    if not messages:
        time.sleep(PAUSE)
    return messages


def _delete(client: Any, url: str, messages: list[dict[str, Any]]) -> None:
    if messages:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        client.delete_message_batch(QueueUrl=url, Entries=entries)
