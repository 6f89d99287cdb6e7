"""`doctor`: walks the way of a request, and says what is in its way."""

from __future__ import annotations

import logging
from typing import Annotated, Final

from rich.text import Text

from ..core.names import DEFAULT_PREFIX, check_prefix
from ..queues import check_queue
from .examination import Check, Examination, State
from .options import DEFAULTS, FLAG, Common
from .output import cell, console, print_json
from .permissions import Role
from .stopping import terminable

MARKS: Final[dict[State, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "warning": ("!", "yellow"),
    "skipped": ("-", "dim"),
}


async def doctor(
    queue: str,
    /,
    *,
    requester: Annotated[bool, FLAG] = False,
    worker: Annotated[bool, FLAG] = False,
    prefix: str = DEFAULT_PREFIX,
    common: Common = DEFAULTS,
) -> int:
    """Check all that requests to a queue need: settings, permissions, the queue, a round trip.

    Nothing is sent to the queue: its permissions are tried with calls that SQS refuses for
    another reason, or that do nothing. Where messages wait, one of them is received and given
    back at once, which counts as a receive. A queue for the round trip is made and deleted.

    Parameters
    ----------
    queue
        The request queue's name or URL.
    requester
        Check only what a requester needs.
    worker
        Check only what a worker needs.
    prefix
        With what the names of the reply queues begin.
    """
    check_queue(queue)
    check_prefix(prefix)
    named: dict[Role, bool] = {"requester": requester, "worker": worker}
    roles = [role for role, given in named.items() if given] or list(named)
    examination = Examination(
        common, queue, frozenset(roles), prefix, _silent if common.json else _show
    )
    # It reports itself what the library would log.
    logger = logging.getLogger("sqs_orchestrator")
    logger.setLevel(logging.CRITICAL + 1)
    try:
        async with terminable():
            await examination.run()
    finally:
        logger.setLevel(logging.NOTSET)
    if common.json:
        print_json([vars(check) for check in examination.done])
    return 1 if any(check.state == "failed" for check in examination.done) else 0


def _silent(check: Check) -> None:
    """All of them are printed at the end."""


def _show(check: Check) -> None:
    sign, style = MARKS[check.state]
    name = f" {check.name:<44} " if check.found else f" {check.name}"
    console().print(Text.assemble((sign, style), name, cell(check.found)))
    if check.advice:
        console().print(Text("  → ").append_text(cell(check.advice)))
