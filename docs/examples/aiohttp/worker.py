"""The worker: it makes the drinks. `python worker.py`, or `sqs-orchestrator worker worker:bar`."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from sqs_orchestrator import Connection, Poller, Reject, connect

QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
MENU = {"espresso": 0.0, "filter": 2.0, "cold brew": 8.0}
"""Seconds that each takes."""

logger = logging.getLogger("bar")


def bar(sqs: Connection) -> Poller:
    poller = Poller(sqs, QUEUE, concurrency=50, wait_time=5)
    poller.handler(make)
    poller.handler("thanks")(read)
    return poller


async def make(order: dict[str, Any]) -> dict[str, Any]:
    """What it returns is the reply to the request."""
    drink, name = order.get("drink"), order.get("name")
    if not isinstance(drink, str) or not isinstance(name, str) or not name:
        raise Reject("an order has a drink and a name", code="bad_order")
    logger.info("begins %s for %s", drink, name)
    if drink == "cake":
        raise Reject("the cake is sold out", code="sold_out")
    if drink == "cocoa":
        raise RuntimeError("the milk frother is broken")
    if drink not in MENU:
        raise Reject(f"there is no {drink} on the menu", code="not_on_the_menu")
    await asyncio.sleep(MENU[drink])
    logger.info("made %s for %s", drink, name)
    return {"drink": drink, "name": name, "made_by": f"process {os.getpid()}"}


async def read(thanks: dict[str, Any]) -> None:
    """A one-way message: nobody waits for a reply."""
    logger.info("thanks from %s", thanks.get("name"))


async def main() -> None:
    async with connect() as sqs:
        await bar(sqs).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    asyncio.run(main())
