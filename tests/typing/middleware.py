"""What type checkers see of middleware. Checked, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import sqs_orchestrator as so

Next = Callable[[so.Draft], Awaitable[Any]]


class Outgoing:
    async def outgoing(self, draft: so.Draft, call_next: Next) -> Any:
        assert_type(draft.replace(body="x"), so.Draft)
        reply = await call_next(draft)
        if isinstance(reply, so.Reply):
            assert_type(reply.replace(body="x", attributes={"n": 1}), so.Reply)
        return reply


class Incoming:
    async def incoming(
        self, message: so.Message, call_next: Callable[[so.Message], Awaitable[Any]]
    ) -> Any:
        return await call_next(message)


class Both(Outgoing, Incoming):
    """One that stands at both doors."""


class OtherNames:
    async def outgoing(self, message: so.Draft, send: Next, times: int = 1) -> object:
        return await send(message)


class Untyped:
    async def outgoing(self, draft, call_next):  # type: ignore[no-untyped-def]
        return await call_next(draft)  # pyright: ignore[reportUnknownVariableType]


class NotAsynchronous:
    def outgoing(self, draft: so.Draft, call_next: Next) -> str:
        return "id"


class OfOneArgument:
    async def outgoing(self, draft: so.Draft) -> Any:
        return draft


class OfAnotherType:
    async def outgoing(self, draft: str, call_next: Next) -> Any:
        return draft


class WrongIncoming:
    async def incoming(self, message: so.Message) -> Any:
        return message


class Neither:
    async def outgoin(self, draft: so.Draft, call_next: Next) -> Any:
        return await call_next(draft)


def taken(sqs: so.Connection) -> None:
    so.Publisher(sqs, middleware=[Outgoing(), Incoming(), Both(), OtherNames(), Untyped()])
    so.Publisher(sqs, middleware=(Outgoing(),))
    shared: list[so.Middleware] = [Both()]
    so.Publisher(sqs, middleware=shared)


def refused(sqs: so.Connection) -> None:
    so.Publisher(sqs, middleware=[NotAsynchronous()])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=[OfOneArgument()])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=[OfAnotherType()])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=[WrongIncoming()])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=[Outgoing(), Neither()])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=[Outgoing])  # type: ignore[list-item]
    so.Publisher(sqs, middleware=Outgoing())  # type: ignore[arg-type]


async def late(publisher: so.Publisher, reply_to: so.ReplyTo) -> None:
    await publisher.reply(reply_to, so.Reject("no", code="sold_out"), attributes={"n": 1})
