"""The forms of queue names: of our own reply queues, and of those that other programs make.

They are spelled here and nowhere else. Like the attributes in `wire`, they are a contract with
programs that are not ours.
"""

from __future__ import annotations

import os
import re
from typing import Final

from .checks import quoted
from .limits import QUEUE_NAME_CHARACTERS

DEFAULT_PREFIX: Final = "sqs_orchestrator_reply_"
"""The default prefix of our own reply queues."""

JAVA_PREFIX: Final = "__RequesterClientQueues__"
"""The prefix of the Java client's reply queues."""

LEGACY_PREFIX: Final = "reply_queue_"
"""The prefix of the reply queues of `python-sqs-client`."""

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", re.ASCII)
_PLACE = re.compile(r"https?://[^/\s#?@]+(/[^/\s#?]+)*", re.ASCII)
_RANDOM = re.compile(r"[0-9a-f]{32}")
_RANDOM_DIGITS: Final = 32
_DEAD_LETTERS: Final = "_DLQ"
_FAILOVER: Final = "-Failover"
_LEGACY_SWEEPER: Final = "sweeper.fifo"


def new_reply_queue_name(prefix: str) -> str:
    """A name that was never used before: SQS refuses the name of a deleted queue for a minute."""
    return prefix + os.urandom(_RANDOM_DIGITS // 2).hex()


def is_own_form(prefix: str, name: str) -> bool:
    """Whether *name* has the form that `new_reply_queue_name` gives it. Only the process that
    created such a queue reads from it."""
    return name.startswith(prefix) and _RANDOM.fullmatch(name, len(prefix)) is not None


def check_prefix(prefix: object) -> None:
    """Check the prefix of reply queues.

    Raises:
        ValueError: SQS would refuse names that begin with it.
    """
    most = QUEUE_NAME_CHARACTERS - _RANDOM_DIGITS
    if not isinstance(prefix, str) or not 0 < len(prefix) <= most:
        raise ValueError(f"a prefix has 1 to {most} characters, not {quoted(prefix)}")
    if not _QUEUE_NAME.fullmatch(prefix):
        raise ValueError(
            f"a prefix has ASCII letters, digits, '-' and '_', not {quoted(prefix)}: SQS takes "
            "no others in a queue's name"
        )


def is_queue_name(text: str) -> bool:
    """Whether *text* can be the name of a queue."""
    return _NAME.fullmatch(text) is not None


def is_queue_url(text: str) -> bool:
    """Whether *text* can be the URL of a queue."""
    place, _, name = text.rpartition("/")
    return _PLACE.fullmatch(place) is not None and is_queue_name(name)


def queue_name_of(url: str) -> str:
    """The name of a queue, from its URL or from the name itself."""
    return url.rpartition("/")[2]


def account_of(url: str) -> str | None:
    """The account in the URL of a queue; `None` if there is none."""
    parts = url.rsplit("/", 2)
    return parts[1] if len(parts) == 3 and "://" in parts[0] else None


def url_beside(queue_url: str, account: str, name: str) -> str:
    """The URL of the queue *name* of *account*, at the endpoint of the queue at *queue_url*."""
    return f"{queue_url.rsplit('/', 2)[0]}/{account}/{name}"


def failover_url(url: str) -> str:
    """The URL at which a Java requester listens if its reply queue has vanished."""
    return url + _FAILOVER


def is_sweepers(prefix: str, name: str) -> bool:
    """Whether *name* is a queue of the Java client's sweeper for *prefix*. Its queues carry
    serialized objects: no other program may write to them, read them or delete them."""
    return name == prefix or is_sweepers_dead_letters(prefix, name)


def is_sweepers_dead_letters(prefix: str, name: str) -> bool:
    """Whether *name* is the dead-letter queue of the Java client's sweeper for *prefix*."""
    return name == prefix + _DEAD_LETTERS


def prefix_of_legacy_sweeper(name: str) -> str | None:
    """What the reply queues begin with that the sweepers of `python-sqs-client` look after by
    the queue *name*; `None` if it is not such a queue."""
    return name.removesuffix(_LEGACY_SWEEPER) if name.endswith(_LEGACY_SWEEPER) else None
