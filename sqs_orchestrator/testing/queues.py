"""One queue of the in-memory SQS: its messages, and the rules by which SQS hands them out.

Plain state: no event loop and no clock, the caller says what time it is, in seconds of any
clock that only goes forward, and how far that is from the epoch. The limits are
SQS's own, refused with its codes.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core import limits
from ..core.policies import meaning
from ..sqs.port import Attributes, Failure, Received, SendEntry

__all__ = ["Queue", "Refused", "StoredMessage"]

DEDUPLICATION_INTERVAL: Final = 300.0
"""Seconds in which a FIFO queue takes a deduplication id only once."""


class Refused(Exception):
    """SQS would refuse the whole call."""

    def __init__(self, code: str, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.transient = transient


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message in a queue."""

    sequence: int
    message_id: str
    body: str
    attributes: Attributes
    sent_at: float
    sent_timestamp: str
    visible_at: float
    group_id: str | None
    deduplication_id: str | None
    receive_count: int = 0
    received_at: float = 0.0
    receipt_handle: str = ""
    gone: bool = False
    version: int = 0

    def in_flight(self, now: float) -> bool:
        """Whether somebody has received it, and it is still hidden."""
        return self.receive_count > 0 and self.visible_at > now


class Queue:
    """A standard or FIFO queue, and what SQS allows to do with it."""

    def __init__(
        self,
        name: str,
        account: str,
        region: str,
        attributes: Mapping[str, str],
        tags: Mapping[str, str],
        now: float,
        *,
        epoch: float,
    ) -> None:
        self.name = name
        self.account = account
        self.arn = f"arn:aws:sqs:{region}:{account}:{name}"
        self.created_at = now
        self._created_timestamp = str(int(epoch + now))
        self.attributes = {**_DEFAULTS, **attributes}
        self.tags = dict(tags)
        self.history: list[StoredMessage] = []
        """All messages that ever came in, dead letters of other queues among them, in order."""
        self.duplicates = 0
        """How many of the next messages handed out stay visible, to be handed out twice."""
        self.fifo = self.attributes.get("FifoQueue") == "true"
        self._messages: dict[int, StoredMessage] = {}
        self._sequence = 0
        # Standard queues: what may be handed out, and what may be later, by when.
        self._ready: deque[StoredMessage] = deque()
        self._hidden: list[tuple[float, int, int, StoredMessage]] = []
        # FIFO queues: each group in its order, whatever is in flight.
        self._groups: dict[str, dict[int, StoredMessage]] = {}
        self._seen: dict[tuple[str, str], tuple[float, str]] = {}
        self._handles: dict[str, StoredMessage] = {}

    # ---------------------------------------------------------------- attributes

    def seconds(self, attribute: str) -> int:
        """The value of an attribute that is a number of seconds."""
        return int(self.attributes[attribute])

    @property
    def redrive(self) -> tuple[str, int] | None:
        """The ARN of the dead-letter queue, and `maxReceiveCount`."""
        policy = self.attributes.get("RedrivePolicy")
        if not policy:
            return None
        parsed = json.loads(policy)
        return parsed["deadLetterTargetArn"], int(parsed["maxReceiveCount"])

    def differing(self, attributes: Mapping[str, str]) -> list[str]:
        """Those of *attributes* that the queue has other values for."""
        return [
            name
            for name, value in attributes.items()
            if not _same(name, self.attributes.get(name), value)
        ]

    def described(self, names: list[str], now: float) -> dict[str, str]:
        """The queue's attributes as GetQueueAttributes gives them."""
        counts = {"visible": 0, "in flight": 0, "delayed": 0}
        for message in self.messages(now):
            counts[
                "visible"
                if message.visible_at <= now
                else "in flight"
                if message.receive_count
                else "delayed"
            ] += 1
        everything = {
            **self.attributes,
            "QueueArn": self.arn,
            "CreatedTimestamp": self._created_timestamp,
            "LastModifiedTimestamp": self._created_timestamp,
            "ApproximateNumberOfMessages": str(counts["visible"]),
            "ApproximateNumberOfMessagesNotVisible": str(counts["in flight"]),
            "ApproximateNumberOfMessagesDelayed": str(counts["delayed"]),
        }
        if "All" in names:
            return everything
        for name in names:
            if name not in _ATTRIBUTES and name not in everything:
                raise Refused("InvalidAttributeName", f"Unknown Attribute {name}.")
        return {name: everything[name] for name in names if name in everything}

    # ------------------------------------------------------------------ messages

    def messages(self, now: float) -> Iterator[StoredMessage]:
        """All that the queue holds, in the order of sending; what is too old is dropped."""
        oldest = now - self.seconds("MessageRetentionPeriod")
        for message in list(self._messages.values()):
            if message.sent_at <= oldest:
                self._remove(message)
            else:
                yield message

    def send(
        self, entry: SendEntry, new_id: Callable[[], str], now: float, *, epoch: float
    ) -> str | Failure:
        """Take a message; its id, or why not."""
        wrong = _wrong_with(entry, int(self.attributes["MaximumMessageSize"]), fifo=self.fifo)
        if wrong is not None:
            return wrong
        deduplication_id = entry.deduplication_id
        key: tuple[str, str] | None = None
        if self.fifo:
            if deduplication_id is None:
                if self.attributes.get("ContentBasedDeduplication") != "true":
                    return Failure(
                        "InvalidParameterValue",
                        "The queue should either have ContentBasedDeduplication enabled or "
                        "MessageDeduplicationId provided explicitly",
                    )
                deduplication_id = hashlib.sha256(entry.body.encode()).hexdigest()
            by_group = self.attributes.get("DeduplicationScope") == "messageGroup"
            key = ((entry.group_id or "") if by_group else "", deduplication_id)
            until, message_id = self._seen.get(key, (-math.inf, ""))
            if now < until:
                return message_id
        delay = self.seconds("DelaySeconds") if entry.delay is None else entry.delay
        self._sequence += 1
        message = StoredMessage(
            sequence=self._sequence,
            message_id=new_id(),
            body=entry.body,
            attributes={name: dict(value) for name, value in entry.attributes.items()},
            sent_at=now,
            sent_timestamp=str(int((epoch + now) * 1000)),
            visible_at=now + delay,
            group_id=entry.group_id,
            deduplication_id=deduplication_id,
        )
        if key is not None:
            self._seen[key] = (now + DEDUPLICATION_INTERVAL, message.message_id)
        self._insert(message, now)
        return message.message_id

    def adopt(self, message: StoredMessage, now: float) -> None:
        """Take over a message from the queue that this is the dead-letter queue of."""
        self._sequence += 1
        moved = StoredMessage(
            sequence=self._sequence,
            message_id=message.message_id,
            body=message.body,
            attributes=message.attributes,
            # A standard queue keeps the time of sending, so retention goes on from there.
            sent_at=now if self.fifo else message.sent_at,
            sent_timestamp=message.sent_timestamp,
            visible_at=now,
            group_id=message.group_id,
            deduplication_id=message.deduplication_id,
            receive_count=message.receive_count,
        )
        self._insert(moved, now)

    def take(
        self,
        count: int,
        visibility: int,
        new_handle: Callable[[], str],
        bury: Callable[[StoredMessage], bool],
        now: float,
    ) -> list[Received]:
        """Hand out up to *count* messages and hide them for *visibility* seconds.

        *bury* is asked to move a message that was received too often; it says whether there
        is a dead-letter queue to move it to.
        """
        redrive = self.redrive
        taken: list[Received] = []
        candidates = self._takeable(now) if self.fifo else self._shift(now)
        oldest = now - self.seconds("MessageRetentionPeriod")
        for message in candidates:
            if message.sent_at <= oldest:
                self._remove(message)
                continue
            if redrive is not None and message.receive_count >= redrive[1] and bury(message):
                self._remove(message)
                continue
            message.receive_count += 1
            message.received_at = now
            message.receipt_handle = new_handle()
            self._handles[message.receipt_handle] = message
            system = {
                "SentTimestamp": message.sent_timestamp,
                "ApproximateReceiveCount": str(message.receive_count),
            }
            if message.group_id is not None:
                system["MessageGroupId"] = message.group_id
            taken.append(
                Received(
                    message.message_id,
                    message.receipt_handle,
                    message.body,
                    message.attributes,
                    system,
                )
            )
            if self.duplicates and not self.fifo:
                self.duplicates -= 1
                self._hide(message, now, now)
            else:
                self._hide(message, now + visibility, now)
            if len(taken) >= count:
                break
        return taken

    def delete(self, receipt_handle: str, now: float) -> Failure | None:
        """Delete a received message. Deleting twice is fine."""
        message = self._handles.get(receipt_handle)
        if message is None:
            return _BAD_HANDLE
        if self.fifo and not message.gone and not self._holds(message, receipt_handle, now):
            return Failure(
                "InvalidParameterValue",
                f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: The "
                "receipt handle has expired.",
            )
        # Somebody else received it since: SQS takes the call, and does nothing.
        if message.receipt_handle == receipt_handle:
            self._remove(message)
        return None

    def change_visibility(self, receipt_handle: str, seconds: int, now: float) -> Failure | None:
        """Hide a message in flight for *seconds* from now."""
        if not 0 <= seconds <= limits.VISIBILITY_TIMEOUT:
            return Failure(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be "
                "between 0 and 43200.",
            )
        message = self._handles.get(receipt_handle)
        if message is None:
            return _BAD_HANDLE
        if message.gone or not self._holds(message, receipt_handle, now):
            return Failure(
                "InvalidParameterValue",
                f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: "
                "Message does not exist or is not available for visibility timeout change.",
            )
        if now + seconds - message.received_at > limits.VISIBILITY_TIMEOUT:
            return Failure(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total "
                "VisibilityTimeout for the message is beyond the limit [43200 seconds].",
            )
        self._hide(message, now + seconds, now)
        return None

    def next_change(self, now: float) -> float:
        """When the next hidden message becomes visible, if nothing else happens."""
        if self.fifo:
            times = [m.visible_at for m in self._messages.values() if m.visible_at > now]
            return min(times, default=math.inf)
        while self._hidden and self._stale(self._hidden[0]):
            heapq.heappop(self._hidden)
        return self._hidden[0][0] if self._hidden else math.inf

    # -------------------------------------------------------------------- inside

    def _insert(self, message: StoredMessage, now: float) -> None:
        self._messages[message.sequence] = message
        self.history.append(message)
        if self.fifo:
            self._groups.setdefault(message.group_id or "", {})[message.sequence] = message
        else:
            self._hide(message, message.visible_at, now)

    def _remove(self, message: StoredMessage) -> None:
        message.gone = True
        message.version += 1
        self._messages.pop(message.sequence, None)
        group = self._groups.get(message.group_id or "")
        if group is not None:
            group.pop(message.sequence, None)
            if not group:
                del self._groups[message.group_id or ""]

    def _hide(self, message: StoredMessage, until: float, now: float) -> None:
        message.visible_at = until
        message.version += 1
        if self.fifo:
            return
        if until > now:
            entry = (until, message.sequence, message.version, message)
            heapq.heappush(self._hidden, entry)
        else:
            self._ready.append(message)

    def _shift(self, now: float) -> Iterator[StoredMessage]:
        """Take out of a standard queue what may be handed out, one by one."""
        while self._hidden and (self._hidden[0][0] <= now or self._stale(self._hidden[0])):
            entry = heapq.heappop(self._hidden)
            if not self._stale(entry):
                self._ready.append(entry[3])
        # No more than there are now: a duplicate comes with the next call.
        for _ in range(len(self._ready)):
            message = self._ready.popleft()
            if not message.gone:
                yield message

    def _takeable(self, now: float) -> Iterator[StoredMessage]:
        """What of a FIFO queue may be handed out, in order: of each group its head, and what
        follows; nothing of a group while one of its messages is in flight."""
        for group in sorted(self._groups.values(), key=lambda group: next(iter(group))):
            if any(message.in_flight(now) for message in group.values()):
                continue
            for message in list(group.values()):
                if message.visible_at > now:
                    break
                yield message

    @staticmethod
    def _stale(entry: tuple[float, int, int, StoredMessage]) -> bool:
        return entry[3].version != entry[2]

    @staticmethod
    def _holds(message: StoredMessage, receipt_handle: str, now: float) -> bool:
        return message.receipt_handle == receipt_handle and message.in_flight(now)


