"""`peek`: what is in a queue, and why its dead letters were rejected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter

from ..connection import Connection
from ..core.names import url_beside
from ..core.redrive import dead_letter_queue
from ..sqs.port import Received
from ..texts import printable
from .holding import Holding
from .messages import facts_of, why_of
from .options import DEFAULTS, FLAG, Common, Failed, Positive
from .output import ago, cell, console, note, print_json, print_table
from .stopping import terminable


async def peek(
    queue: str,
    /,
    *,
    count: Annotated[Positive, Parameter(alias="-n")] = 10,
    dead_letters: Annotated[bool, FLAG] = False,
    full: Annotated[bool, FLAG] = False,
    common: Common = DEFAULTS,
) -> int:
    """Show messages of a queue, and give them back.

    Other receivers do not see them while this looks: for about a second, and if it is killed for
    a minute. Each look counts as a receive.

    Parameters
    ----------
    queue
        The name or URL of the queue, or of a dead-letter queue.
    count
        How many messages at most.
    dead_letters
        Look into the dead-letter queue of QUEUE.
    full
        Show all attributes, and the whole body.
    """
    async with terminable(), common.connect() as sqs:
        url = await sqs.queue_url(queue)
        policy = await _redrive_policy(sqs, url)
        if dead_letters:
            target = dead_letter_queue(policy)
            if target is None:
                raise Failed(f"{queue} has no dead-letter queue")
            url = url_beside(url, *target)
        elif policy:
            note("each look counts as a receive: its redrive policy takes those received too often")
        found: list[Received] = []
        async with Holding(sqs, url) as holding:
            async for batch in holding.batches(count):
                found += batch
        facts = [facts_of(each) for each in found]
        if common.json:
            print_json(facts)
        else:
            _show(facts, full, sqs.port.clock.now())
        holding.say_what_is_hidden()
    return 0


async def _redrive_policy(sqs: Connection, url: str) -> str | None:
    wanted = ["RedrivePolicy"]
    found = await sqs.patiently(lambda: sqs.port.get_queue_attributes(url, wanted))
    return found.get("RedrivePolicy")


def _show(messages: Sequence[dict[str, Any]], full: bool, now: float | None) -> None:
    if not messages:
        note("no messages")
    elif full:
        for facts in messages:
            for name, value in facts.items():
                if value not in (None, {}) and name != "body":
                    _line(name, value)
            for line in facts["body"].splitlines() or [""]:
                console().print(cell(f"  {line}", len(line) + 2))
    else:
        rows = [
            (
                facts["message_id"],
                _age(facts["sent"], now),
                facts["receives"],
                facts["type"],
                why_of(facts),
                cell(facts["body"], 80),
            )
            for facts in messages
        ]
        print_table(["id", ">age", ">receives", "type", "why rejected", "body"], rows)


def _age(sent: str | None, now: float | None) -> str:
    if sent is None or now is None:
        return ago(None)
    return ago(now - datetime.fromisoformat(sent).timestamp())


def _line(name: str, value: object) -> None:
    if isinstance(value, dict):
        value = "  ".join(f"{key}={each!r}" for key, each in value.items())
    text = printable(f"{name}: {value}")
    console().print(cell(text, len(text)))
