from __future__ import annotations

import functools
import math
import pickle
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import AsyncMock

import pytest

import sqs_orchestrator.message
from sqs_orchestrator.codecs import CodecError, JSONCodec
from sqs_orchestrator.message import Message
from sqs_orchestrator.results import NO_REPLY, Reject, Retry
from sqs_orchestrator.worker.handlers import Handlers

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

    from sqs_orchestrator.message import Message as OnlyForTypeCheckers

CODEC = JSONCodec()
MESSAGE = Message('{"id":1}', message_type="price")


@dataclass
class Order:
    id: int


ORDER = Order(1)


async def called(function: Callable[..., Any], message: Message = MESSAGE) -> Any:
    return await Handlers().register(function).call(message, CODEC)


# ------------------------------------------------------ what a handler gets


async def bare(message):  # type: ignore[no-untyped-def]
    return message


async def annotated(message: Message) -> Message:
    return message


async def by_any_name(m: sqs_orchestrator.message.Message) -> Message:
    return m


async def with_annotated_message(m: Annotated[Message, "note"]) -> Message:
    return m


async def with_unresolvable_result(message: Message) -> Unknown:
    return message


async def with_default(message: Message, cache: Unknown = 5) -> Message:
    return message


async def positional_only(message: Message, /) -> Message:
    return message


async def any_arguments(*args: Any, **kwargs: Any) -> Any:
    assert not kwargs
    return args[0]


@pytest.mark.parametrize(
    "function",
    [
        bare,
        annotated,
        by_any_name,
        with_annotated_message,
        with_unresolvable_result,
        with_default,
        positional_only,
    ],
    ids=lambda function: function.__name__,
)
async def test_handler_of_one_message_gets_it(function: Any) -> None:
    assert await called(function) is MESSAGE


async def test_wrapper_of_any_arguments_gets_the_message() -> None:
    assert await called(any_arguments) is MESSAGE


async def decoded(order: Order) -> Any:
    return order


async def decoded_and_message(order: Order, message: Message) -> Any:
    return order, message


async def decoded_and_message_by_another_name(order: Order, m: Message) -> Any:
    return order, m


async def decoded_and_keyword(order: Order, *, m: Message) -> Any:
    return order, m


async def decoded_and_bare_message(order: Order, message) -> Any:  # type: ignore[no-untyped-def]
    return order, message


async def decoded_and_annotated_message(order: Order, m: Annotated[Message, "note"]) -> Any:
    return order, m


async def decoded_and_late_message(order: Order, retries: int = 3, m: Message = MESSAGE) -> Any:
    assert retries == 3
    return order, m


async def decoded_with_default(order: Order, cache: Unknown = 5) -> Any:
    assert cache == 5
    return order


@pytest.mark.parametrize("function", [decoded, decoded_with_default])
async def test_handler_of_another_type_gets_the_decoded_body(function: Any) -> None:
    assert await called(function) == ORDER


@pytest.mark.parametrize(
    "function",
    [
        decoded_and_message,
        decoded_and_message_by_another_name,
        decoded_and_keyword,
        decoded_and_bare_message,
        decoded_and_annotated_message,
        decoded_and_late_message,
    ],
    ids=lambda function: function.__name__,
)
async def test_handler_of_another_type_gets_the_message_beside_it(function: Any) -> None:
    message = Message('{"id":1}')
    order, given = await called(function, message)
    assert order == ORDER
    assert given is message


async def test_handler_of_text_gets_the_body_as_it_is() -> None:
    async def handle(body: str) -> str:
        return body

    assert await called(handle) == '{"id":1}'


async def test_handler_of_anything_gets_the_json() -> None:
    async def handle(body: Any) -> Any:
        return body

    assert await called(handle) == {"id": 1}


async def test_handler_with_real_annotations_gets_the_decoded_body() -> None:
    @dataclass
    class Local:
        id: int

    async def handle(body: Any) -> Any:
        return body

    handle.__annotations__["body"] = Local
    assert await called(handle) == Local(1)


async def test_annotation_from_an_enclosing_function_is_known_where_it_is_used() -> None:
    @dataclass
    class Local:
        id: int

    async def handle(body: Local) -> bool:
        return isinstance(body, Local)

    assert await called(handle) is True


