"""The envelope in which SNS delivers to a queue, unless the subscription has raw delivery.

Raw delivery needs nothing here: body and attributes arrive as they were published. Otherwise the
body is JSON, and has the published body and attributes inside (Amazon SNS Developer Guide,
"Parsing message formats").

A sender may write a body that looks the same. So an envelope is opened only where it names a topic
that the worker was told of.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Container, Mapping
from typing import Any, Final, NamedTuple

from ..jsontext import loads
from .attributes import AttributeValue
from .checks import shown

TOPIC_ARN: Final = "sns.TopicArn"
"""Under this name the topic is put beside the system attributes of SQS, which has none like it."""

_ARN = re.compile(r"arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]+:[A-Za-z0-9_.-]+", re.ASCII)


class Published(NamedTuple):
    """What was published to a topic."""

    topic_arn: str
    body: str
    attributes: Mapping[str, AttributeValue]


def open_envelope(body: str, topics: Container[str]) -> Published | None:
    """What is in the envelope *body*; `None` if it is none, or one of a topic not in *topics*."""
    if '"TopicArn"' not in body:
        return None
    try:
        envelope = loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict) or envelope.get("Type") != "Notification":
        return None
    topic_arn, text = envelope.get("TopicArn"), envelope.get("Message")
    if not isinstance(topic_arn, str) or topic_arn not in topics or not isinstance(text, str):
        return None
    attributes = envelope.get("MessageAttributes")
    if not isinstance(attributes, dict):
        attributes = {}
    return Published(
        topic_arn, text, {name: _attribute(value) for name, value in attributes.items()}
    )


def _attribute(value: Any) -> AttributeValue:
    """An attribute in SQS's form; without a value where that cannot be read."""
    kind, content = (value.get("Type"), value.get("Value")) if isinstance(value, dict) else (0, 0)
    if not isinstance(kind, str) or not isinstance(content, str):
        return {}
    if not kind.startswith("Binary"):
        return {"DataType": kind, "StringValue": content}
    try:
        return {"DataType": kind, "BinaryValue": base64.b64decode(content, validate=True)}
    except ValueError:
        return {}


def checked_topics(topics: object) -> frozenset[str]:
    """The topics whose envelopes are opened.

    Raises:
        ValueError: It is not a collection of the ARNs of topics.
    """
    several = isinstance(topics, Collection) and not isinstance(topics, (str, bytes))
    arns = topics if isinstance(topics, Collection) and several else (None,)
    if not all(isinstance(arn, str) and _ARN.fullmatch(arn) for arn in arns):
        raise ValueError(
            "sns_topics is a tuple of ARNs of topics, such as"
            f" ('arn:aws:sns:eu-west-1:123456789012:orders',), not {shown(topics)}"
        )
    return frozenset(arns)
