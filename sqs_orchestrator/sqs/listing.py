"""A listing of queues, page after page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..core.limits import LIST_QUEUES_PAGE
from ..errors import QueueError
from .port import SQS

__all__ = ["Listing", "list_queues"]

MOST_PAGES: Final = 1_000
"""Pages that a listing may have: a million queues, ten times what a fleet can be."""


class Listing(NamedTuple):
    """Queues by prefix."""

    urls: Sequence[str]
    complete: bool = True
    """Whether these are all: the listing did not stop at its limit."""


async def list_queues(port: SQS, prefix: str, *, limit: int | None = None) -> Listing:
    """The queues whose names begin with *prefix*: all of them, or *limit*.

    Raises:
        QueueError: A page cannot be read, or the pages do not end.
    """
    urls: list[str] = []
    tokens = {""}
    token = ""
    while True:
        most = LIST_QUEUES_PAGE
        if limit is not None:
            most = max(1, min(most, limit - len(urls)))
        page = await port.list_queues(prefix, limit=most, token=token)
        urls += page.urls
        token = page.next_token
        if limit is not None and len(urls) >= limit:
            # Some servers give more than was asked for.
            return Listing(urls[:limit], complete=not token and len(urls) == limit)
        if not token:
            return Listing(urls)
        if token in tokens or len(tokens) > MOST_PAGES:
            raise QueueError(
                f"ListQueues: the listing does not end: after {len(tokens)} pages there is "
                f"one more{', which it had before' if token in tokens else ''}",
                operation="ListQueues",
                code="EndlessListing",
            )
        tokens.add(token)
