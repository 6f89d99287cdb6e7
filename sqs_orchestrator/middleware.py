"""The two doors for those who build on the library: `outgoing` and `incoming`.

A middleware is any object with one of these methods, or both. `outgoing` stands around each
message that goes out, `incoming` around each call of a handler. The first in a list is the
outermost: it sees a message going out first, and what comes of it last.

Without a middleware nothing stands in the way: `around` gives what it was given.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

from .core.callables import is_coroutine_function, takes_two
from .core.checks import shown
from .drafts import Draft
from .message import Message

__all__ = ["IncomingMiddleware", "Middleware", "OutgoingMiddleware", "around", "checked_middleware"]


class OutgoingMiddleware(Protocol):
    """Stands around what a publisher or a poller sends."""

    async def outgoing(self, draft: Draft, call_next: Callable[[Draft], Awaitable[Any]], /) -> Any:
        """Send *draft*, or another, by `await call_next(draft)`, and return what that returns.

        That is the `Reply` to a request, and the message id of a send or a reply, once SQS has
        it. What it raises is what the call raises, and so is what this raises. Of a reply that a
        poller sends nobody awaits the result; if this raises before SQS has the reply, the
        requester gets an error in its place, and after that the log alone tells of it.
        """
        ...


class IncomingMiddleware(Protocol):
    """Stands around the handlers of a poller."""

    async def incoming(
        self, message: Message, call_next: Callable[[Message], Awaitable[Any]], /
    ) -> Any:
        """Have *message*, or another, handled by `await call_next(message)`, and return what
        that returns, or something else.

        What this returns or raises counts as the handler's own result. `message.reply_attributes`
        is a dict that the reply will carry.
        """
        ...


Middleware: TypeAlias = OutgoingMiddleware | IncomingMiddleware

T = TypeVar("T")

_METHODS: Final = ("outgoing", "incoming")


def checked_middleware(middleware: object) -> tuple[Middleware, ...]:
    """*middleware*, a list of objects, as it can be used.

    Raises:
        ValueError: It is no list, or one in it is no object with `outgoing` or `incoming`, or
            these are no coroutine functions of two arguments.
    """
    if not isinstance(middleware, Sequence) or isinstance(middleware, (str, bytes)):
        raise ValueError(f"middleware is a list of objects, not {shown(middleware)}")
    for each in middleware:
        _check(each)
    return tuple(middleware)


def _check(middleware: object) -> None:
    if isinstance(middleware, type):
        raise ValueError(f"{shown(middleware)} is the class of a middleware: pass an object of it")
    found = [name for name in _METHODS if getattr(middleware, name, None) is not None]
    if not found:
        raise ValueError(
            f"{shown(middleware)} is no middleware: it has no outgoing(), no incoming()"
        )
    for name in found:
        method = getattr(middleware, name)
        first = "draft" if name == "outgoing" else "message"
        wanted = f"async def {name}(self, {first}, call_next)"
        if not is_coroutine_function(method) or not takes_two(method):
            raise ValueError(f"{name} of {shown(middleware)} is not as it should be: {wanted}")


def around(
    middleware: Sequence[Middleware],
    name: Literal["outgoing", "incoming"],
    last: Callable[[T], Awaitable[Any]],
) -> Callable[[T], Awaitable[Any]]:
    """*last* with the methods of *name* around it; *last* itself where there are none."""
    methods = [getattr(each, name, None) for each in middleware]
    if not any(methods):
        return last
    kind = Draft if name == "outgoing" else Message
    call = functools.partial(_call, kind, last)
    for method in reversed(methods):
        if method is not None:
            call = functools.partial(_call, kind, functools.partial(_around, method, call))
    return call


def _around(method: Callable[..., Any], call_next: Callable[[T], Awaitable[Any]], item: T) -> Any:
    return method(item, call_next)


def _call(kind: type, call: Callable[[T], Awaitable[Any]], item: T) -> Awaitable[Any]:
    if not isinstance(item, kind):
        raise TypeError(f"call_next() takes a {kind.__name__}, not {shown(item)}")
    return call(item)