# ------------------------------------------------------------------------ the rules

_BAD_HANDLE: Final = Failure(
    "ReceiptHandleIsInvalid", "The input receipt handle is not a valid receipt handle."
)

_DEFAULTS: Final = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": str(limits.MESSAGE_BYTES),
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}

_RANGES: Final = {
    "VisibilityTimeout": (0, int(limits.VISIBILITY_TIMEOUT)),
    "MaximumMessageSize": (1024, limits.MESSAGE_BYTES),
    "MessageRetentionPeriod": (limits.MIN_RETENTION, limits.RETENTION),
    "DelaySeconds": (0, int(limits.DELAY)),
    "ReceiveMessageWaitTimeSeconds": (0, int(limits.WAIT_TIME)),
}

_ATTRIBUTES: Final = frozenset(
    {
        *_DEFAULTS,
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoQueue",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "Policy",
        "RedriveAllowPolicy",
        "RedrivePolicy",
    }
)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.fifo)?")
_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ATTRIBUTE_TYPE: Final = re.compile(r"(String|Number|Binary)(\..+)?")
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_new(
    name: str, attributes: Mapping[str, str], queue_by_arn: Callable[[str], Queue | None]
) -> None:
    """Refuse a queue that SQS would not create."""
    if not _NAME.fullmatch(name) or len(name) > limits.QUEUE_NAME_CHARACTERS:
        raise Refused(
            "InvalidParameterValue",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        )
    fifo = attributes.get("FifoQueue") == "true"
    if name.endswith(".fifo") and not fifo:
        raise Refused(
            "InvalidParameterValue",
            "The name of a standard queue can only include alphanumeric characters, hyphens, or "
            "underscores",
        )
    if fifo and not name.endswith(".fifo"):
        raise Refused("InvalidParameterValue", "The name of a FIFO queue must end with .fifo")
    for attribute, value in attributes.items():
        if attribute not in _ATTRIBUTES:
            raise Refused("InvalidAttributeName", f"Unknown Attribute {attribute}.")
        if attribute == "FifoQueue" and not fifo:
            raise Refused("InvalidAttributeName", "Unknown Attribute FifoQueue.")
        if attribute in _RANGES:
            low, high = _RANGES[attribute]
            if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
                raise _bad_value(attribute)
    if attributes.get("RedrivePolicy"):
        _check_redrive(attributes["RedrivePolicy"], queue_by_arn, fifo=fifo)


