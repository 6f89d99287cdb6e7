"""The fields of SQS's answers, for both paths: what is absent, null or of a wrong type.

SQS leaves out what it has nothing to say in; other writers of JSON say null, or something
empty. All of that means the same. What cannot be so (a message without a body, a confirmation
without an id) is said in words, and costs only what it stands in: the rest of the answer counts.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..core import limits
from ..logs import get_logger
from .failures import own_code, short
from .port import NO_ATTRIBUTES, Failure, Received

__all__ = [
    "IDS",
    "Unreadable",
    "messages_of",
    "results_of",
    "text_of",
    "texts_of",
    "urls_of",
]

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


class Unreadable(Exception):
    """Why an answer is none of SQS's, although it has the form."""


# ------------------------------------------------------------------------------- batches


def results_of(
    answer: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    *,
    harm: Callable[[Mapping[str, Any], Mapping[str, Any]], str | None] | None = None,
) -> list[Any]:
    """One result per entry of a batch: `None`, or for a batch of sends the message id; or a
    `Failure`. *harm* is of a batch of sends: what of an entry SQS confirms to be another than
    was sent, if anything.

    Raises:
        Unreadable: It mentions none of them.
    """

    def confirmed(index: int, done: Mapping[str, Any]) -> str | Failure | None:
        if harm is None:
            return None
        if (part := harm(entries[index], done)) is not None:
            text = f"the message's {part} was damaged on its way: SQS confirmed another MD5"
            return Failure(DAMAGED, text, sender_fault=False, maybe_done=True)
        message_id = done.get("MessageId")
        return message_id if isinstance(message_id, str) and message_id else _NAMELESS

    count = len(entries)
    results: list[Any] = [_FORGOTTEN] * count
    odd = "it mentions no entry of the batch"
    mentioned = False
    for name, read in (("Successful", confirmed), ("Failed", _failed)):
        for entry in _items(answer, name):
            index = _INDICES.get(_id_of(entry))
            if index is None or index >= count:
                odd = f"it mentions {short(ascii(entry))}, which was not in the batch"
                continue
            results[index] = read(index, entry)
            mentioned = True
    if not mentioned:
        raise Unreadable(odd)
    return results


def _id_of(entry: Any) -> str:
    entry_id = entry.get("Id") if isinstance(entry, dict) else None
    return entry_id if isinstance(entry_id, str) else ""


def _failed(_: int, entry: Mapping[str, Any]) -> Failure:
    fault = entry.get("SenderFault")
    return Failure(
        own_code(short(str(entry.get("Code") or ""))),
        short(str(entry.get("Message") or "")),
        True if fault is None else bool(fault),
    )


# ------------------------------------------------------------------------------ messages


def messages_of(
    answer: Mapping[str, Any], harm: Callable[[Mapping[str, Any], Received], str | None]
) -> list[Received]:
    """The messages of a receive. *harm* says what of one was damaged on its way, if anything.

    One that is damaged or cannot be read is passed over with a warning: it comes back when its
    visibility timeout has run out.

    Raises:
        Unreadable: None of them can be read.
    """
    messages = []
    unreadable: str | None = None
    for message in _items(answer, "Messages"):
        try:
            received = _message(message)
        except Unreadable as error:
            unreadable = str(error)
            _pass_over(message, unreadable)
            continue
        if (part := harm(message, received)) is None:
            messages.append(received)
        else:
            _pass_over(
                message, f"was damaged on its way from SQS: the MD5 of its {part} is another"
            )
    if unreadable is not None and not messages:
        raise Unreadable(f"a message in it {unreadable}")
    return messages


def _pass_over(message: Any, why: str) -> None:
    message_id = message.get("MessageId") if isinstance(message, dict) else None
    logger.warning("message %s %s; it is left to be delivered again", short(str(message_id)), why)


def _message(message: Any) -> Received:
    if not isinstance(message, dict):
        raise Unreadable("is no JSON object")
    for name in ("MessageId", "ReceiptHandle", "Body"):
        if not isinstance(message.get(name), str):
            raise Unreadable(f"has no {name}")
    if not message["MessageId"].isprintable():
        raise Unreadable("has a MessageId that is not printable")
    return Received(
        message["MessageId"],
        message["ReceiptHandle"],
        message["Body"],
        _attributes(message.get("MessageAttributes")),
        _system(message.get("Attributes")),
    )


def _attributes(given: Any) -> Mapping[str, Any]:
    if not given:
        return NO_ATTRIBUTES
    if not isinstance(given, dict):
        raise Unreadable("has MessageAttributes that are no JSON object")
    attributes = {}
    for name, value in given.items():
        if not value:
            continue
        if not isinstance(value, dict):
            raise Unreadable(f"has an attribute {short(ascii(name))} that is no JSON object")
        for field, wanted in _ATTRIBUTE:
            if field not in value:
                continue
            content = value[field]
            if content is None:
                value = {key: each for key, each in value.items() if key != field}
            elif isinstance(content, str) and wanted is bytes:
                value = {**value, field: _decoded(name, content)}
            elif not isinstance(content, wanted):
                raise Unreadable(
                    f"has an attribute {short(ascii(name))} whose {field} is of another type"
                )
        attributes[name] = value
    return attributes


_ATTRIBUTE: Final = (("DataType", str), ("StringValue", str), ("BinaryValue", bytes))


def _decoded(name: str, content: str) -> bytes:
    try:
        return base64.b64decode(content)
    except ValueError as error:
        raise Unreadable(f"has an attribute {short(ascii(name))} that is no Base64") from error


def _system(given: Any) -> Mapping[str, str]:
    if not given:
        return _NO_SYSTEM
    if not isinstance(given, dict):
        raise Unreadable("has Attributes that are no JSON object")
    if all(type(value) is str for value in given.values()):
        return given
    # Numbers are text in SQS's answers, and not in everybody's.
    return {
        name: str(value)
        for name, value in given.items()
        if isinstance(value, (str, int)) and not isinstance(value, bool)
    }


# -------------------------------------------------------------------------------- queues


def text_of(answer: Mapping[str, Any], name: str) -> str | None:
    """A text such as a queue's URL; `None` where it is absent, null or empty.

    Raises:
        Unreadable: It is something else, or would not do in a line of a log.
    """
    value = answer.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable():
        raise Unreadable(f"its {name} is no text")
    return value


def texts_of(answer: Mapping[str, Any], name: str) -> dict[str, str]:
    """Names and texts, such as tags.

    Raises:
        Unreadable: They are something else.
    """
    given = answer.get(name) or {}
    if not isinstance(given, dict):
        raise Unreadable(f"its {name} are no JSON object")
    texts = {}
    for key, value in given.items():
        if isinstance(value, (dict, list, float)):
            raise Unreadable(f"its {name} are not all texts")
        if value is not None:
            texts[key] = value if isinstance(value, str) else str(value)
    return texts


def urls_of(answer: Mapping[str, Any], name: str) -> list[str]:
    """The URLs of queues.

    Raises:
        Unreadable: They are something else.
    """
    urls = [url for url in _items(answer, name) if url is not None]
    if not all(isinstance(url, str) and url.isprintable() for url in urls):
        raise Unreadable(f"its {name} are not all URLs")
    return urls


def _items(answer: Mapping[str, Any], name: str) -> Sequence[Any]:
    given = answer.get(name)
    if not given:
        return ()
    if not isinstance(given, (list, tuple)):
        raise Unreadable(f"its {name} are no JSON array")
    return given
