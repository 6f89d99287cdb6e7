"""What becomes of a message, as values: `judging` decides on them, `carrying` carries them out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from .handlers import Handler
from .statistics import Counted


class Run(NamedTuple):
    """Run its handler: what that does decides."""

    handler: Handler
    reply_queue: str | None
    """The URL of the queue that its reply goes to; `None` if none is wanted."""


class SendReply(NamedTuple):
    """Reply, then delete."""

    reply_queue: str
    body: Any
    """The value, or a `Reject` for an error reply."""
    bare: bool = False
    """Without the attributes that the handler gave it, and around no middleware: it stands in for
    a reply that could not be sent."""


class Delete(NamedTuple):
    """Delete it; nobody wants a reply, or somebody else gives it."""


class Abandon(NamedTuple):
    """Let it come back after a delay in seconds, or when its visibility runs out."""

    delay: float | None = None


class Release(NamedTuple):
    """Let it come back at once, as if it had not been received here."""


class DeadLetter(NamedTuple):
    """To the dead-letter queue. If there is none, it is deleted if a handler has *judged* it,
    and left otherwise."""

    code: str
    reason: str
    judged: bool


Outcome: TypeAlias = SendReply | Delete | Abandon | Release | DeadLetter


class Judgement(NamedTuple):
    """An outcome, and why."""

    outcome: Outcome
    counted: Counted | None = None
    """The counter to which it adds one."""
    fault: tuple[str, str] | None = None
    """Why the library itself rejects it: the code, and the reason, which is safe to log."""
    error: BaseException | None = None
    """The failure, for the log."""


HANDLED: Final = Judgement(Delete(), "handled")
EXPIRED: Final = Judgement(Delete(), "expired")
RELEASED: Final = Judgement(Release(), "released")
ABANDONED: Final = Judgement(Abandon())
