"""What can be told of a callable before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["is_coroutine_function", "is_generator_function", "takes_two"]


def is_coroutine_function(function: Any) -> bool:
    """Whether calling *function* gives a coroutine: it was defined with `async def`, or is an
    object whose class has such a `__call__`, a method or a `functools.partial` of one."""
    return _is(inspect.iscoroutinefunction, function)


def is_generator_function(function: Any) -> bool:
    """The same for an async generator."""
    return _is(inspect.isasyncgenfunction, function)


def _is(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether *test* holds for *function*, or for what calling that object calls."""
    while isinstance(function, functools.partial):
        function = function.func
    if test(function):
        return True
    # Calling a class makes an object of it.
    return callable(function) and not isinstance(function, type) and test(type(function).__call__)


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether *function* can be called with two arguments by position."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature that can be read
        return True
    return True
