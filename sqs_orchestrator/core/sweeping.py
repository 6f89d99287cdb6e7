"""Which reply queues are idle, and which of them a sweeper may delete.

The tags and the names themselves are spelled in `wire` and in `names`; here is what follows
from them. A queue is kept wherever anything about it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from .names import JAVA_PREFIX, is_own_form, is_sweepers
from .wire import parse_lifetime

Verdict: TypeAlias = Literal["live", "idle", "foreign"]
"""A *foreign* queue is not one of a requester that keeps a heartbeat."""


def verdict(tags: Mapping[str, str], now_ms: int, patience: float = 0.0) -> Verdict:
    """What the tags of a queue say at *now_ms*, epoch milliseconds by SQS's clock.

    A queue is idle when its last heartbeat is older than its retention, and also older than
    *patience* seconds. One with a retention and no heartbeat at all is idle. A queue whose
    tags cannot be read is foreign, and nobody deletes it.
    """
    lifetime = parse_lifetime(tags)
    if lifetime is None:
        return "foreign"
    if lifetime.heartbeat_ms is None:
        return "idle"
    silence_ms = now_ms - lifetime.heartbeat_ms
    return "idle" if silence_ms > max(lifetime.retention, patience) * 1000 else "live"


def may_sweep(prefix: str, name: str) -> bool:
    """Whether a sweeper of *prefix* may look at the queue called *name*, and delete it."""
    return (
        name.startswith(prefix)
        and not is_sweepers(prefix, name)
        and not is_sweepers(JAVA_PREFIX, name)
    )


def sweep_decision(
    prefix: str, name: str, verdict: Verdict, empty: bool
) -> Literal["delete", "keep"]:
    """What to do with a queue; *empty* means that SQS counts no message of any kind in it.

    An idle queue of the library's own form had one reader, and that one is gone: it is deleted
    with what is in it. Any other may have a reader that is only late, so it must be empty.
    """
    if verdict != "idle" or not may_sweep(prefix, name):
        return "keep"
    return "delete" if empty or is_own_form(prefix, name) else "keep"
