"""`redrive`: dead letters go back to the queue that they came from.

SQS has such a thing of its own (StartMessageMoveTask); that knows neither filters nor a dry
run, and refuses dead letters that a program has sent to the queue itself, as a worker does with
those that it rejects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from cyclopts import Parameter

from ..connection import Connection
from ..core.names import queue_name_of, url_beside
from ..core.redrive import dead_letter_queue
from ..core.wire import split_dead_letter
from ..errors import QueueError
from ..queues import check_queue
from ..sqs.port import Failure, Received, SendEntry
from .holding import Holding
from .messages import facts_of, why_of
from .options import (
    DEFAULTS,
    FLAG,
    Attributes,
    Common,
    Failed,
    Positive,
    Seconds,
    Usage,
    attributes_of,
)
from .output import cell, counted, note, print_json, print_table, progress
from .stopping import in_any_case, terminable


@dataclass
class Filter:
    """Which dead letters are meant; `None` is every."""

    code: str | None = None
    type: str | None = None
    id: str | None = None
    contains: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def takes(self, facts: dict[str, Any]) -> bool:
        why = facts["rejected"] or {}
        return (
            self.code in (None, why.get("code"))
            and self.type in (None, facts["type"])
            and self.id in (None, facts["message_id"], why.get("message_id"))
            and (self.contains is None or self.contains in facts["body"])
            and self.attributes.items() <= facts["attributes"].items()
        )


@dataclass
class Moved:
    """What became of the dead letters."""

    sent: int = 0
    left: int = 0
    """Those that the filter does not mean, or that came back meanwhile."""
    failed: int = 0
    """Those that their queue did not take: they stay."""
    doubled: int = 0
    """Those that were sent back and could not be deleted: they are in both queues."""


async def redrive(
    queue: str,
    /,
    *,
    to: str | None = None,
    code: str | None = None,
    type_: Annotated[str | None, Parameter(name="--type")] = None,
    id_: Annotated[str | None, Parameter(name="--id")] = None,
    contains: str | None = None,
    attribute: Attributes = None,
    limit: Positive | None = None,
    rate: Seconds | None = None,
    dry_run: Annotated[bool, FLAG] = False,
    common: Common = DEFAULTS,
) -> int:
    """Send dead letters back to the queue that they came from.

    A message is deleted from the dead-letter queue once its queue has it, and not before. What
    is rejected again meanwhile is left. On FIFO queues messages behind one that is left, in its
    group, are left too.

    Parameters
    ----------
    queue
        The queue, or its dead-letter queue; by name or URL.
    to
        Send them to this queue instead.
    code
        Only those rejected with this code.
    type_
        Only those with this message type.
    id_
        Only the message with this id, that of now or that before it was rejected.
    contains
        Only those with this text in the body.
    attribute
        Only those with this attribute: name=text or name:=number. May be repeated.
    limit
        Send back no more than that.
    rate
        Messages per second, at most.
    dry_run
        Only show them.
    """
    if to is not None:
        check_queue(to)  # before QUEUE is asked for
    wanted = Filter(code, type_, id_, contains, attributes_of(attribute) or {})
    async with terminable(), common.connect() as sqs:
        source, target = await _ends(sqs, queue, to)
        if source == target:
            raise Usage("the dead-letter queue cannot be --to")
        async with Holding(sqs, source) as holding:
            if dry_run:
                found = [
                    facts
                    async for batch in holding.batches()
                    for each in batch
                    if wanted.takes(facts := facts_of(each))
                ][:limit]
                _show(found, target, common)
                holding.say_what_is_hidden()
                return 0
            moving = _Moving(sqs, holding, source, target)
            moved = await moving.run(wanted, limit, rate)
    facts = {"from": queue_name_of(source), "to": queue_name_of(target), **vars(moved)}
    if common.json:
        print_json(facts)
    else:
        print_table(["", ""], [(name, each) for name, each in facts.items() if each != 0])
    return 1 if moved.failed or moved.doubled else 0


async def _ends(sqs: Connection, queue: str, to: str | None) -> tuple[str, str]:
    """The URLs of the dead-letter queue, and of the queue that its messages go to."""
    url = await sqs.queue_url(queue)
    found = await sqs.patiently(lambda: sqs.port.get_queue_attributes(url, ["RedrivePolicy"]))
    dead = dead_letter_queue(found.get("RedrivePolicy"))
    if dead is not None:
        source = url_beside(url, *dead)
        return source, url if to is None else await sqs.queue_url(to)
    if to is not None:
        return url, await sqs.queue_url(to)
    sources = await _sources(sqs, url)
    if len(sources) != 1:
        names = ", ".join(map(queue_name_of, sources))
        raise Failed(
            f"{queue} has no dead-letter queue and is that of {names or 'no queue'}:"
            " pass the queue itself, or --to"
        )
    return url, sources[0]


async def _sources(sqs: Connection, url: str) -> list[str]:
    """The queues whose dead-letter queue it is."""
    try:
        found = await sqs.client.list_dead_letter_source_queues(QueueUrl=url)
    except Exception as error:  # botocore's own: the library does without this call
        raise Failed(
            f"SQS does not say whose dead-letter queue {queue_name_of(url)} is: {error}. Pass the"
            " queue itself, or --to; or allow sqs:ListDeadLetterSourceQueues"
        ) from error
    return list(found.get("queueUrls", ()))


class _Moving:
    def __init__(self, sqs: Connection, holding: Holding, source: str, target: str) -> None:
        self._sqs = sqs
        self._holding = holding
        self._source = source
        self._target = target
        self._sent: set[str] = set()
        self.moved = Moved()

    async def run(self, wanted: Filter, limit: int | None, rate: float | None) -> Moved:
        began = asyncio.get_running_loop().time()
        count = await self._count()
        with progress() as bar:
            task = bar.add_task("sent back", total=limit if limit is not None else count)
            async for batch in self._holding.batches():
                mine = [each for each in batch if self._means(each, wanted)]
                if limit is not None:
                    mine = mine[: limit - self.moved.sent]
                self.moved.left += len(batch) - len(mine)
                # Between sending and deleting nothing comes, Ctrl-C neither: the message would
                # be in both queues.
                if mine:
                    await in_any_case(self._move(mine))
                bar.update(task, completed=self.moved.sent)
                await anyio.lowlevel.checkpoint()
                if limit is not None and self.moved.sent >= limit:
                    break
                if rate is not None:
                    due = began + self.moved.sent / rate
                    await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))
        return self.moved

    async def _count(self) -> int | None:
        names = ["ApproximateNumberOfMessages"]
        found = await self._sqs.patiently(
            lambda: self._sqs.port.get_queue_attributes(self._source, names)
        )
        count = found.get(names[0], "")
        return int(count) if count.isdigit() else None

    def _means(self, received: Received, wanted: Filter) -> bool:
        facts = facts_of(received)
        before = (facts["rejected"] or {}).get("message_id")
        # Else those that are rejected again at once would go round and round.
        if self._sent & {received.message_id, before}:
            return False
        return wanted.takes(facts)

    async def _move(self, batch: Sequence[Received]) -> None:
        entries = [_entry(each, fifo=self._target.endswith(".fifo")) for each in batch]
        port = self._sqs.port
        sent = await self._sqs.patiently(lambda: port.send(self._target, entries))
        done = []
        for each, result in zip(batch, sent, strict=True):
            if isinstance(result, Failure):
                self.moved.failed += 1
                note(f"{each.message_id} stays: {result.code}: {result.message}")
            else:
                self._sent.add(result)
                done.append(each)
        self.moved.sent += len(done)
        if done:
            await self._delete(done)

    async def _delete(self, batch: Sequence[Received]) -> None:
        handles = [each.receipt_handle for each in batch]
        try:
            deleted: list[Failure | None] = await self._sqs.patiently(
                lambda: self._sqs.port.delete(self._source, handles)
            )
        except QueueError:
            self.moved.doubled += len(batch)
            note("sent back, and not deleted: " + " ".join(each.message_id for each in batch))
            raise
        for each, failure in zip(batch, deleted, strict=True):
            if failure is None:
                self._holding.forget(each.message_id)
            else:
                self.moved.doubled += 1
                note(f"{each.message_id} was sent back, and not deleted: {failure.code}")


def _entry(received: Received, *, fifo: bool) -> SendEntry:
    """The message as it was before it was rejected."""
    attributes, _ = split_dead_letter(received.attributes)
    group = received.system.get("MessageGroupId")
    return SendEntry(
        received.body,
        attributes,
        group_id=group or ("redriven" if fifo else None),
        # Sent twice, since an answer got lost, it is there once.
        deduplication_id=received.message_id if fifo else None,
    )


def _show(found: Sequence[dict[str, Any]], target: str, common: Common) -> None:
    if common.json:
        print_json({"to": queue_name_of(target), "would_send": found})
    else:
        rows = [
            (facts["message_id"], facts["type"], why_of(facts), cell(facts["body"], 80))
            for facts in found
        ]
        print_table(["id", "type", "why rejected", "body"], rows)
        note(f"{counted(len(found), 'message')} would be sent back to {queue_name_of(target)}")