def _check_redrive(policy: str, queue_by_arn: Callable[[str], Queue | None], *, fifo: bool) -> None:
    try:
        parsed = json.loads(policy)
        arn, count = str(parsed["deadLetterTargetArn"]), int(parsed["maxReceiveCount"])
    except (ValueError, TypeError, KeyError):
        raise _bad_value("RedrivePolicy") from None
    if not 1 <= count <= 1000:
        raise _bad_value("RedrivePolicy")
    target = queue_by_arn(arn)
    if target is None:
        raise Refused(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead letter target "
            "does not exist.",
        )
    if target.fifo is not fifo:
        raise Refused(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead-letter queue "
            "must be same type of queue as the source.",
        )


def _bad_value(attribute: str) -> Refused:
    return Refused("InvalidAttributeValue", f"Invalid value for the parameter {attribute}.")


def size_of(entry: SendEntry) -> int:
    """Bytes of a message as SQS counts them: body, and names, types and values of attributes."""
    size = len(entry.body.encode("utf-8", "surrogatepass"))
    for name, value in entry.attributes.items():
        text = value.get("StringValue")
        size += len(name.encode()) + len(str(value.get("DataType", "")).encode())
        size += len(value.get("BinaryValue") or b"") if text is None else len(text.encode())
    return size


