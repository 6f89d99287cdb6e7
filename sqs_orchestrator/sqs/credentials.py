"""Credentials of the usual chain, fetched beside the event loop and kept while they are valid.

aiobotocore fetches them in the middle of a call: that call waits for as long as the provider
takes, reads files and parses megabytes of JSON meanwhile, and fails with it, up to ten minutes
before the old ones run out. Calls that wait behind it each try once more, one after the other.

Here one thread fetches at a time, on an event loop of its own, and all who wait share what comes
of it. While the old ones are valid nobody waits: they go on signing until new ones are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import botocore.exceptions as boto
from aiobotocore.config import AioConfig
from aiobotocore.credentials import create_credential_resolver
from aiobotocore.session import AioSession
from botocore.utils import parse_timestamp

from ..core.backoff import Backoff
from ..logs import get_logger
from .clock import Clock
from .failures import NotNow, NotSigned, short
from .signing import Credentials

__all__ = ["Keeper", "Malformed", "check_session_keys", "flaw_of", "from_chain"]

logger = get_logger(__name__)

RENEW_BEFORE: Final = 900.0
"""Seconds before they run out from which on credentials are renewed, as in all AWS SDKs; or half
of what is left, where that is less."""

LEAST_LIFE: Final = 30.0
"""Seconds for which credentials are used that seem to have run out when they are fetched: SQS
is the one to judge, and a clock may be wrong."""

PAUSE: Final = 0.5
"""Seconds before the second try to fetch them; then twice that, and so on."""

LONGEST_PAUSE: Final = 5.0
"""Between tries, in seconds, while there are none."""

LONGEST_PAUSE_WHILE_VALID: Final = 60.0
"""Between tries, in seconds, while the old ones are valid."""

FETCH_TIMEOUTS: Final = (5.0, 10.0)
"""Seconds to connect to STS or SSO, and to wait for its answer. botocore's own are 60 s each,
five times over."""


# ------------------------------------------------------------------------ what is well-formed


class Malformed(ValueError):
    """A key that no AWS service gives out."""


_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def flaw_of(name: str, key: str | None) -> str | None:
    """Why the *key* called *name* can be none of AWS's, if so; without the key itself.

    A header cannot carry it, or SQS would call the signature wrong, and say no more.
    """
    found = _UNPRINTABLE.search(key or "")
    if key is None or found is None:
        return None
    character = found[0]
    kind = f"the character {character!a}"
    if character.isspace():
        kind = "a line break" if character in "\r\n" else "a blank"
    place = f"at position {found.start() + 1}"
    if not _UNPRINTABLE.sub("", key[found.start() :]):
        place = "at its end"
    return f"{name} has {kind} {place}: most likely it was copied with too much"


_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def check_keys(credentials: Credentials, source: str | None) -> None:
    """Raise `Malformed` where one of the *credentials* from *source* has a flaw."""
    keys = (credentials.access_key, credentials.secret_key, credentials.token)
    for name, key in zip(_VARIABLES, keys, strict=True):
        flaw = flaw_of(name if source == "env" else f"{name.lower()} ({source})", key)
        if flaw is not None:
            raise Malformed(flaw)


async def check_session_keys(session: Any) -> None:
    """`check_keys()` for a session of the caller's, where it has keys that stay the same."""
    found = await session.get_credentials()
    if found is not None and not hasattr(found, "refresh_needed"):
        check_keys(await found.get_frozen_credentials(), getattr(found, "method", None))


# ---------------------------------------------------------------------------------- fetching


class Lease(NamedTuple):
    """What a provider gave."""

    credentials: Credentials | None
    """`None` where it has only said how to fetch them."""
    until: float
    """Epoch seconds at which they run out; `math.inf` for never."""
    renew: Callable[[], Awaitable[Lease]] | None
    """Fetches the next ones."""
    source: str | None = None


Load = Callable[[], Coroutine[Any, Any, Lease]]


class _Forgetful(dict[str, Any]):
    """A cache for aiobotocore, which would keep credentials in it by the machine's clock."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Forget it: they are kept here."""


