"""What `doctor` checks, one after another, each by the mildest call that shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from aiobotocore.session import AioSession

from ..connection import Connection
from ..core.names import account_of, queue_name_of, url_beside
from ..core.redrive import dead_letter_queue
from ..errors import AccessDenied, QueueError, QueueNotFound
from .options import Common
from .permissions import STATEMENTS, Place, Role
from .probes import OnQueue, ReplyQueueProbe

State: TypeAlias = Literal["ok", "failed", "warning", "skipped"]

SKEW: Final = 300.0
"""Seconds by which a clock may be off before AWS refuses signatures (Signature Version 4)."""

_FACTS: Final = (
    "QueueArn",
    "VisibilityTimeout",
    "RedrivePolicy",
    "KmsMasterKeyId",
    "SqsManagedSseEnabled",
    "ApproximateNumberOfMessages",
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; *advice* is what to do about it."""

    name: str
    state: State
    found: str = ""
    advice: str = ""


@dataclass
class Examination:
    """The checks of one queue, for those *roles*; *report* hears each once it is done."""

    common: Common
    queue: str
    roles: frozenset[Role]
    prefix: str
    report: Callable[[Check], None]
    done: list[Check] = field(default_factory=list)
    _facts: dict[str, str] = field(default_factory=dict)
    _url: str = ""

    def _note(self, check: Check) -> Check:
        self.done.append(check)
        self.report(check)
        return check

    async def run(self) -> None:
        """All checks; ends early where nothing further can be known."""
        try:
            connection = await self.common.connect().__aenter__()
        except ValueError as error:
            advice = "pass --region, or set AWS_DEFAULT_REGION or a region in the profile"
            known = "region" in str(error)
            self._note(Check("settings", "failed", str(error), advice if known else ""))
            return
        try:
            self._note(self._region(connection))
            if self._note(await self._credentials()).state == "failed":
                return
            reached = self._note(await self._reach(connection))
            self._note(_clock(connection))
            if reached.state == "failed":
                return
            await self._of_queue(connection)
            await self._of_replies(connection)
        finally:
            await connection.aclose()

    # ------------------------------------------------------------------- on the way

    def _region(self, sqs: Connection) -> Check:
        source = "the profile or the configuration file"
        if self.common.region is not None:
            source = "--region"
        elif os.environ.get("AWS_DEFAULT_REGION"):
            source = "AWS_DEFAULT_REGION"
        endpoint = sqs.client.meta.endpoint_url if _has_client(sqs) else repr(sqs.port)
        region = sqs.client.meta.region_name if _has_client(sqs) else sqs.port.region
        return Check("region", "ok", f"{region}, from {source}; {endpoint}")

    async def _credentials(self) -> Check:
        advice = "set AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
        try:
            found = await AioSession(profile=self.common.profile).get_credentials()
            frozen = None if found is None else await found.get_frozen_credentials()
        except Exception as error:  # any of many providers, of botocore or not
            return Check("credentials", "failed", f"{type(error).__name__}: {error}", advice)
        if found is None or frozen is None:
            return Check("credentials", "failed", "none", advice)
        kind = "temporary" if frozen.token else "permanent"
        return Check("credentials", "ok", f"{frozen.access_key[:4]}…, {kind}, from {found.method}")

    async def _reach(self, sqs: Connection) -> Check:
        """The first call: it shows whether SQS is there, who we are, and the queue."""
        name = f"reachable, with the queue {self.queue}"
        began = time.perf_counter()
        try:
            url = await sqs.queue_url(self.queue)
            if "/" in self.queue:
                # Known without a call.
                name_of, account = queue_name_of(url), account_of(url)
                await sqs.patiently(lambda: sqs.port.get_queue_url(name_of, account))
        except QueueNotFound as error:
            return Check(name, "failed", str(error), _advice_on_absence(self.queue))
        except AccessDenied as error:
            if "/" in self.queue and error.code == "AccessDenied":
                self._url = self.queue
                return Check(name, "warning", str(error), "it can be used by its URL alone")
            return Check(name, "failed", str(error), _advice_on(error, self.queue))
        except QueueError as error:
            advice = "check the network, proxies, VPC endpoints, --endpoint-url and --region"
            return Check(name, "failed", str(error), advice)
        self._url = url
        return Check(name, "ok", f"{url}, in {(time.perf_counter() - began) * 1000:.0f} ms")

    # -------------------------------------------------------------------- the queue

    async def _of_queue(self, sqs: Connection) -> None:
        # A requester looks at no attributes, and does without this.
        read = await self._permission(
            "sqs:GetQueueAttributes", "queue", lambda: self._read_facts(sqs), "worker"
        )
        if read == "ok":
            for look in (self._visibility, self._redrive, self._encryption):
                self._note(look())
        dead = dead_letter_queue(self._facts.get("RedrivePolicy"))
        dead_url = dead and url_beside(self._url, *dead)
        for statement in STATEMENTS:
            url = {"queue": self._url, "dead_letters": dead_url}.get(statement.place)
            if statement.role not in self.roles or not url:
                continue
            probes = OnQueue(sqs, url, self._facts).probes()
            for action in statement.actions:
                if action in probes:  # the others were seen by now
                    await self._permission(
                        f"sqs:{action}", statement.place, probes[action], statement.role
                    )

    async def _read_facts(self, sqs: Connection) -> None:
        self._facts = await sqs.patiently(lambda: sqs.port.get_queue_attributes(self._url, _FACTS))

    def _visibility(self) -> Check:
        seconds = self._facts.get("VisibilityTimeout", "?")
        return Check("visibility timeout", "ok", f"{seconds} s; a Poller sets its own")

    def _redrive(self) -> Check:
        policy = self._facts.get("RedrivePolicy")
        dead = dead_letter_queue(policy)
        if dead is None:
            advice = f"create_queue({self.queue!r}, dead_letter_queue=True), or set RedrivePolicy"
            found = "none: one-way messages that a handler rejects are deleted"
            return Check("dead-letter queue", "warning", found, advice)
        return Check("dead-letter queue", "ok", f"{dead.name}; {policy}")

    def _encryption(self) -> Check:
        key = self._facts.get("KmsMasterKeyId")
        if key:
            advice = (
                f"senders need kms:GenerateDataKey and kms:Decrypt on {key}, receivers the latter"
            )
            return Check("encryption", "warning", f"KMS key {key}, which was not tried", advice)
        if self._facts.get("SqsManagedSseEnabled", "").lower() == "true":
            return Check("encryption", "ok", "by SQS, which needs no permission")
        return Check("encryption", "ok", "none")

    # ------------------------------------------------------------------ reply queues

    async def _of_replies(self, sqs: Connection) -> None:
        if "requester" not in self.roles:
            found = "a worker alone makes no reply queue to send to"
            self._note(Check("sqs:SendMessage on reply queues", "skipped", found))
            return
        probe = ReplyQueueProbe(sqs, self.prefix)
        name = "sqs:CreateQueue, sqs:TagQueue"
        try:
            if await self._permission(name, "replies", probe.create, "requester") != "ok":
                self._note(Check("round trip", "skipped", "there is no reply queue"))
                return
            probes = probe.probes()
            states = [
                await self._permission(
                    f"sqs:{action}", statement.place, probes[action], statement.role
                )
                for statement in STATEMENTS
                if statement.role in self.roles and statement.place in ("replies", "everywhere")
                for action in statement.actions
                if action in probes
            ]
            self._note(await self._round_trip(probe, "failed" in states))
        finally:
            if probe.url:
                await self._permission("sqs:DeleteQueue", "replies", probe.delete, "requester")

    async def _round_trip(self, probe: ReplyQueueProbe, denied: bool) -> Check:
        if "worker" not in self.roles:
            return Check("round trip", "skipped", "only a worker may send to reply queues")
        if denied:
            return Check("round trip", "skipped", "permissions are missing")
        try:
            seconds = await probe.round_trip()
        except Exception as error:
            return Check("round trip", "failed", f"{type(error).__name__}: {error}")
        return Check("round trip", "ok", f"a request and its reply in {seconds * 1000:.0f} ms")

    async def _permission(
        self, action: str, place: Place, call: Callable[[], Awaitable[Any]], role: Role
    ) -> State:
        """Whether *call* is allowed; any other refusal shows that it is."""
        name = f"{action} on {_PLACES[place]}"
        try:
            untried = await call()
        except AccessDenied as error:
            if role not in self.roles:
                check = Check(name, "skipped", "not allowed, and not needed")
            else:
                advice = f"allow it: sqs-orchestrator policy {self.queue} --{role}"
                check = Check(name, "failed", str(error), advice)
        except QueueNotFound as error:
            check = Check(name, "failed", str(error), "create it")
        except QueueError as error:
            check = Check(name, "warning" if error.transient else "ok", str(error))
        else:
            check = Check(name, "skipped", untried) if untried else Check(name, "ok")
        return self._note(check).state