def _wrong_with(entry: SendEntry, limit: int, *, fifo: bool) -> Failure | None:
    if not entry.body:
        return _missing("MessageBody")
    if _FORBIDDEN.search(entry.body):
        return Failure(
            "InvalidMessageContents",
            "Message body contains characters outside the allowed set.",
        )
    if entry.delay is not None and fifo:
        return _invalid(
            f"Value {entry.delay} for parameter DelaySeconds is invalid. Reason: The request "
            "include parameter that is not valid for this queue type."
        )
    if entry.delay is not None and not 0 <= entry.delay <= limits.DELAY:
        return _invalid(
            f"Value {entry.delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds "
            "must be >= 0 and <= 900."
        )
    if fifo and entry.group_id is None:
        return _missing("MessageGroupId")
    if not fifo and entry.deduplication_id is not None:
        return _invalid(
            "The request include parameter MessageDeduplicationId that is not valid for this "
            "queue type."
        )
    for identifier in (entry.group_id, entry.deduplication_id):
        if identifier is not None and not 0 < len(identifier) <= limits.GROUP_ID_CHARACTERS:
            return _invalid("An id can be 1 to 128 characters long.")
    wrong = _wrong_attribute(entry.attributes)
    if wrong is not None:
        return wrong
    if size_of(entry) > limit:
        return _invalid(
            f"One or more parameters are invalid. Reason: Message must be shorter than {limit} "
            "bytes."
        )
    return None


