"""What is installed makes JSON fast, and changes nothing."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sqs_orchestrator import jsontext
from tests.unit import libraries


@pytest.fixture(autouse=True, params=libraries.SETS)
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test with some of the libraries, all, and none."""
    libraries.leave(monkeypatch, *libraries.SETS[request.param])


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Level(enum.IntEnum):
    HIGH = 3


class Route(enum.StrEnum):
    PRICE = "price"


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Number(int):
    def __repr__(self) -> str:
        return "a number"


class Real(float):
    def __repr__(self) -> str:
        return "a real"


@dataclasses.dataclass
class Item:
    name: Any


@dataclasses.dataclass
class Odd(dict[str, Any]):
    """JSON has dicts, so this is one, whatever else it is."""

    name: str


class Loud(dict[str, Any]):
    def items(self) -> Any:
        return [(key.upper(), value) for key, value in super().items()]


@dataclasses.dataclass
class Private:
    _number: int


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - as others make them


def outcome(call: Callable[[Any], Any], argument: Any) -> str:
    """What *call* makes of it, told apart by type, sign and NaN; or what it raises."""
    try:
        return repr(call(argument))
    except (TypeError, ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------------- reading


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NUMBERS = st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@shared
@given(
    VALUES.map(json.dumps)
    | VALUES.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1))
    | NUMBERS
    | st.text()
    | st.text('{}[]",:\\u0123456789abdefnrst.-+E NaInity\n\ud800', min_size=1)
)
@example("NaN")
@example("-Infinity")
@example("1e400")
@example("1" * 5000)
@example(str(2**64))
@example('"\\ud800"')
@example('"\ud800"')
@example('"\\udc00\\ud800"')
@example('"\t"')
@example("\ufeff1")
@example('{"a":1,"a":2}')
@example("-0")
@example("1 2")
@example("")
@example("[" * 100_000)
def test_loads_reads_as_the_standard_library(text: str) -> None:
    assert outcome(jsontext.loads, text) == outcome(json.loads, text)


# ---------------------------------------------------------------------- writing


def by_standard_library(value: Any) -> str:
    encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=jsontext.plain)
    return encoder.encode(value)


FOREIGN = [
    UUID(int=5),
    UUID("12345678-1234-5678-1234-567812345e78"),
    Decimal("1.10"),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=timezone(timedelta(seconds=90))),
    timedelta(microseconds=-1),
    Level.HIGH,
    Route.PRICE,
    Colour.RED,
    Text("text"),
    Number(7),
    Real(1.5),
    Pair(1, "b"),
    Odd("x"),
    Loud(a=1),
    Private(1),
    OrderedDict(b=1, a=2),
    {3, 1, 2},
    Item("é"),
    Item(math.nan),
    {1: 2, "a": 3},
    {None: 1, True: 2, 1.5: 3},
    {Route.PRICE: 1},
    {Text("key"): 1},
    {(1, 2): 3},
    b"bytes",
    object(),
    Item,
]
SENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(FOREIGN),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(Item, inner)
    ),
)


@shared
@given(SENT | st.floats() | st.floats(-1e-3, 1e-3) | st.integers() | st.text(max_size=5))
@example("\x7f")
@example("\ud800")
@example("\ufffe\x00")
@example(math.nan)
@example([None, math.inf])
@example(1e16)
@example(1e-5)
@example(1.5e-7)
@example(-5e-324)
@example(2**64)
@example(-(2**63) - 1)
@example(Item({1: [Item(1e-9)]}))
def test_dumps_writes_as_the_standard_library(value: Any) -> None:
    assert outcome(jsontext.dumps, value) == outcome(by_standard_library, value)


@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: type(value).__name__)
def test_dumps_writes_what_json_does_not_have(value: Any) -> None:
    for each in (value, [value], Item(value)):
        assert outcome(jsontext.dumps, each) == outcome(by_standard_library, each)


def test_dumps_goes_as_deep_as_the_standard_library() -> None:
    for depth in (10, 126, 127, 128, 300):
        value: Any = 1
        for _ in range(depth):
            value = {"a": [value]}
        assert jsontext.dumps(value) == by_standard_library(value)


def test_dumps_refuses_what_contains_itself() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        jsontext.dumps(circle)


def test_the_same_set_makes_the_same_text() -> None:
    assert jsontext.dumps({"b", "a", "c"}) == '["a","b","c"]'
    assert jsontext.dumps(frozenset([1, "a", None])) == '["a",1,null]'
