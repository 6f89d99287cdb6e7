"""What a handler returns, a requester gets back equal, for every type that the codec names."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sqs_orchestrator import JSONCodec, adapters, codecs
from tests.unit import libraries

CODEC = JSONCodec()

if sys.version_info >= (3, 12) or libraries.missing("typing_extensions"):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict  # pydantic needs this one


class Route(enum.StrEnum):
    PRICE = "price"
    STOCK = "5"


class Mode(str, enum.Enum):  # noqa: UP042 - as older programs have it
    FAST = "fast"


class Name(str):
    __slots__ = ()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "1"


@dataclasses.dataclass
class Item:
    name: str
    amount: int = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    reason: str | None
    code: str | int = 0


@dataclasses.dataclass(frozen=True)
class Order:
    id: UUID
    at: datetime
    total: Decimal
    colour: Colour
    items: list[Item]
    waited: timedelta
    tags: frozenset[str] = frozenset()
    by_shelf: dict[int, Item] = dataclasses.field(default_factory=dict)
    note: str | None = None
    parent: Order | None = None


class Shape(TypedDict, total=False):
    sides: int
    item: Item


class Point(NamedTuple):
    x: int
    label: str


Nick = NewType("Nick", str)
Number = NewType("Number", int)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
ZONES = st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
DATETIMES = st.datetimes(timezones=ZONES) | st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)
ITEMS = st.builds(Item, TEXT, st.integers())
NOT_FOUND = st.builds(NotFound, reason=st.none() | TEXT, code=TEXT | st.integers())
ORDERS: SearchStrategy[Order] = st.builds(
    Order,
    st.uuids(),
    DATETIMES,
    DECIMALS,
    st.sampled_from(Colour),
    st.lists(ITEMS, max_size=3),
    st.timedeltas(),
    st.frozensets(TEXT, max_size=3),
    st.dictionaries(st.integers(), ITEMS, max_size=3),
    st.none() | TEXT,
    st.deferred(lambda: st.none() | ORDERS),
)

PLAIN: list[tuple[Any, SearchStrategy[Any]]] = [
    (str, st.text()),
    (Route, st.sampled_from(Route)),
    (Mode, st.sampled_from(Mode)),
    (Name, st.text().map(Name)),
    (Nick, st.text()),
    (None, st.none()),
    (bool, st.booleans()),
    (int, st.integers() | st.integers(2**60, 2**70)),
    (Number, st.integers()),
    (float, FLOATS | st.floats(-1e-3, 1e-3)),
    (dict, OBJECTS),
    (dict[str, Any], OBJECTS),
    (list, st.lists(JSON, max_size=5)),
    (list[Any], st.lists(JSON, max_size=5)),
]
LIBRARY: list[tuple[Any, SearchStrategy[Any]]] = [
    (Literal["a", "null", "5"], st.sampled_from(["a", "null", "5"])),
    (Annotated[str, "note"], TEXT),
    (Literal[1, 2] | None, st.sampled_from([1, 2, None])),
    (UUID, st.uuids()),
    (Decimal, DECIMALS),
    (datetime, DATETIMES),
    (date, st.dates()),
    (time, st.times() | st.times(timezones=ZONES)),
    (timedelta, st.timedeltas()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (int | None, st.none() | st.integers()),
    (int | float, st.integers() | FLOATS),
    (bool | int | None, st.booleans() | st.integers(0, 1) | st.none()),
    (list[str], st.lists(TEXT)),
    (list[int | str], st.lists(st.integers() | TEXT | st.just("5"))),
    (dict[str, list[float]], st.dictionaries(TEXT, st.lists(FLOATS))),
    (dict[int, str], st.dictionaries(st.integers(), TEXT)),
    (dict[float, int], st.dictionaries(FLOATS, st.integers())),
    (dict[Route, int], st.dictionaries(st.sampled_from(Route), st.integers())),
    (set[int], st.sets(st.integers())),
    (frozenset[str], st.frozensets(TEXT)),
    (set[Decimal], st.sets(DECIMALS)),
    (frozenset[Colour], st.frozensets(st.sampled_from(Colour))),
    (tuple[int, str], st.tuples(st.integers(), TEXT)),
    (tuple[date, ...], st.lists(st.dates()).map(tuple)),
    (Point, st.builds(Point, st.integers(), TEXT)),
    (Shape, st.fixed_dictionaries({}, optional={"sides": st.integers(), "item": ITEMS})),
    (Item, ITEMS),
    (NotFound, NOT_FOUND),
    (Order, ORDERS),
    (Order | None, st.none() | ORDERS),
    (list[Order], st.lists(ORDERS, max_size=2)),
    (dict[str, Item | None], st.dictionaries(TEXT, st.none() | ITEMS)),
    (list[Item] | Item, st.lists(ITEMS) | ITEMS),
]
PYDANTIC: list[tuple[Any, SearchStrategy[Any]]] = [
    (Order | NotFound, ORDERS | NOT_FOUND),
    (NotFound | Order, ORDERS | NOT_FOUND),
    (list[Item | NotFound], st.lists(ITEMS | NOT_FOUND)),
    (Route | Mode, st.sampled_from(Route) | st.sampled_from(Mode)),
    (Literal[Route.PRICE], st.just(Route.PRICE)),
    (Mixed, st.sampled_from(Mixed)),
    (dict[bool, int], st.dictionaries(st.booleans(), st.integers())),
    (Path, st.sampled_from([Path("/a/b"), Path("c")])),
]

if not libraries.missing("pydantic"):
    import pydantic

    class Model(pydantic.BaseModel):
        """With a name of its own in JSON."""

        id: int = pydantic.Field(alias="orderId")
        order: Order | NotFound
        model: Model | None = None

    # Pydantic writes sets in no order.
    SETLESS = ORDERS.map(lambda order: dataclasses.replace(order, tags=frozenset(), parent=None))
    MODELS = st.builds(Model, orderId=st.integers(), order=SETLESS | NOT_FOUND)
    PYDANTIC += [
        (Model, MODELS),
        (Model | NotFound, MODELS | NOT_FOUND),
        (list[Model], st.lists(MODELS, max_size=2)),
        (Annotated[str, pydantic.Field(pattern="^[0-9]$")], st.sampled_from(["0", "5"])),
    ]

STRUCTS: list[tuple[Any, SearchStrategy[Any]]] = []
if not libraries.missing("msgspec"):
    import msgspec

    class Struct(msgspec.Struct, rename="camel", omit_defaults=True):
        """With other names in JSON, and a field that may be unset."""

        by_shelf: dict[int, Item]
        full_name: str = "x"
        left_out: int | msgspec.UnsetType = msgspec.UNSET

    class Found(msgspec.Struct, tag=True, frozen=True):
        order: Order

    class Missing(msgspec.Struct, tag="none", tag_field="kind", array_like=True):
        reason: str
        when: datetime | None = None

    class Tagged(msgspec.Struct, tag=7):
        reason: str
        waited: timedelta

    class Other(msgspec.Struct, tag=8):
        tags: set[int]

    BY_SHELF = st.dictionaries(st.integers(), ITEMS, max_size=3)
    SET_OR_NOT = st.integers() | st.just(msgspec.UNSET)
    TAGGED = st.builds(Tagged, TEXT, st.timedeltas()) | st.builds(Other, st.sets(st.integers()))
    STRUCTS += [
        (Struct, st.builds(Struct, BY_SHELF, TEXT | st.just("x"), SET_OR_NOT)),
        (list[Struct], st.lists(st.builds(Struct, BY_SHELF, TEXT), max_size=2)),
        (Found, st.builds(Found, ORDERS)),
        (Missing, st.builds(Missing, TEXT, st.none() | DATETIMES)),
        (Tagged | Other, TAGGED),
        (Tagged | Other | None, st.none() | TAGGED),
    ]

WITH_PYDANTIC, WITH_MSGSPEC = ["pydantic", "all"], ["msgspec", "all"]
CASES = [
    *((list(libraries.SETS), case) for case in PLAIN),
    *(([*WITH_PYDANTIC, "msgspec"], case) for case in LIBRARY),
    *((WITH_PYDANTIC, case) for case in PYDANTIC),
    *((WITH_MSGSPEC, case) for case in STRUCTS),
]


@pytest.mark.parametrize(
    ("ways", "type_", "values"),
    [pytest.param(ways, type_, values, id=str(type_)[:60]) for ways, (type_, values) in CASES],
)
def test_value_comes_back_equal_by_each_library(
    monkeypatch: pytest.MonkeyPatch, ways: list[str], type_: Any, values: SearchStrategy[Any]
) -> None:
    # To make a value takes longer than to write and read it.
    readers: dict[str, Any] = {}  # made once: it takes its time
    for names in ways:
        if not libraries.missing(*libraries.SETS[names]):
            with monkeypatch.context() as patch:
                libraries.leave(patch, *libraries.SETS[names])
                codecs.check_readable(CODEC, type_, "returns")
                readers[names] = adapters.reader(type_)
    if not readers:
        pytest.skip(f"not installed: {' or '.join(ways)}")

    @settings(suppress_health_check=list(HealthCheck))
    @given(values)
    def comes_back(value: Any) -> None:
        for names, read in readers.items():
            note(f"by {names}")
            with monkeypatch.context() as patch:
                libraries.leave(patch, *libraries.SETS[names])
                patch.setattr(codecs, "reader", {type_: read}.__getitem__)
                body, content_type = codecs.encode(CODEC, value)
                returned = CODEC.decode(body, type_, content_type)
                again = codecs.encode(CODEC, returned)[0]
            assert returned == value
            assert type(returned) is type(value)
            # 1, 1.0 and True are equal, and so are lists of them. In JSON they are not.
            assert _sorted(again) == _sorted(body)

    comes_back()


def _sorted(body: str) -> str:
    try:
        return json.dumps(json.loads(body), sort_keys=True)
    except ValueError:
        return body
