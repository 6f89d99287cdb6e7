"""What tests of the core make up."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st

from sqs_orchestrator.core import wire


def more(times: float) -> settings:
    """So many times the cases that other tests run."""
    return settings(max_examples=round(times * settings().max_examples))


def string(text: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": text}


def number(text: str) -> dict[str, str]:
    return {"DataType": "Number", "StringValue": text}


# What SQS takes in a body or an attribute.
sqs_text = st.text(
    st.one_of(
        st.sampled_from("\t\n\r #{}\"'"),
        st.characters(
            min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
        ),
    ),
    min_size=1,
)
any_text = st.text(st.characters(exclude_categories=[]))

# Every decimal that SQS takes.
decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 1),
    st.integers(0, 10**38 - 1),
    st.integers(-128, 88),
)

# What a caller may give as attributes.
plain_values = st.one_of(
    sqs_text,
    st.binary(min_size=1),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda value: value == 0 or 1e-128 <= abs(value) <= 1e126
    ),
)
attribute_names = st.from_regex(
    r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,20}){0,3}", fullmatch=True
).filter(
    lambda name: name not in wire.RESERVED and not name.lower().startswith(("aws.", "amazon."))
)
