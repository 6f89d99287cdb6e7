"""The programs that the tests of this directory start, and kill.

Each prints one line of JSON for each thing that the test waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import sqs_orchestrator as so
from tests.servers import CREDENTIALS


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def connect(endpoint_url: str) -> so.Connection:
    return so.connect(endpoint_url=endpoint_url, **CREDENTIALS)


async def worker(options: argparse.Namespace) -> None:
    """Handle requests until stopped. Each takes `--work` seconds."""
    async with connect(options.endpoint_url) as sqs:
        poller = so.Poller(
            sqs,
            options.queue,
            concurrency=options.concurrency,
            visibility_timeout=options.visibility_timeout,
            wait_time=1,
            drain_timeout=options.drain_timeout,
        )

        @poller.handler
        async def handle(message: so.Message) -> dict[str, Any]:
            number = message.json()["number"]
            say(started=number)
            await asyncio.sleep(options.work)
            say(finished=number)
            return {"number": number, "receive_count": message.receive_count}

        say(ready=True)
        await poller.run()
        say(stopped=True)


async def requester(options: argparse.Namespace) -> None:
    """Make a reply queue, say its URL, and wait for a reply that never comes."""
    async with (
        connect(options.endpoint_url) as sqs,
        so.ReplyQueue(
            sqs,
            prefix=options.prefix,
            heartbeat_interval=options.heartbeat_interval,
            idle_retention=options.idle_retention,
            sweep_interval=options.sweep_interval,
        ) as replies,
    ):
        await replies.ready()
        say(url=replies.url)
        while True:
            await asyncio.sleep(0.2)
            say(swept=replies.statistics().swept)


async def client(options: argparse.Namespace) -> None:
    """Make requests, say how each ended, and keep the reply queue alive."""
    async with (
        connect(options.endpoint_url) as sqs,
        so.ReplyQueue(
            sqs,
            prefix=options.prefix,
            heartbeat_interval=options.heartbeat_interval,
            idle_retention=options.idle_retention,
            sweep_interval=None,
        ) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        await replies.ready()
        say(url=replies.url)
        for number in range(options.count):
            reply = await publisher.request(
                options.queue, {"number": number}, timeout=options.timeout
            )
            say(reply=reply.json()["number"])
        while True:
            await asyncio.sleep(0.2)
            say(heartbeats=replies.statistics().heartbeats)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint_url")
    programs = parser.add_subparsers(dest="program", required=True)
    one = programs.add_parser("worker")
    one.add_argument("--queue", default="orders")
    one.add_argument("--concurrency", type=int, default=10)
    one.add_argument("--visibility-timeout", type=float, default=3.0)
    one.add_argument("--drain-timeout", type=float, default=10.0)
    one.add_argument("--work", type=float, default=0.0)
    one.set_defaults(run=worker)
    one = programs.add_parser("requester")
    one.add_argument("--prefix", default="sqs_orchestrator_reply_")
    one.add_argument("--heartbeat-interval", type=float, default=1.0)
    one.add_argument("--idle-retention", type=float, default=3.0)
    one.add_argument("--sweep-interval", type=float, default=1.0)
    one.set_defaults(run=requester)
    one = programs.add_parser("client")
    one.add_argument("--queue", default="orders")
    one.add_argument("--prefix", default="sqs_orchestrator_reply_")
    one.add_argument("--heartbeat-interval", type=float, default=1.0)
    one.add_argument("--idle-retention", type=float, default=3.0)
    one.add_argument("--count", type=int, default=10)
    one.add_argument("--timeout", type=float, default=20.0)
    one.set_defaults(run=client)
    options = parser.parse_args(arguments)
    say(clock=time.time())
    try:
        asyncio.run(options.run(options))
    except so.SQSOrchestratorError as error:
        say(error=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
