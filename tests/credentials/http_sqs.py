"""The SQS in memory behind HTTP, which notes with whose credentials it is called."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

from aiohttp import web
from aiohttp.test_utils import RawTestServer

from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.errors import QueueError
from sqs_orchestrator.sqs.port import Failure, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS

_KEY = re.compile(r"Credential=([^/]+)/")


class HttpSQS:
    """Answers the calls of a client as SQS would."""

    def __init__(self) -> None:
        self.url = ""
        self.orders = ""
        """The URL of its queue."""
        self.calls: list[tuple[str, str]] = []
        """The operation, and the access key that signed it."""
        self.ahead = 0.0
        """Seconds by which its clock is ahead of this machine's."""
        self.expired: set[str] = set()
        """Access keys that it refuses."""
        self.refused: dict[str, str] = {}
        """Operations that it refuses, and with what code."""
        self._called = asyncio.Event()
        epoch = time.time() - asyncio.get_running_loop().time()
        self.memory = MemorySQS(MemoryServer(region="eu-west-1", epoch=epoch))

    def keys(self, operation: str | None = None) -> list[str]:
        """The access keys of the calls so far."""
        return [key for name, key in self.calls if operation in (None, name)]

    async def until(self, told: Callable[[], bool]) -> None:
        """Wait for the call with which *told* becomes true."""
        while not told():
            self._called.clear()
            await self._called.wait()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        key = _KEY.search(request.headers["Authorization"])
        assert key is not None
        self.calls.append((operation, key[1]))
        self._called.set()
        # Each call over a connection of its own: so each looks the name up.
        headers = {"Date": formatdate(time.time() + self.ahead, usegmt=True), "Connection": "close"}
        if key[1] in self.expired:
            return _refused("ExpiredToken", "The security token is expired", 403, headers)
        if operation in self.refused:
            return _refused(self.refused[operation], operation, 400, headers)
        try:
            answer = await _OPERATIONS[operation](self.memory, await request.json())
        except QueueError as error:
            return _refused(str(error.code), str(error), 400, headers)
        return web.json_response(answer, headers=headers, content_type="application/x-amz-json-1.0")


def _refused(code: str, text: str, status: int, headers: dict[str, str]) -> web.Response:
    body = {"__type": f"com.amazonaws.sqs#{code}", "message": text}
    return web.json_response(body, status=status, headers=headers)


def _results(results: list[Any], wanted: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"Successful": [], "Failed": []}
    for index, result in enumerate(results):
        if isinstance(result, Failure):
            answer["Failed"].append(
                {"Id": str(index), "Code": result.code, "SenderFault": result.sender_fault}
            )
        else:
            answer["Successful"].append({"Id": str(index)} | ({wanted: result} if wanted else {}))
    return answer


async def _send(sqs: MemorySQS, said: Any) -> Any:
    entries = [
        SendEntry(each["MessageBody"], each.get("MessageAttributes") or {})
        for each in said["Entries"]
    ]
    return _results(await sqs.send(said["QueueUrl"], entries), "MessageId")


async def _receive(sqs: MemorySQS, said: Any) -> Any:
    messages = await sqs.receive(
        said["QueueUrl"],
        max_messages=said["MaxNumberOfMessages"],
        wait_time=said["WaitTimeSeconds"],
        visibility_timeout=said.get("VisibilityTimeout"),
    )
    return {
        "Messages": [
            {
                "MessageId": message.message_id,
                "ReceiptHandle": message.receipt_handle,
                "Body": message.body,
                "MessageAttributes": dict(message.attributes),
                "Attributes": dict(message.system),
            }
            for message in messages
        ]
    }


async def _delete(sqs: MemorySQS, said: Any) -> Any:
    handles = [each["ReceiptHandle"] for each in said["Entries"]]
    return _results(await sqs.delete(said["QueueUrl"], handles), None)


async def _change(sqs: MemorySQS, said: Any) -> Any:
    changes = [(each["ReceiptHandle"], each["VisibilityTimeout"]) for each in said["Entries"]]
    return _results(await sqs.change_visibility(said["QueueUrl"], changes), None)


async def _url(sqs: MemorySQS, said: Any) -> Any:
    return {"QueueUrl": await sqs.get_queue_url(said["QueueName"])}


async def _create(sqs: MemorySQS, said: Any) -> Any:
    url = await sqs.create_queue(
        said["QueueName"], said.get("Attributes") or {}, said.get("tags") or {}
    )
    return {"QueueUrl": url}


async def _attributes(sqs: MemorySQS, said: Any) -> Any:
    return {"Attributes": await sqs.get_queue_attributes(said["QueueUrl"], said["AttributeNames"])}


async def _list(sqs: MemorySQS, said: Any) -> Any:
    return {"QueueUrls": list((await sqs.list_queues(said.get("QueueNamePrefix", ""))).urls)}


async def _tags(sqs: MemorySQS, said: Any) -> Any:
    return {"Tags": await sqs.list_queue_tags(said["QueueUrl"])}


async def _tag(sqs: MemorySQS, said: Any) -> Any:
    await sqs.tag_queue(said["QueueUrl"], said["Tags"])
    return {}


async def _untag(sqs: MemorySQS, said: Any) -> Any:
    await sqs.untag_queue(said["QueueUrl"], said["TagKeys"])
    return {}


async def _sources(sqs: MemorySQS, said: Any) -> Any:
    urls = (await sqs.list_queues("")).urls
    policies = [(await sqs.get_queue_attributes(url, ["RedrivePolicy"])).values() for url in urls]
    arn = ":" + queue_name_of(said["QueueUrl"]) + '"'
    found = zip(urls, policies, strict=True)
    return {"queueUrls": [url for url, policy in found if arn in "".join(policy)]}


async def _drop(sqs: MemorySQS, said: Any) -> Any:
    await sqs.delete_queue(said["QueueUrl"])
    return {}


_OPERATIONS: dict[str, Callable[[MemorySQS, Any], Any]] = {
    "SendMessageBatch": _send,
    "ReceiveMessage": _receive,
    "DeleteMessageBatch": _delete,
    "ChangeMessageVisibilityBatch": _change,
    "GetQueueUrl": _url,
    "CreateQueue": _create,
    "GetQueueAttributes": _attributes,
    "ListQueues": _list,
    "ListDeadLetterSourceQueues": _sources,
    "ListQueueTags": _tags,
    "TagQueue": _tag,
    "UntagQueue": _untag,
    "DeleteQueue": _drop,
}


@asynccontextmanager
async def running(handler: Any) -> AsyncIterator[str]:
    """The URL at which *handler* answers."""
    runner = RawTestServer(handler, host="127.0.0.1")
    await runner.start_server()
    try:
        yield str(runner.make_url("/")).rstrip("/").replace("127.0.0.1", "localhost")
    finally:
        await runner.close()
