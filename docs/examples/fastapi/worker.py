"""The worker: it makes the drinks. `python worker.py`, or `sqs-orchestrator worker worker:bar`."""

from __future__ import annotations

import asyncio
import logging
import os

from messages import Drink, Order, Thanks
from sqs_orchestrator import Connection, Poller, Reject, connect
from sqs_orchestrator.opentelemetry import Telemetry

QUEUE = os.environ.get("ORDERS_QUEUE", "orders")
MENU = {"espresso": 0.0, "filter": 2.0, "cold brew": 8.0}
"""Seconds that each takes."""

logger = logging.getLogger("bar")
telemetry = Telemetry()


def bar(sqs: Connection) -> Poller:
    poller = Poller(sqs, QUEUE, concurrency=50, wait_time=5, middleware=[telemetry])
    poller.handler(make)
    poller.handler("thanks")(read)
    return poller


async def make(order: Order) -> Drink:
    """What it returns is the reply to the request."""
    logger.info("begins %s for %s", order.drink, order.name)
    if order.drink == "cake":
        raise Reject("the cake is sold out", code="sold_out")
    if order.drink == "cocoa":
        raise RuntimeError("the milk frother is broken")
    if order.drink not in MENU:
        raise Reject(f"there is no {order.drink} on the menu", code="not_on_the_menu")
    await asyncio.sleep(MENU[order.drink])
    logger.info("made %s for %s", order.drink, order.name)
    return Drink(drink=order.drink, name=order.name, made_by=f"process {os.getpid()}")


async def read(thanks: Thanks) -> None:
    """A one-way message: nobody waits for a reply."""
    logger.info("thanks from %s", thanks.name)


async def main() -> None:
    async with connect(wrap=telemetry.wrap) as sqs:
        await bar(sqs).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    asyncio.run(main())
