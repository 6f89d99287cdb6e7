"""pytest's plugin for tests of programs that use sqs-orchestrator: the fixtures.

pytest imports it at its start, in every project that has sqs-orchestrator installed. So it stands
beside the package and not within, and imports that when a test asks for it: the package takes
ten times as long.

A fixture that is entered in one event loop and used in another is of no use, and who runs
the loop of a test differs from test to test: pytest-asyncio, in its strict or its auto mode and
with loops of several scopes, or anyio. Each of them wants its async fixtures marked or named in
its own way. So `sqs` and `publisher` are plain fixtures, which pick the async one that fits the
test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqs_orchestrator import Connection, Publisher
    from sqs_orchestrator.testing import MemoryServer

__all__: list[str] = []

LOOP_SCOPES = ("function", "class", "module", "package", "session")
"""What pytest-asyncio knows: for how long a loop lives."""

MARKER = "sqs_time"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        MARKER,
        "the time of tests that use the fixture 'sqs' under pytest-asyncio: 'virtual', in which"
        " hours pass in a moment, or 'real'",
        default="virtual",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARKER}(time): run this test in 'virtual' or in 'real' time"
    )
    if _pytest_asyncio(config):
        config.pluginmanager.register(_fixtures_of_pytest_asyncio(), "sqs_orchestrator_asyncio")


# ------------------------------------------------------------------------- fixtures


@pytest.fixture
def sqs_memory() -> MemoryServer:
    """The SQS in memory behind `sqs`: faults to order, calls to count. Override it for another
    region, or for calls that take time."""
    from sqs_orchestrator.testing import MemoryServer

    return MemoryServer()


@pytest.fixture
def strict_queues() -> bool:
    """Whether a queue has to be created before it can be used, as with SQS. Override it to
    return `True`; else first use creates a queue."""
    return False


@pytest.fixture
def sqs(request: pytest.FixtureRequest, sqs_memory: MemoryServer) -> Connection:
    """A connection to an SQS in memory, with queues of this test alone."""
    connection: Connection = request.getfixturevalue(f"_sqs_{_runner(request)}")
    return connection


@pytest.fixture
def publisher(request: pytest.FixtureRequest, sqs: Connection) -> Publisher:
    """A publisher on `sqs`."""
    publisher: Publisher = request.getfixturevalue(f"_publisher_{_runner(request)}")
    return publisher


@pytest.fixture(scope="session")
def _moto_url() -> Iterator[str]:
    from sqs_orchestrator.testing import moto_server

    with moto_server() as url:
        yield url


@pytest.fixture
def sqs_server(_moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of moto's SQS over HTTP, without queues. `connect()` finds it by itself: the
    environment names it, with credentials for it."""
    from sqs_orchestrator.testing.moto import forget_queues, settings

    forget_queues()
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in settings(_moto_url).items():
        monkeypatch.setenv(name, value)
    yield _moto_url
    forget_queues()


# ------------------------------------------------------------ the async ones behind


def _pair(fixture: Callable[..., Any], suffix: str) -> dict[str, Any]:
    """The two fixtures, made by *fixture*. Functions of their own, since some mark them."""

    async def connection(
        sqs_memory: MemoryServer, strict_queues: bool
    ) -> AsyncIterator[Connection]:
        from sqs_orchestrator.testing import connect

        async with connect(sqs_memory, strict_queues=strict_queues, drop_polls=True) as sqs:
            yield sqs

    async def publisher(sqs: Connection) -> AsyncIterator[Publisher]:
        from sqs_orchestrator import Publisher

        async with Publisher(sqs) as publisher:
            yield publisher

    names = {f"_sqs_{suffix}": connection, f"_publisher_{suffix}": publisher}
    return {name: fixture(function, name=name) for name, function in names.items()}


# anyio takes any async fixture of a test that it runs.
globals().update(_pair(pytest.fixture, "anyio"))


def _fixtures_of_pytest_asyncio() -> ModuleType:
    """A plugin with a pair of fixtures for each scope of a loop."""
    import pytest_asyncio

    fixtures: dict[str, Any] = {}
    for scope in LOOP_SCOPES:

        def fixture(function: Any, *, name: str, scope: Any = scope) -> Any:
            return pytest_asyncio.fixture(function, loop_scope=scope, name=name)

        fixtures.update(_pair(fixture, scope))
    plugin = ModuleType("sqs_orchestrator_asyncio")
    vars(plugin).update(fixtures)
    return plugin


def _runner(request: pytest.FixtureRequest) -> str:
    """Who runs the test: `anyio`, or the scope of pytest-asyncio's loop."""
    if _pytest_asyncio(request.config):
        import pytest_asyncio

        if pytest_asyncio.is_async_test(request.node):
            return _loop_scope(request.node)
    if "anyio_backend" not in request.fixturenames:
        pytest.fail(
            f"the fixture {request.fixturename!r} is for tests that are 'async def', and that"
            " pytest-asyncio (1.0 or newer) or anyio runs: mark the test with"
            " @pytest.mark.asyncio or @pytest.mark.anyio, or set asyncio_mode = 'auto' in the"
            " settings of pytest",
            pytrace=False,
        )
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.skip(f"sqs-orchestrator runs on asyncio, not on {name}")
    return "anyio"


SCOPE_SETTING = "asyncio_default_test_loop_scope"


def _pytest_asyncio(config: pytest.Config) -> bool:
    """Whether there is a pytest-asyncio that knows loops of several scopes for tests."""
    if not config.pluginmanager.has_plugin("asyncio"):
        return False
    try:
        config.getini(SCOPE_SETTING)
    except (KeyError, ValueError):
        return False
    return True


def _loop_scope(item: pytest.Item) -> str:
    marker = item.get_closest_marker("asyncio")
    options = marker.kwargs if marker is not None else {}
    scope = options.get("loop_scope") or options.get("scope")
    return str(scope or item.config.getini(SCOPE_SETTING))


# --------------------------------------------------------------------- virtual time


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    # pytest-asyncio asks a hook for the loops of each test. Whoever implements that answers for
    # all tests, so it is implemented for the length of this question alone.
    if not _wants_virtual_time(metafunc):
        return (yield)
    manager, loops = metafunc.config.pluginmanager, _VirtualTime()
    manager.register(loops)
    try:
        return (yield)
    finally:
        manager.unregister(loops)


class _VirtualTime:
    # Last: loops that the project itself has chosen stay.
    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        from sqs_orchestrator.testing import VirtualTimeLoop

        return {"virtual": VirtualTimeLoop}


def _wants_virtual_time(metafunc: pytest.Metafunc) -> bool:
    item = metafunc.definition
    if "sqs_memory" not in metafunc.fixturenames:
        return False
    if not _pytest_asyncio(metafunc.config):
        return False
    mark = item.get_closest_marker(MARKER)
    time = metafunc.config.getini(MARKER) if mark is None else [*mark.args, ""][0]
    if time not in ("virtual", "real"):
        raise pytest.UsageError(f"{MARKER} is 'virtual' or 'real', not {time!r}")
    # A loop that other tests share is not ours to choose.
    return time == "virtual" and _loop_scope(item) == "function"
