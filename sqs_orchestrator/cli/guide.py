"""`guide`: the library in a few pages, for whoever writes code with it."""

from __future__ import annotations

import re
from importlib.resources import files

_COMMENT = re.compile(r"<!--.*?-->\n", re.DOTALL)
"""What the tests need around an example."""


def guide() -> None:
    """Print a guide to the library in Markdown: for coding assistants, and people in a hurry."""
    text = files("sqs_orchestrator").joinpath("guide.md").read_text("utf-8")
    print(_COMMENT.sub("", text), end="")
