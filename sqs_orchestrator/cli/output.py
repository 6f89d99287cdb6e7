"""What commands print. Results go to standard output and all else to standard error.

What others wrote (bodies, attributes, errors) is made printable first: a terminal would obey
its control codes. Colours and tables are Rich's, which leaves codes out where nobody looks, or
where `NO_COLOR` asks for it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..texts import excerpt, printable

__all__ = [
    "ago",
    "cell",
    "complain",
    "console",
    "counted",
    "note",
    "print_body",
    "print_json",
    "print_table",
    "progress",
    "table",
    "when",
]

ID: Final = 36
"""Characters of a message id: it is to be copied, and so stays on one line where it can."""

UNLIMITED: Final = 10_000
"""The width of what no terminal shows: nothing is cut there."""


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        width=None if terminal else UNLIMITED,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def complain(text: str) -> None:
    """One line of what went wrong."""
    line = printable(" ".join(text.split()))
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), line))


def note(text: str) -> None:
    """One line beside the result."""
    console(stderr=True).print(Text(printable(text), style="dim"))


def print_json(value: Any) -> None:
    """A value, as JSON: over several lines for people, on one for programs."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"no JSON of {type(value).__name__}")


def print_body(body: str) -> None:
    """A body: as it is for programs, readable for people."""
    if not sys.stdout.isatty():
        print(body)
        return
    with contextlib.suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    for line in body.splitlines():
        print(printable(line))


def cell(value: object, most: int = 500) -> Text:
    """What stands in a table."""
    if isinstance(value, Text):
        return value
    return Text("" if value is None else excerpt(str(value), most))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; columns that begin with `>` are of numbers."""
    titled = any(name.strip(">") for name in columns)
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=titled)
    for name in columns:
        right = name.startswith(">")
        made.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            overflow="fold",
            min_width=ID if name == "id" else None,
        )
    for row in rows:
        made.add_row(*(cell(each) for each in row))
    return made


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    console().print(table(columns, rows), soft_wrap=False)


def counted(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ago(seconds: float | None) -> str:
    """A time that has passed, in the unit that says most."""
    if seconds is None:
        return "?"
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def when(milliseconds: str | int | None) -> str | None:
    """Epoch milliseconds, as RFC 3339 has it."""
    if milliseconds is None or not str(milliseconds).isdigit():
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds")


def progress(*, show: bool = True) -> Progress:
    """A progress bar on standard error, where somebody looks there."""
    to = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=to,
        transient=True,
        disable=not (show and to.is_terminal),
    )
