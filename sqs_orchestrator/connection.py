"""`connect()` and the `Connection` that it returns: opening and closing the way to SQS.

Publishers, reply queues and pollers work over a connection. Leaving the connection closes
those that are still open, the newest first. So they may be left in any order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from .core.checks import check_text, check_type
from .errors import QueueError
from .queues import Queues
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
from .sqs.wrapping import Wrap, WrappedSQS, check_wrap
from .tasks import TaskOwner

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from types_aiobotocore_sqs.client import SQSClient

CONTROL_PATIENCE = 30.0
"""Seconds for which an operation on a queue (such as looking up its URL, or creating it) is
tried again while its errors are transient. A caller's own timeout may end it sooner."""

FIRST_PATIENCE = 3.0
"""The same, in seconds, while the endpoint has never answered."""

T = TypeVar("T")

Opener = Callable[[], AbstractAsyncContextManager[SQS]]


class Dependent(Protocol):
    """What works over a connection, and is closed with it."""

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
    wrap: Wrap | None = None,
) -> Connection:
    """A connection to SQS, to be used as an async context manager.

    The parameters are aiobotocore's and boto3's own. Without any, AWS's usual chain of providers
    decides: environment, profile, IAM role. The credentials that it finds are renewed in time.
    Where a provider fails, the first call that needs credentials raises the error.

    Args:
        region_name: The AWS region, such as `eu-west-1`.
        endpoint_url: Another endpoint than AWS's own: a local server, a VPC endpoint. Without
            user name and password: SQS has none, and they would appear in errors and logs.
        aws_access_key_id: With *aws_secret_access_key* and, for temporary credentials,
            *aws_session_token*: credentials in place of the provider chain's.
        aws_secret_access_key: See *aws_access_key_id*.
        aws_session_token: See *aws_access_key_id*.
        profile_name: A profile of the AWS configuration files. Not with *session*.
        config: Settings of your own for the clients. They win over the library's.
        session: An aiobotocore session of your own.
        wrap: A coroutine function that stands around every API call of the library, to observe
            it, to delay it or to let it fail: see `Wrap`. Calls of `Connection.client` do not
            pass it.

    Raises:
        ValueError: At once, if an argument is of a wrong type. On entering, if the settings
            contradict each other, if there is no region, or if a key (wherever it comes from)
            has a blank or a line break in it.

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
    check_wrap(wrap)
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

    return Connection(opener, read_timeout=read_timeout_of(make_config(config)), wrap=wrap)


class Connection:
    """Access to SQS for publishers, pollers and reply queues. Made by `connect()`.

    Leave it last: leaving it closes the publishers, pollers and reply queues that still use it,
    the newest first. It may be entered in one task and left in another. A connection belongs to
    one event loop, and a process needs only one.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        read_timeout: float = math.inf,
        wrap: Wrap | None = None,
        drop_polls: bool = False,
    ) -> None:
        self._opener = opener
        self._wrap = wrap
        self.read_timeout = read_timeout
        """Seconds for which the client waits for an answer. Long polls must be shorter."""
        self.drop_polls = drop_polls
        """Whether pollers that stop drop their polls: where no message gets lost by that, as
        in memory."""
        self._stack = AsyncExitStack()
        self._owner = TaskOwner("sqs_orchestrator connection", self._closing)
        self._port: SQS | None = None
        self._dependents: list[Dependent] = []
        self._troubles: dict[str, QueueError] = {}
        self.queues = Queues(self._owner, lambda: self.port, self.patiently)
        """The queues that it knows. For the library's own use."""

    def __repr__(self) -> str:
        if self._port is None:
            return "<Connection, not open>"
        return f"<Connection to {self._port!r}>"

    async def __aenter__(self) -> Self:
        await self._owner.start()
        try:
            port = await self._stack.enter_async_context(self._opener())
            self._port = port if self._wrap is None else WrappedSQS(port, self._wrap)
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
        """Close what still uses the connection, then the connection itself, as leaving
        `async with` does. Cancelling it does not cut it short."""
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
        """The port to SQS. For the library's own use."""
        if self._port is None:
            raise self._owner.not_open("the connection", "connect(…)")
        return self._port

    @property
    def is_open(self) -> bool:
        """Whether it was entered, and not left."""
        return self._port is not None

    def adopt(self, dependent: Dependent) -> SQS:
        """Remember to close *dependent* before the connection; returns the port for it."""
        port = self.port
        self._dependents.append(dependent)
        return port

    def release(self, dependent: Dependent) -> None:
        """*dependent* has closed by itself."""
        if dependent in self._dependents:
            self._dependents.remove(dependent)

    async def patiently(self, call: Callable[[], Awaitable[T]], *, about: str = "") -> T:
        """What *call* returns. It is called again while its errors are transient, and meanwhile
        `trouble(about)` is the last of them."""

        async def noted() -> T:
            try:
                return await call()
            except QueueError as error:
                self._troubles[about] = error
                raise

        began = asyncio.get_running_loop().time()

        def until(error: QueueError) -> float:
            # An endpoint that has never answered is most likely a wrong one: say so soon. But
            # without credentials it was never asked.
            asked = not isinstance(error.__cause__, NotSigned)
            silent = asked and not self.port.clock.known
            return began + (FIRST_PATIENCE if silent else CONTROL_PATIENCE)

        try:
            return await retrying(noted, until=until)
        finally:
            self._troubles.pop(about, None)

    def trouble(self, about: str) -> QueueError | None:
        """The last error of the operation that `patiently()` tries again just now: a caller whose
        time runs out should hear of it."""
        return self._troubles.get(about)

    # ------------------------------------------------------------------------ queues

    @property
    def client(self) -> SQSClient:
        """The aiobotocore SQS client, for operations that this library does not have.

        Unless your `config` says so, it retries nothing: the library itself does that.
        """
        client: SQSClient | None = getattr(self.port, "client", None)
        if client is None:
            raise RuntimeError(f"there is no aiobotocore client behind {self.port!r}")
        return client

    async def queue_url(self, name_or_url: str) -> str:
        """The URL of a queue, by its name or URL. It is looked up once and kept.

        Cancelling it does not disturb others who look up the same name.

        Raises:
            ValueError: If it can be neither a queue's name nor a URL.
            QueueNotFound: If there is no queue of that name in the account and region.
            AccessDenied: If `sqs:GetQueueUrl` is not allowed.
            QueueError: If SQS cannot be reached.
            RuntimeError: If the connection is not open.
        """
        return await self.queues.url(name_or_url)

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
        return await self.queues.create(
            name,
            fifo=fifo,
            dead_letter_queue=dead_letter_queue,
            max_receive_count=max_receive_count,
            attributes=attributes,
            tags=tags,
        )


def check_connection(sqs: object) -> None:
    """Raise `ValueError` where *sqs* is no connection."""
    check_type("sqs", sqs, Connection, "the Connection that connect() gives")
