"""`connect()` and the `Connection` it gives: clients, queue names, queues.

Publishers, reply queues and pollers are made over a connection. Leaving it closes those
that are still open, newest first, so that any order of leaving is a safe one.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from .core.checks import check_flag, check_text, check_type, checked_tags, shown
from .core.queue_attributes import queue_attributes, same_attribute
from .core.redrive import redrive_policy
from .errors import QueueError, QueueNotFound
from .retry import retrying
from .sqs.config import (
    check_config,
    check_endpoint,
    check_session,
    make_config,
    read_timeout_of,
)
from .sqs.credentials import flaw_of
from .sqs.failures import NotSigned
from .sqs.opening import open_sqs
from .sqs.port import SQS
from .tasks import SingleFlight, TaskOwner
from .texts import without_user_info

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from types_aiobotocore_sqs.client import SQSClient

CONTROL_PATIENCE = 30.0
"""How long an operation on a queue (resolving, creating) is tried again while it fails for
passing reasons, in seconds. A caller's own timeout ends the waiting sooner."""

FIRST_PATIENCE = 3.0
"""The same, in seconds, for an endpoint that has never answered."""

YOUNG_PATIENCE = 2.0
"""Seconds in which a dead-letter queue that does not exist may just be too young: SQS asks
for one second after creating."""

YOUNG_INTERVAL = 0.25

DEAD_LETTER_RETENTION = 1_209_600
"""A dead-letter queue made here keeps its messages for 14 days, the most SQS has."""

T = TypeVar("T")

Opener = Callable[[], AbstractAsyncContextManager[SQS]]


class Dependent(Protocol):
    """What is made over a connection, and closed with it."""

    async def aclose(self) -> None: ...


def connect(
    *,
    region_name: str | None = None,
    endpoint_url: str | None = None,
    aws_access_key_id: str | None = None,
    aws_secret_access_key: str | None = None,
    aws_session_token: str | None = None,
    profile_name: str | None = None,
    config: AioConfig | None = None,
    session: AioSession | None = None,
) -> Connection:
    """A connection to SQS, to be used as an async context manager.

    The parameters are aiobotocore's and boto3's own. With none, the usual chain of AWS
    providers decides: environment, profile, IAM role. What it finds is renewed in time, and used
    while it is valid; where a provider fails, the first call that needs it tells.

    Args:
        region_name: The AWS region, such as `eu-west-1`.
        endpoint_url: Another endpoint than AWS's own: a local server, a VPC endpoint. Without
            user name and password: SQS knows none, and they would stand in errors and logs.
        aws_access_key_id: With *aws_secret_access_key* and, for temporary credentials,
            *aws_session_token*: credentials in place of the provider chain's.
        aws_secret_access_key: See *aws_access_key_id*.
        aws_session_token: See *aws_access_key_id*.
        profile_name: A profile of the AWS configuration files. Not with *session*.
        config: Settings of your own for the clients. They win over the library's.
        session: An aiobotocore session of your own.

    Raises:
        ValueError: At once, where an argument is of a wrong type; on entering, where the
            settings contradict each other, no region was named and none can be found, or a key,
            wherever it comes from, has a blank or a line break in it.

    Example:
        ```python
        async with connect(region_name="eu-west-1") as sqs:
            print(await sqs.queue_url("orders"))
        ```
    """
    texts = {
        "region_name": (region_name, "eu-west-1"),
        "endpoint_url": (endpoint_url, "http://127.0.0.1:5566"),
        "profile_name": (profile_name, "default"),
    }
    for name, (text, example) in texts.items():
        if text is not None:
            check_text(name, text, example)
    secrets: dict[str, object] = {
        "aws_access_key_id": aws_access_key_id,
        "aws_secret_access_key": aws_secret_access_key,
        # Of credentials that are not temporary it may well be empty.
        "aws_session_token": aws_session_token if aws_session_token != "" else None,
    }
    for name, secret in secrets.items():
        if secret is not None and (not isinstance(secret, str) or not secret):
            raise ValueError(f"{name} is a str that is not empty; leave it out if there is none")
        flaw = flaw_of(name, secret)
        if flaw is not None:
            raise ValueError(flaw)
    if endpoint_url is not None:
        check_endpoint("endpoint_url", endpoint_url)
    check_config(config)
    check_session(session)
    if session is not None and profile_name is not None:
        raise ValueError("pass either session or profile_name: a session has its own profile")

    def opener() -> AbstractAsyncContextManager[SQS]:
        return open_sqs(
            region_name=region_name,
            endpoint_url=endpoint_url,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            aws_session_token=aws_session_token,
            profile_name=profile_name,
            config=config,
            session=session,
        )

    return Connection(opener, read_timeout=read_timeout_of(make_config(config)))