# ------------------------------------------------------- what may be a handler


class Service:
    async def method(self, order: Order, message: Message) -> Any:
        return order, message

    @classmethod
    async def of_class(cls, order: Order) -> Any:
        return order

    @staticmethod
    async def static(order: Order) -> Any:
        return order

    async def __call__(self, order: Order) -> Any:
        return order


async def with_setting(setting: str, order: Order, message: Message) -> Any:
    return setting, order, message


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "function",
    [
        Service(),
        Service.of_class,
        Service.static,
        wrapped(decoded),
        functools.partial(decoded),
        functools.partial(functools.partial(Service())),
        wrapped(Service().__call__),
    ],
    ids=range(7),
)
async def test_handler_may_be_anything_that_is_called_as_a_coroutine_function(
    function: Any,
) -> None:
    assert await called(function) == ORDER


async def test_handler_may_be_a_bound_method() -> None:
    assert await called(Service().method) == (ORDER, MESSAGE)


async def test_handler_may_be_a_partial_that_leaves_the_message_open() -> None:
    partial = functools.partial(with_setting, "setting")
    assert await called(partial) == ("setting", ORDER, MESSAGE)


async def test_handler_may_be_a_mock() -> None:
    mock = AsyncMock(return_value=5)
    assert await called(mock) == 5
    mock.assert_awaited_once_with(MESSAGE)


async def test_async_generator_streams() -> None:
    async def parts(order: Order, message: Message) -> AsyncIterator[int]:
        yield order.id
        yield message.receive_count

    handler = Handlers().register(parts)
    assert handler.streams
    assert [item async for item in handler.stream(MESSAGE, CODEC)] == [1, 1]


def test_coroutine_function_does_not_stream() -> None:
    assert not Handlers().register(annotated).streams


def plain(message: Message) -> None:
    pass


class Plain:
    def __call__(self, message: Message) -> None:
        pass


@pytest.mark.parametrize(
    "function",
    [plain, Plain(), functools.partial(plain), Service, print, "x", None],
    ids=["function", "object", "partial", "class", "builtin", "text", "None"],
)
def test_function_that_would_block_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"async def.*anyio\.to_thread"):
        Handlers().register(function)


def test_refusal_names_the_function() -> None:
    with pytest.raises(ValueError, match="the handler plain "):
        Handlers().register(functools.partial(plain))
    with pytest.raises(ValueError, match="the handler Plain "):
        Handlers().register(Plain())


async def of_nothing() -> None: ...


async def of_keyword(*, message: Message) -> None: ...


async def of_too_much(message: Message, database: Any) -> None: ...


async def of_two_messages(message: Message, again: Message) -> None: ...


async def of_message_and_body(message: Message, order: Order) -> None: ...


async def of_three(order: Order, message: Message, database: Any) -> None: ...


async def of_bare_parameter(order: Order, other) -> None: ...  # type: ignore[no-untyped-def]


async def of_required_keyword(order: Order, *, database: Any) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        of_nothing,
        of_keyword,
        of_too_much,
        of_two_messages,
        of_message_and_body,
        of_three,
        of_bare_parameter,
        of_required_keyword,
    ],
    ids=lambda function: function.__name__,
)
def test_function_that_cannot_be_called_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=f"the handler {function.__name__} "):
        Handlers().register(function)


async def of_unknown(body: Unknown) -> None: ...


async def of_unknown_beside(order: Order, message: Unknown) -> None: ...


async def of_unknown_message(message: OnlyForTypeCheckers) -> None: ...


@pytest.mark.parametrize("function", [of_unknown, of_unknown_beside, of_unknown_message])
def test_annotation_that_cannot_be_resolved_is_refused_with_advice(function: Any) -> None:
    with pytest.raises(ValueError, match="TYPE_CHECKING"):
        Handlers().register(function)


async def test_message_imported_for_type_checkers_alone_is_known_by_its_name() -> None:
    async def handle(m: Any) -> Any:
        return m

    handle.__annotations__["m"] = "nowhere.Message"
    assert await called(handle) is MESSAGE


