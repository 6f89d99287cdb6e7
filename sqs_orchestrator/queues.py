"""Queues by name: what a name or a URL is, the URLs that are known, and how queues are made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from .core.checks import check_flag, checked_tags, shown
from .core.names import is_queue_name, is_queue_url
from .core.queue_attributes import queue_attributes, same_attribute
from .core.redrive import redrive_policy
from .errors import QueueError, QueueNotFound
from .sqs.port import SQS
from .tasks import SingleFlight, TaskOwner
from .texts import without_user_info

__all__ = ["Queues", "check_is_text", "check_queue"]

YOUNG_PATIENCE = 2.0
"""Seconds in which a dead-letter queue that does not exist may just be too young: SQS asks
for one second after creating."""

YOUNG_INTERVAL = 0.25

DEAD_LETTER_RETENTION = 1_209_600
"""A dead-letter queue made here keeps its messages for 14 days, the most SQS has."""

T = TypeVar("T")


class Patiently(Protocol):
    """Makes a call again while it fails for passing reasons."""

    async def __call__(self, call: Callable[[], Awaitable[T]], *, about: str = "") -> T: ...


class Queues:
    """The queues of one connection: their URLs, looked up once and kept, and how they are made.

    *port* gives the port to SQS, and raises where there is none; *owner* runs the look-ups.
    """

    def __init__(self, owner: TaskOwner, port: Callable[[], SQS], patiently: Patiently) -> None:
        self._port = port
        self._patiently = patiently
        self.known: dict[str, str] = {}
        """URLs of queues that need no call any more, by what callers have named the queues by."""
        self._flights: SingleFlight[str] = SingleFlight(owner)
        self._home: str | None = None

    # -------------------------------------------------------------------------- URLs

    async def url(self, name_or_url: str) -> str:
        """The URL of a queue: see `Connection.queue_url()`."""
        self._port()  # what is known by now is of no use without it
        check_queue(name_or_url)
        url = self.known.get(name_or_url)
        if url is None:
            if "/" in name_or_url:
                url = name_or_url
            else:
                url = await self._flights.run(name_or_url, lambda: self._look_up(name_or_url))
                self.at_home(url)
            self.known[name_or_url] = url
        return url

    def forget_url(self, queue: str) -> None:
        """Ask SQS again for the URL of *queue*: the queue was not there any more."""
        self.known.pop(queue, None)

    def at_home(self, url: str) -> None:
        """Note that the queue at *url* is in the connection's own account."""
        self._home = self._home or url

    async def home_url(self, name: str, account: str | None = None) -> str:
        """The URL of any queue in the connection's own account. Where none is known yet, SQS is
        asked for the queue *name*.

        With *account*, that queue may be in another account: then its URL is returned, which
        shows the endpoint as well.

        Raises:
            QueueNotFound: There is no queue of that name.
        """
        if self._home is None:
            if account is not None:
                key = f"{account}/{name}"
                return await self._flights.run(key, lambda: self._look_up(name, account))
            await self.url(name)
        assert self._home is not None
        return self._home

    async def _look_up(self, name: str, account: str | None = None) -> str:
        return await self._patiently(lambda: self._port().get_queue_url(name, account), about=name)

    # ---------------------------------------------------------------------- creating

    async def create(
        self,
        name: str,
        *,
        fifo: bool = False,
        dead_letter_queue: str | bool | None = None,
        max_receive_count: int = 5,
        attributes: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Create a queue unless it exists; returns its URL: see `Connection.create_queue()`."""
        _check_name(name)
        check_flag("fifo", fifo)
        if fifo != name.endswith(".fifo"):
            raise ValueError(
                f"a FIFO queue's name ends in '.fifo', and no other's does: {name!r}, fifo={fifo}"
            )
        _check_receive_count(max_receive_count)
        wanted = queue_attributes(attributes)
        tags = checked_tags(tags)
        # SQS refuses the attribute where it is false.
        if wanted.pop("FifoQueue", str(fifo)).lower() != str(fifo).lower():
            raise ValueError(f"the attribute 'FifoQueue' contradicts fifo={fifo}: leave it out")
        if fifo:
            wanted["FifoQueue"] = "true"
        if dead_letter_queue is not None and dead_letter_queue is not False:
            if "RedrivePolicy" in wanted:
                raise ValueError("pass dead_letter_queue or the attribute 'RedrivePolicy'")
            if dead_letter_queue is True:
                stem = name.removesuffix(".fifo")
                dead_letter_queue = f"{stem}_dlq.fifo" if fifo else f"{stem}_dlq"
            _check_name(dead_letter_queue)
            if dead_letter_queue == name:
                raise ValueError(f"{name!r} cannot be its own dead-letter queue")
            arn = await self._dead_letter_arn(dead_letter_queue, of=name, fifo=fifo)
            wanted["RedrivePolicy"] = redrive_policy(arn, max_receive_count)
        return await self._create(name, wanted, tags)

    async def _check_absent(self, name: str, why: str) -> None:
        """Raise where the queue exists: it has other attributes then, and what it is told to
        have should not be made for it."""
        try:
            await self._patiently(lambda: self._port().get_queue_url(name))
        except QueueNotFound:
            return
        raise _differs(name, why) from None

    async def _dead_letter_arn(self, name: str, *, of: str, fifo: bool) -> str:
        try:
            url = await self._look_up(name)
        except QueueNotFound:
            await self._check_absent(of, f"its dead-letter queue is not {name!r}")
            attributes = {"MessageRetentionPeriod": DEAD_LETTER_RETENTION}
            url = await self.create(name, fifo=fifo, attributes=attributes)
        young_until = asyncio.get_running_loop().time() + YOUNG_PATIENCE
        while True:
            try:
                found = await self._patiently(
                    lambda: self._port().get_queue_attributes(url, ["QueueArn"])
                )
            except QueueNotFound:
                # It may have been made a moment ago, here or elsewhere.
                if asyncio.get_running_loop().time() >= young_until:
                    raise
                await asyncio.sleep(YOUNG_INTERVAL)
            else:
                return found["QueueArn"]

    async def _create(self, name: str, wanted: dict[str, str], tags: dict[str, str]) -> str:
        # Looked up first, since not every server refuses a name that has other attributes.
        try:
            url = await self._patiently(lambda: self._port().get_queue_url(name))
        except QueueNotFound:
            try:
                url = await self._patiently(lambda: self._port().create_queue(name, wanted, tags))
            except QueueError as error:
                if error.code != "QueueNameExists":
                    raise
                # Somebody else was faster, or a retried call met its own queue.
                url = await self._patiently(lambda: self._port().get_queue_url(name))
            else:
                return self._made(name, url)
        if wanted:
            found = await self._patiently(
                lambda: self._port().get_queue_attributes(url, sorted(wanted))
            )
            differing = [
                key for key in wanted if not same_attribute(key, wanted[key], found.get(key))
            ]
            if differing:
                facts = ", ".join(
                    f"{key} is {found.get(key)!r}, not {wanted[key]!r}" for key in differing
                )
                raise _differs(name, facts)
        return self._made(name, url)

    def _made(self, name: str, url: str) -> str:
        self.known[name] = url
        self.at_home(url)
        return url


def _differs(name: str, facts: str) -> QueueError:
    return QueueError(
        f"the queue {name!r} exists with other attributes: {facts}. It was left as"
        " it is; alter it by hand, or pass what it has",
        operation="CreateQueue",
        queue=name,
        code="QueueNameExists",
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not is_queue_name(name):
        raise ValueError(
            f"{shown(name)} is no queue name: letters, digits, '-', '_', at most 80 characters with"
            " '.fifo' at the end for a FIFO queue"
        )


def _check_receive_count(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1000:
        raise ValueError(
            f"max_receive_count must be a whole number from 1 to 1000, not {shown(count)}"
        )


def check_is_text(queue: object) -> None:
    """Raise `ValueError` where *queue* is not even text."""
    if not isinstance(queue, str):
        raise ValueError(f"a queue is given by its name or URL, not {shown(queue)}")


def check_queue(queue: object) -> None:
    """Raise `ValueError` where *queue* can be neither the name of a queue nor its URL."""
    check_is_text(queue)
    if isinstance(queue, str) and "/" in queue:
        _check_url(queue)
    else:
        _check_name(queue)


def _check_url(url: str) -> None:
    if not is_queue_url(url):
        raise ValueError(
            f"{shown(without_user_info(url), 160)} is no queue URL:"
            " https://<host>/<account>/<queue name>"
        )