def from_chain(profile: str | None, region: str | None) -> Load:
    """Looks through the usual chain of providers: environment, profile, role, container,
    instance. It uses a session of its own, since it runs in a thread of its own."""

    async def load() -> Lease:
        session = AioSession(profile=profile)
        connect_timeout, read_timeout = FETCH_TIMEOUTS
        session.set_default_client_config(
            AioConfig(
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                retries={"total_max_attempts": 1},
            )
        )
        chain = create_credential_resolver(session, cache=_Forgetful(), region_name=region)
        statuses = _listen_to_instance(chain)
        found = await chain.load_credentials()
        if found is not None:
            return await _lease_of(found)
        if any(status >= 500 or status in (408, 429) for status in statuses):
            raise NotNow(f"the instance's metadata service answers with status {statuses[-1]}")
        raise boto.NoCredentialsError

    return load


def _listen_to_instance(chain: Any) -> list[int]:
    """What the instance's metadata service will answer. botocore takes a failing one and a
    machine that has none for the same: that there are no credentials."""
    statuses: list[int] = []
    try:
        # There is no public way to it; without, a failing one counts as none.
        session = chain.get_provider("iam-role")._role_fetcher._session  # noqa: SLF001
        send = session.send
    except (AttributeError, boto.UnknownCredentialError):
        return statuses

    async def heard(request: Any) -> Any:
        response = await send(request)
        statuses.append(response.status_code)
        return response

    session.send = heard
    return statuses


async def _lease_of(found: Any) -> Lease:
    source: str | None = getattr(found, "method", None)
    # aiobotocore's own way to renew them decides by the machine's clock when, and logs a
    # traceback for each failure.
    fetch = getattr(found, "_refresh_using", None)
    if fetch is None:
        credentials: Credentials = await found.get_frozen_credentials()
        check_keys(credentials, source)
        return Lease(credentials, math.inf, None, source)

    async def renew() -> Lease:
        answer = fetch()
        if inspect.isawaitable(answer):
            answer = await answer
        return _fetched(answer, renew, source)

    first: Credentials | None = found._frozen_credentials  # noqa: SLF001
    if first is None:
        return Lease(None, 0.0, renew, source)
    check_keys(first, source)
    return Lease(first, _epoch(found._expiry_time), renew, source)  # noqa: SLF001


