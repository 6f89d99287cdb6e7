"""The main job, to be watched: two processes, one SQS server, and a picture of what happened.

This process runs the server and directs; `actors` are the two others, and `picture` draws.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from . import picture
from .actors import QUEUE, connection

IN_SEQUENCE = 20
"""Requests made one after another, to show what a lone request sees."""

SETTLING = 2.5
"""Seconds for the deletes that still wait for company, so that each call is counted with the
requests that caused it."""

SHOWN = 5
"""Problems that are told one by one: where one thing is broken, every request says so."""

FAREWELL = 30.0
"""Seconds that an actor has to leave in good order."""


def run(*, requests: int, concurrency: int) -> int:
    """Run the demo; returns the exit code: 1 where anything came out wrong."""
    from ..testing import moto_server

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the bars are more than ASCII
    try:
        with moto_server() as endpoint_url:
            return asyncio.run(_direct(endpoint_url, requests, concurrency))
    except ImportError as error:
        print(f"The demo needs an SQS server on this machine. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class _Actor:
    """A process that takes orders on its standard input and answers on its output."""

    def __init__(self, role: str, process: asyncio.subprocess.Process) -> None:
        self.role = role
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def do(self, order: str, **details: Any) -> Any:
        """Give an order and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, **details}).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the {self.role} ended early; why, it says above")
        return json.loads(answer)

    async def leave(self) -> int:
        """Ask it to end, by closing its input; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(FAREWELL):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


@asynccontextmanager
async def _actor(role: str, endpoint_url: str) -> AsyncIterator[_Actor]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from sqs_orchestrator.demo.actors import main; main()", role, endpoint_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
        # So that Ctrl-C reaches this process alone, which then lets the others end in order.
        start_new_session=True,
    )
    actor = _Actor(role, process)
    try:
        yield actor
    finally:
        await actor.leave()


async def _direct(endpoint_url: str, requests: int, concurrency: int) -> int:
    """Set the stage, let them play, and see what is left; returns the exit code."""
    print(f"A requester and a worker, two processes, and moto's SQS at {endpoint_url}\n")
    problems: list[str] = []
    async with connection(endpoint_url, Counter()) as sqs:

        async def queues() -> list[str]:
            return sorted((await sqs.port.list_queues("")).urls)

        url = await sqs.create_queue(QUEUE)
        async with (
            _actor("worker", endpoint_url) as worker,
            _actor("requester", endpoint_url) as requester,
        ):
            await requester.do("get ready")
            print(picture.stage(requester.pid, worker.pid, await queues()))
            replies = await _play(requester, worker, requests, concurrency, problems)
            codes = [await actor.leave() for actor in (requester, worker)]
        if any(codes):
            problems.append(f"requester and worker ended with the exit codes {codes}")
        left = await queues()
        if left != [url]:
            problems.append(f"only {QUEUE!r} should be left, which is the demo's own: {left}")
        await sqs.port.delete_queue(url)
        print(picture.remains(left, await queues()))
    for problem in problems[:SHOWN]:
        print(f"WRONG: {problem}")
    if problems[SHOWN:]:
        print(f"WRONG: and {len(problems) - SHOWN} more")
    if not problems:
        print(f"All as it should be: {replies} requests, and each got its own reply.")
    return 1 if problems else 0


async def _play(
    requester: _Actor, worker: _Actor, requests: int, concurrency: int, problems: list[str]
) -> int:
    """All that happens between the two; returns how many replies came."""
    scenes: list[picture.Scene] = []
    for title, count, at_a_time in (
        (f"{IN_SEQUENCE} requests, one after another", IN_SEQUENCE, 1),
        (f"{requests} requests, {concurrency} at a time", requests, concurrency),
    ):
        before = [await actor.do("calls") for actor in (requester, worker)]
        asked = await requester.do("ask", count=count, at_a_time=at_a_time)
        await asyncio.sleep(SETTLING)
        after = [await actor.do("calls") for actor in (requester, worker)]
        calls = [Counter(now) - Counter(then) for now, then in zip(after, before, strict=True)]
        scenes.append(picture.Scene(title, asked["seconds"], asked["latencies"], *calls))
        problems += asked["wrong"]
        if not scenes[1:] and asked["journey"]:
            print(picture.journey(asked["journey"]))
        print(picture.latencies(scenes[-1]))
    print(picture.calls(scenes))

    mishaps = await requester.do("mishaps")
    problems += mishaps["wrong"]
    notes = await worker.do("notes")
    # A standard queue delivers at least once, so it may have come twice.
    if set(notes) != {mishaps["note"]}:
        problems.append(f"the one-way message {mishaps['note']!r} arrived as {notes}")
    print(picture.mishaps(mishaps["told"], notes))
    return sum(len(scene.latencies) for scene in scenes)
