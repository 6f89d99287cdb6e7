"""The command line: `sqs-orchestrator`, or `python -m sqs_orchestrator`.

The commands are built on cyclopts, which brings Rich; both come with the extra `cli`. Without
it there are the demo and the guide (`plain`), so that the first look needs nothing more.

One module per command. They share `options` (what each command takes), `output` (what each
prints, and where), `holding` (messages that are looked at and given back) and `stopping` (SIGTERM).
`app` turns what they raise into one line and an exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where it failed, 2 where it was called
    wrongly, 130 after Ctrl-C, 143 after SIGTERM."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cyclopts", "rich"):
            raise
        from .plain import run
    return run(given)
