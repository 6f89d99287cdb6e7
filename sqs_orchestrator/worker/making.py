"""Makes a poller from what an application names: the function that makes it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeAlias

from ..connection import Connection
from .poller import Poller

Factory: TypeAlias = Callable[
    [Connection], Poller | Awaitable[Poller] | AbstractAsyncContextManager[Poller]
]
"""Gets the connection, and gives a poller that does not run yet; or an async context manager of
one, which may open on the way what the handlers need."""


class NoPoller(TypeError):
    """Something else was made."""


async def made(stack: AsyncExitStack, factory: Factory, sqs: Connection) -> Poller:
    """The poller that *factory* makes; *stack* closes what was opened on the way.

    Raises:
        NoPoller: It makes something else.
    """
    poller = factory(sqs)
    if not isinstance(poller, Poller) and isinstance(poller, AbstractAsyncContextManager):
        poller = await stack.enter_async_context(poller)
    elif inspect.isawaitable(poller):
        poller = await poller
    if not isinstance(poller, Poller):
        raise NoPoller(f"made no Poller, but {type(poller).__name__}")
    return poller
