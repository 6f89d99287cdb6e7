"""A connection to an SQS in memory, in place of `sqs_orchestrator.connect`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..connection import Connection
from ..core.checks import check_flag, check_type
from ..sqs.port import SQS
from ..sqs.wrapping import Wrap, check_wrap
from .memory import MemoryServer, MemorySQS
from .queues import Refused

__all__ = ["MemoryConnection", "connect"]


class MemoryConnection(Connection):
    """A connection to an SQS in memory. Made by `connect()`.

    Its `server` is a `MemoryServer`: faults to order, calls to count, messages to look at.
    """

    def __init__(
        self,
        server: MemoryServer,
        port: SQS,
        *,
        strict_queues: bool,
        drop_polls: bool,
        wrap: Wrap | None,
    ) -> None:
        @asynccontextmanager
        async def opener() -> AsyncIterator[SQS]:
            yield port

        super().__init__(opener, drop_polls=drop_polls, wrap=wrap)
        self.server = server
        """The queues."""
        self.strict_queues = strict_queues
        """Whether a queue that nobody has created does not exist."""

    async def queue_url(self, name_or_url: str) -> str:
        # The one way to a queue that somebody names: create_queue() looks its own up elsewhere.
        if not self.strict_queues and name_or_url not in self.queues.known:
            _create(self.server, name_or_url)
        return await super().queue_url(name_or_url)


def connect(
    server: MemoryServer | None = None,
    *,
    port: SQS | None = None,
    strict_queues: bool = True,
    drop_polls: bool = False,
    wrap: Wrap | None = None,
) -> MemoryConnection:
    """A connection to an SQS in memory, to be used as an async context manager.

    Args:
        server: The queues, where several connections should share them.
        port: What to go through instead: a `MemorySQS` with faults of its own, or any other
            port.
        strict_queues: Whether a queue has to be created before it can be used, as with SQS.
            Where not, its first use creates it, without a dead-letter queue; one whose name
            ends in `.fifo` is a FIFO queue that knows duplicates by their bodies.
        drop_polls: Let pollers that stop drop the poll in flight, by which nothing is lost in
            memory. With SQS they wait for its end, and so they do here by default: for
            `wait_time`, in the time of the loop.
        wrap: As `sqs_orchestrator.connect` takes it.

    Raises:
        ValueError: An argument is of a wrong type.
    """
    if server is not None:
        check_type("server", server, MemoryServer, "a MemoryServer")
    check_flag("strict_queues", strict_queues)
    check_flag("drop_polls", drop_polls)
    check_wrap(wrap)
    if port is None:
        port = MemorySQS(server)
    if isinstance(port, MemorySQS):
        server = port.server
    return MemoryConnection(
        server or MemoryServer(),
        port,
        strict_queues=strict_queues,
        drop_polls=drop_polls,
        wrap=wrap,
    )


def _create(server: MemoryServer, name_or_url: str) -> None:
    """Create a queue unless it exists, or was deleted a moment ago."""
    account, _, name = name_or_url.rpartition("/")
    account = account.rpartition("/")[2] or server.account
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    try:
        server.queue(name_or_url)
    except KeyError:
        try:
            server.create(account, name, attributes if name.endswith(".fifo") else {}, {})
        except Refused:
            return  # the call that is about to be made will say why
