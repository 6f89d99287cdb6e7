"""The two processes of the demo. Each takes orders, one line of JSON at a time, and answers
each with one; when its input ends, it leaves in good order."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio

from ..connection import Connection, connect
from ..errors import RemoteError, ReplyTimeout
from ..message import Message
from ..requester.publisher import Publisher
from ..results import Reject
from ..sqs.counting import counting
from ..worker.poller import Poller

QUEUE = "orders"

PATIENCE = 0.5
"""The timeout of the request that is to time out, in seconds."""


def connection(endpoint_url: str, calls: Counter[str]) -> Connection:
    """A connection that counts its API calls in *calls*."""
    return connect(
        endpoint_url=endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
        wrap=counting(calls),
    )


async def worker(endpoint_url: str) -> None:
    """Answers requests until its input ends."""
    calls: Counter[str] = Counter()
    notes: list[str] = []
    noted = asyncio.Event()
    async with connection(endpoint_url, calls) as sqs:
        poller = Poller(sqs, QUEUE, concurrency=50, wait_time=3)

        @poller.handler
        async def square(message: Message) -> dict[str, Any]:
            started = time.monotonic()
            return {"square": message.json()["number"] ** 2, "started": started}

        @poller.handler("impossible")
        async def refuse(message: Message) -> None:
            raise Reject("there is no such order", code="no_such_order", details=message.json())

        @poller.handler("slow")
        async def dawdle(message: Message) -> str:
            await asyncio.sleep(2 * PATIENCE)
            return "too late"

        @poller.handler("note")
        async def keep(message: Message) -> None:
            notes.append(message.body)
            noted.set()

        async with poller:
            async for order in _orders():
                if order["order"] == "notes":
                    with anyio.move_on_after(30):
                        await noted.wait()
                    _answer(notes)
                else:
                    _answer(calls)


async def requester(endpoint_url: str) -> None:
    """Makes the requests that it is told to make, and checks their replies."""
    calls: Counter[str] = Counter()
    async with connection(endpoint_url, calls) as sqs, Publisher(sqs) as publisher:
        async for order in _orders():
            match order["order"]:
                case "get ready":
                    await sqs.queue_url(QUEUE)
                    await publisher.ready()
                    _answer(None)
                case "ask":
                    _answer(await _ask(publisher, order["count"], order["at_a_time"]))
                case "mishaps":
                    _answer(await _mishaps(publisher))
                case _:
                    _answer(calls)


async def _ask(publisher: Publisher, count: int, at_a_time: int) -> dict[str, Any]:
    latencies: list[float] = []
    wrong: list[str] = []
    journey: list[float] = []
    numbers = iter([random.randrange(1_000_000) for _ in range(count)])

    async def ask_on() -> None:
        for number in numbers:
            asked = time.monotonic()
            try:
                reply = await publisher.request(QUEUE, {"number": number}, timeout=30)
            except Exception as error:
                wrong.append(f"the request to square {number} failed: {error!r}")
                continue
            answered = time.monotonic()
            answer = reply.json()
            latencies.append(answered - asked)
            # The two processes share a clock: they are on one machine.
            journey[:] = [answer["started"] - asked, answered - asked]
            if answer["square"] != number**2:
                wrong.append(f"the square of {number} came back as {answer['square']}")

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(ask_on())
    seconds = time.monotonic() - begun
    return {"seconds": seconds, "latencies": latencies, "wrong": wrong, "journey": journey}


async def _mishaps(publisher: Publisher) -> dict[str, Any]:
    """What is no plain reply: a refusal, silence, and a message that wants none."""
    wrong: list[str] = []
    told: list[tuple[str, str, float]] = []

    async def expect(what: str, kind: type[Exception], route: str, **options: Any) -> None:
        begun = time.monotonic()
        try:
            reply = await publisher.request(QUEUE, {"id": 7}, message_type=route, **options)
        except kind as error:
            told.append((what, f"{type(error).__name__}: {error}", time.monotonic() - begun))
        except Exception as error:
            wrong.append(f"{what}: {kind.__name__} was due, not {error!r}")
        else:
            wrong.append(f"{what}: {kind.__name__} was due, not {reply!r}")

    await expect("the handler refuses", RemoteError, "impossible", timeout=30)
    await expect(f"no reply within {PATIENCE} s", ReplyTimeout, "slow", timeout=PATIENCE)
    note = "a message that wants no reply"
    await publisher.send(QUEUE, note, message_type="note")
    return {"told": told, "note": note, "wrong": wrong}


async def _orders() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        yield json.loads(line)


def _answer(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Play the role that the command line names, at the endpoint that it names."""
    roles: dict[str, Callable[[str], Coroutine[Any, Any, None]]]
    roles = {"worker": worker, "requester": requester}
    role, endpoint_url = sys.argv[1:]
    asyncio.run(roles[role](endpoint_url))
