"""What others wrote, in a form that cannot be taken for other lines of the log.

The text of an exception may come from whoever sent a message, line breaks and all. So each line
of a traceback is indented, and what is not printable in it is escaped. The exception itself
stays with the record, for those who report it elsewhere.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Final

__all__ = ["excerpt", "get_logger", "printable", "without_user_info"]


def get_logger(name: str) -> logging.Logger:
    """The logger of that name, for a module that logs the exceptions of others."""
    logger = logging.getLogger(name)
    logger.addFilter(_indent_traceback)
    return logger


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


def printable(text: str) -> str:
    """*text* on one line: what is not printable in it is escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def excerpt(text: str, most: int) -> str:
    """*text* on one line, as `printable` has it, and cut after *most* characters."""
    return printable(text if len(text) <= most else f"{text[:most]}...")


def without_user_info(text: str) -> str:
    """*text*, with `***` in the place of user name and password in each URL."""
    return _USER_INFO.sub("//***@", text) if "@" in text else text


# Up to the last "@" of what can be the host's part: a password that was not escaped may have one.
_USER_INFO: Final = re.compile(r"//[^/\s?#]*@")
