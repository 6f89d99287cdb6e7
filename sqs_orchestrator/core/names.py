"""What queues are called: our own reply queues, and those of the programs we get on with.

The forms of queue names are spelled here and nowhere else; like the attributes in `wire`,
they are a contract with programs that are not ours.
"""

from __future__ import annotations

import os
import re
from typing import Final

from .checks import quoted
from .limits import QUEUE_NAME_CHARACTERS

DEFAULT_PREFIX: Final = "sqs_orchestrator_reply_"
"""With what the names of our own reply queues begin, if nothing else is said."""

JAVA_PREFIX: Final = "__RequesterClientQueues__"
"""With what the names of the Java client's reply queues begin."""

LEGACY_PREFIX: Final = "reply_queue_"
"""With what the names of `python-sqs-client`'s reply queues begin."""

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RANDOM = re.compile(r"[0-9a-f]{32}")
_RANDOM_DIGITS: Final = 32
_DEAD_LETTERS: Final = "_DLQ"
_FAILOVER: Final = "-Failover"


def new_reply_queue_name(prefix: str) -> str:
    """A name that was never used before: SQS refuses a deleted one for a minute."""
    return prefix + os.urandom(_RANDOM_DIGITS // 2).hex()


def is_own_form(prefix: str, name: str) -> bool:
    """Whether *name* is one of `new_reply_queue_name`: nobody but its maker can read it."""
    return name.startswith(prefix) and _RANDOM.fullmatch(name, len(prefix)) is not None


def check_prefix(prefix: object) -> None:
    """Check the prefix of reply queues.

    Raises:
        ValueError: SQS would refuse the names that it makes.
    """
    most = QUEUE_NAME_CHARACTERS - _RANDOM_DIGITS
    if not isinstance(prefix, str) or not 0 < len(prefix) <= most:
        raise ValueError(f"a prefix has 1 to {most} characters, not {quoted(prefix)}")
    if not _QUEUE_NAME.fullmatch(prefix):
        raise ValueError(
            f"a prefix has ASCII letters, digits, '-' and '_', not {quoted(prefix)}: SQS takes "
            "no others in a queue's name"
        )


def queue_name_of(url: str) -> str:
    """The queue's name, from its URL or from the name itself."""
    return url.rpartition("/")[2]


def account_of(url: str) -> str | None:
    """The account in a queue's URL; `None` where it has none."""
    parts = url.rsplit("/", 2)
    return parts[1] if len(parts) == 3 and "://" in parts[0] else None


def failover_url(url: str) -> str:
    """Where a Java requester listens too, when its reply queue has vanished."""
    return url + _FAILOVER


def is_sweepers(prefix: str, name: str) -> bool:
    """Whether *name* is a queue of the Java sweeper of *prefix*. They carry serialized
    objects: nobody else may write to them, read them or delete them."""
    return name == prefix or is_sweepers_dead_letters(prefix, name)


def is_sweepers_dead_letters(prefix: str, name: str) -> bool:
    """Whether *name* is the dead-letter queue of the Java sweeper of *prefix*."""
    return name == prefix + _DEAD_LETTERS
