"""The way of one warm round trip through the library's own code, function by function.

`python -m tests.benchmarks.way` runs a requester and a worker on one event loop, on a server of
its own, lets them warm up, and then watches round trips, one after another, by
`sys.setprofile`. It prints each call of a function of the library in the first of them, indented
by depth, and at the end how many calls a round trip takes and how often the file changes from one
call to the next, both on average: some of what a round trip leaves to do (deletes wait for
company) is done during the next ones. Each time that a coroutine is resumed counts as a call.
With `--total` it prints the numbers alone.

The numbers are those of CPython 3.13 on the default loop; other versions resume in other ways.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import sqs_orchestrator
from sqs_orchestrator import Message, Poller, Publisher, connect
from tests.servers import CREDENTIALS, running_server

PACKAGE: Final = f"{Path(sqs_orchestrator.__file__).parent}/"

WARM: Final = 30
"""Round trips before those that are watched."""

WATCHED: Final = 100


class Call(NamedTuple):
    """One call of a function of the library."""

    depth: int
    file: str
    function: str


async def watched(endpoint_url: str) -> tuple[list[Call], int]:
    """The calls of `WATCHED` warm round trips, and how many of them are in the first."""
    calls: list[Call] = []
    first = 0
    depth = 0

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == "call":
            file = code.co_filename.removeprefix(PACKAGE)
            calls.append(Call(depth, file, code.co_qualname))
            depth += 1
        elif event == "return":
            depth -= 1

    async def handle(message: Message) -> str:
        return message.body

    async with connect(endpoint_url=endpoint_url, **CREDENTIALS) as sqs:
        await sqs.create_queue("way")
        async with Publisher(sqs) as publisher, Poller(sqs, "way", handle):
            for _ in range(WARM):
                await publisher.request("way", "hello")
            sys.setprofile(watch)
            try:
                for _ in range(WATCHED):
                    await publisher.request("way", "hello")
                    first = first or len(calls)
            finally:
                sys.setprofile(None)
    return calls, first


def changes_of_file(calls: list[Call]) -> int:
    """How often the next call is in another file than the one before it."""
    return sum(one.file != other.file for one, other in pairwise(calls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="fauxqs", help="moto, fauxqs or elasticmq")
    parser.add_argument("--total", action="store_true", help="print the numbers alone")
    arguments = parser.parse_args()
    with running_server(arguments.server) as endpoint_url:
        calls, first = asyncio.run(watched(endpoint_url))
    if not arguments.total:
        for depth, file, function in calls[:first]:
            print(f"{'  ' * depth}{function}  [{file}]")
        print()
        for file, count in Counter(call.file for call in calls).most_common():
            print(f"{count / WATCHED:7.1f} {file}")
    print(
        f"{len(calls) / WATCHED:.1f} calls and {changes_of_file(calls) / WATCHED:.1f} changes of"
        f" file a round trip, in {len({call.file for call in calls})} files"
    )


if __name__ == "__main__":
    main()
