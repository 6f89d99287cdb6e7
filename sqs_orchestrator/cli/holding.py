"""Messages that are looked at and given back: hidden from others for no longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, Self

import anyio

from ..connection import Connection
from ..core.limits import BATCH_ENTRIES
from ..errors import QueueError
from ..sqs.port import Failure, Received
from .output import counted, note

HOLD: Final = 60
"""Seconds after which a message comes back by itself, should this program be killed."""

WAIT: Final = 1
"""Seconds of a poll. A poll that does not wait asks a part of SQS's servers only, and may find
nothing where there is something (ReceiveMessage)."""

RELEASE: Final = 10.0
"""Seconds for giving back."""


class Holding:
    """The messages of a queue, held from when they are received until the end of `async with`.

    Each is received once more often by that, which SQS counts towards `maxReceiveCount`.
    """

    def __init__(self, sqs: Connection, url: str, *, hold: int = HOLD) -> None:
        self._sqs = sqs
        self._url = url
        self._hold = hold
        self._handles: dict[str, str] = {}
        self.hides = False
        """Whether more messages may stand behind those that it holds: in a FIFO queue SQS shows no
        others of a group meanwhile, nor more than ten of it at once (ReceiveMessage)."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Ctrl-C too should leave them as they were found.
        with anyio.move_on_after(RELEASE, shield=True):
            await self.release()
        if self._handles:
            note(
                f"{counted(len(self._handles), 'message')} could not be given back, and will be"
                f" there again within {self._hold} s"
            )

    async def batches(self, limit: int | None = None) -> AsyncIterator[list[Received]]:
        """Up to *limit* messages, each once, as they come; ends when no more come."""
        seen: set[str] = set()
        again = 0
        while limit is None or len(seen) < limit:
            count = BATCH_ENTRIES if limit is None else min(BATCH_ENTRIES, limit - len(seen))
            received = await self._receive(count)
            new = [each for each in received if each.message_id not in seen]
            if new:
                again = 0
                seen.update(each.message_id for each in new)
                yield new
                continue
            # Those whose time is up come again, and are held once more. After a whole round of
            # them there are no others.
            again += len(received)
            if not received or again > len(seen):
                self.hides = self._url.endswith(".fifo") and bool(self._handles)
                return

    async def _receive(self, count: int) -> list[Received]:
        # Not cancelled under way: nobody would know the handles of what it takes.
        polling = asyncio.ensure_future(
            self._sqs.patiently(
                lambda: self._sqs.port.receive(
                    self._url, max_messages=count, wait_time=WAIT, visibility_timeout=self._hold
                )
            )
        )
        try:
            received = await asyncio.shield(polling)
        except asyncio.CancelledError:
            with anyio.move_on_after(2 * WAIT + 1, shield=True):
                self._note(await polling)
            raise
        self._note(received)
        return received

    def _note(self, received: Iterable[Received]) -> None:
        for each in received:
            self._handles[each.message_id] = each.receipt_handle

    def say_what_is_hidden(self) -> None:
        """Note, after `batches`, that those were perhaps not all."""
        if self.hides:
            note("there may be more: a FIFO queue shows none behind those, in their groups")

    def forget(self, message_id: str) -> None:
        """It is not to be given back: it was deleted."""
        self._handles.pop(message_id, None)

    async def release(self) -> None:
        """Give back what is held, as far as that works."""
        while self._handles:
            ids = list(self._handles)[:BATCH_ENTRIES]
            changes = [(self._handles[each], 0) for each in ids]
            try:
                results = await self._sqs.patiently(
                    lambda changes=changes: self._sqs.port.change_visibility(self._url, changes)  # type: ignore[misc]
                )
            except QueueError as error:
                note(f"giving back failed: {error}")
                return
            for message_id, result in zip(ids, results, strict=True):
                # One that has come back by itself already is given back, too.
                if not isinstance(result, Failure) or result.sender_fault:
                    del self._handles[message_id]
                else:
                    return
