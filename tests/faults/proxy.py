"""A proxy in front of an SQS server that does to calls what networks, and SQS, do at their worst.

It runs in a thread with an event loop of its own, so that what it does to the library does not
happen in the library's loop. A test says what shall go wrong, how often and with which calls:

    with FaultProxy(server_url, seed=1) as proxy:
        proxy.inject(Fault.DROPPED, Fault.THROTTLED, on=MESSAGE_OPERATIONS, probability=0.1)
        ...                          # the library, connected to proxy.url
        proxy.heal()

`calls` counts what came in, by operation, and `accepted` keeps what SQS took: what the proxy
saw SQS confirm, also where the library never heard of it.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import enum
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

MESSAGE_OPERATIONS: Final = frozenset(
    {
        "SendMessageBatch",
        "ReceiveMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibilityBatch",
    }
)
"""All that is done to messages, each in batches."""

CLOCK_TOLERANCE: Final = 300.0
"""Seconds by which a signature may be off; SQS refuses more."""

_BATCHES: Final = MESSAGE_OPERATIONS - {"ReceiveMessage"}
_JSON: Final = "application/x-amz-json-1.0"


class Fault(enum.Enum):
    """What may happen to a call."""

    INTERNAL_ERROR = "500"
    UNAVAILABLE = "503"
    THROTTLED = "throttled"
    DENIED = "access denied"
    EXPIRED = "expired credentials"
    UNKNOWN_KEY = "an access key that AWS does not know"
    WRONG_SECRET = "a secret that is not the access key's"
    RESET = "connection reset, the call never sent on"
    DROPPED = "connection reset, the call sent on: SQS did it"
    CUT = "half of an answer: SQS did it"
    DELAYED = "delayed"
    GARBAGE = "an answer that makes no sense; SQS did it, or not"
    DUPLICATED = "messages handed out again, later"
    REORDERED = "messages handed out in another order, some later"
    PARTLY_FAILED = "some entries of a batch failed by SQS's fault"
    PARTLY_REFUSED = "some entries of a batch refused as the sender's fault"
    FOREIGN = "a page of somebody in between, whose clock is an hour ahead"
    EMPTY = "a long poll that ends empty, and at once"
    QUEUE_DELETED = "the queue deleted just before"
    NAME_LOCKED = "a name that a deleted queue had a moment ago"


PASSING: Final = (
    Fault.INTERNAL_ERROR,
    Fault.UNAVAILABLE,
    Fault.THROTTLED,
    Fault.RESET,
    Fault.DROPPED,
    Fault.CUT,
    Fault.DELAYED,
    Fault.GARBAGE,
    Fault.DUPLICATED,
    Fault.REORDERED,
    Fault.PARTLY_FAILED,
)
"""What is over by itself, so that trying again helps."""

LASTING: Final = (Fault.DENIED, Fault.EXPIRED, Fault.PARTLY_REFUSED)
"""What SQS says when trying again is no use."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What shall go wrong, with which calls, and how often."""

    fault: Fault
    operations: frozenset[str] | None
    probability: float
    queue: str

    def meets(self, call: Call) -> bool:
        return (self.operations is None or call.operation in self.operations) and (
            re.search(self.queue, call.queue) is not None
        )


