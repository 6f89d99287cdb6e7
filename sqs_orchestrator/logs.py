"""What others wrote, in a form that cannot be taken for other lines of the log.

The text of an exception may come from whoever sent a message, line breaks and all. So each line
of a traceback is indented, and what is not printable in it is escaped. The exception itself
stays with the record, for those who report it elsewhere.
"""

from __future__ import annotations

import logging
import traceback

__all__ = ["get_logger", "printable"]


def get_logger(name: str) -> logging.Logger:
    """The logger of that name, for a module that logs the exceptions of others."""
    logger = logging.getLogger(name)
    logger.addFilter(_indent_traceback)
    return logger


def _indent_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        # Formatters take this text where it is there.
        text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        record.exc_text = "\n".join(f"  {printable(line)}" for line in text.split("\n"))
    return True


def printable(text: str) -> str:
    """*text* on one line: what is not printable in it is escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
