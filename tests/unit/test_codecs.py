from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import subprocess
import sys
import types
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator import codecs
from sqs_orchestrator.codecs import CodecError, JSONCodec
from sqs_orchestrator.errors import InvalidMessage

CODEC = JSONCodec()


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Route(enum.StrEnum):
    PRICE = "price"


@dataclasses.dataclass
class Item:
    name: str
    amount: int = 1


@dataclasses.dataclass(frozen=True)
class Order:
    id: uuid.UUID
    at: datetime
    total: Decimal
    colour: Colour
    items: list[Item]
    tags: frozenset[str] = frozenset()
    note: str | None = None
    computed: int = dataclasses.field(default=0, init=False)


class Shape(TypedDict, total=False):
    sides: int
    name: str


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=False)

    id: int = pydantic.Field(alias="orderId")
    at: datetime | None = None


OrderId = NewType("OrderId", int)
ORDER = Order(
    uuid.UUID(int=5),
    datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
    Decimal("12.50"),
    Colour.RED,
    [Item("a"), Item("b", 2)],
    frozenset({"x"}),
)


@pytest.fixture(params=["pydantic", "standard library"])
def readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Reads bodies by pydantic, then without it."""
    if request.param != "pydantic":
        monkeypatch.setattr(codecs, "_pydantic", lambda: None)
    codecs._cached_reader.cache_clear()
    yield request.param
    codecs._cached_reader.cache_clear()


def encode(value: Any) -> Any:
    body, content_type = CODEC.encode(value)
    assert content_type is None
    assert body.isascii()
    return json.loads(body)


# ---------------------------------------------------------------- encoding


@given(st.text())
def test_text_travels_as_it_is(text: str) -> None:
    assert CODEC.encode(text) == (text, None)
    assert CODEC.decode(text, str) == text
    assert codecs.encode(CODEC, text) == (text, None)


def test_text_never_reaches_a_codec_of_the_users_own() -> None:
    class Shouting:
        def encode(self, value: Any) -> tuple[str, str | None]:
            return "SHOUT", "text/x-shout"

        def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
            raise NotImplementedError

    assert codecs.encode(Shouting(), "x") == ("x", None)
    assert codecs.encode(Shouting(), 5) == ("SHOUT", "text/x-shout")


def test_text_of_an_enum_travels_as_its_value() -> None:
    for body, _ in (CODEC.encode(Route.PRICE), codecs.encode(CODEC, Route.PRICE)):
        assert body == "price"
        assert type(body) is str


def test_json_is_compact_and_ascii() -> None:
    assert CODEC.encode({"a": [1, "é\u2028"]}) == ('{"a":[1,"\\u00e9\\u2028"]}', None)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        ((1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ([Route.PRICE], ["price"]),
        (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29T00:00:00+00:00"),
        (date(2024, 2, 29), "2024-02-29"),
        (time(1, 2, 3), "01:02:03"),
        (timedelta(minutes=1), 60.0),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("/a"), "/a"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (OrderedDict(a=Item("x")), {"a": {"name": "x", "amount": 1}}),
        (Model(orderId=5), {"orderId": 5, "at": None}),
        ([Model(orderId=5)], [{"orderId": 5, "at": None}]),
    ],
    ids=repr,
)
def test_codec_writes_value(value: Any, plain: Any) -> None:
    assert encode(value) == plain


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"x", "base64"),
        ({"a": [bytearray(b"x")]}, "base64"),
        (math.nan, "float"),
        ({"a": math.inf}, "dict"),
        (object(), "object"),
        (Item, "type"),
        (Model, "type|Model"),
        ({(1, 2): 3}, "tuple"),
        (iter([1]), "iterator"),
    ],
    ids=repr,
)
def test_codec_refuses_value(value: Any, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says):
        CODEC.encode(value)


def test_codec_refuses_circle_and_depth() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(InvalidMessage, match="list"):
            CODEC.encode(value)


# ---------------------------------------------------------------- decoding


@pytest.mark.parametrize("value", [ORDER, dataclasses.replace(ORDER, note="n", tags=frozenset())])
def test_dataclass_survives_its_trip(readers: str, value: Order) -> None:
    body, content_type = CODEC.encode(value)
    assert CODEC.decode(body, Order, content_type) == value
    assert CODEC.decode(f"[{body}]", list[Order]) == [value]


def test_pydantic_model_survives_its_trip_aliases_included() -> None:
    model = Model(orderId=5, at=datetime(2024, 1, 1, tzinfo=UTC))
    assert CODEC.decode(CODEC.encode(model)[0], Model) == model


@pytest.mark.parametrize(
    ("type_", "body", "value"),
    [
        (Any, '{"a":[1]}', {"a": [1]}),
        (object, "5", 5),
        (None, "null", None),
        (int, "5", 5),
        (float, "5", 5.0),
        (bool, "true", True),
        (str, '"quoted"', '"quoted"'),
        (dict, '{"a":1}', {"a": 1}),
        (list, "[1]", [1]),
        (list[int], "[1,2]", [1, 2]),
        (tuple[int, str], '[1,"a"]', (1, "a")),
        (tuple[int, ...], "[1,2]", (1, 2)),
        (set[int], "[1,1]", {1}),
        (frozenset[str], '["a"]', frozenset({"a"})),
        (Sequence[int], "[1]", [1]),
        (Mapping[str, int], '{"a":1}', {"a": 1}),
        (dict[str, list[float]], '{"a":[1.5]}', {"a": [1.5]}),
        (dict[int, str], '{"1":"a"}', {1: "a"}),
        (Optional[int], "null", None),  # noqa: UP045 - the older spelling, too
        (int | None, "5", 5),
        (int | list[int], "[5]", [5]),
        (int | float, "1.5", 1.5),
        (float | int, "1", 1),
        (Literal["a", 1], "1", 1),
        (Colour, '"red"', Colour.RED),
        (Level, "3", Level.HIGH),
        (OrderId, "5", 5),
        (Annotated[int, "note"], "5", 5),
        (Annotated[int, ["unhashable"]], "5", 5),
        (datetime, '"2024-02-29T00:00:00+00:00"', datetime(2024, 2, 29, tzinfo=UTC)),
        (date, '"2024-02-29"', date(2024, 2, 29)),
        (time, '"01:02:03"', time(1, 2, 3)),
        (timedelta, "60.0", timedelta(minutes=1)),
        (uuid.UUID, f'"{uuid.UUID(int=1)}"', uuid.UUID(int=1)),
        (Decimal, '"1.10"', Decimal("1.10")),
        (Shape, '{"sides":3}', {"sides": 3}),
        (Item, '{"name":"a","later":true}', Item("a")),
    ],
    ids=repr,
)
def test_codec_reads_type(readers: str, type_: Any, body: str, value: Any) -> None:
    read = CODEC.decode(body, type_)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        (Any, "{"),
        (Any, ""),
        (int, "five"),
        (int, '"five"'),
        (int, "1.5"),
        (int, "null"),
        (int, "1" * 5000),
        (bool, "5"),
        (list[int], '["a"]'),
        (list[int], "5"),
        (list[int], '{"a":1}'),
        (dict[str, int], '{"a":"b"}'),
        (dict[str, int], "[]"),
        (dict[int, int], '{"a":1}'),
        (tuple[int, str], "[1]"),
        (tuple[int, str], '["a","a"]'),
        (set[int], '["a"]'),
        (int | None, '"a"'),
        (None, "5"),
        (Literal["a"], '"b"'),
        (Colour, '"blue"'),
        (datetime, '"soon"'),
        (uuid.UUID, '"x"'),
        (Decimal, '"x"'),
        (Shape, '{"sides":"a"}'),
        (Item, "{}"),
        (Item, "[]"),
        (Item, '{"name":5}'),
        (Order, '{"items":[{"name":5}]}'),
        (list[Any], "[" * 100_000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_codec_refuses_body_of_another_type(readers: str, type_: Any, body: str) -> None:
    with pytest.raises(CodecError) as caught:
        CODEC.decode(body, type_)
    assert len(str(caught.value)) < 600


@given(st.text(), st.sampled_from([Any, int, list[Item], Order, Shape, Model, str | None]))
def test_decoding_raises_nothing_but_codec_error(body: str, type_: Any) -> None:
    with contextlib.suppress(CodecError):
        CODEC.decode(body, type_)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([int, list[Item], Order, Shape, dict[int, Colour], tuple[int, str]]),
)
def test_standard_library_reader_raises_nothing_but_codec_error(value: Any, type_: Any) -> None:
    with contextlib.suppress(CodecError):
        codecs._as(type_, value, "$")


def test_error_says_where_and_not_what(readers: str) -> None:
    body = '{"name":"a","amount":"secret"}'
    with pytest.raises(CodecError, match=r"amount") as caught:
        CODEC.decode(body, Item)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("count", "cut"), [(5, False), (6, True)])
def test_error_tells_at_most_five_faults(count: int, cut: bool) -> None:
    with pytest.raises(CodecError) as caught:
        CODEC.decode(json.dumps(["x"] * count), list[int])
    assert str(caught.value).count("valid integer") == 5
    assert str(caught.value).endswith("; ...") is cut


@pytest.mark.parametrize(
    ("body", "value"),
    [("null", None), ("5", 5), ("five", "five"), ("", ""), ('"a"', '"a"'), ("[1]", "[1]")],
)
def test_union_with_text_takes_what_is_nothing_else_as_text(
    readers: str, body: str, value: Any
) -> None:
    assert CODEC.decode(body, int | str | None) == value
    assert CODEC.decode("5", Optional[str]) == "5"  # noqa: UP045


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "Application/X+JSON",
        "text/plain",
    ],
)
def test_codec_reads_json_by_any_name(content_type: str | None) -> None:
    assert CODEC.decode("5", int, content_type) == 5


def test_codec_refuses_another_media_type() -> None:
    with pytest.raises(CodecError, match="application/x-protobuf"):
        CODEC.decode("5", int, "application/x-protobuf")


@pytest.mark.parametrize("type_", [object.__init__, type(sys), pytest], ids=repr)
def test_type_that_cannot_be_read_is_a_codec_error(readers: str, type_: Any) -> None:
    with pytest.raises(CodecError, match="cannot be read"):
        CODEC.decode("5", type_)


def test_required_keys_of_typed_dict_must_be_there(readers: str) -> None:
    class Strict(TypedDict):
        a: int

    with pytest.raises(CodecError, match="a"):
        CODEC.decode("{}", Strict)


def test_codec_does_without_pydantic_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    codecs._cached_reader.cache_clear()
    assert CODEC.decode("[5]", list[int]) == [5]
    codecs._cached_reader.cache_clear()


# ------------------------------------------------------------ types that can be read


class Later:
    """No body can be read as this."""


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree]


@dataclasses.dataclass
class Unfinished:
    other: NotThereYet  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class Within:
    items: dict[str, list[Later | None]]


@dataclasses.dataclass
class WithText:
    text: str


class OwnCodec:
    def encode(self, value: Any) -> tuple[str, str | None]:
        return str(value), None

    def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
        return type


@pytest.mark.parametrize(
    "type_",
    [
        str,
        int,
        None,
        Any,
        object,
        list[int],
        dict[str, Item],
        Item | str,
        str | int,
        Order | None,
        OrderId,
        Annotated[int, "x"],
        Literal["a"],
        Colour,
        Shape,
        Tree,
        Unfinished,
        WithText,
        tuple[int, ...],
        Sequence[str],
        frozenset[int],
        datetime,
    ],
)
def test_type_that_bodies_can_be_read_as_is_taken(readers: str, type_: Any) -> None:
    codecs._cached_fault.cache_clear()
    codecs.check_readable(CODEC, type_, "returns")


@pytest.mark.parametrize(
    "type_",
    [
        5,
        "dict",
        [int],
        {},
        b"x",
        True,
        object(),
        Later,
        list[Later],
        Later | str,
        Within,
        print,
        ...,
    ],
)
def test_type_that_no_body_can_be_read_as_is_refused(readers: str, type_: Any) -> None:
    codecs._cached_fault.cache_clear()
    with pytest.raises(ValueError, match=r"^returns: (bodies cannot be read as|pass a type)"):
        codecs.check_readable(CODEC, type_, "returns")


def test_codec_of_the_users_own_knows_what_it_reads() -> None:
    codecs.check_readable(OwnCodec(), 5, "returns")


@pytest.fixture
def pydantic_1(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Any]]:
    """A model, where the pydantic that is installed is of the first version."""
    module = types.ModuleType("pydantic")
    vars(module)["VERSION"] = "1.10.27"
    caches = (codecs._cached_reader, codecs._cached_fault)
    monkeypatch.setitem(sys.modules, "pydantic", module)
    for cache in caches:
        cache.cache_clear()
    base = type("BaseModel", (), {"__module__": "pydantic.main"})
    yield type("Model", (base,), {"__module__": __name__})
    for cache in caches:
        cache.cache_clear()


def test_models_need_pydantic_2_and_are_told_so_at_once(pydantic_1: Any) -> None:
    for type_ in (pydantic_1, list[pydantic_1], pydantic_1 | None):
        with pytest.raises(ValueError, match=r"models need pydantic 2.* installed is 1\.10\.27"):
            codecs.check_readable(CODEC, type_, "the handler f")
    with pytest.raises(InvalidMessage, match="models need pydantic 2"):
        CODEC.encode(pydantic_1())


def test_all_but_models_works_beside_pydantic_1(pydantic_1: Any) -> None:
    for type_ in (Order, dict[str, int], Shape, int | str):
        codecs.check_readable(CODEC, type_, "returns")
    assert CODEC.decode('{"name": "a"}', Item) == Item("a")
    assert CODEC.decode(CODEC.encode(ORDER)[0], Order) == ORDER


def test_models_of_pydantics_own_version_1_are_told_so() -> None:
    # Not a real one: newer Pythons warn of its import.
    base: Any = type("BaseModel", (), {"__module__": "pydantic.v1.main"})
    with pytest.raises(ValueError, match="models need pydantic 2, this one is of pydantic 1"):
        codecs.check_readable(CODEC, type("Old", (base,), {}), "returns")


def test_codec_says_what_it_is() -> None:
    assert repr(CODEC) == "JSONCodec()"


def test_importing_the_codec_does_not_import_pydantic() -> None:
    program = (
        "import sys; from sqs_orchestrator import codecs; codecs.JSONCodec().encode({'a': 1});"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
