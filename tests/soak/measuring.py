"""What a process holds: memory, tasks, sockets, and what the library has under way."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.rounds import TABLES


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process holds in a quiet moment."""

    resident: int
    """Bytes of memory, as the system counts them."""
    traced: int
    """Bytes that Python objects take."""
    tasks: int
    sockets: int
    entries: int
    """Requests, sends, replies, waiters and messages in the library's tables."""
    owners: int
    """Publishers, reply queues and pollers that have not been forgotten."""


def start_measuring() -> None:
    """From now on, Python notes what its objects take."""
    tracemalloc.start()


def measure() -> Measured:
    """What this process holds now."""
    gc.collect()
    entries = 0
    owners: Counter[str] = Counter()
    for thing in gc.get_objects():
        for name in TABLES.get(type(thing), ()):
            table = getattr(thing, name, ())
            entries += table if isinstance(table, int) else len(table)
            owners[type(thing).__name__] += 1
    return Measured(
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        traced=tracemalloc.get_traced_memory()[0],
        tasks=len(asyncio.all_tasks()),
        sockets=sum(_is_socket(file) for file in Path("/proc/self/fd").iterdir()),
        entries=entries,
        owners=owners.total(),
    )


def _is_socket(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith("socket:")
    except FileNotFoundError:
        # The directory was open when it was listed.
        return False