_PLACES: Final[dict[Place, str]] = {
    "queue": "the queue",
    "replies": "reply queues",
    "dead_letters": "the dead-letter queue",
    "everywhere": "*",
}


def _has_client(sqs: Connection) -> bool:
    return hasattr(sqs.port, "client")


def _clock(sqs: Connection) -> Check:
    now = sqs.port.clock.now()
    if now is None:
        return Check("clock", "skipped", "SQS has not shown its own")
    ahead = time.time() - now
    # SQS shows whole seconds, some time ago.
    found = "as SQS's, within two seconds" if abs(ahead) <= 2 else f"{ahead:+.0f} s beside SQS's"
    if abs(ahead) <= SKEW:
        return Check("clock", "ok", found)
    advice = "set it (NTP): this library signs by SQS's clock, but other calls to AWS will fail"
    return Check("clock", "warning", found, advice)


def _advice_on(error: AccessDenied, queue: str) -> str:
    if error.code == "AccessDenied":
        return f"allow it: sqs-orchestrator policy {queue}; or pass the queue's URL"
    return "the credentials are wrong or expired: check --profile, and renew them"


def _advice_on_absence(queue: str) -> str:
    elsewhere = "or check --region and --profile"
    if "/" in queue:
        return f"create it, {elsewhere}"
    kind = "fifo=True, " if queue.endswith(".fifo") else ""
    return f"create_queue({queue!r}, {kind}dead_letter_queue=True), {elsewhere}"
