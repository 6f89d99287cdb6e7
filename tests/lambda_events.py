"""What Lambda makes of messages that it has received."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from sqs_orchestrator.sqs.port import AttributeValue, Received

__all__ = ["event"]


def event(arn: str, messages: Iterable[Received]) -> dict[str, Any]:
    """The event of these messages of the queue *arn*."""
    return {"Records": [_record(arn, each) for each in messages]}


def _record(arn: str, message: Received) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": dict(message.system),
        "messageAttributes": {name: _lower(each) for name, each in message.attributes.items()},
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def _lower(value: AttributeValue) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dataType": value["DataType"],
        "stringListValues": [],
        "binaryListValues": [],
    }
    if "StringValue" in value:
        found["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        found["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return found
