"""What requester and worker must be allowed to do: the one place that says so.

`policy` makes IAM policies of it, `doctor` checks each, and a test holds the page on IAM to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["requester", "worker"]
Place: TypeAlias = Literal["queue", "replies", "dead_letters", "everywhere"]


class Statement(NamedTuple):
    """One statement of a policy."""

    sid: str
    role: Role
    place: Place
    actions: tuple[str, ...]


STATEMENTS: Final = (
    Statement("SendRequests", "requester", "queue", ("GetQueueUrl", "SendMessage")),
    Statement(
        "OwnReplyQueues",
        "requester",
        "replies",
        (
            "CreateQueue",
            "TagQueue",
            "UntagQueue",
            "GetQueueUrl",
            "ReceiveMessage",
            "DeleteMessage",
            "DeleteQueue",
            "ListQueueTags",
            "GetQueueAttributes",
        ),
    ),
    Statement("FindAbandonedQueues", "requester", "everywhere", ("ListQueues",)),
    Statement(
        "TakeRequests",
        "worker",
        "queue",
        (
            "GetQueueUrl",
            "GetQueueAttributes",
            "ReceiveMessage",
            "DeleteMessage",
            "ChangeMessageVisibility",
        ),
    ),
    Statement("SendReplies", "worker", "replies", ("SendMessage",)),
    Statement("MoveDeadLetters", "worker", "dead_letters", ("SendMessage",)),
)

SWEEPING: Final = frozenset({"ListQueues", "ListQueueTags", "GetQueueAttributes", "UntagQueue"})
"""What only a requester needs that sweeps, on reply queues."""


def least_policy(
    roles: Iterable[Role],
    queue_arn: str,
    *,
    dead_letter_arn: str | None = None,
    prefix: str,
    sweeping: bool = True,
    key: str | None = None,
) -> dict[str, Any]:
    """The least IAM policy for those *roles*; *key* is the KMS key of the queue, if it has one."""
    place, _, _ = queue_arn.rpartition(":")
    resources = {
        "queue": queue_arn,
        "replies": f"{place}:{prefix}*",
        "dead_letters": dead_letter_arn,
        "everywhere": "*",
    }
    wanted = set(roles)
    statements = []
    for statement in STATEMENTS:
        resource = resources[statement.place]
        actions = [
            f"sqs:{action}"
            for action in statement.actions
            if sweeping or statement.place == "queue" or action not in SWEEPING
        ]
        if statement.role in wanted and resource is not None and actions:
            statements.append(_statement(statement.sid, actions, resource))
    if key is not None:
        statements.append(_key_statement(wanted, place, key))
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(sid: str, actions: list[str], resource: str) -> dict[str, Any]:
    # In the form that IAM's own editor writes: one action is no list.
    action = actions if len(actions) > 1 else actions[0]
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def _key_statement(roles: set[Role], place: str, key: str) -> dict[str, Any]:
    actions = ["kms:Decrypt"]
    if "requester" in roles:
        actions.append("kms:GenerateDataKey")
    keys = place.replace(":sqs:", ":kms:", 1)
    alias = key if key.startswith("alias/") else None
    if key.startswith("arn:"):
        alias = key.partition(":alias/")[2] or None
        alias = None if alias is None else f"alias/{alias}"
    if alias is None:
        resource = key if key.startswith("arn:") else f"{keys}:key/{key}"
        return _statement("UseKey", actions, resource)
    # A policy names keys, not aliases: the condition does.
    return {
        **_statement("UseKey", actions, f"{keys}:key/*"),
        "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}},
    }
