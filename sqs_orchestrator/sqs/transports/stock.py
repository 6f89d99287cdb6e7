"""The stock transport: calls through aiobotocore's SQS client.

Calls, not messages, are what costs here (about a millisecond of CPU each), so every call
goes straight to the client's own method.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions as boto
from botocore import xform_name

from ..answers import answer_of, unpacked
from ..clock import Clock
from ..config import attempts_of, longest_call
from ..failures import Foreign, TooSlow
from ..transport import OPERATIONS

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

__all__ = ["StockTransport"]

_METHODS: Final = {operation: xform_name(operation) for operation in OPERATIONS}


class StockTransport:
    """Calls the methods of aiobotocore clients, which stay the caller's to close.

    *polling_client* takes the receives: one client's pool of connections serves all its
    calls, and a dozen long polls in it would keep the sends waiting for their end.
    """

    def __init__(
        self,
        client: SQSClient,
        polling_client: SQSClient | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        # Typed loosely from here on: the stubs want one TypedDict per parameter, and making
        # those costs a copy of every message.
        self._client: Any = client
        self._polling: Any = client if polling_client is None else polling_client
        meta = self._client.meta
        self.endpoint: str | None = getattr(meta, "endpoint_url", None)
        self._longest_call = longest_call(meta.config)
        self._attempts = attempts_of(meta.config)
        meta.events.register(
            "before-send.sqs.SendMessageBatch", _stream_large_body, unique_id="sqs-orchestrator"
        )
        for each in (self._client, self._polling):
            each.meta.events.register("before-parse.sqs", _see, unique_id="sqs-orchestrator-sees")

    def __repr__(self) -> str:
        return f"<StockTransport to {self.endpoint}>"

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        begun: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        # The client tells of an answer only when it has read all of it: so *begun* is never
        # called.
        client = self._polling if operation == "ReceiveMessage" else self._client
        method = getattr(client, _METHODS[operation])
        limit = self._attempts * (self._longest_call + parameters.get("WaitTimeSeconds", 0))
        seen = _Seen()
        token = _seen.set(seen)
        # Around all of it: what brings the credentials may hang as well as SQS may.
        scope = asyncio.timeout(None if limit == math.inf else limit)
        answer: dict[str, Any] = {}
        why = ""
        try:
            async with scope:
                answer = await method(**parameters)
        except TimeoutError as exc:
            if not scope.expired():
                raise
            raise TooSlow(limit) from exc
        except boto.BotoCoreError:
            raise
        except Exception as exc:
            fetching = isinstance(exc, boto.ClientError) and exc.operation_name != operation
            if seen.answer is None or fetching:
                raise
            why = f"the client cannot make sense of it: {type(exc).__name__}: {exc}"
        finally:
            _seen.reset(token)
        if seen.answer is not None:
            # What the client makes of an answer says less than the answer, may repeat a whole
            # page, and takes for empty what it cannot read.
            status, headers, body = seen.answer
            answer_of(operation, status, headers, body, self.clock)
            if why:
                raise Foreign(status, body, why)
        return answer


class _Seen:
    """The answer to a call of ours, as it came: status, headers and body."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: tuple[int, Mapping[str, str], bytes] | None = None


_seen: ContextVar[_Seen | None] = ContextVar("sqs_orchestrator_answer", default=None)


def _see(response_dict: dict[str, Any], **_: Any) -> None:
    """Keep the answer that is about to be parsed, if it is to a call of ours, and unpack it."""
    seen = _seen.get()
    if seen is None:
        return
    status, headers = response_dict["status_code"], response_dict["headers"]
    response_dict["body"] = body = unpacked(status, headers, response_dict["body"])
    seen.answer = (status, headers, body)


def _stream_large_body(request: Any, **_: Any) -> None:
    # aiohttp warns of larger ones in one piece, and where warnings are errors that fails.
    if isinstance(request.body, bytes) and len(request.body) > 2**20:
        request.body = io.BytesIO(request.body)
