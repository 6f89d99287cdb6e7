"""A container of AWS Lambda: calls the function with each event that standard input brings.

Prints one line of JSON for each thing that the test waits for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import sqs_orchestrator as so
from sqs_orchestrator.aws_lambda import lambda_handler
from tests.servers import CREDENTIALS


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


class Context:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


def main(endpoint_url: str, queue: str, report_failures: str) -> None:
    def orders(sqs: so.Connection) -> so.Poller:
        poller = so.Poller(sqs, queue, concurrency=10)

        @poller.handler
        async def handle(message: so.Message) -> dict[str, Any]:
            order = message.json()
            say(started=order["number"])
            if message.receive_count == 1:
                if order["blocks"] == "when told":
                    await asyncio.to_thread(sys.stdin.readline)
                if order["blocks"]:
                    say(blocks=True)
                    time.sleep(3600)  # noqa: ASYNC251 - nothing can cancel that
            return {"number": order["number"], "receive_count": message.receive_count}

        return poller

    sqs = so.connect(endpoint_url=endpoint_url, **CREDENTIALS)
    handler = lambda_handler(orders, sqs=sqs, report_failures=report_failures == "True")
    while line := sys.stdin.readline():
        call = json.loads(line)
        say(answer=handler(call["event"], Context(call["seconds"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