# ----------------------------------------------------------------- decoding


@pytest.mark.parametrize("body", ["{", "[]", '{"id":"x"}'])
async def test_body_that_does_not_fit_is_a_codec_error(body: str) -> None:
    with pytest.raises(CodecError):
        await called(decoded, Message(body))


async def test_error_of_the_users_own_codec_is_a_codec_error() -> None:
    class Broken(JSONCodec):
        def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
            raise KeyError("oops")

    with pytest.raises(CodecError, match="oops") as caught:
        await Handlers().register(decoded).call(MESSAGE, Broken())
    assert isinstance(caught.value.__cause__, KeyError)


async def test_codec_hears_the_media_type() -> None:
    with pytest.raises(CodecError, match="x-other"):
        await called(decoded, Message("{}", content_type="x-other"))


async def test_error_of_the_handler_leaves_as_it_is() -> None:
    async def handle(message: Message) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await called(handle)


# ------------------------------------------------------------------- routes


def test_message_goes_to_the_handler_of_its_route() -> None:
    handlers = Handlers()
    default, price = handlers.register(annotated), handlers.register(bare, "price")
    assert handlers.lookup("price") is price
    assert handlers.lookup("other") is default
    assert handlers.lookup(None) is default
    assert len(handlers) == 2


def test_message_of_an_unknown_route_has_no_handler_without_a_default() -> None:
    handlers = Handlers()
    assert len(handlers) == 0
    handlers.register(bare, "price")
    assert handlers.lookup("other") is None
    assert handlers.lookup(None) is None


def test_second_handler_for_the_same_is_refused() -> None:
    handlers = Handlers()
    handlers.register(annotated)
    handlers.register(annotated, "price")
    with pytest.raises(ValueError, match="default handler already: annotated, now bare"):
        handlers.register(bare)
    with pytest.raises(ValueError, match="'price' already: annotated, now bare"):
        handlers.register(bare, "price")


@pytest.mark.parametrize("route", ["", 5, annotated])
def test_route_that_is_none_is_refused(route: Any) -> None:
    with pytest.raises(ValueError, match="route"):
        Handlers().register(annotated, route)


def test_handler_says_what_it_is() -> None:
    handlers = Handlers()
    assert repr(handlers.register(bare, "price")) == "<Handler bare for price>"
    assert repr(handlers.register(Service())) == "<Handler Service for any message>"


# ----------------------------------------------------------------- outcomes


def test_no_reply_is_one_value_everywhere() -> None:
    assert repr(NO_REPLY) == "NO_REPLY"
    assert pickle.loads(pickle.dumps(NO_REPLY)) is NO_REPLY


def test_reject_carries_its_facts() -> None:
    reject = Reject("no stock", "out_of_stock", {"left": 0})
    assert (reject.message, reject.code, reject.details) == (
        "no stock",
        "out_of_stock",
        {"left": 0},
    )
    assert str(reject) == "no stock"
    assert (Reject().message, Reject().code, Reject().details) == ("", "rejected", None)
    copied = pickle.loads(pickle.dumps(reject))
    assert (copied.message, copied.code, copied.details) == (
        reject.message,
        reject.code,
        reject.details,
    )


@pytest.mark.parametrize("code", ["", 404, None, b"x", True, "x" * 257, "\0", "\ud800"])
def test_reject_refuses_a_code_that_cannot_travel(code: Any) -> None:
    with pytest.raises(ValueError, match="the code of a Reject"):
        Reject("x", code)


def test_reject_tells_what_it_was_given_as_text() -> None:
    assert Reject(KeyError("id")).message == "'id'"
    assert repr(Reject("no", code="sold_out")) == "Reject('no', code='sold_out')"
    assert repr(Reject("no", details=[1])) == "Reject('no', code='rejected', details=[1])"


def test_retry_carries_its_delay() -> None:
    assert Retry().delay == 0
    assert Retry(1.5).delay == 1.5
    assert pickle.loads(pickle.dumps(Retry(delay=7))).delay == 7


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "5", None])
def test_retry_refuses_a_delay_that_is_none(delay: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        Retry(delay)
