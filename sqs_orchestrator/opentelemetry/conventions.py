"""Names of OpenTelemetry's messaging conventions, and how a queue is named by them.

The conventions are not stable yet, and the package that has their names as constants marks these
as private. So they are spelled here, as the schema that `SCHEMA` names has them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from ..core.names import queue_name_of

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
TEMPLATE: Final = "messaging.destination.template"
TEMPORARY: Final = "messaging.destination.temporary"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BATCH_COUNT: Final = "messaging.batch.message_count"
QUEUE_URL: Final = "aws.sqs.queue.url"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

# The library's own, where the conventions have none.
OUTCOME: Final = "sqs_orchestrator.outcome"
ERROR_CODE: Final = "sqs_orchestrator.error.code"
ATTEMPT: Final = "sqs_orchestrator.attempt"
FAILED: Final = "sqs_orchestrator.batch.failed_count"
MESSAGE_TYPE: Final = "sqs_orchestrator.message.type"
RECEIVE_COUNT: Final = "sqs_orchestrator.message.receive_count"

OPERATION_TYPES: Final = {
    "SendMessageBatch": "send",
    "ReceiveMessage": "receive",
    "DeleteMessageBatch": "settle",
}
"""The types of the operations of SQS. The conventions have none for extending a visibility."""

# Reply queues have such an id in their names, those of the Java client and of others too.
_ID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)

MOST_QUEUES: Final = 1000
"""Queues that metrics tell apart. Whoever sends a request names the queue of its reply, and could
have each message fill the memory with series of its own."""

Attributes = dict[str, str | int | bool]

TOLD_APART: Final[set[tuple[tuple[str, str | int | bool], ...]]] = set()
"""Those that metrics have told apart so far."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A queue, as spans and metrics name it. Those that metrics do not tell apart are equal: all
    the reply queues that a worker ever answered are one."""

    key: tuple[tuple[str, str | int | bool], ...]
    shown: str = field(compare=False)
    """What stands in the names of spans, which have to be few: a reply queue's without its id."""
    for_spans: Attributes = field(compare=False)
    for_metrics: Attributes = field(compare=False)

    def named(self, operation: str) -> str:
        """The name of a span."""
        return f"{operation} {self.shown}" if self.shown else operation


@functools.lru_cache(maxsize=1024)
def destination(queue: str) -> Destination:
    """That of a queue, by its name or URL; `""` where it is not known."""
    for_spans: Attributes = {SYSTEM: "aws_sqs"}
    for_metrics: Attributes = {SYSTEM: "aws_sqs"}
    name = queue_name_of(queue)
    shown = _ID.sub("{id}", name)
    if name:
        for_spans[DESTINATION] = name
        if shown == name:
            for_metrics[DESTINATION] = name
        else:
            for_spans[TEMPORARY] = True
            for_spans[TEMPLATE] = for_metrics[TEMPLATE] = shown
    if "/" in queue:
        for_spans[QUEUE_URL] = queue
        try:
            parts = urlsplit(queue)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host:
            for_spans[SERVER_ADDRESS] = for_metrics[SERVER_ADDRESS] = host
        if port is not None:
            for_spans[SERVER_PORT] = for_metrics[SERVER_PORT] = port
    key = tuple(for_metrics.items())
    if key not in TOLD_APART:
        if len(TOLD_APART) < MOST_QUEUES:
            TOLD_APART.add(key)
        else:
            for_metrics = {SYSTEM: "aws_sqs"}
            key = tuple(for_metrics.items())
    return Destination(key, shown, for_spans, for_metrics)
