"""Annotations that newer Pythons evaluate when they are asked for mean what they mean as text."""

from __future__ import annotations

import sys
import textwrap
import types
from typing import Any

import pytest

from sqs_orchestrator.codecs import JSONCodec
from sqs_orchestrator.message import Message
from sqs_orchestrator.worker.handlers import Handlers

lazily = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14 annotations are evaluated at once"
)

PREAMBLE = """
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import sqs_orchestrator

if TYPE_CHECKING:
    from nowhere import Message as Message
    import nowhere
    from nowhere import Unknown

@dataclass
class Order:
    id: int
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a module's source, and gives what it calls `handle`."""

    def run(source: str) -> Any:
        module = types.ModuleType("a_module")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, "a module", "exec", dont_inherit=True), vars(module))
        return vars(module)["handle"]

    return run


@pytest.fixture(params=["as text", pytest.param("lazily", marks=lazily)])
def defined(request: pytest.FixtureRequest, run: Any) -> Any:
    """Runs a definition of `handle`, with annotations of either kind."""
    future = "from __future__ import annotations\n" if request.param == "as text" else ""
    return lambda source: run(future + PREAMBLE + textwrap.dedent(source))


MESSAGE = Message('{"id":1}')


@pytest.mark.parametrize(
    "signature",
    [
        "(m: Message)",
        "(m: nowhere.Message)",
        "(m: sqs_orchestrator.Message) -> Unknown",
        "(m: sqs_orchestrator.Message) -> list[Unknown]",
        "(m: Annotated[sqs_orchestrator.Message, 'note']) -> Unknown",
        "(m) -> Unknown",
        "(*m: Unknown)",
        "(m: Message, other: Unknown = None)",
    ],
)
async def test_message_is_passed(defined: Any, signature: str) -> None:
    function = defined(f"async def handle{signature}: return m if type(m) is not tuple else m[0]")
    assert await Handlers().register(function).call(MESSAGE, JSONCodec()) is MESSAGE


@pytest.mark.parametrize(
    "signature",
    [
        "(m: Order) -> Unknown",
        "(m: Order, message: Message)",
        "(m: Order, other: Unknown = None)",
        "(m: Order, other: list[Unknown] = None, *, message: Message)",
        "(m: Order | None) -> Unknown",
    ],
)
async def test_body_is_decoded_and_passed(defined: Any, signature: str) -> None:
    function = defined(f"async def handle{signature}: return m.id, locals().get('message')")
    number, message = await Handlers().register(function).call(MESSAGE, JSONCodec())
    assert number == 1
    assert message is (MESSAGE if "message" in signature else None)


@pytest.mark.parametrize(
    "signature",
    [
        "(m: Unknown)",
        "(m: nowhere.Unknown)",
        "(m: list[Unknown])",
        "(m: dict[str, list[Unknown]])",
        "(m: Unknown | None)",
        "(m: list[Message])",
        "(m: Order, message: Unknown)",
    ],
)
def test_type_of_the_body_that_does_not_exist_is_refused_with_advice(
    defined: Any, signature: str
) -> None:
    function = defined(f"async def handle{signature}: ...")
    with pytest.raises(ValueError, match=r"cannot be resolved .*TYPE_CHECKING"):
        Handlers().register(function)


@lazily
async def test_type_inside_a_function_is_known_beside_one_that_does_not_exist(run: Any) -> None:
    source = """
    def make():
        @dataclass
        class Local:
            id: int
        async def handle(m: Local) -> Unknown: return m.id
        return handle
    handle = make()
    """
    function = run(PREAMBLE + textwrap.dedent(source))
    assert await Handlers().register(function).call(MESSAGE, JSONCodec()) == 1


@lazily
@pytest.mark.parametrize("annotation", ["'Order' | None", "1 / 0"])
def test_annotation_that_fails_is_an_error_of_the_registration(run: Any, annotation: str) -> None:
    function = run(f"async def handle(m: {annotation}): ...")
    with pytest.raises(ValueError, match="annotations of the handler handle cannot be evaluated"):
        Handlers().register(function)


async def test_method_of_a_class_is_a_handler_all_the_same(defined: Any) -> None:
    source = """
    class Shop:
        async def method(self, m: Order, message: Message) -> Unknown: return m.id
        async def __call__(self, m: Order) -> Unknown: return m.id
    handle = Shop()
    """
    shop = defined(source)
    for function in (shop, shop.method):
        assert await Handlers().register(function).call(MESSAGE, JSONCodec()) == 1