@dataclass(slots=True)
class Call:
    """A call to SQS."""

    operation: str
    headers: Mapping[str, str]
    parameters: dict[str, Any]

    @property
    def queue(self) -> str:
        """The URL or the name of its queue; empty where it has none."""
        return str(self.parameters.get("QueueUrl") or self.parameters.get("QueueName") or "")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of SQS's."""

    body: bytes
    status: int = 200
    content_type: str = _JSON
    headers: Mapping[str, str] | None = None

    @property
    def value(self) -> Any:
        return json.loads(self.body) if self.body else {}

    def response(self) -> web.Response:
        headers = {**(self.headers or {}), "Content-Type": self.content_type}
        return web.Response(body=self.body, status=self.status, headers=headers)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that SQS took."""

    queue: str
    message_id: str
    body: str
    attributes: Mapping[str, Any]


class FaultProxy:
    """The proxy. A context manager; what it is told to do, it does from the next call on.

    *seed* makes the choice of faults the same for the same order of calls.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.upstream = upstream
        self.url = ""
        self.checks_clock = False
        """Refuse signatures that are more than five minutes off, as SQS does."""
        self.most_bytes: int | None = None
        """Refuse calls with larger bodies, as proxies do: by a page with 413."""
        self.delay = (0.02, 0.3)
        """Seconds by which `Fault.DELAYED` delays: at least, at most."""
        self.calls: Counter[str] = Counter()
        """Calls that came in, by operation."""
        self.injected: Counter[Fault] = Counter()
        """What went wrong, and how often."""
        self.accepted: list[Accepted] = []
        self.deleted: set[str] = set()
        """Receipt handles for whose delete SQS was asked."""
        self.refused_clocks = 0
        """Calls refused for their clock."""
        self.refused_sizes = 0
        """Calls refused for their size."""
        self._rules: tuple[Rule, ...] = ()
        self._random = random.Random(seed)
        self._later: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._planted = 0
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="fault proxy", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._runner: web.AppRunner
        self._session: aiohttp.ClientSession

    # ------------------------------------------------------------- for the tests

    def inject(
        self,
        *faults: Fault,
        on: Collection[str] | None = None,
        probability: float = 1.0,
        queue: str = "",
    ) -> None:
        """Let *faults* happen, each with its own throw of the dice.

        *on* names the operations, all by default; *queue* is a part of the queue's name.
        """
        operations = None if on is None else frozenset(on)
        self._rules += tuple(Rule(fault, operations, probability, queue) for fault in faults)

    def heal(self) -> None:
        """Let everything go well from now on."""
        self._rules = ()

    def plant(self, queue_url: str, *messages: Mapping[str, Any]) -> None:
        """Hand *messages* out as if they had been in the queue, in receives from now on: also
        such as the server behind would refuse. What they lack for a message is added."""
        for message in messages:
            self._planted += 1
            self._later[queue_url].append(
                {
                    "MessageId": f"planted-{self._planted}",
                    "ReceiptHandle": f"planted-{self._planted}",
                    "Body": "1",
                    **message,
                }
            )

    def planted_left(self, queue_url: str) -> int:
        """How many of them, and of other messages kept for later, are still to come."""
        return len(self._later[queue_url])

    @property
    def connections(self) -> int:
        """Connections that clients hold open now."""
        server = self._runner.server
        return 0 if server is None else len(server.connections)

    def go_away(self) -> None:
        """Let nobody reach it from now on."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()

    def come_back(self) -> None:
        """Let it be reached again, under the same URL."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def total(self) -> int:
        """All calls so far."""
        return sum(self.calls.values())

    # ------------------------------------------------------------------ its life

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            await self._listen()
            self._ready.set()
            await self._end.wait()
            await self._runner.cleanup()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", urlsplit(self.url).port or 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    # ------------------------------------------------------------------- a call

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(
            request.headers.get("X-Amz-Target", "").rpartition(".")[2],
            request.headers,
            json.loads(body) if body else {},
        )
        self.calls[call.operation] += 1
        if self.most_bytes is not None and len(body) > self.most_bytes:
            self.refused_sizes += 1
            return _TOO_LARGE.response()
        if call.operation == "DeleteMessageBatch":
            self.deleted |= {entry["ReceiptHandle"] for entry in call.parameters["Entries"]}
        if self.checks_clock and (refusal := _clock_refusal(request.headers)) is not None:
            self.refused_clocks += 1
            return refusal.response()
        try:
            answer = await self._meet(call, self._throw_dice(call))
        except aiohttp.ClientError:  # the server went away, most likely with the test
            answer = None
        if answer is None:
            _reset(request)
            return web.Response()
        if answer.headers is _CUT:
            return await _cut(request, answer)
        return answer.response()

    def _throw_dice(self, call: Call) -> set[Fault]:
        faults = {
            rule.fault
            for rule in self._rules
            if rule.meets(call) and self._random.random() < rule.probability
        }
        if call.operation != "ReceiveMessage":
            faults -= {Fault.DUPLICATED, Fault.REORDERED, Fault.EMPTY}
        if call.operation not in _BATCHES:
            faults -= {Fault.PARTLY_FAILED, Fault.PARTLY_REFUSED}
        return faults

    async def _meet(self, call: Call, faults: set[Fault]) -> Answer | None:
        """The answer to a call to which *faults* happen; `None` where there is none."""
        if Fault.DELAYED in faults:
            self.injected[Fault.DELAYED] += 1
            await asyncio.sleep(self._random.uniform(*self.delay))
        for fault in _INSTEAD:
            if fault in faults:
                self.injected[fault] += 1
                return self._instead(fault, call)
        if Fault.QUEUE_DELETED in faults:
            self.injected[Fault.QUEUE_DELETED] += 1
            await self.delete_queue(call)
        garbage = Fault.GARBAGE in faults
        if garbage and self._random.random() < 0.5:
            self.injected[Fault.GARBAGE] += 1
            return self._garbage()
        answer = await self._send_on(call, faults)
        if garbage:
            self.injected[Fault.GARBAGE] += 1
            return self._garbage()
        if Fault.DROPPED in faults:
            self.injected[Fault.DROPPED] += 1
            return None
        if Fault.CUT in faults:
            self.injected[Fault.CUT] += 1
            return Answer(answer.body[: len(answer.body) // 2], headers=_CUT)
        return answer

    def _instead(self, fault: Fault, call: Call) -> Answer | None:
        """What comes instead of an answer of the server's."""
        if fault is Fault.RESET:
            return None
        if fault is Fault.FOREIGN:
            ahead = {"Date": formatdate(time.time() + 3600, usegmt=True)}
            return replace(self._random.choice(_PAGES), headers=ahead)
        refusals = {
            Fault.INTERNAL_ERROR: (_INTERNAL_ERROR, _HTML_ERROR),
            Fault.UNAVAILABLE: (_UNAVAILABLE, _EMPTY_ERROR),
            Fault.THROTTLED: (_THROTTLED, _THROTTLED_BY_CORAL),
            Fault.DENIED: (_denied(call),),
            Fault.EXPIRED: (_EXPIRED,),
            Fault.NAME_LOCKED: (_NAME_LOCKED,),
            Fault.UNKNOWN_KEY: (_UNKNOWN_KEY,),
            Fault.WRONG_SECRET: (_WRONG_SECRET,),
            Fault.EMPTY: (_EMPTY,),
        }
        return self._random.choice(refusals[fault])

    def _garbage(self) -> Answer:
        body, content_type = self._random.choice(GARBAGE)
        return Answer(body, content_type=content_type)

    # ------------------------------------------------------- what is sent on

    async def _send_on(self, call: Call, faults: set[Fault]) -> Answer:
        if call.operation == "ReceiveMessage":
            return await self._receive(call, faults)
        failing = faults & {Fault.PARTLY_FAILED, Fault.PARTLY_REFUSED}
        if not failing:
            answer = await self._forward(call)
            self._note_accepted(call, answer)
            return answer
        # The entries that fail are not even sent on.
        entries = list(call.parameters.get("Entries") or ())
        failed = {}
        for fault in failing:
            self.injected[fault] += 1
            for entry in self._some(entries):
                failed[entry["Id"]] = fault
        call.parameters["Entries"] = [each for each in entries if each["Id"] not in failed]
        value: dict[str, Any] = {"Successful": [], "Failed": []}
        if call.parameters["Entries"]:
            answer = await self._forward(call)
            if answer.status != 200:
                return answer
            self._note_accepted(call, answer)
            value.update(answer.value)
        value["Failed"] = [
            *(value["Failed"] or ()),
            *(_failure(entry_id, fault) for entry_id, fault in failed.items()),
        ]
        return Answer(json.dumps(value).encode())

    async def _receive(self, call: Call, faults: set[Fault]) -> Answer:
        """Receive, with what was kept for later; what comes may be doubled, or kept."""
        later = self._later[call.queue]
        most = int(call.parameters.get("MaxNumberOfMessages", 1))
        kept = [later.pop(0) for _ in range(min(most, len(later)))]
        messages: list[dict[str, Any]] = []
        if len(kept) < most:
            if kept:
                call.parameters["WaitTimeSeconds"] = 0
                call.parameters["MaxNumberOfMessages"] = most - len(kept)
            answer = await self._forward(call)
            if answer.status != 200 or not (kept or faults):
                later[:0] = kept
                return answer
            messages = answer.value.get("Messages") or []
        if messages and Fault.REORDERED in faults:
            self.injected[Fault.REORDERED] += 1
            back = self._some(messages)
            later += back
            messages = [message for message in messages if message not in back]
            self._random.shuffle(messages)
        if messages and Fault.DUPLICATED in faults:
            self.injected[Fault.DUPLICATED] += 1
            later += (_delivered_again(message) for message in self._some(messages))
        messages += kept
        return Answer(json.dumps({"Messages": messages} if messages else {}).encode())

    def _some(self, things: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Some of them, at least one."""
        return self._random.sample(things, self._random.randint(1, len(things)))

    def _note_accepted(self, call: Call, answer: Answer) -> None:
        if call.operation != "SendMessageBatch" or answer.status != 200:
            return
        entries = {entry["Id"]: entry for entry in call.parameters["Entries"]}
        for done in answer.value.get("Successful") or ():
            entry = entries[done["Id"]]
            attributes = entry.get("MessageAttributes") or {}
            self.accepted.append(
                Accepted(call.queue, done["MessageId"], entry["MessageBody"], attributes)
            )

    async def _forward(self, call: Call) -> Answer:
        headers = {
            name: value
            for name, value in call.headers.items()
            if name.lower() not in ("host", "content-length", "connection", "expect")
        }
        async with self._session.post(
            self.upstream, data=json.dumps(call.parameters).encode(), headers=headers
        ) as response:
            kept = {
                name: value
                for name, value in response.headers.items()
                if name.lower().startswith("x-amzn-")
            }
            return Answer(
                await response.read(),
                response.status,
                response.headers.get("Content-Type", _JSON),
                kept,
            )

    async def delete_queue(self, call: Call) -> None:
        """Delete the queue of *call*, as somebody might by hand."""
        if "QueueUrl" not in call.parameters:
            return
        headers = {**call.headers, "X-Amz-Target": "AmazonSQS.DeleteQueue"}
        await self._forward(Call("DeleteQueue", headers, {"QueueUrl": call.parameters["QueueUrl"]}))


# --------------------------------------------------------------- what SQS says

_CUT: Final[Mapping[str, str]] = {"x-amzn-requestid": "cut"}
"""Headers that mark an answer which breaks off."""


def _refusal(kind: str, message: str, *, status: int = 400, query: str | None = None) -> Answer:
    """A refusal in the form of SQS's JSON protocol."""
    headers = {} if query is None else {"x-amzn-query-error": f"{query};Sender"}
    return Answer(json.dumps({"__type": kind, "message": message}).encode(), status, _JSON, headers)


_INTERNAL_ERROR: Final = _refusal(
    "com.amazon.coral.service#InternalFailure", "We encountered an internal error.", status=500
)
_PAGES: Final = tuple(
    Answer(b"<html><h1>Please log in</h1></html>", status, "text/html")
    for status in (302, 400, 401, 403, 404, 421, 425, 503)
)
_HTML_ERROR: Final = Answer(b"<html><h1>Internal Server Error</h1></html>", 500, "text/html")
_TOO_LARGE: Final = Answer(
    b"<html><head><title>413 Request Entity Too Large</title></head></html>",
    status=413,
    content_type="text/html",
)
_UNAVAILABLE: Final = _refusal(
    "com.amazon.coral.service#ServiceUnavailableException", "Try again later.", status=503
)
_EMPTY: Final = Answer(b"{}")
_EMPTY_ERROR: Final = Answer(b"", 503)
_THROTTLED: Final = _refusal(
    "com.amazonaws.sqs#RequestThrottled", "Request is throttled.", query="RequestThrottled"
)
_THROTTLED_BY_CORAL: Final = _refusal(
    "com.amazon.coral.availability#ThrottlingException", "Rate exceeded"
)
_EXPIRED: Final = _refusal(
    "com.amazon.coral.service#ExpiredTokenException",
    "The security token included in the request is expired",
    status=403,
)
_NAME_LOCKED: Final = _refusal(
    "com.amazonaws.sqs#QueueDeletedRecently",
    "You must wait 60 seconds after deleting a queue before you can create another with the same"
    " name.",
    query="AWS.SimpleQueueService.QueueDeletedRecently",
)
_UNKNOWN_KEY: Final = _refusal(
    "com.amazon.coral.service#UnrecognizedClientException",
    "The security token included in the request is invalid.",
    status=403,
)
_WRONG_SECRET: Final = _refusal(
    "com.amazon.coral.service#InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your"
    " AWS Secret Access Key and signing method.",
    status=403,
)

_INSTEAD: Final = (
    Fault.FOREIGN,
    Fault.RESET,
    Fault.INTERNAL_ERROR,
    Fault.UNAVAILABLE,
    Fault.THROTTLED,
    Fault.DENIED,
    Fault.EXPIRED,
    Fault.UNKNOWN_KEY,
    Fault.WRONG_SECRET,
    Fault.NAME_LOCKED,
    Fault.EMPTY,
)

GARBAGE: Final = (
    (b"<html><body>Please log in</body></html>", "text/html; charset=utf-8"),
    (b"<html><body>Please log in</body></html>", _JSON),
    (b'{"Messages": [{"MessageId": "m', _JSON),
    (b"[]", _JSON),
    (b"null", _JSON),
    (b'"text"', _JSON),
    (b"\xff\xfe\x00", _JSON),
    (b'{"Messages": 7, "Successful": 7, "QueueUrl": 7}', _JSON),
    (b'{"Messages": [7], "Successful": [7], "Failed": [7]}', _JSON),
    (b'{"Messages": [{}], "Successful": [{}], "Failed": [{}]}', _JSON),
    (b'{"Messages": {"a": 1}, "Successful": {"a": 1}}', _JSON),
    (b'{"Messages": ["m"], "Successful": [{"Id": "77", "MessageId": "m"}]}', _JSON),
    (b"[" * 100_000, _JSON),
)
"""Answers with status 200 that are none of SQS's: body, and media type."""


def _denied(call: Call) -> Answer:
    action = f"sqs:{call.operation.removesuffix('Batch').lower()}"
    return _refusal(
        "com.amazon.coral.service#AccessDeniedException",
        f"User: arn:aws:iam::123456789012:user/u is not authorized to perform: {action} on"
        f" resource: {call.queue} because no identity-based policy allows the {action} action",
        status=403,
    )


def _failure(entry_id: str, fault: Fault) -> dict[str, Any]:
    ours = fault is Fault.PARTLY_REFUSED
    return {
        "Id": entry_id,
        "SenderFault": ours,
        "Code": "InvalidParameterValue" if ours else "InternalError",
        "Message": "A parameter is invalid." if ours else "Try again.",
    }


def _delivered_again(message: dict[str, Any]) -> dict[str, Any]:
    again = json.loads(json.dumps(message))
    system = again.get("Attributes") or {}
    if "ApproximateReceiveCount" in system:
        system["ApproximateReceiveCount"] = str(int(system["ApproximateReceiveCount"]) + 1)
    copy: dict[str, Any] = again
    return copy


def _clock_refusal(headers: Mapping[str, str]) -> Answer | None:
    """What SQS says to a signature that is minutes off; `None` to any other."""
    stamp = headers.get("X-Amz-Date", "")
    if re.fullmatch(r"\d{8}T\d{6}Z", stamp) is None:
        return _refusal(
            "com.amazon.coral.service#IncompleteSignatureException",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
            status=403,
        )
    now = time.time()
    signed = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    if abs(signed - now) <= CLOCK_TOLERANCE:
        return None
    here = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    if signed < now:
        edge = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now - CLOCK_TOLERANCE))
        said = f"Signature expired: {stamp} is now earlier than {edge} ({here} - 5 min.)"
    else:
        edge = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now + CLOCK_TOLERANCE))
        said = f"Signature not yet current: {stamp} is still later than {edge} ({here} + 5 min.)"
    return _refusal("com.amazon.coral.service#InvalidSignatureException", said, status=403)


async def _cut(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send *answer* as half of a longer one, and break off."""
    response = web.StreamResponse(headers={"Content-Type": answer.content_type})
    response.content_length = len(answer.body) * 2 + 1
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(answer.body)
    _reset(request)
    return response


def _reset(request: web.Request) -> None:
    """Break the connection off so that the client sees a reset, not an orderly end."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
