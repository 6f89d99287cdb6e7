"""What can be told of a message that was received to be looked at."""

from __future__ import annotations

from typing import Any

from ..core.attributes import plain_attributes
from ..core.wire import RESERVED, Malformed, parse_request, split_dead_letter
from ..sqs.port import Received
from .output import when


def facts_of(received: Received) -> dict[str, Any]:
    """What can be told of a message."""
    attributes, why = split_dead_letter(received.attributes)
    try:
        request = parse_request(attributes)
        message_type = request.message_type
        reply_to = None if request.reply_to is None else request.reply_to.queue_url
    except Malformed as error:
        message_type, reply_to = None, f"unreadable: {error.reason}"
    return {
        "message_id": received.message_id,
        "sent": when(received.system.get("SentTimestamp")),
        "receives": int(received.system.get("ApproximateReceiveCount", "0")),
        "group": received.system.get("MessageGroupId"),
        "type": message_type,
        "reply_to": reply_to,
        "rejected": why or None,
        "attributes": plain_attributes(attributes, RESERVED),
        "body": received.body,
    }


def why_of(facts: dict[str, Any]) -> str:
    """Why it was rejected, in a few words."""
    why = facts["rejected"] or {}
    text = ": ".join(why[name] for name in ("code", "reason") if name in why)
    return f"{text} ({why['handler']})" if "handler" in why else text
