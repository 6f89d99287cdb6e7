"""A connection to an SQS in memory, in place of `sqs_orchestrator.connect`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..connection import Connection
from ..core.checks import check_type
from ..sqs.port import SQS
from .memory import MemoryServer, MemorySQS

__all__ = ["connect"]


def connect(server: MemoryServer | None = None, *, port: SQS | None = None) -> Connection:
    """A connection to an SQS in memory, to be used as an async context manager.

    Args:
        server: The queues, where several connections should share them.
        port: What to go through instead: a `MemorySQS` with faults of its own, or any other
            port.
    """
    if server is not None:
        check_type("server", server, MemoryServer, "a MemoryServer")
    through = MemorySQS(server) if port is None else port

    @asynccontextmanager
    async def opener() -> AsyncIterator[SQS]:
        yield through

    return Connection(opener)
