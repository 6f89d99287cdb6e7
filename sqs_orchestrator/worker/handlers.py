"""Handlers: what may be one, and what it is called with.

A handler's signature is read once, when it is registered. So what is wrong with it is said
when the worker starts, and a call costs little more than the call.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ..codecs import Codec, CodecError
from ..core.callables import is_coroutine_function, is_generator_function
from ..core.checks import quoted, shown, text_of
from ..message import Message
from ..middleware import Middleware, around

if sys.version_info >= (3, 14):
    from annotationlib import Format

__all__ = ["Exited", "Handler", "Handlers", "called"]


class Handler:
    """A registered handler.

    Attributes:
        name: What to call it in a log.
        route: The `message_type` that it serves; `None` for the default handler.
        streams: Whether it is an async generator, each item one part of the reply.
        body_type: What it gets the body decoded to; `None` where it gets the message.
    """

    __slots__ = ("_function", "_message_keyword", "body_type", "name", "route", "streams")

    def __init__(self, function: Callable[..., Any], route: str | None = None) -> None:
        self.name = _name_of(function)
        self.route = route
        self.streams = is_generator_function(function)
        if not self.streams and not is_coroutine_function(function):
            raise ValueError(
                f"the handler {self.name} is not a coroutine function: define it with "
                "'async def', and in there run what blocks with anyio.to_thread.run_sync()"
            )
        self._function = function
        self.body_type, self._message_keyword = _arguments(function, self.name)

    def __repr__(self) -> str:
        return f"<Handler {self.name} for {self.route or 'any message'}>"

    async def call(self, message: Message, codec: Codec) -> Any:
        """What the handler returns for *message*.

        Raises:
            CodecError: The body is not what the handler wants.
            BaseException: Whatever the handler raises.
        """
        return await self.begin(message, codec)

    def stream(self, message: Message, codec: Codec) -> AsyncIterator[Any]:
        """The items of a handler that streams; raises as `call` does."""
        items: AsyncIterator[Any] = self.begin(message, codec)
        return items

    def begin(self, message: Message, codec: Codec) -> Any:
        """The handler's coroutine, or its async iterator where it streams.

        A body that is not what the handler takes is a `CodecError` whose `source` is the message.
        """
        if self.body_type is None:
            return self._function(message)
        try:
            body = codec.decode(message.body, self.body_type, message.content_type)
        except CodecError as error:
            error.source = message
            raise
        except Exception as error:  # the codec is the user's own, and so are its errors
            fault = CodecError(f"the body could not be decoded: {error}")
            fault.source = message
            raise fault from error
        if self._message_keyword is None:
            return self._function(body)
        return self._function(body, **{self._message_keyword: message})


class Exited(Exception):
    """The handler called `sys.exit()`."""


async def called(
    handler: Handler, message: Message, codec: Codec, middleware: Sequence[Middleware]
) -> Any:
    """What the handler returns, or the middleware around it."""
    try:
        if middleware:
            last = functools.partial(handler.begin, codec=codec)
            return await around(middleware, "incoming", last)(message)
        return await handler.begin(message, codec)
    except SystemExit as error:
        # From a task it would end the event loop, and with it every other handler.
        raise Exited from error


class Handlers:
    """The handlers of one poller."""

    def __init__(self) -> None:
        self._by_route: dict[str | None, Handler] = {}

    def __len__(self) -> int:
        return len(self._by_route)

    def register(self, function: Callable[..., Any], route: str | None = None) -> Handler:
        """Register *function* for a `message_type`, or as the default handler.

        Raises:
            ValueError: It cannot be a handler, or there is one for that already.
        """
        if route is not None and (not route or not isinstance(route, str)):
            raise ValueError(f"a route is a str that is not empty, not {shown(route)}")
        handler = Handler(function, route)
        taken = self._by_route.get(route)
        if taken is not None:
            what = "default handler" if route is None else f"handler for {route!r}"
            raise ValueError(f"there is a {what} already: {taken.name}, now {handler.name}")
        self._by_route[route] = handler
        return handler

    def lookup(self, message_type: str | None) -> Handler | None:
        """The handler for a `message_type`, else the default one; `None` where neither is."""
        return self._by_route.get(message_type) or self._by_route.get(None)


# -------------------------------------------------------------------- signatures


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


_P = inspect.Parameter
_BY_POSITION = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.VAR_POSITIONAL)


def _arguments(function: Callable[..., Any], name: str) -> tuple[Any | None, str | None]:
    """The type of the decoded body, if it wants that, and the name of the parameter for the
    message beside it, if there is one."""
    parameters = _parameters(function, name)
    if parameters is None:
        return None, None  # then it gets the message
    if not parameters or parameters[0].kind not in _BY_POSITION:
        raise ValueError(f"the handler {name} must take the message as its first parameter")
    first, *further = parameters
    # `*args` is how a wrapper passes on what it gets, whatever it says of the types.
    body_type = None if first.kind is _P.VAR_POSITIONAL else _annotation(function, first, name)
    if body_type is _P.empty or body_type is Message:
        body_type = None
    message_keyword = None
    for parameter in further:
        if parameter.kind in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD):
            continue
        if body_type is not None and message_keyword is None:
            wants = _annotation(function, parameter, name, needed=parameter.default is _P.empty)
            named = wants is _P.empty and parameter.name == "message"
            if (wants is Message or named) and parameter.kind is not _P.POSITIONAL_ONLY:
                message_keyword = parameter.name
                continue
        if parameter.default is _P.empty:
            raise ValueError(
                f"the handler {name} has a parameter {parameter.name!r} that nothing is passed "
                "for: a handler takes one Message, or the decoded body and 'message: Message'"
            )
    return body_type, message_keyword


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter] | None:
    """The parameters of *function*, `None` where it does not say. An annotation is text where it
    was written as text, or names what does not exist."""
    if sys.version_info >= (3, 14):
        # From there on they are evaluated when somebody asks, all together.
        try:
            as_text = inspect.signature(function, annotation_format=Format.STRING).parameters
            found = inspect.signature(function, annotation_format=Format.FORWARDREF).parameters
        except Exception as error:
            raise ValueError(
                f"the annotations of the handler {name} cannot be evaluated: {text_of(error)}"
            ) from error
        return [
            as_text[each] if _names_nothing(parameter.annotation) else parameter
            for each, parameter in found.items()
        ]
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # as an AsyncMock in early Python 3.11
        return None


def _names_nothing(annotation: Any) -> bool:
    """Whether a name in *annotation* did not exist when that was evaluated."""
    if isinstance(annotation, typing.ForwardRef):
        # One without an owner was written as text, as in `list["Order"]`.
        return getattr(annotation, "__owner__", None) is not None
    parts = annotation if isinstance(annotation, list) else typing.get_args(annotation)
    return any(map(_names_nothing, parts))


def _annotation(
    function: Callable[..., Any], parameter: inspect.Parameter, name: str, *, needed: bool = True
) -> Any:
    """The annotation of *parameter*, as a type. Only those that matter are looked at: others,
    such as that of the return value, may name what is imported for type checkers alone."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        # The message is known by its name even where it is imported for type checkers alone.
        if annotation.rpartition(".")[2] == Message.__name__:
            return Message
        try:
            annotation = eval(annotation, _namespace(function))
        except Exception as error:
            if not needed:
                return None
            raise ValueError(
                f"the handler {name} has the annotation {quoted(annotation)}, which cannot be "
                f"resolved ({error}): it must be known in the handler's module at run time, "
                "not only under TYPE_CHECKING or inside a function"
            ) from error
    if typing.get_origin(annotation) is typing.Annotated and annotation.__origin__ is Message:
        return Message
    return annotation


def _namespace(function: Callable[..., Any]) -> dict[str, Any]:
    """What the names in the annotations of *function* stand for."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    function = getattr(function, "__func__", function)
    captured = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    return {**getattr(function, "__globals__", {}), **captured}
