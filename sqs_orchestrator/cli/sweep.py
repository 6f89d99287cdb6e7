"""`sweep`: deletes the reply queues whose owners are gone."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from ..core.names import DEFAULT_PREFIX
from ..requester.sweeper import sweep as sweep_queues
from .options import DEFAULTS, FLAG, Common, Usage
from .output import counted, note, print_json


async def sweep(
    prefix: str = DEFAULT_PREFIX,
    /,
    *,
    dry_run: Annotated[bool, FLAG] = False,
    legacy: Annotated[bool, FLAG] = False,
    yes: Annotated[bool, FLAG] = False,
    common: Common = DEFAULTS,
) -> int:
    """Delete the reply queues whose owners are gone; shows them first, and asks.

    Parameters
    ----------
    prefix
        With what the names of the reply queues begin.
    dry_run
        Only show them.
    legacy
        Also what the synchronous package, python-sqs-client, has left behind.
    yes
        Do not ask.
    """
    kind = "idle queue" if legacy else "idle reply queue"
    async with common.connect() as sqs:
        idle: list[str] = []
        deleted: list[str] = []
        if dry_run or not yes:
            idle = await sweep_queues(sqs, prefix, dry_run=True, legacy=legacy)
            if not common.json:
                for url in idle:
                    print(url)
                note(f"{counted(len(idle), kind)} with the prefix {prefix}")
        if not dry_run and (yes or (idle and await _agreed(len(idle)))):
            deleted = await sweep_queues(sqs, prefix, legacy=legacy)
            if not common.json:
                if yes:
                    for url in deleted:
                        print(url)
                note(f"{len(deleted)} deleted")
        if common.json:
            print_json({"idle": deleted if yes and not dry_run else idle, "deleted": deleted})
    return 0


async def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise Usage(f"{count} would be deleted, and nobody can be asked: pass --yes")
    sys.stderr.write(f"Delete {counted(count, 'queue')}? [y/N] ")
    sys.stderr.flush()
    # Read once there is a line: a read that waits would not let Ctrl-C through.
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")
