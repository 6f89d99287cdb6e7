from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import json
import math
import subprocess
import sys
import types
import typing
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqs_orchestrator import adapters, codecs
from sqs_orchestrator.codecs import CodecError, JSONCodec
from sqs_orchestrator.errors import InvalidMessage
from tests.unit import libraries

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


class Name(str):
    __slots__ = ()


OrderId = NewType("OrderId", int)
Nick = NewType("Nick", str)
ORDER = Order(
    uuid.UUID(int=5),
    datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
    Decimal("12.50"),
    Colour.RED,
    [Item("a"), Item("b", 2)],
    frozenset({"x"}),
)


@pytest.fixture(params=["pydantic", "msgspec"])
def readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads bodies by pydantic, then by msgspec."""
    libraries.leave(monkeypatch, request.param)
    name: str = request.param
    return name


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads bodies without either."""
    libraries.leave(monkeypatch)


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
        (timedelta(minutes=1), "P0DT60S"),
        (timedelta(seconds=-1.5), "-P0DT1.500000S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("/a"), "/a"),
        ({3, 1, 2}, [1, 2, 3]),
        pytest.param({2, "b", None}, ["b", 2, None], id="set of several types"),
        pytest.param(frozenset({"b", "a"}), ["a", "b"], id="frozenset"),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (OrderedDict(a=Item("x")), {"a": {"name": "x", "amount": 1}}),
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
        pytest.param(object(), "object", id="object"),
        (Item, "type"),
        ({(1, 2): 3}, "tuple"),
        pytest.param(iter([1]), "iterator", id="iterator"),
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
        (Route, "price", Route.PRICE),
        (Name, "Ann", Name("Ann")),
        (Nick, "5", "5"),
        (Literal["a", "b"], "a", "a"),
        (Annotated[str, "note"], "null", "null"),
        (Literal["1", "2"], "2", "2"),
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
        (Literal[1, 2], "1", 1),
        (Colour, '"red"', Colour.RED),
        (Level, "3", Level.HIGH),
        (OrderId, "5", 5),
        (Annotated[int, "note"], "5", 5),
        (Annotated[int, ["unhashable"]], "5", 5),
        (datetime, '"2024-02-29T00:00:00+00:00"', datetime(2024, 2, 29, tzinfo=UTC)),
        (date, '"2024-02-29"', date(2024, 2, 29)),
        (time, '"01:02:03"', time(1, 2, 3)),
        (timedelta, '"PT60S"', timedelta(minutes=1)),
        (uuid.UUID, f'"{uuid.UUID(int=1)}"', uuid.UUID(int=1)),
        (Decimal, '"1.10"', Decimal("1.10")),
        (Shape, '{"sides":3}', {"sides": 3}),
        (Item, '{"name":"a","later":true}', Item("a")),
    ],
    ids=repr,
)
def test_codec_reads_type(readers: str, type_: Any, body: str, value: Any) -> None:
    if type_ is Shape and readers == "pydantic" and sys.version_info < (3, 12):
        pytest.skip("pydantic needs that of typing_extensions")
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
        (int, '"5"'),
        (int, "5.0"),
        (int, "true"),
        (float, "true"),
        (float, "1" * 400),
        (bool, "1"),
        (None, "false"),
        (dict, "[]"),
        (dict[str, Any], "5"),
        (list, "{}"),
        (list[Any], "null"),
        (Route, "prize"),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], '"a"'),
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(json.dumps),
    st.sampled_from(
        [Any, int, float, Route, list[Item], Order, dict[int, Colour], tuple[int, str]]
    ),
)
def test_decoding_raises_nothing_but_codec_error(readers: str, body: str, type_: Any) -> None:
    with contextlib.suppress(CodecError):
        CODEC.decode(body, type_)


def test_error_says_where_and_not_what(readers: str) -> None:
    for type_, body, where in (
        (Item, '{"name":"a","amount":"secret"}', "amount"),
        (list[Colour], '["secret"]', "0"),
        (dict[str, Colour], '{"a":"it\'s\\n secret"}', "a|[.]{3}"),
    ):
        with pytest.raises(CodecError, match=where) as caught:
            CODEC.decode(body, type_)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("count", "cut"), [(5, False), (6, True)])
def test_error_tells_at_most_five_faults(
    monkeypatch: pytest.MonkeyPatch, count: int, cut: bool
) -> None:
    libraries.leave(monkeypatch, "pydantic")
    with pytest.raises(CodecError) as caught:
        CODEC.decode(json.dumps(["x"] * count), list[int])
    assert str(caught.value).count("valid integer") == 5
    assert str(caught.value).endswith("; ...") is cut


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


