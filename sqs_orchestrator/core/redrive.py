"""Redrive policies: the JSON by which a queue names its dead-letter queue."""

from __future__ import annotations

import json
from typing import NamedTuple


class DeadLetterQueue(NamedTuple):
    """The queue that gets the dead letters of another queue."""

    account: str
    name: str


def redrive_policy(arn: str, max_receive_count: int) -> str:
    """The policy that moves a message to the queue *arn* once it was received
    *max_receive_count* times."""
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count}
    return json.dumps(policy, separators=(",", ":"))


def dead_letter_queue(policy: str | None) -> DeadLetterQueue | None:
    """The queue that *policy* names; `None` if it names none."""
    try:
        facts = json.loads(policy or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    # arn:aws:sqs:<region>:<account>:<name>; a dead-letter queue is in its queue's region.
    parts = str(facts.get("deadLetterTargetArn", "")).split(":")
    return DeadLetterQueue(parts[4], parts[5]) if len(parts) == 6 else None
