"""Requests and replies, and one-way messages, over Amazon SQS, for asyncio programs.

```python
async with connect(region_name="eu-west-1") as sqs, Publisher(sqs) as publisher:
    reply = await publisher.request("orders", {"id": 1}, timeout=5)
    print(reply.json())
```
"""

from __future__ import annotations

from ._version import __version__
from .codecs import Codec, CodecError, JSONCodec
from .connection import Connection, connect
from .drafts import Draft
from .errors import (
    AccessDenied,
    InvalidMessage,
    MessageTooLarge,
    QueueError,
    QueueNotFound,
    RemoteError,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    RequestError,
    SendError,
    SQSOrchestratorError,
    Throttled,
)
from .health import Health
from .message import Message, Reply, ReplyTo
from .middleware import IncomingMiddleware, Middleware, OutgoingMiddleware
from .requester.publisher import Publisher, PublisherStatistics
from .requester.reply_queue import ReplyQueue, ReplyQueueStatistics
from .requester.sweeper import sweep
from .results import NO_REPLY, Reject, Retry
from .sqs.port import Failure
from .sqs.wrapping import Call, Wrap
from .web import http_status
from .worker.poller import Poller, PollerStatistics

__all__ = [
    "NO_REPLY",
    "AccessDenied",
    "Call",
    "Codec",
    "CodecError",
    "Connection",
    "Draft",
    "Failure",
    "Health",
    "IncomingMiddleware",
    "InvalidMessage",
    "JSONCodec",
    "Message",
    "MessageTooLarge",
    "Middleware",
    "OutgoingMiddleware",
    "Poller",
    "PollerStatistics",
    "Publisher",
    "PublisherStatistics",
    "QueueError",
    "QueueNotFound",
    "Reject",
    "RemoteError",
    "Reply",
    "ReplyQueue",
    "ReplyQueueClosed",
    "ReplyQueueLost",
    "ReplyQueueStatistics",
    "ReplyTimeout",
    "ReplyTo",
    "RequestError",
    "Retry",
    "SQSOrchestratorError",
    "SendError",
    "Throttled",
    "Wrap",
    "__version__",
    "connect",
    "http_status",
    "sweep",
]