def test_readers_are_made_once_where_the_type_can_be_hashed() -> None:
    assert adapters.reader(dict[str, Any]) is adapters.reader(dict[str, Any])
    if len(libraries.missing("pydantic", "msgspec")) < 2:
        assert CODEC.decode('{"a":5}', Annotated[dict[str, Any], ["no hash"]]) == {"a": 5}


def test_codec_refuses_another_media_type() -> None:
    with pytest.raises(CodecError, match="application/x-protobuf"):
        CODEC.decode("5", int, "application/x-protobuf")


@pytest.mark.parametrize("type_", [object.__init__, type(sys), pytest], ids=repr)
def test_type_that_cannot_be_read_is_a_codec_error(readers: str, type_: Any) -> None:
    with pytest.raises(CodecError, match=r"cannot be read as|pass a type"):
        CODEC.decode("5", type_)


def test_plain_class_is_told_to_be_a_dataclass(readers: str) -> None:
    class Plain:
        def __init__(self, number: int) -> None:
            self.number = number

    with pytest.raises(CodecError, match=r"cannot be read as .*; make it a dataclass$"):
        CODEC.decode("{}", Plain)


def test_required_keys_of_typed_dict_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(TypedDict):
        a: int

    libraries.leave(monkeypatch, "msgspec")
    with pytest.raises(CodecError, match="a"):
        CODEC.decode("{}", Strict)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="read from Python 3.12 on")
def test_typed_dict_of_old_python_is_refused_by_pydantic_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libraries.leave(monkeypatch, "pydantic")
    with pytest.raises(ValueError, match=r"use `typing_extensions\.TypedDict`"):
        codecs.check_readable(CODEC, list[Shape], "returns")


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


READABLE = [
    list[int],
    dict[str, Item],
    Order | None,
    int | None,
    Annotated[int, "x"],
    Literal["a"],
    Colour,
    Tree,
    Unfinished,
    WithText,
    tuple[int, ...],
    Sequence[str],
    frozenset[int],
    datetime,
]
OWN = [str, Route, Name, Nick, OrderId, int, float, bool, None, type(None), Any, object]
OWN += [dict, list, dict[str, Any], list[Any]]


@pytest.mark.parametrize("type_", [*OWN, *READABLE])
def test_type_that_bodies_can_be_read_as_is_taken(readers: str, type_: Any) -> None:
    codecs.check_readable(CODEC, type_, "returns")


@pytest.mark.parametrize("type_", OWN)
def test_own_types_need_no_library(no_libraries: None, type_: Any) -> None:
    codecs.check_readable(CODEC, type_, "returns")


@pytest.mark.parametrize("type_", [each for each in READABLE if each is not Unfinished])
def test_other_types_need_a_library_and_the_error_names_both(
    no_libraries: None, type_: Any
) -> None:
    needs = (
        r"^returns: reading bodies as .* needs pydantic or msgspec: pip install"
        r" 'sqs-orchestrator\[pydantic\]' or '\[msgspec\]'$"
    )
    with pytest.raises(ValueError, match=needs):
        codecs.check_readable(CODEC, type_, "returns")
    with pytest.raises(CodecError, match="needs pydantic or msgspec"):
        CODEC.decode("{}", type_)


@pytest.mark.parametrize(
    "type_",
    [5, "dict", [int], {}, b"x", True, object(), print, ..., sys, typing.ForwardRef("Order")],
)
@pytest.mark.parametrize("library", libraries.SETS)
def test_what_is_no_type_is_refused(
    monkeypatch: pytest.MonkeyPatch, library: str, type_: Any
) -> None:
    libraries.leave(monkeypatch, *libraries.SETS[library])
    with pytest.raises(ValueError, match=r"^returns: pass a type, such as a class, not"):
        codecs.check_readable(CODEC, type_, "returns")


def test_models_that_are_not_defined_yet_are_judged_at_first_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libraries.leave(monkeypatch, "pydantic")
    pydantic = importlib.import_module("pydantic")
    module = types.ModuleType("models_defined_later")
    module.__dict__["BaseModel"] = pydantic.BaseModel
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("class Basket(BaseModel):\n    fruit: 'Fruit'\n", module.__dict__)
    basket: Any = list[module.Basket]  # type: ignore[name-defined]
    codecs.check_readable(CODEC, basket, "returns")
    exec("class Fruit(BaseModel):\n    name: str\n", module.__dict__)
    assert CODEC.decode('[{"fruit":{"name":"fig"}}]', basket)[0].fruit.name == "fig"