def _wrong_attribute(attributes: Attributes) -> Failure | None:
    if len(attributes) > limits.MESSAGE_ATTRIBUTES:
        return _invalid(
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum "
            f"[{limits.MESSAGE_ATTRIBUTES}]."
        )
    for name, value in attributes.items():
        if (
            not _ATTRIBUTE_NAME.fullmatch(name)
            or len(name) > limits.ATTRIBUTE_NAME_CHARACTERS
            or name.lower().startswith(("aws.", "amazon."))
        ):
            return _invalid(f"Message (user) attribute name {name!r} is invalid.")
        kind = str(value.get("DataType", ""))
        if not _ATTRIBUTE_TYPE.fullmatch(kind):
            return _invalid(f"The type of message (user) attribute '{name}' is invalid.")
        content: Any = value.get("BinaryValue" if kind.startswith("Binary") else "StringValue")
        if not content:
            return _invalid(f"Message (user) attribute '{name}' must contain a non-empty value.")
        if isinstance(content, str) and _FORBIDDEN.search(content):
            return Failure("InvalidMessageContents", f"Attribute '{name}' has invalid characters.")
        if kind.startswith("Number") and not _is_number(content):
            return _invalid(f"Can't cast the value of message (user) attribute '{name}'.")
    return None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _invalid(message: str) -> Failure:
    return Failure("InvalidParameterValue", message)


def _missing(parameter: str) -> Failure:
    return Failure("MissingParameter", f"The request must contain the parameter {parameter}.")


def _same(name: str, ours: str | None, theirs: str) -> bool:
    if ours is None:
        return theirs == ""
    if ours == theirs:
        return True
    return name.endswith("Policy") and bool(meaning(ours) == meaning(theirs))