class _Keys(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None
    account_id: str | None


def _fetched(answer: Any, renew: Callable[[], Awaitable[Lease]], source: str | None) -> Lease:
    if not answer:
        # So the instance's metadata service fails, which gave some before.
        raise NotNow(f"{source} gave no credentials")
    try:
        keys = _Keys(
            answer["access_key"],
            answer["secret_key"],
            answer.get("token"),
            answer.get("account_id"),
        )
    except KeyError as exc:
        raise NotNow(f"{source} gave credentials without {exc}") from exc
    check_keys(keys, source)
    until = answer.get("expiry_time")
    return Lease(keys, math.inf if until is None else _epoch(until), renew, source)


def _epoch(moment: Any) -> float:
    if not isinstance(moment, datetime):
        moment = parse_timestamp(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return float(moment.timestamp())


# ----------------------------------------------------------------------------------- keeping


MISCONFIGURED: Final = (
    Malformed,
    boto.ConfigParseError,
    boto.InfiniteLoopConfigError,
    boto.InvalidConfigError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.UnknownCredentialError,
)
"""What no second try will mend, and what is known before any call."""


class Keeper:
    """Credentials as the clients of one session ask for them, and their provider's stand-in.

    Use it in one event loop. `close()` it after the clients.
    """

    method = "sqs-orchestrator"

    def __init__(self, load: Load, *, clock: Clock | None = None) -> None:
        self.clock = clock
        """SQS's clock, once there is one: when credentials run out is for AWS to say."""
        self._load = load
        self._lease: Lease | None = None
        self._credentials: Credentials | None = None
        self._renew_at = -math.inf
        self._until = -math.inf
        self._failure: Exception | None = None
        self._not_before = -math.inf
        self._backoff = Backoff(PAUSE, LONGEST_PAUSE_WHILE_VALID)
        self._flight: _Flight | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def load_credentials(self) -> Keeper:
        """What aiobotocore asks a chain of providers for. It looks once which provider has some,
        and where that fails for now leaves it to the first call to try again.

        Raises what of `MISCONFIGURED` there is.
        """
        self._take_off()
        await self._landing()
        if isinstance(self._failure, MISCONFIGURED):
            raise self._failure
        return self

    async def get_frozen_credentials(self) -> Credentials:
        """What to sign with.

        Raises:
            NotSigned: There are none, or none any more.
        """
        if self._credentials is not None and self._now() < self._renew_at:
            return self._credentials
        return await self._renewed()

    async def get_account_id(self) -> str | None:
        """The account that the credentials belong to, where the provider says so."""
        return getattr(await self.get_frozen_credentials(), "account_id", None)

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """How botocore looks at one of them later, such as the account's id."""
        return lambda: getattr(self._credentials, name, None)

    async def _renewed(self) -> Credentials:
        if self._flight is None and asyncio.get_running_loop().time() >= self._not_before:
            self._take_off()
        while True:
            if self._credentials is not None and self._now() < self._until:
                return self._credentials
            if self._flight is None:
                if self._failure is not None:
                    # One of its own for each who waited: they add to its traceback.
                    raise NotSigned(self._failure)
                self._take_off()
            await self._landing()

    def _now(self) -> float:
        known = None if self.clock is None else self.clock.now()
        return time.time() if known is None else known

    def _take_off(self) -> None:
        renew = None if self._lease is None else self._lease.renew
        self._flight = _Flight(self._load if renew is None else renew, self._landed)

    async def _landing(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _landed(self, outcome: Lease | Exception) -> None:
        self._flight = None
        if isinstance(outcome, Exception):
            self._failed(outcome)
        else:
            self._got(outcome)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _got(self, lease: Lease) -> None:
        if self._failure is not None and self._credentials is not None:
            logger.info("the AWS credentials were renewed, after %d tries", self._backoff.attempts)
        self._lease, self._failure, self._not_before = lease, None, -math.inf
        self._backoff.reset()
        if lease.credentials is None:
            return
        self._credentials = lease.credentials
        now = self._now()
        left = lease.until - now
        if left <= 0:
            left = LEAST_LIFE
        self._until = now + left
        # Providers hand out the same ones until shortly before their end.
        self._renew_at = self._until - min(RENEW_BEFORE, left / 2)

    def _failed(self, failure: Exception) -> None:
        self._failure = failure
        pause = self._backoff.next()
        left = self._until - self._now()
        if left > 0:
            logger.warning(
                "the AWS credentials cannot be renewed (%s); the old ones are used, for another"
                " %.0f s, and it is tried again",
                short(str(failure)) or type(failure).__name__,
                left,
            )
        else:
            pause = min(pause, LONGEST_PAUSE)
            logger.debug("there are no AWS credentials: %s", failure)
        self._not_before = asyncio.get_running_loop().time() + pause

    def close(self) -> None:
        """Fetch no more. What is under way is cancelled, and not waited for."""
        if self._flight is not None:
            self._flight.cancel()
            self._landed(NotNow("the connection was closed"))


class _Flight:
    """One call on an event loop of its own, in a thread of its own; *landed* gets what it gave,
    in the loop that it was started from.

    So it needs none of the threads that the program's loop shares with the program's own work,
    and what blocks in it (files, a prompt for a second factor) holds up nobody else.
    """

    def __init__(
        self, call: Callable[[], Awaitable[Lease]], landed: Callable[[Lease | Exception], None]
    ) -> None:
        self._call = call
        self._landed = landed
        self._home = asyncio.get_running_loop()
        self._abroad: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None] | None = None
        self._cancelled = False
        # No program waits at its end for a provider that hangs; and what a user's request
        # carries in its context is none of the provider's.
        threading.Thread(
            target=contextvars.Context().run,
            args=(self._fly,),
            name="sqs-orchestrator credentials",
            daemon=True,
        ).start()

    def _fly(self) -> None:
        outcome: Lease | Exception
        try:
            with asyncio.Runner(loop_factory=_LOOP) as runner:
                outcome = runner.run(self._tracked())
        except Exception as exc:
            outcome = exc
        except BaseException as exc:  # cancelled, or a provider that would end the program
            outcome = NotNow(f"fetching them was given up ({type(exc).__name__})")
        with contextlib.suppress(RuntimeError):  # the program has ended
            self._home.call_soon_threadsafe(self._land, outcome)

    async def _tracked(self) -> Lease:
        self._abroad = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._call()

    def _land(self, outcome: Lease | Exception) -> None:
        if not self._cancelled:
            self._landed(outcome)

    def cancel(self) -> None:
        self._cancelled = True
        if self._abroad is not None:
            loop, task = self._abroad
            if task is not None:
                with contextlib.suppress(RuntimeError):  # it has just ended
                    loop.call_soon_threadsafe(task.cancel)


# Not the policy's: others' loops start no processes outside the main thread.
_LOOP: Final[Callable[[], asyncio.AbstractEventLoop]] = getattr(
    asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop
)