@pytest.mark.parametrize("type_", [Later, list[Later], Within, type(sys), complex | None])
def test_type_that_no_body_can_be_read_as_is_refused(
    monkeypatch: pytest.MonkeyPatch, readers: str, type_: Any
) -> None:
    if type_ == complex | None and readers == "pydantic":
        pytest.skip("pydantic reads it")
    with pytest.raises(ValueError, match=rf"^returns: bodies cannot be read as .*: {readers}: .+"):
        codecs.check_readable(CODEC, type_, "returns")


def test_error_names_the_library_that_may_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries.leave(monkeypatch, "msgspec")
    with pytest.raises(ValueError, match=r"more than one dataclass.* pip install .*\[pydantic\]"):
        codecs.check_readable(CODEC, Item | Order, "returns")


@pytest.mark.parametrize(
    "type_",
    [
        str | int,
        Optional[str],  # noqa: UP045
        Item | str,
        Later | Route,
        Any | str,
        Literal["a", 1],
        Literal["a"] | None,
        Nick | None,
        Annotated[Nick | int, "note"],
        Annotated[str, "note"] | list[str],
        NewType("Mixed", str | bool),
    ],
)
@pytest.mark.parametrize("library", libraries.SETS)
def test_type_with_text_and_other_values_is_refused(
    monkeypatch: pytest.MonkeyPatch, library: str, type_: Any
) -> None:
    libraries.leave(monkeypatch, *libraries.SETS[library])
    with pytest.raises(ValueError, match=r"^returns: .* a str .* others .* into an object"):
        codecs.check_readable(CODEC, type_, "returns")
    with pytest.raises(CodecError, match="into an object"):
        CODEC.decode("5", type_)


def test_text_that_pydantic_checks_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Code(str):
        __slots__ = ()

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return {"type": "str", "pattern": "^[A-Z]{3}$"}

    libraries.leave(monkeypatch, "pydantic")
    assert CODEC.decode("EUR", Code) == "EUR"
    with pytest.raises(CodecError, match="does not fit"):
        CODEC.decode("euro", Code)


def test_types_that_are_not_defined_yet_are_judged_at_first_use(readers: str) -> None:
    module = types.ModuleType("defined_later")
    module.__dict__["dataclass"] = dataclasses.dataclass
    sys.modules[module.__name__] = module
    try:
        source = "@dataclass\nclass Basket:\n    fruit: 'Fruit'\n"
        exec(source, module.__dict__)
        basket: Any = module.Basket
        codecs.check_readable(CODEC, basket, "returns")
        with pytest.raises(NameError):
            CODEC.decode('{"fruit":{"name":"fig"}}', basket)
        exec("@dataclass\nclass Fruit:\n    name: str\n", module.__dict__)
        assert CODEC.decode('{"fruit":{"name":"fig"}}', basket).fruit.name == "fig"
        codecs.check_readable(CODEC, basket, "returns")
    finally:
        del sys.modules[module.__name__]


def test_codec_of_the_users_own_knows_what_it_reads() -> None:
    codecs.check_readable(OwnCodec(), 5, "returns")


@pytest.fixture
def pydantic_1(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A model, where the pydantic that is installed is of the first version."""
    module = types.ModuleType("pydantic")
    vars(module)["VERSION"] = "1.10.27"
    monkeypatch.setitem(sys.modules, "pydantic", module)
    monkeypatch.setattr(adapters, "_cached_reader", adapters.make_reader)
    return type("Model", (), {})


def test_models_need_pydantic_2_and_are_told_so_at_once(pydantic_1: Any) -> None:
    for type_ in (pydantic_1, list[pydantic_1], pydantic_1 | None):
        with pytest.raises(ValueError, match=r"models need pydantic 2.* installed is 1\.10\.27"):
            codecs.check_readable(CODEC, type_, "the handler f")


def test_all_but_models_works_beside_pydantic_1_and_msgspec(pydantic_1: Any) -> None:
    if libraries.missing("msgspec"):
        pytest.skip("not installed: msgspec")
    for type_ in (Order, dict[str, int], Shape):
        codecs.check_readable(CODEC, type_, "returns")
    assert CODEC.decode(CODEC.encode(ORDER)[0], Order) == ORDER


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pydantic.v1 does not work there")
def test_models_of_pydantics_own_version_1_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries.leave(monkeypatch, "pydantic")
    base: Any = importlib.import_module("pydantic.v1").BaseModel
    old: Any = type("Old", (base,), {})
    for type_ in (old, list[old], old | None):
        with pytest.raises(ValueError, match="Please upgrade `Old` to V2"):
            codecs.check_readable(CODEC, type_, "returns")


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
