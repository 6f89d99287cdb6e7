"""What a poller was told, checked and in the units of SQS."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ..core.addresses import checked_accounts
from ..core.checks import check_flag, check_seconds, shown, whole_seconds
from ..core.limits import VISIBILITY_TIMEOUT, WAIT_TIME
from ..core.sns import checked_topics

FLUSH_RESERVE: Final = 2.0
"""Seconds of the drain timeout that are kept for flushing replies and deletes."""


class Settings(NamedTuple):
    """The arguments of a `Poller`, which says what they mean."""

    concurrency: int
    visibility_timeout: int
    max_extension: float
    wait_time: int
    drain_timeout: float
    prefixes: tuple[str, ...] | None
    accounts: frozenset[str]
    expose_errors: bool
    topics: frozenset[str]

    @property
    def patience(self) -> float:
        """Seconds of the drain in which handlers and polls may end by themselves."""
        return self.drain_timeout - min(FLUSH_RESERVE, self.drain_timeout / 2)

    def unwise(self) -> str | None:
        """What is allowed, but most likely not meant, and what to set instead."""
        if self.wait_time <= self.patience:
            return None
        return (
            f"a drain_timeout of {self.drain_timeout:g} s leaves {self.patience:g} s to a poll in"
            f" flight, which may take wait_time, {self.wait_time} s. One that takes longer is"
            " dropped when the poller stops, and messages that SQS hands to it stay hidden for"
            f" {self.visibility_timeout} s. Set wait_time to {math.floor(self.patience)} or less;"
            f" or set drain_timeout to {self.wait_time + FLUSH_RESERVE:g} or more, and let what"
            " stops the process wait longer than that ('docker stop' waits 10 s unless told)"
        )


def checked_settings(
    *,
    concurrency: int,
    visibility_timeout: float,
    max_extension: float,
    wait_time: float,
    drain_timeout: float,
    reply_queue_prefixes: Sequence[str] | None,
    reply_accounts: Collection[str],
    expose_errors: bool,
    sns_topics: Collection[str] = (),
    read_timeout: float,
) -> Settings:
    """The settings, in the units of SQS.

    Raises:
        ValueError: They contradict each other or SQS's limits, or one is a fraction of a
            second where SQS knows none.
    """
    durations = {
        "visibility_timeout": visibility_timeout,
        "max_extension": max_extension,
        "wait_time": wait_time,
        "drain_timeout": drain_timeout,
    }
    for name, value in durations.items():
        check_seconds(name, value)
    check_flag("expose_errors", expose_errors)
    if not _is_count(concurrency):
        raise ValueError(f"concurrency must be a whole number from 1 on, not {shown(concurrency)}")
    if not 1 <= visibility_timeout <= VISIBILITY_TIMEOUT:
        raise ValueError(
            f"visibility_timeout must be 1 to {VISIBILITY_TIMEOUT:.0f} seconds,"
            f" not {visibility_timeout!r}"
        )
    visibility_timeout = whole_seconds("visibility_timeout", visibility_timeout)
    if not 0 < max_extension <= VISIBILITY_TIMEOUT - visibility_timeout:
        raise ValueError(
            "max_extension must be positive, and with visibility_timeout at most the 12 h for"
            f" which SQS hides a message, not {max_extension!r} s with {visibility_timeout!r} s"
        )
    if not 0 <= wait_time <= WAIT_TIME:
        raise ValueError(f"wait_time must be 0 to {WAIT_TIME:.0f} seconds, not {wait_time!r}")
    wait_time = whole_seconds("wait_time", wait_time)
    if not drain_timeout > 0:
        raise ValueError(f"drain_timeout must be a positive number of seconds: {drain_timeout!r}")
    if read_timeout <= wait_time:
        raise ValueError(
            f"the client's read timeout ({read_timeout} s) must be longer than wait_time"
            f" ({wait_time} s), or it would end long polls and hide their messages: raise"
            " read_timeout in the config given to connect(), or lower wait_time"
        )
    return Settings(
        concurrency=int(concurrency),
        visibility_timeout=visibility_timeout,
        max_extension=max_extension,
        wait_time=wait_time,
        drain_timeout=drain_timeout,
        prefixes=_checked_prefixes(reply_queue_prefixes),
        accounts=checked_accounts(reply_accounts),
        expose_errors=expose_errors,
        topics=checked_topics(sns_topics),
    )


def _checked_prefixes(prefixes: Sequence[str] | None) -> tuple[str, ...] | None:
    if prefixes is None:
        return None
    if not _is_several(prefixes) or not all(map(_is_prefix, prefixes)):
        raise ValueError(
            "reply_queue_prefixes is a tuple of prefixes, none of them empty, or None to answer"
            f" at queues of any name, not {shown(prefixes)}"
        )
    return tuple(prefixes)


def _is_count(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 1 <= value < math.inf and value == int(value)


def _is_several(values: object) -> bool:
    return isinstance(values, Collection) and not isinstance(values, (str, bytes))


def _is_prefix(prefix: object) -> bool:
    return isinstance(prefix, str) and prefix != ""
