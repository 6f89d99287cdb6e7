"""What can be told of a callable before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["is_coroutine_function", "takes_two"]


def is_coroutine_function(function: Any) -> bool:
    """Whether calling *function* gives a coroutine: it was defined with `async def`, or is an
    object whose class has such a `__call__`, a method or a `functools.partial` of one."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return callable(function) and inspect.iscoroutinefunction(type(function).__call__)


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether *function* can be called with two arguments by position."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature that can be read
        return True
    return True
