"""Decides what becomes of a message: the contract's table of outcomes.

Messages, results and exceptions go in, values come out (`outcomes`). Nothing here does I/O,
counts, logs, or looks at a clock.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

from ..codecs import CodecError
from ..core.addresses import Refused, check_reply_address
from ..core.checks import quoted, text_of
from ..core.wire import ReplyTo, Request, is_legacy
from ..errors import MessageTooLarge
from ..message import Message
from ..results import NO_REPLY, Reject, Retry
from ..tasks import unwrap_group
from .handlers import Handlers
from .outcomes import (
    EXPIRED,
    HANDLED,
    RELEASED,
    Abandon,
    DeadLetter,
    Judgement,
    Outcome,
    Run,
    SendReply,
)
from .settings import Settings


class Judge:
    """Judges the messages of one queue, at *url* in *region*."""

    def __init__(
        self, url: str, region: str | None, settings: Settings, handlers: Handlers
    ) -> None:
        self._url = url
        self._region = region
        self._settings = settings
        self._handlers = handlers

    def of_message(self, request: Request, fault: str | None, *, expired: bool) -> Run | Judgement:
        """What to do with a message whose attributes say *request*; *fault* is what breaks the wire
        format, and *expired* whether nobody waits for its reply any more."""
        reply_queue: str | None = None
        if request.reply_to is not None:
            if expired:
                return EXPIRED
            try:
                reply_queue = check_reply_address(
                    request.reply_to,
                    self._url,
                    region=self._region,
                    prefixes=self._settings.prefixes,
                    accounts=self._settings.accounts,
                )
            except Refused as refused:
                fault = refused.reason
        if fault is not None:
            return self._rejected("bad_attribute", fault, reply_queue)
        route = request.message_type
        handler = self._handlers.lookup(route)
        if handler is None:
            named = "none is named" if route is None else quoted(route)
            return self._rejected(
                "unknown_route", f"no handler for its route: {named}", reply_queue
            )
        return Run(handler, reply_queue)

    def of_result(
        self, result: Any, reply_queue: str | None, reply_to: ReplyTo | None = None
    ) -> Judgement:
        """What it means that the handler has returned *result*, for a reply to *reply_to*."""
        if reply_queue is None or result is NO_REPLY:
            return HANDLED
        nothing = result is None or (isinstance(result, str) and not result)
        if nothing and reply_to is not None and is_legacy(reply_to):
            # A worker of that package is silent then. Its one-way messages carry the address of
            # the last request by mistake, and a reply would be taken for that request's.
            return HANDLED
        return Judgement(SendReply(reply_queue, result), "handled")

    def of_error(
        self,
        error: BaseException,
        reply_queue: str | None,
        *,
        message_id: str,
        overdue: bool = False,
        withdrawn: bool = False,
    ) -> Judgement:
        """What it means that the handler of the message *message_id* has raised *error*.

        *overdue*: the message was held for `max_extension`. *withdrawn*: the handler was
        cancelled because the worker stops.
        """
        if isinstance(error, CodecError):
            source = error.source
            if isinstance(source, Message) and source.message_id == message_id:
                return self._rejected("bad_body", quoted(str(error), 300), reply_queue)
        inner = unwrap_group(error)
        if isinstance(inner, Retry):
            return Judgement(Abandon(inner.delay), "retried")
        if isinstance(inner, Reject):
            outcome: Outcome
            if reply_queue is None:
                outcome = DeadLetter(inner.code, text_of(inner), judged=True)
            else:
                outcome = SendReply(reply_queue, inner)
            return Judgement(outcome, "rejected")
        if withdrawn or isinstance(error, KeyboardInterrupt):
            return RELEASED
        if overdue and isinstance(error, CancelledError):
            error = TimeoutError("it ran for longer than it may")
        return self._failed("handler_error", error, reply_queue)

    def of_unsent(self, reply: SendReply, error: Exception) -> Judgement | None:
        """What to send in place of a *reply* that cannot be sent, because of *error*; `None` if
        there is nothing smaller."""
        if isinstance(reply.body, Reject) and isinstance(error, MessageTooLarge):
            if reply.bare and not reply.body.message and reply.body.details is None:
                return None
            body = _reject(reply.body.code, reply.body.type)
            return Judgement(SendReply(reply.reply_queue, body, bare=True))
        if reply.bare:
            return None
        code = "reply_too_large" if isinstance(error, MessageTooLarge) else "bad_reply"
        return self._failed(code, error, reply.reply_queue, bare=True)

    def of_middleware(self, reply: SendReply, error: BaseException) -> Judgement:
        """What it means that the middleware around a *reply* has raised *error*."""
        return self._failed("handler_error", error, reply.reply_queue, bare=True)

    def _failed(
        self, code: str, error: BaseException, reply_queue: str | None, *, bare: bool = False
    ) -> Judgement:
        outcome: Outcome = Abandon()
        if reply_queue is not None:
            # Its text may have what no requester should see.
            text = text_of(error) if self._settings.expose_errors else ""
            outcome = SendReply(reply_queue, _reject(code, type(error).__name__, text), bare)
        return Judgement(outcome, "failed", error=error)

    def _rejected(self, code: str, reason: str, reply_queue: str | None) -> Judgement:
        """The library itself rejects it."""
        outcome: Outcome
        if reply_queue is None:
            outcome = DeadLetter(code, reason, judged=False)
        else:
            text = reason if self._settings.expose_errors else ""
            outcome = SendReply(reply_queue, _reject(code, None, text))
        return Judgement(outcome, "rejected", fault=(code, reason))


def _reject(code: str, kind: str | None, text: str = "") -> Reject:
    reject = Reject(text)
    # As it is, even where a program has made it what it should not be.
    reject.code, reject.type = code, kind
    return reject
