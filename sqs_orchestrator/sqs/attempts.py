"""Which attempt a call is, for who stands around it: see `wrapping`.

Whoever tries again says so here, and nobody else: so a call that is the first costs nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

__all__ = ["attempt"]

attempt: Final[ContextVar[int]] = ContextVar("sqs_orchestrator_attempt", default=1)
"""The attempt that the calls of this task are: 1, and one more for each failure in a row before."""
