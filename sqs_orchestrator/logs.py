"""The loggers of the library: what others wrote cannot be taken for other lines of the log, and
what others do cannot flood it.

The text of an exception may come from whoever sent a message, line breaks and all. So each line
of a traceback is indented, and what is not printable in it is escaped. The exception itself
stays with the record, for those who report it elsewhere.

Whoever can send messages can have each of them cause a warning. So of warnings and errors of
one kind the first few of a minute are logged, and then how many more there were. Of one kind
are those of one line of the program, with exceptions of the same types; those with a traceback,
where it was raised in the same place, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import traceback
from typing import Any, Final
from weakref import WeakKeyDictionary

from .texts import excerpt, printable

__all__ = ["FIELDS", "about", "get_logger", "report_repeated"]

FIRST: Final = 5
"""Lines of one kind that are logged in full in one interval."""

INTERVAL: Final = 60.0
"""Seconds after which it is said how many more there were, by the loop's time."""


def get_logger(name: str) -> logging.Logger:
    """The logger of that name. A line may say of which kind it is, beside what is said above:
    by `extra={"kind": ...}`."""
    logger = logging.getLogger(name)
    # In this order: what is not logged needs no traceback.
    logger.addFilter(_leave_out)
    logger.addFilter(_indent_traceback)
    return logger


FIELDS: Final = ("queue", "message_id", "correlation_id")
"""What a line carries as fields of its record, where it speaks of one."""

_MOST_FIELD: Final = 256
"""Characters of a field. SQS's own names and ids have 100 at most."""


def about(
    queue: str | None = None, message_id: str | None = None, correlation_id: str | None = None
) -> dict[str, str]:
    """The `extra` of a line about these, so that it can be found by them. The queue may be given by
    its URL, and is named."""
    fields = {}
    if queue is not None:
        fields["queue"] = excerpt(queue.rpartition("/")[2], _MOST_FIELD)
    if message_id is not None:
        fields["message_id"] = excerpt(message_id, _MOST_FIELD)
    if correlation_id is not None:
        fields["correlation_id"] = excerpt(correlation_id, _MOST_FIELD)
    return fields


# ------------------------------------------------------------------- what repeats


class _Kind:
    """The lines of one kind in one interval."""

    __slots__ = ("_last", "_left_out", "_since", "_timer", "lines")

    def __init__(self, since: float) -> None:
        self._since = since
        self._timer: asyncio.TimerHandle | None = None
        self._left_out = 0
        self._last: logging.LogRecord | None = None
        self.lines = 0

    def over(self, now: float) -> bool:
        return now >= self._since + INTERVAL

    def leave_out(self, record: logging.LogRecord, loop: asyncio.AbstractEventLoop) -> None:
        self._left_out += 1
        self._last = record
        if self._timer is None:
            # It counts for all, so what one of them carries should not stand on the count.
            context = contextvars.Context()
            self._timer = loop.call_at(self._since + INTERVAL, self.report, loop, context=context)

    def report(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say how many were left out since that was last said."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        last, count = self._last, self._left_out
        self._last, self._left_out = None, 0
        if last is not None:
            seconds = max(loop.time() - self._since, 1.0)
            fields = {name: getattr(last, name) for name in FIELDS if hasattr(last, name)}
            logging.getLogger(last.name).log(
                last.levelno, COUNT, f"{count:,}", seconds, _text(last), extra=fields
            )


COUNT: Final = "and %s more like it in the last %.0f s, the last of them: %s"
"""Says how many lines of one kind were not logged."""

_MOST_KINDS: Final = 1_000

# By loop: it is the clock, and one loop knows nothing of another's floods.
_kinds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, _Kind]] = WeakKeyDictionary()


def report_repeated() -> None:
    """Log now how many lines were left out, of each kind: for whoever stops, since nobody may be
    there at the end of the interval."""
    loop = asyncio.get_running_loop()
    for kind in list(_kinds.get(loop, {}).values()):
        kind.report(loop)


def _leave_out(record: logging.LogRecord) -> bool:
    """Whether to log a line: not where too many of its kind came before it."""
    if record.levelno < logging.WARNING or record.msg is COUNT:
        return True
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return True
    kinds = _kinds.get(loop)
    if kinds is None:
        # A timer that was never due keeps its loop.
        for old in [each for each in _kinds if each.is_closed()]:
            del _kinds[old]
        kinds = _kinds[loop] = {}
    key, now = _kind_of(record), loop.time()
    kind = kinds.get(key)
    if kind is not None and kind.over(now):
        kind.report(loop)
        kind = None
    if kind is None:
        if len(kinds) >= _MOST_KINDS:
            for known in [known for known, each in kinds.items() if each.over(now)]:
                kinds.pop(known).report(loop)
        kind = kinds[key] = _Kind(now)
    kind.lines += 1
    if kind.lines <= FIRST:
        return True
    kind.leave_out(record, loop)
    return False


def _kind_of(record: logging.LogRecord) -> tuple[Any, ...]:
    args = record.args if isinstance(record.args, tuple) else ()
    errors = tuple(type(each) for each in args if isinstance(each, BaseException))
    key = (record.name, record.levelno, record.msg, getattr(record, "kind", None), errors)
    if record.exc_info and (error := record.exc_info[1]) is not None:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = None if at is None else (at.tb_frame.f_code, at.tb_lineno)
        return (*key, type(error), place)
    return key


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # somebody else's __str__ or __repr__ may do anything
        text = str(record.msg)
    return excerpt(text, _MOST_TEXT)


_MOST_TEXT: Final = 300
"""Characters of a line that are repeated in a count."""


# --------------------------------------------------------------------- tracebacks


def _indent_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        # Formatters take this text where it is there.
        lines = _traceback(record.exc_info[1]).rstrip("\n").split("\n")
        record.exc_text = "\n".join(f"  {printable(line)}" for line in lines)
    return True


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        # Unlike handlers, loggers let pass to their callers what goes wrong in here.
        return f"{type(error).__name__}, of which no traceback can be made"
    if len(text) > _MOST:
        # A message may be a mebibyte, and the event loop waits meanwhile.
        half = _MOST // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
    return text


_MOST: Final = 50_000
"""Characters of a traceback that are logged."""
