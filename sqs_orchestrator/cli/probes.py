"""The calls by which `doctor` tries permissions: as mild as may be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ..connection import Connection
from ..core.names import new_reply_queue_name, queue_name_of
from ..core.wire import reply_queue_tags
from ..errors import AccessDenied, QueueNotFound
from ..message import Message
from ..requester.publisher import Publisher
from ..requester.reply_queue import ReplyQueue
from ..sqs.port import Failure, SendEntry
from ..worker.poller import Poller
from .stopping import in_any_case

T = TypeVar("T")

Probe: TypeAlias = Callable[[], Awaitable[Any]]
"""Raises `AccessDenied` where it is not allowed; returns text where it was not tried."""

REFUSED: Final = {"body": "\ufffe", "delay": 901}
"""A message that no server takes: a character that SQS refuses (SendMessage), and a delay beyond
its limit, since servers that imitate SQS check either."""

NO_HANDLE: Final = "sqs-orchestrator-doctor"
"""No message has this receipt handle."""

RETENTION: Final = 300
"""Seconds after which sweepers delete the queue of a doctor that was killed."""

YOUNG: Final = 10.0
"""Seconds in which a queue just made may be unknown to some of SQS's servers."""

ANSWERS: Final = 15.0
"""Seconds for the round trip."""


class OnQueue:
    """The permissions on one queue, of which *facts* are known."""

    def __init__(self, sqs: Connection, url: str, facts: Mapping[str, str]) -> None:
        self._sqs = sqs
        self._url = url
        self._facts = facts

    def probes(self) -> dict[str, Probe]:
        return {
            "SendMessage": self.send,
            "ReceiveMessage": self.receive,
            "DeleteMessage": self.delete,
            "ChangeMessageVisibility": self.change_visibility,
        }

    async def send(self) -> None:
        fifo = self._url.endswith(".fifo")
        entry = SendEntry(
            **REFUSED,  # type: ignore[arg-type]
            group_id="doctor" if fifo else None,
            deduplication_id="doctor" if fifo else None,
        )
        _check(await self._sqs.patiently(lambda: self._sqs.port.send(self._url, [entry])))

    async def receive(self) -> str | None:
        try:
            most = json.loads(self._facts.get("RedrivePolicy", "{}")).get("maxReceiveCount")
        except (ValueError, AttributeError):
            most = None
        if str(most) == "1" and self._facts.get("ApproximateNumberOfMessages") != "0":
            return "not tried: maxReceiveCount is 1, so that would take a message away"
        # Hidden for no time: other receivers do not miss it.
        await self._sqs.patiently(
            lambda: self._sqs.port.receive(
                self._url, max_messages=1, wait_time=0, visibility_timeout=0
            )
        )
        return None

    async def delete(self) -> None:
        _check(await self._sqs.patiently(lambda: self._sqs.port.delete(self._url, [NO_HANDLE])))

    async def change_visibility(self) -> None:
        changes = [(NO_HANDLE, 0)]
        _check(
            await self._sqs.patiently(lambda: self._sqs.port.change_visibility(self._url, changes))
        )


def _check(results: Sequence[Any]) -> None:
    for result in results:
        if isinstance(result, Failure) and result.code == "AccessDenied":
            raise AccessDenied(f"{result.code}: {result.message}", code=result.code)


class ReplyQueueProbe:
    """A queue with the name of a reply queue, on which its permissions are tried."""

    def __init__(self, sqs: Connection, prefix: str) -> None:
        self._sqs = sqs
        self._prefix = prefix
        self._made = 0.0
        self.url = ""

    async def create(self) -> None:
        port = self._sqs.port
        tags = reply_queue_tags(now=port.clock.now(), retention=RETENTION, sweeping=False)
        attributes = {"MessageRetentionPeriod": str(RETENTION)}
        name = new_reply_queue_name(self._prefix)

        async def made() -> None:
            self.url = await self._sqs.patiently(lambda: port.create_queue(name, attributes, tags))

        # Not cancelled under way: what is made is to be deleted.
        await in_any_case(made())
        self._made = asyncio.get_running_loop().time()

    def probes(self) -> dict[str, Probe]:
        port, url = self._sqs.port, self.url
        on_queue = OnQueue(self._sqs, url, {}).probes()
        calls: dict[str, Probe] = {
            "TagQueue": lambda: port.tag_queue(url, {"doctor": "1"}),
            "UntagQueue": lambda: port.untag_queue(url, ["doctor"]),
            "GetQueueUrl": lambda: port.get_queue_url(queue_name_of(url)),
            "ListQueueTags": lambda: port.list_queue_tags(url),
            "GetQueueAttributes": lambda: port.get_queue_attributes(url, ["QueueArn"]),
            "ListQueues": lambda: port.list_queues(self._prefix, limit=1),
        }
        mine = ("SendMessage", "ReceiveMessage", "DeleteMessage")
        calls |= {name: call for name, call in on_queue.items() if name in mine}
        return {name: self._once_known(call) for name, call in calls.items()}

    def _once_known(self, call: Probe) -> Probe:
        async def tried() -> None:
            while True:
                try:
                    await self._sqs.patiently(call)
                except QueueNotFound:
                    if asyncio.get_running_loop().time() > self._made + YOUNG:
                        raise
                    await asyncio.sleep(0.5)
                else:
                    return

        return tried

    async def round_trip(self) -> float:
        """Ask a worker of our own on this queue; the seconds that it took."""

        async def answer(message: Message) -> str:
            return message.body

        async with (
            ReplyQueue(self._sqs, prefix=self._prefix, sweep_interval=None) as replies,
            Publisher(self._sqs, reply_queue=replies) as publisher,
            Poller(self._sqs, self.url, answer, wait_time=1, reply_queue_prefixes=(self._prefix,)),
        ):
            await replies.ready()
            began = time.perf_counter()
            await publisher.request(self.url, "Are you there?", timeout=ANSWERS)
            return time.perf_counter() - began

    async def delete(self) -> None:
        await self._sqs.patiently(lambda: self._sqs.port.delete_queue(self.url))
