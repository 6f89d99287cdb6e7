"""`queues`: the reply queues under a prefix, and how they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from rich.live import Live

from ..connection import Connection
from ..core.names import (
    DEFAULT_PREFIX,
    JAVA_PREFIX,
    check_prefix,
    is_own_form,
    prefix_of_legacy_sweeper,
    queue_name_of,
)
from ..core.sweeping import verdict
from ..core.wire import is_sweeping, other_tags, parse_legacy_heartbeat, parse_lifetime
from ..errors import QueueNotFound
from .options import DEFAULTS, FLAG, Common, Seconds
from .output import ago, cell, console, note, print_json, progress, table

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
)

PAUSE: Final = 0.1
"""Seconds between two queues: reading tags is limited per account, and heartbeats come first."""


async def queues(
    prefix: str = DEFAULT_PREFIX,
    /,
    *,
    watch: Annotated[bool, FLAG] = False,
    interval: Seconds = 5.0,
    common: Common = DEFAULTS,
) -> int:
    """Show the reply queues under a prefix: owner, age, heartbeat, depth, idle or not.

    Parameters
    ----------
    prefix
        With what the names of the reply queues begin.
    watch
        Look again and again, until Ctrl-C.
    interval
        Seconds between two looks.
    """
    check_prefix(prefix)
    async with common.connect() as sqs:
        if not watch:
            _print(await _look(sqs, prefix), common)
        elif common.json or not console().is_terminal:
            while True:
                _print(await _look(sqs, prefix, quiet=True), common)
                await asyncio.sleep(interval)
        else:
            with Live(console=console(), auto_refresh=False, screen=False) as live:
                while True:
                    live.update(_table(await _look(sqs, prefix, quiet=True)), refresh=True)
                    await asyncio.sleep(interval)
    return 0


async def _look(sqs: Connection, prefix: str, *, quiet: bool = False) -> list[dict[str, Any]]:
    listing = await sqs.patiently(lambda: sqs.port.list_queues(prefix))
    found: list[dict[str, Any]] = []
    with progress(show=not quiet) as bar:
        for url in bar.track(listing.urls, description="queues"):
            if found:
                await asyncio.sleep(PAUSE)
            facts = await _facts_of(sqs, prefix, url)
            if facts is not None:
                found.append(facts)
    return found


async def _facts_of(sqs: Connection, prefix: str, url: str) -> dict[str, Any] | None:
    """What can be told of a queue; `None` if it has gone."""
    try:
        tags = await sqs.patiently(lambda: sqs.port.list_queue_tags(url))
        counts = await sqs.patiently(lambda: sqs.port.get_queue_attributes(url, COUNTS))
    except QueueNotFound:
        return None
    now = sqs.port.clock.now()
    lifetime = parse_lifetime(tags)
    beat: float | None = parse_legacy_heartbeat(tags)
    if lifetime is not None and lifetime.heartbeat_ms is not None:
        beat = lifetime.heartbeat_ms / 1000
    created = _seconds(counts.get("CreatedTimestamp"))
    return {
        "name": queue_name_of(url),
        "url": url,
        "owner": _owner(prefix, queue_name_of(url), tags),
        "tags": other_tags(tags),
        "age_seconds": now - created if now is not None and created is not None else None,
        "heartbeat_seconds": None if now is None or beat is None else max(now - beat, 0.0),
        "retention_seconds": None if lifetime is None else lifetime.retention,
        "messages": _number(counts.get(COUNTS[0])),
        "in_flight": _number(counts.get(COUNTS[1])),
        "sweeps": is_sweeping(tags),
        "state": "unknown" if now is None else verdict(tags, int(now * 1000), legacy=True),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _seconds(text: str | None) -> float | None:
    try:
        return float(text or "")  # whole ones by SQS; others show more
    except ValueError:
        return None


def _owner(prefix: str, name: str, tags: Mapping[str, str]) -> str:
    """Which program made a queue, by the form of its name, and its tags."""
    if name.startswith(JAVA_PREFIX):
        return "Java client"
    if parse_legacy_heartbeat(tags) is not None or prefix_of_legacy_sweeper(name) is not None:
        return "synchronous package"
    return "sqs-orchestrator" if is_own_form(prefix, name) else "other"


def _print(found: Sequence[dict[str, Any]], common: Common) -> None:
    if common.json:
        print_json(found)
    elif found:
        console().print(_table(found), soft_wrap=False)
    else:
        note("no queues")


def _table(found: Sequence[dict[str, Any]]) -> Any:
    rows = [
        (
            facts["name"],
            facts["owner"] + "".join(f" {name}={text}" for name, text in facts["tags"].items()),
            ago(facts["age_seconds"]),
            "none" if facts["heartbeat_seconds"] is None else ago(facts["heartbeat_seconds"]),
            facts["messages"],
            facts["in_flight"],
            "yes" if facts["sweeps"] else "no",
            cell(facts["state"]),
        )
        for facts in found
    ]
    columns = ["name", "owner", ">age", ">heartbeat", ">messages", ">in flight", "sweeps", "state"]
    return table(columns, rows)
