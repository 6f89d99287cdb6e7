"""The envelope of SNS: what is opened, and what is left as it is."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.sns import checked_topics, open_envelope

TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"

# As SNS delivers it to a queue, with its own ids and signature.
RECORDED = {
    "Type": "Notification",
    "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
    "TopicArn": TOPIC,
    "Subject": "TestSubject",
    "Message": '{"id": 1}',
    "Timestamp": "2021-02-16T21:41:19.978Z",
    "SignatureVersion": "1",
    "Signature": "FMG5tlZhJNHLHUXvZgtZzlk24FzVa7oX0T4P03neeXw8ZEXZx6z35j2FOTuNYShn2h0bKNC",
    "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-010a.pem",
    "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    "MessageAttributes": {
        "tenant": {"Type": "String", "Value": "a"},
        "count": {"Type": "Number", "Value": "3"},
        "names": {"Type": "String.Array", "Value": '["x"]'},
        "raw": {"Type": "Binary", "Value": base64.b64encode(b"\x00\xff").decode()},
    },
}


def envelope(**changes: Any) -> str:
    return json.dumps({**RECORDED, **changes})


def test_what_was_published_comes_out() -> None:
    published = open_envelope(envelope(), {TOPIC})
    assert published is not None
    assert published.topic_arn == TOPIC
    assert published.body == '{"id": 1}'
    assert published.attributes == {
        "tenant": {"DataType": "String", "StringValue": "a"},
        "count": {"DataType": "Number", "StringValue": "3"},
        "names": {"DataType": "String.Array", "StringValue": '["x"]'},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }


def test_message_without_attributes_has_none() -> None:
    bare = {key: value for key, value in RECORDED.items() if key != "MessageAttributes"}
    published = open_envelope(json.dumps(bare), {TOPIC})
    assert published is not None
    assert published.attributes == {}


@pytest.mark.parametrize(
    "body",
    [
        envelope(TopicArn=f"{TOPIC}-other"),
        envelope(TopicArn=[TOPIC]),
        envelope(Type="SubscriptionConfirmation"),
        envelope(Message={"id": 1}),
        envelope()[:-1],
        f"[{envelope()}]",
        '"TopicArn"',
        "[" * 100_000 + '"TopicArn"',
        '{"id": 1}',
        "",
    ],
)
def test_what_is_no_envelope_of_the_topic_stays_closed(body: str) -> None:
    assert open_envelope(body, {TOPIC}) is None


@pytest.mark.parametrize(
    "attribute",
    [
        5,
        {"Value": "x"},
        {"Type": 5, "Value": "x"},
        {"Type": "Binary", "Value": "***"},
        {"Type": "Binary", "Value": "\u00e9"},
        {"Type": "Binary", "Value": None},
        {"Type": "String", "Value": 5},
    ],
)
def test_attribute_that_cannot_be_read_has_no_value(attribute: Any) -> None:
    published = open_envelope(envelope(MessageAttributes={"x": attribute}), {TOPIC})
    assert published is not None
    assert published.attributes == {"x": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(RECORDED)), JSON))
def test_no_envelope_raises(changes: dict[str, Any]) -> None:
    open_envelope(envelope(**changes), {TOPIC})


@pytest.mark.parametrize(
    "topics", [TOPIC, None, 5, ("orders",), (5,), (TOPIC.replace("sns", "sqs"),), (f"{TOPIC} ",)]
)
def test_what_are_no_arns_of_topics_is_refused(topics: Any) -> None:
    with pytest.raises(ValueError, match="sns_topics is a tuple of ARNs"):
        checked_topics(topics)


def test_topics_may_be_any_collection() -> None:
    fifo = f"{TOPIC}.fifo"
    assert checked_topics([TOPIC, fifo]) == {TOPIC, fifo}
    assert checked_topics(()) == set()
