"""The programs of the soak: `worker` handles, `requester` asks, both for a long time.

Each prints a line of JSON for what it measured whenever it has been quiet for a moment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

from .measuring import measure, start_measuring

AT_ONCE: Final = 40
"""Requests at a time."""

QUIET: Final = 1.5
"""Seconds without work after which a worker counts as quiet."""

PAUSE: Final = 5.0
"""Seconds of quiet after each round: longer than what a killed worker held stays hidden, and
than deletes wait for company."""

VISIBILITY_TIMEOUT: Final = 2

SHORT: Final = 0.2
"""Seconds: a timeout that some handlers exceed, and after which some callers lose patience."""


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


# ------------------------------------------------------------------------------ worker


async def handle(message: so.Message) -> Any:
    asked = message.json()
    await asyncio.sleep(asked["work"])
    if asked["outcome"] == "rejects":
        raise so.Reject("an odd one", code="odd", details={"number": asked["number"]})
    if asked["outcome"] == "fails" and message.receive_count == 1:
        raise LookupError("the first time it fails")
    if asked["outcome"] == "retries" and message.receive_count == 1:
        raise so.Retry(delay=0)
    return {"number": asked["number"]}


async def worker(options: argparse.Namespace) -> None:
    """Handle what comes until stopped."""
    # Handlers fail by the hundred here.
    logging.getLogger("sqs_orchestrator").setLevel(logging.CRITICAL)
    async with so.connect(endpoint_url=options.endpoint_url, **CREDENTIALS) as sqs:
        pollers = [
            so.Poller(
                sqs,
                queue,
                handle,
                concurrency=25,
                visibility_timeout=VISIBILITY_TIMEOUT,
                wait_time=1,
                drain_timeout=8.0,
            )
            for queue in options.queues
        ]
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(poller.run()) for poller in pollers]
            # Once they have begun, they hear signals.
            await asyncio.sleep(0)
            say(ready=True)
            if options.measured:
                start_measuring()
                watching = group.create_task(watch(pollers))
                await asyncio.wait(runs)
                watching.cancel()
    say(stopped=True)


async def watch(pollers: list[so.Poller]) -> None:
    """Measure once in each time of quiet."""
    handled, since, measured = 0, 0.0, True
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0.1)
        statistics = [poller.statistics() for poller in pollers]
        now = sum(each.received for each in statistics)
        if now != handled or any(each.running or each.answering for each in statistics):
            handled, since, measured = now, loop.time(), False
        elif not measured and loop.time() > since + QUIET:
            measured = True
            say(measured=asdict(measure()), handled=handled)


# --------------------------------------------------------------------------- requester


def own_error(error: so.RemoteError, body: dict[str, Any]) -> bool:
    """Whether a request with *body* may end with *error*."""
    if body["outcome"] == "rejects":
        return error.code == "odd" and error.details == {"number": body["number"]}
    return body["outcome"] == "fails" and error.type == "LookupError"


class Requester:
    """A mixed load, by chance: requests and one-way messages, on a standard and a FIFO queue,
    that succeed, fail, time out, and whose callers lose patience."""

    def __init__(self, queues: list[str], seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._queues = queues
        self._dice = random.Random(seed)
        self._number = 0

    async def round(self, sqs: so.Connection, publisher: so.Publisher, seconds: float) -> None:
        """Keep many under way for *seconds*; some over a publisher that comes and goes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds

        async def keep_going(publisher: so.Publisher) -> None:
            while loop.time() < until:
                await self._one(publisher)

        async with so.Publisher(sqs) as passing, asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(keep_going(passing if number % 4 == 0 else publisher))

    async def _one(self, publisher: so.Publisher) -> None:
        dice = self._dice
        self._number += 1
        number = self._number
        queue = dice.choice(self._queues)
        group = str(dice.randrange(10)) if queue.endswith(".fifo") else None
        outcome = dice.choice(["returns"] * 6 + ["rejects", "fails", "retries"])
        work = dice.choice([0.0, 0.01, 0.05, 0.1])
        body = {
            "number": number,
            "work": work,
            "outcome": outcome,
            "text": "x" * dice.randrange(2000),
        }
        kinds: list[Callable[[], Awaitable[str]]] = [
            *[lambda: self._request(publisher, queue, body, group)] * 6,
            lambda: self._send(publisher, queue, body, group),
            lambda: self._time_out(publisher, queue, body, group),
            lambda: self._lose_patience(publisher, queue, body, group),
            lambda: self._misuse(publisher),
        ]
        self.outcomes[await dice.choice(kinds)()] += 1

    async def _request(
        self, publisher: so.Publisher, queue: str, body: dict[str, Any], group: str | None
    ) -> str:
        try:
            reply = await publisher.request(queue, body, timeout=60, group_id=group)
        except so.RemoteError as error:
            if not own_error(error, body):
                raise
            return "error"
        assert reply.json() == {"number": body["number"]}
        # One that fails does so when first received: by a worker that was then killed, perhaps.
        assert body["outcome"] != "rejects"
        return "reply"

    async def _send(
        self, publisher: so.Publisher, queue: str, body: dict[str, Any], group: str | None
    ) -> str:
        deduplication_id = None if group is None else str(body["number"])
        # Rejected one-way it would be deleted, with a line in the log each time.
        body = body | {"outcome": "retries" if body["outcome"] == "rejects" else body["outcome"]}
        await publisher.send(queue, body, group_id=group, deduplication_id=deduplication_id)
        return "sent"

    async def _time_out(
        self, publisher: so.Publisher, queue: str, body: dict[str, Any], group: str | None
    ) -> str:
        try:
            await publisher.request(
                queue, body | {"work": 2 * SHORT}, timeout=SHORT, group_id=group
            )
        except so.ReplyTimeout:
            return "timeout"
        raise AssertionError("it got a reply before its handler had ended")

    async def _lose_patience(
        self, publisher: so.Publisher, queue: str, body: dict[str, Any], group: str | None
    ) -> str:
        try:
            async with asyncio.timeout(self._dice.uniform(0.0, SHORT)):
                return await self._request(publisher, queue, body, group)
        except so.ReplyTimeout:
            raise
        except TimeoutError:
            return "cancelled"

    async def _misuse(self, publisher: so.Publisher) -> str:
        try:
            await publisher.request("no-such-queue", "x")
        except so.QueueNotFound:
            return "no such queue"
        raise AssertionError("it got a reply from a queue that does not exist")


