"""How often a requester sends heartbeats and sweeps, and how much silence it forgives others.

*The budget.* SQS allows an account 5 to 30 tag calls a second. Heartbeats are one call per
process and interval. Sweeps are one call per *queue* and interval, however few processes
survive, because one of them looks at each queue; a deletion takes one more. So the intervals
grow with the fleet: `budget` gives heartbeats 4 calls a second and sweeps 3. After a crash
the sweeps may need twice as many, so there are 10 in all. The processes start their sweeps at
random moments, so the bursts of some fall into the pauses of others.

*Throttling.* A fleet whose members start together does not know its size yet, and other
programs may use up the account's calls. So a process that is throttled slows down with each
try of its heartbeat (`Pacer`). It speeds up again, by a tenth, with each heartbeat that gets
through at the first try. In this way a fleet finds the pace that is allowed, without a
message and without a listing. Until then heartbeats are missing whose owners are alive. So no
process looks at others while its own heartbeat waits. And a process is *patient* if it was
throttled lately or knows that its fleet is large: it deletes only queues that were silent for
longer than a whole fleet needs to get its first heartbeats through.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

HEARTBEATS: Final = 4.0
"""Heartbeats per second of a whole fleet."""

SWEEPS: Final = 3.0
"""Tag calls per second by all the sweepers of a fleet, while no queue is idle."""

TAG_CALLS: Final = HEARTBEATS + 2 * SWEEPS
"""Tag calls per second of a whole fleet, at most."""


class Pace(NamedTuple):
    """Seconds between the calls of one process."""

    heartbeat: float
    retention: float
    """How long after its last heartbeat a queue counts as idle."""
    sweep: float
    """Infinite if the process does not sweep."""


def budget(
    fleet_size: int,
    heartbeat_interval: float,
    idle_retention: float,
    sweep_interval: float | None,
) -> Pace:
    """The pace that keeps a fleet of *fleet_size* within its tag calls. It is never faster than
    the given intervals. The ratio of retention and heartbeat stays as given, so that as many
    heartbeats in a row may fail as in a small fleet."""
    heartbeat = max(heartbeat_interval, fleet_size / HEARTBEATS)
    return Pace(
        heartbeat=heartbeat,
        retention=idle_retention * (heartbeat / heartbeat_interval),
        sweep=math.inf if sweep_interval is None else max(sweep_interval, fleet_size / SWEEPS),
    )


MOST_STRETCH: Final = 64.0
"""Throttling makes the intervals of a process at most so many times longer."""

SLOWER: Final = 1.25
FASTER: Final = 0.9
"""A heartbeat that is throttled multiplies the intervals by the first, one that is not by the
second. If throttling lasts, about three heartbeats in ten are then throttled. More would be too
many. With far fewer a fleet would stay below what is allowed, since a few calls fall into the
same second by chance."""

WARY: Final = 10
"""Throttling counts as over after so many heartbeats in a row that were not throttled."""

LARGE: Final = 240
"""Up to this size a fleet fits into the budget with the default intervals."""

FORGIVEN: Final = 12
"""Throttling may explain a silence of so many retention periods, as configured."""

FORGIVEN_IF_LATE: Final = 24
"""The same while it has kept a heartbeat of our own."""


class Pacer:
    """The pace of one process, and its patience with others.

    The configured intervals grow with the size of the fleet that was seen last, and with the
    throttling of the process's own tag calls.
    """

    __slots__ = ("_wary", "configured", "fleet", "late", "pace", "silence", "stretch")

    def __init__(
        self, heartbeat_interval: float, idle_retention: float, sweep_interval: float | None
    ) -> None:
        self.configured = budget(0, heartbeat_interval, idle_retention, sweep_interval)
        self.pace = self.configured
        """The pace for a fleet of the size last seen."""
        self.fleet: int | None = None
        """Queues with the prefix, as far as known."""
        self.stretch = 1.0
        """How many times longer throttling makes the intervals of `pace`."""
        self.late = False
        """Whether our own heartbeat has failed for a passing reason, and is being tried again."""
        self.silence = 0.0
        """Seconds between our last two heartbeats if the second was late, else 0; while one is
        late, the seconds since the last. Whatever kept ours may have kept those of others as
        long, so this much does not count as their silence."""
        self._wary = 0

    def __repr__(self) -> str:
        return f"<Pacer for a fleet of {self.fleet}: {self.pace}>"

    def saw(self, fleet: int) -> None:
        """A sweep has seen *fleet* queues."""
        self.fleet = fleet
        base, before = self.configured, self.pace.heartbeat
        self.pace = budget(fleet, base.heartbeat, base.retention, base.sweep)
        # The size of the fleet is probably why we were throttled: the new pace makes up for it.
        self.stretch = max(self.stretch / max(self.pace.heartbeat / before, 1.0), 1.0)

    @property
    def stretched(self) -> Pace:
        """The pace to keep. Sweeps become at most `FORGIVEN` times rarer: a queue that was silent
        for longer may be deleted."""
        pace, stretch = self.pace, self.stretch
        return Pace(
            heartbeat=pace.heartbeat * stretch,
            retention=pace.retention * stretch,
            sweep=pace.sweep * min(stretch, FORGIVEN),
        )

    @property
    def patience(self) -> float:
        """A queue that was silent for no longer than this is not idle, whatever its tags say.
        In seconds; 0 in a small fleet without throttling."""
        base = self.configured
        most = FORGIVEN * base.retention
        # Others may come through much later than we. But a slow process is silent for an hour by
        # itself, and every heartbeat of it may be late a little: the dead would stay for ever.
        patience = min(
            self.silence * base.retention / base.heartbeat, FORGIVEN_IF_LATE * base.retention
        )
        if self.fleet is not None and self.fleet > LARGE:
            patience = max(patience, min(self.pace.retention, most))
        return max(patience, most) if self._wary else patience

    def failed(self, silence: float, *, throttled: bool) -> None:
        """A heartbeat has failed, *silence* seconds after the last one, and is tried again."""
        self.late = True
        self.silence = silence
        if throttled:
            self.throttled()
            # One heartbeat of every process takes about as long as ours has waited. Twice that
            # time is a long enough interval.
            enough = min(2 * silence / self.pace.heartbeat, MOST_STRETCH)
            self.stretch = max(self.stretch, min(self.stretch * SLOWER, enough))

    def beaten(self, silence: float) -> None:
        """A heartbeat has succeeded, *silence* seconds after the one before."""
        self.silence = silence if self.late else 0.0
        if not self.late:
            self.stretch = max(self.stretch * FASTER, 1.0)
            self._wary = max(self._wary - 1, 0)
        self.late = False

    def throttled(self) -> None:
        """SQS has throttled a tag call of this process."""
        self._wary = WARY