class Connection:
    """Access to SQS for publishers, pollers and reply queues. Made by `connect()`.

    Leave it last. What was made over it and is still open is closed then, newest first.
    It may be entered in one task and left in another. One connection serves one event
    loop; a process needs no more than one.
    """

    def __init__(self, opener: Opener, *, read_timeout: float = math.inf) -> None:
        self._opener = opener
        self.read_timeout = read_timeout
        """Seconds after which the client gives a response up. Long polls must end sooner."""
        self._stack = AsyncExitStack()
        self._owner = TaskOwner("sqs_orchestrator connection", self._closing)
        self._port: SQS | None = None
        self._urls: dict[str, str] = {}
        self._flights: SingleFlight[str] = SingleFlight(self._owner)
        self._dependents: list[Dependent] = []
        self._home: str | None = None
        self._troubles: dict[str, QueueError] = {}

    def __repr__(self) -> str:
        if self._port is None:
            return "<Connection, not open>"
        return f"<Connection to {self._port!r}>"

    async def __aenter__(self) -> Self:
        await self._owner.start()
        try:
            self._port = await self._stack.enter_async_context(self._opener())
        except BaseException:
            await self._owner.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what was made over the connection, then the connection; the same as
        leaving `async with`. Cancelling it does not cut it short."""
        await self._owner.stop()

    async def _closing(self) -> None:
        try:
            while self._dependents:
                await self._dependents.pop().aclose()
        finally:
            self._port = None
            await self._stack.aclose()

    # ------------------------------------------------------------- for the library

    @property
    def port(self) -> SQS:
        """The port to SQS that this connection goes through. For the library's own use."""
        if self._port is None:
            raise self._owner.not_open("the connection", "connect(…)")
        return self._port

    def adopt(self, dependent: Dependent) -> SQS:
        """Close *dependent* before the connection; gives it the port."""
        port = self.port
        self._dependents.append(dependent)
        return port

    def release(self, dependent: Dependent) -> None:
        """*dependent* has closed by itself."""
        if dependent in self._dependents:
            self._dependents.remove(dependent)

    def known_url(self, queue: str) -> str | None:
        """The URL of *queue*, where that needs no call."""
        return self._urls.get(queue)

    async def home_url(self, name: str, account: str | None = None) -> str:
        """The URL of some queue in the connection's own account; asks for that of *name*
        where none is known yet. Where that queue is of another *account*, its own URL will do:
        it shows the endpoint. Raises `QueueNotFound` where there is none of that name."""
        if self._home is None:
            if account is not None:
                key = f"{account}/{name}"
                return await self._flights.run(key, lambda: self._resolve(name, account))
            await self.queue_url(name)
        assert self._home is not None
        return self._home

    def at_home(self, url: str) -> None:
        """Note that the queue at *url* is in the connection's own account."""
        self._home = self._home or url

    def forget_url(self, queue: str) -> None:
        """Ask SQS again for the URL of *queue*: the queue was not there any more."""
        self._urls.pop(queue, None)

    # ------------------------------------------------------------------------ queues

    @property
    def client(self) -> SQSClient:
        """The aiobotocore SQS client, for operations that this library leaves to you.

        It retries nothing by itself unless your `config` says so: the library does that.
        """
        client: SQSClient | None = getattr(self.port, "client", None)
        if client is None:
            raise RuntimeError(f"there is no aiobotocore client behind {self.port!r}")
        return client

    async def queue_url(self, name_or_url: str) -> str:
        """The URL of a queue, by name or URL; looked up once and kept.

        Cancelling it disturbs no other lookup of the same name.

        Raises:
            ValueError: If it can be neither a queue's name nor a URL.
            QueueNotFound: If there is no queue of that name in the account and region.
            AccessDenied: If `sqs:GetQueueUrl` is not allowed.
            QueueError: If SQS cannot be reached.
            RuntimeError: If the connection is not open.
        """
        _ = self.port  # what is known by now is of no use without it
        check_queue(name_or_url)
        url = self._urls.get(name_or_url)
        if url is None:
            if "/" in name_or_url:
                url = name_or_url
            else:
                url = await self._flights.run(name_or_url, lambda: self._resolve(name_or_url))
                self.at_home(url)
            self._urls[name_or_url] = url
        return url

    async def _resolve(self, name: str, account: str | None = None) -> str:
        return await self.patiently(lambda: self.port.get_queue_url(name, account), about=name)

    async def create_queue(
        self,
        name: str,
        *,
        fifo: bool = False,
        dead_letter_queue: str | bool | None = None,
        max_receive_count: int = 5,
        attributes: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Create a queue unless it exists; returns its URL.

        An existing queue is never altered. Cancelling may leave the queue, or only its
        dead-letter queue, created; calling again completes it.

        Args:
            name: Up to 80 letters, digits, `-` and `_`; ends in `.fifo` if *fifo*.
            fifo: A FIFO queue: in order within each message group, no duplicates.
            dead_letter_queue: Where messages go that were received *max_receive_count*
                times: a queue's name, created where it does not exist, or `True` for
                `<name>_dlq` (`<name>_dlq.fifo`). One made here keeps messages 14 days.
            max_receive_count: How often a message is received before it moves there.
            attributes: More attributes, by SQS's own names (CreateQueue in the SQS API
                Reference), such as `{"VisibilityTimeout": 60}`. Policies may be dicts;
                of a queue that exists they are compared by what they mean, since SQS
                writes them in its own way.
            tags: Cost-allocation tags.

        Raises:
            ValueError: If the arguments contradict each other, or one is of a wrong type.
            QueueError: If a queue of that name exists with other attributes; it names
                them. Also if SQS cannot be reached.
            AccessDenied: If `sqs:CreateQueue`, with tags `sqs:TagQueue`, or
                `sqs:GetQueueUrl` and `sqs:GetQueueAttributes` are not allowed.
        """
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
            await self.patiently(lambda: self.port.get_queue_url(name))
        except QueueNotFound:
            return
        raise _differs(name, why)

    async def _dead_letter_arn(self, name: str, *, of: str, fifo: bool) -> str:
        try:
            url = await self._resolve(name)
        except QueueNotFound:
            await self._check_absent(of, f"its dead-letter queue is not {name!r}")
            attributes = {"MessageRetentionPeriod": DEAD_LETTER_RETENTION}
            url = await self.create_queue(name, fifo=fifo, attributes=attributes)
        young_until = asyncio.get_running_loop().time() + YOUNG_PATIENCE
        while True:
            try:
                found = await self.patiently(
                    lambda: self.port.get_queue_attributes(url, ["QueueArn"])
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
            url = await self.patiently(lambda: self.port.get_queue_url(name))
        except QueueNotFound:
            try:
                url = await self.patiently(lambda: self.port.create_queue(name, wanted, tags))
            except QueueError as error:
                if error.code != "QueueNameExists":
                    raise
                # Somebody else was faster, or a retried call met its own queue.
                url = await self.patiently(lambda: self.port.get_queue_url(name))
            else:
                return self._made(name, url)
        if wanted:
            found = await self.patiently(
                lambda: self.port.get_queue_attributes(url, sorted(wanted))
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
        self._urls[name] = url
        self.at_home(url)
        return url

    async def patiently(self, call: Callable[[], Awaitable[T]], *, about: str = "") -> T:
        """What *call* returns, tried again while it fails for passing reasons. Meanwhile
        `trouble(about)` tells why."""

        async def noted() -> T:
            try:
                return await call()
            except QueueError as error:
                self._troubles[about] = error
                raise

        began = asyncio.get_running_loop().time()

        def until(error: QueueError) -> float:
            # An endpoint that has never answered is most likely a wrong one: say so soon. Where
            # there was nothing to sign with, it was not asked.
            asked = not isinstance(error.__cause__, NotSigned)
            silent = asked and not self.port.clock.known
            return began + (FIRST_PATIENCE if silent else CONTROL_PATIENCE)

        try:
            return await retrying(noted, until=until)
        finally:
            self._troubles.pop(about, None)

    def trouble(self, about: str) -> QueueError | None:
        """Why an operation still goes on that is tried `patiently`: what a caller whose time
        runs out should hear."""
        return self._troubles.get(about)


def _differs(name: str, facts: str) -> QueueError:
    return QueueError(
        f"the queue {name!r} exists with other attributes: {facts}. It was left as"
        " it is; alter it by hand, or pass what it has",
        operation="CreateQueue",
        queue=name,
        code="QueueNameExists",
    )


_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", re.ASCII)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
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


_PLACE = re.compile(r"https?://[^/\s#?@]+(/[^/\s#?]+)*", re.ASCII)


def _check_url(url: str) -> None:
    place, _, name = url.rpartition("/")
    if not _PLACE.fullmatch(place) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{shown(without_user_info(url), 160)} is no queue URL:"
            " https://<host>/<account>/<queue name>"
        )


def check_connection(sqs: object) -> None:
    """Raise `ValueError` where *sqs* is no connection."""
    check_type("sqs", sqs, Connection, "the Connection that connect() gives")