async def requester(options: argparse.Namespace) -> None:
    """Rounds of load, a quiet moment after each."""
    load = Requester(options.queues, options.seed)
    start_measuring()
    async with (
        so.connect(endpoint_url=options.endpoint_url, **CREDENTIALS) as sqs,
        so.Publisher(sqs) as publisher,
    ):
        for _ in range(options.rounds):
            await load.round(sqs, publisher, options.seconds)
            await asyncio.sleep(PAUSE)
            statistics = publisher.statistics()
            assert not statistics.pending, statistics
            say(measured=asdict(measure()), outcomes=dict(load.outcomes))
    say(stopped=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint_url")
    programs = parser.add_subparsers(dest="program", required=True)
    one = programs.add_parser("worker")
    one.add_argument("--queues", type=lambda text: text.split(","))
    one.add_argument("--measured", type=int, default=0)
    one.set_defaults(run=worker)
    one = programs.add_parser("requester")
    one.add_argument("--queues", type=lambda text: text.split(","))
    one.add_argument("--rounds", type=int)
    one.add_argument("--seconds", type=float)
    one.add_argument("--seed", type=int, default=1)
    one.set_defaults(run=requester)
    options = parser.parse_args()
    asyncio.run(options.run(options))


if __name__ == "__main__":
    main()
