"""Which reply queues are idle, and which of them a sweeper may delete.

The tags and the names themselves are spelled in `wire` and in `names`; here is what follows
from them. A queue is kept wherever anything about it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from .names import JAVA_PREFIX, is_own_form, is_sweepers
from .wire import parse_legacy_heartbeat, parse_lifetime

Verdict: TypeAlias = Literal["live", "idle", "foreign"]
"""A *foreign* queue is not one of a requester that keeps a heartbeat."""

LEGACY_SILENCE: Final = 1800.0
"""Seconds of silence after which a reply queue of `python-sqs-client` is idle. Its tags tell no
retention. The slowest heartbeat that the package's documents show comes every 300 s. Its time is
that of the owner's machine, and SQS takes no call that is signed with a time that is more than 15
minutes off (Signature Version 4)."""


def verdict(
    tags: Mapping[str, str],
    now_ms: int,
    patience: float = 0.0,
    outage: float = 0.0,
    *,
    legacy: bool = False,
) -> Verdict:
    """What the tags of a queue say at *now_ms*, epoch milliseconds by SQS's clock.

    A queue is idle when its last heartbeat is older than its retention and *outage* together,
    and also older than *patience*, both in seconds. One with a retention and no heartbeat at all
    is idle. A queue whose tags cannot be read is foreign, and nobody deletes it. With *legacy*,
    the queues of `python-sqs-client` are not foreign: see `LEGACY_SILENCE`.
    """
    lifetime = parse_lifetime(tags)
    retention: float
    if lifetime is not None:
        retention, heartbeat_ms = lifetime
        if heartbeat_ms is None:
            return "idle"
    else:
        heartbeat = parse_legacy_heartbeat(tags) if legacy else None
        if heartbeat is None:
            return "foreign"
        retention, heartbeat_ms = LEGACY_SILENCE, heartbeat * 1000
    forgiven = max(retention + outage, patience)
    return "idle" if now_ms - heartbeat_ms > forgiven * 1000 else "live"


def may_sweep(prefix: str, name: str) -> bool:
    """Whether a sweeper of *prefix* may look at the queue called *name*, and delete it."""
    return (
        name.startswith(prefix)
        and not name.endswith(".fifo")  # no reply queue is one
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
