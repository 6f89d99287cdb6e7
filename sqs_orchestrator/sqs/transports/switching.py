"""The lean transport while nobody listens to the client's events, and the stock one while
somebody does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...logs import get_logger
from .lean import LeanTransport
from .stock import StockTransport
from .template import emitter_of, listener_of

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["SwitchingTransport"]

logger = get_logger(__name__)


class SwitchingTransport:
    """Passes calls to *lean*, or to a stock transport of *client*, whose events decide that."""

    def __init__(self, client: SQSClient, lean: LeanTransport) -> None:
        self.clock = lean.clock
        self.endpoint = lean.endpoint
        self._client = client
        self._lean = lean
        self._stock = StockTransport(client, clock=lean.clock)
        self._chosen: LeanTransport | StockTransport = lean
        self._emitter = emitter_of(client)
        self._seen = self._emitter._lookup_cache  # noqa: SLF001 - see emitter_of()

    def __repr__(self) -> str:
        return repr(self._chosen)

    def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        begun: Callable[[], None] | None = None,
    ) -> Awaitable[Mapping[str, Any]]:
        # The emitter starts a new cache whenever somebody registers with it.
        if self._emitter._lookup_cache is not self._seen:  # noqa: SLF001
            self._choose()
        return self._chosen.call(operation, parameters, begun)

    def _choose(self) -> None:
        self._seen = self._emitter._lookup_cache  # noqa: SLF001
        listener = listener_of(self._client)
        chosen = self._lean if listener is None else self._stock
        if chosen is not self._chosen:
            self._chosen = chosen
            logger.debug(
                "calls to %s take the %s path from now on: %s listens to the client's events",
                self.endpoint,
                "lean" if listener is None else "stock",
                listener or "nobody",
            )
