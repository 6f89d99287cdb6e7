"""What others wrote, in a form that is safe to show."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["excerpt", "printable", "without_user_info"]


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
