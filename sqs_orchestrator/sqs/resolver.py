"""Names looked up by threads of the library's own, and SSL files read by them.

asyncio looks names up in the loop's default thread pool. A program that fills that pool, with
handlers that run in `asyncio.to_thread()` for instance, would keep the library from connecting
until a thread is free; its messages would meanwhile become visible again, and its reply queues
would seem abandoned.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import aiohttp.resolver
from aiohttp.resolver import ThreadedResolver

from ..logs import get_logger

__all__ = ["Resolver", "Threads"]

logger = get_logger(__name__)

T = TypeVar("T")

_THREADS: Final = 4
"""One lookup that hangs must not hold up the others. aiohttp looks each name up once at a time."""

STALE_AFTER: Final = 3600.0
"""Seconds for which the last answer stands in while a name cannot be looked up. SQS's addresses
live far longer, and one that is gone costs no more than the failed lookup would."""

# These say that there is no such name. All others, that nobody could be asked.
_NO_SUCH_NAME: Final = frozenset(
    code
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if (code := getattr(socket, name, None)) is not None
)


class Threads:
    """A few threads for what blocks, instead of those of the loop's default pool.

    It passes for an event loop where aiohttp's resolver uses one: to look up names.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sqs-orchestrator")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """What *function* returns; it runs in one of the threads."""
        return await self._loop.run_in_executor(self._pool, function, *args)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return await self.run(lambda: socket.getaddrinfo(host, port, **options))

    async def getnameinfo(self, address: Any, flags: int = 0) -> Any:
        return await self.run(socket.getnameinfo, address, flags)

    def close(self) -> None:
        """Take nothing more. What still runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Resolver(ThreadedResolver):
    """Looks names up in *threads*, and remembers the answers for when nobody can be asked."""

    def __init__(self, threads: Threads) -> None:
        passes_for_a_loop: Any = threads
        super().__init__(passes_for_a_loop)
        self._threads = threads
        self._known: dict[tuple[str, int, int], tuple[float, list[Any]]] = {}

    @staticmethod
    def is_needed() -> bool:
        """Whether aiohttp would use the loop's threads: with aiodns it needs none."""
        return aiohttp.resolver.DefaultResolver is ThreadedResolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[Any]:
        asked = (host, port, int(family))
        try:
            found = await super().resolve(host, port, family)
        except OSError as exc:
            since, found = self._known.get(asked, (-STALE_AFTER, []))
            age = self._threads.time() - since
            if not found or age > STALE_AFTER or exc.errno in _NO_SUCH_NAME:
                _fail_in_silence()
                raise
            logger.warning(
                "%s cannot be looked up (%s): what was found %.0f s ago is used", host, exc, age
            )
        else:
            self._known[asked] = (self._threads.time(), found)
        return list(found)


def _fail_in_silence() -> None:
    """Let the failure of this task be told only to those who wait for it.

    aiohttp has them wait by `asyncio.shield`, so that one who gives up ends no lookup of
    others. Since Python 3.14 asyncio logs an error for each who has given up, and aiohttp, which
    drops the failure then, does not keep it from that.
    """
    task = asyncio.current_task()
    for callback, _ in getattr(task, "_callbacks", None) or ():
        if task is not None and getattr(callback, "__name__", "") == "_log_on_exception":
            task.remove_done_callback(callback)
