"""What carries calls to SQS, and the names of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from .clock import Clock

__all__ = ["OPERATIONS", "Transport"]

OPERATIONS: Final = (
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "GetQueueUrl",
    "CreateQueue",
    "GetQueueAttributes",
    "ListQueues",
    "ListQueueTags",
    "TagQueue",
    "UntagQueue",
    "DeleteQueue",
)
"""The operations of the SQS API that the library uses."""


class Transport(Protocol):
    """Carries calls to SQS, and brings back the answers as they are."""

    @property
    def clock(self) -> Clock:
        """SQS's clock, which every answer of SQS's feeds, refusals too."""
        ...

    @property
    def endpoint(self) -> str | None:
        """The URL that calls go to, for errors."""
        ...

    def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        begun: Callable[[], None] | None = None,
    ) -> Awaitable[Mapping[str, Any]]:
        """SQS's answer to one call, once.

        *begun* is called once the answer has begun to arrive, where that can be seen.

        Raises:
            Exception: Whatever went wrong, as it comes; `failures.error_of()` knows it all.
        """
        ...
