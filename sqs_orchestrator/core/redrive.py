"""Redrive policies: the JSON by which a queue names its dead-letter queue."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class DeadLetterQueue(NamedTuple):
    """Where a queue's dead letters go."""

    account: str
    name: str


def redrive_policy(arn: str, max_receive_count: int) -> str:
    """The policy that moves what was received *max_receive_count* times to the queue *arn*."""
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count}
    return json.dumps(policy, separators=(",", ":"))


def dead_letter_queue(policy: str | None) -> DeadLetterQueue | None:
    """The queue that *policy* names; `None` where it names none."""
    arn = comparable(policy or "")
    if not isinstance(arn, dict):
        return None
    # arn:aws:sqs:<region>:<account>:<name>; a dead-letter queue is in its queue's region.
    parts = str(arn.get("deadLetterTargetArn", "")).split(":")
    return DeadLetterQueue(parts[4], parts[5]) if len(parts) == 6 else None


def comparable(policy: str) -> Any:
    """*policy* in a form that is equal for equal policies: servers write the same JSON in
    different ways, and its numbers as numbers or as text."""
    try:
        value = json.loads(policy)
    except ValueError:
        return policy
    if isinstance(value, dict):
        return {k: str(v) if isinstance(v, (int, str)) else v for k, v in value.items()}
    return value
