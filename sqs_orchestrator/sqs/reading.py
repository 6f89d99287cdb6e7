"""The fields of SQS's answers, whatever brought them: what is absent, null or of a wrong type.

SQS leaves out what it has nothing to say in; other writers of JSON say null, or something
empty. All of that means the same. What cannot be so (a message without a body, a confirmation
without an id) is said in words, and costs only what it stands in: the rest of the answer counts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..core import limits
from ..logs import about, get_logger
from .checksums import damage
from .failures import own_code, short, unreadable
from .port import NO_ATTRIBUTES, Failure, Page, Received

__all__ = ["IDS", "messages_of", "page_of", "results_of", "texts_of", "url_of"]

logger = get_logger(__name__)

IDS: Final = tuple(str(index) for index in range(limits.BATCH_ENTRIES))
"""The ids of the entries of a batch."""

_INDICES: Final = {entry_id: index for index, entry_id in enumerate(IDS)}

DAMAGED: Final = "ChecksumMismatch"
"""The code of an entry that SQS took, but not as it was sent."""

_FORGOTTEN: Final = Failure(
    "MissingResult",
    "SQS's answer does not mention this entry",
    sender_fault=False,
    maybe_done=True,
)
_NAMELESS: Final = Failure(
    "MissingResult",
    "SQS's answer confirms this entry, but gives no message id",
    sender_fault=False,
    maybe_done=True,
)
_NO_SYSTEM: Final[Mapping[str, str]] = {}


# ------------------------------------------------------------------------------- batches


def results_of(
    operation: str,
    queue_url: str,
    answer: Mapping[str, Any],
    batch: Sequence[Mapping[str, Any]],
) -> list[Any]:
    """One result per entry of a batch: `None`, or for a batch of sends the message id; or a
    `Failure`.

    Raises:
        QueueError: It mentions none of them.
    """
    count = len(batch)
    results: list[Any] = [_FORGOTTEN] * count
    odd = "it mentions no entry of the batch"
    mentioned = False
    for name in ("Successful", "Failed"):
        entries = answer.get(name) or ()
        if not isinstance(entries, (list, tuple)):
            raise unreadable(operation, queue_url, f"its {name} are no JSON array")
        for entry in entries:
            entry_id = entry.get("Id") if isinstance(entry, dict) else None
            index = _INDICES.get(entry_id, count) if isinstance(entry_id, str) else count
            if index >= count:
                odd = f"it mentions {short(ascii(entry))}, which was not in the batch"
                continue
            mentioned = True
            if name == "Failed":
                results[index] = _failure(entry)
            elif operation != "SendMessageBatch":
                results[index] = None
            else:
                sent, message_id = batch[index], entry.get("MessageId")
                harmed = damage(
                    sent["MessageBody"],
                    sent.get("MessageAttributes", NO_ATTRIBUTES),
                    entry.get("MD5OfMessageBody"),
                    entry.get("MD5OfMessageAttributes"),
                )
                if harmed is not None:
                    results[index] = _damaged(harmed)
                elif message_id and isinstance(message_id, str):
                    results[index] = message_id
                else:
                    results[index] = _NAMELESS
    if not mentioned:
        raise unreadable(operation, queue_url, odd)
    return results


def _failure(entry: Mapping[str, Any]) -> Failure:
    fault = entry.get("SenderFault")
    return Failure(
        own_code(short(str(entry.get("Code") or ""))),
        short(str(entry.get("Message") or "")),
        True if fault is None else bool(fault),
    )


def _damaged(part: str) -> Failure:
    text = f"the message's {part} was damaged on its way: SQS confirmed another MD5"
    return Failure(DAMAGED, text, sender_fault=False, maybe_done=True)


# ------------------------------------------------------------------------------ messages


def messages_of(queue_url: str, answer: Mapping[str, Any]) -> list[Received]:
    """The messages of a receive.

    One that is damaged or cannot be read is passed over with a warning: it comes back when its
    visibility timeout has run out.

    Raises:
        QueueError: None of them can be read.
    """
    messages: list[Received] = []
    given = answer.get("Messages") or ()
    if not isinstance(given, (list, tuple)):
        raise unreadable("ReceiveMessage", queue_url, "its Messages are no JSON array")
    odd: str | None = None
    for message in given:
        try:
            received = _message(message)
        except _Unreadable as error:
            odd = str(error)
            _pass_over(queue_url, message, odd)
            continue
        harmed = damage(
            received.body,
            received.attributes,
            message.get("MD5OfBody"),
            message.get("MD5OfMessageAttributes") if received.attributes else None,
        )
        if harmed is None:
            messages.append(received)
        else:
            why = f"was damaged on its way from SQS: the MD5 of its {harmed} is another"
            _pass_over(queue_url, message, why)
    if odd is not None and not messages:
        raise unreadable("ReceiveMessage", queue_url, f"a message in it {odd}")
    return messages


def _pass_over(queue_url: str, message: Any, why: str) -> None:
    message_id = message.get("MessageId") if isinstance(message, dict) else None
    logger.warning(
        "message %s %s; it is left to be delivered again",
        short(str(message_id)),
        why,
        extra=about(queue_url, str(message_id)),
    )


class _Unreadable(Exception):
    """Why a message cannot be read."""


def _message(message: Any) -> Received:
    if not isinstance(message, dict):
        raise _Unreadable("is no JSON object")
    for name in ("MessageId", "ReceiptHandle", "Body"):
        if not isinstance(message.get(name), str):
            raise _Unreadable(f"has no {name}")
    if not message["MessageId"].isprintable():
        raise _Unreadable("has a MessageId that is not printable")
    system = message.get("Attributes") or _NO_SYSTEM
    if not isinstance(system, dict):
        raise _Unreadable("has Attributes that are no JSON object")
    if not {str}.issuperset(map(type, system.values())):
        # Numbers are text in SQS's answers, and not in everybody's.
        system = {
            name: str(value)
            for name, value in system.items()
            if isinstance(value, (str, int)) and not isinstance(value, bool)
        }
    return Received(
        message["MessageId"],
        message["ReceiptHandle"],
        message["Body"],
        _attributes(message.get("MessageAttributes") or NO_ATTRIBUTES),
        system,
    )


def _attributes(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise _Unreadable("has MessageAttributes that are no JSON object")
    attributes = {}
    for name, value in given.items():
        if not value:
            continue
        if not isinstance(value, dict):
            raise _Unreadable(f"has an attribute {short(ascii(name))} that is no JSON object")
        for field, wanted in _ATTRIBUTE:
            if field not in value:
                continue
            content = value[field]
            if content is None:
                value = {key: each for key, each in value.items() if key != field}
            elif isinstance(content, str) and wanted is bytes:
                value = {**value, field: _decoded(name, content)}
            elif not isinstance(content, wanted):
                raise _Unreadable(
                    f"has an attribute {short(ascii(name))} whose {field} is of another type"
                )
        attributes[name] = value
    return attributes


_ATTRIBUTE: Final = (("DataType", str), ("StringValue", str), ("BinaryValue", bytes))


def _decoded(name: str, content: str) -> bytes:
    try:
        return base64.b64decode(content)
    except ValueError as error:
        raise _Unreadable(f"has an attribute {short(ascii(name))} that is no Base64") from error


# -------------------------------------------------------------------------------- queues


def field_of(operation: str, queue: str | None, answer: Mapping[str, Any], name: str) -> str:
    """A text such as a queue's URL; empty where it is absent or null.

    Raises:
        QueueError: It is something else, or would not do in a line of a log.
    """
    value = answer.get(name) or ""
    if not isinstance(value, str) or not value.isprintable():
        raise unreadable(operation, queue, f"its {name} is no text")
    return value


def url_of(operation: str, name: str, answer: Mapping[str, Any]) -> str:
    """The URL of the queue that was asked for by *name*.

    Raises:
        QueueError: There is none.
    """
    url = field_of(operation, name, answer, "QueueUrl")
    if not url:
        raise unreadable(operation, name, "it has no queue URL")
    return url


def texts_of(
    operation: str, queue_url: str, answer: Mapping[str, Any], name: str
) -> dict[str, str]:
    """Names and texts, such as tags.

    Raises:
        QueueError: They are something else.
    """
    given = answer.get(name) or {}
    if not isinstance(given, dict):
        raise unreadable(operation, queue_url, f"its {name} are no JSON object")
    texts = {}
    for key, value in given.items():
        if isinstance(value, (dict, list, float)):
            raise unreadable(operation, queue_url, f"its {name} are not all texts")
        if value is not None:
            texts[key] = value if isinstance(value, str) else str(value)
    return texts


def page_of(answer: Mapping[str, Any]) -> Page:
    """A page of a listing of queues.

    Raises:
        QueueError: It is something else.
    """
    given = answer.get("QueueUrls") or ()
    if not isinstance(given, (list, tuple)):
        raise unreadable("ListQueues", None, "its QueueUrls are no JSON array")
    urls = [url for url in given if url is not None]
    if not all(isinstance(url, str) and url.isprintable() for url in urls):
        raise unreadable("ListQueues", None, "its QueueUrls are not all URLs")
    return Page(urls, field_of("ListQueues", None, answer, "NextToken"))
