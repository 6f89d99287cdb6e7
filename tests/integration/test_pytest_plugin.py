"""The pytest plugin, in small projects as users have them, by each plugin that runs loops."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.projects import PLUGIN, Project

ROOT = Path(__file__).resolve().parents[2]
STRICT = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
addopts = --strict-markers --strict-config
"""
AUTO = f"{STRICT}asyncio_mode = auto\n"
WITHOUT_PYTEST_ASYNCIO = """
[pytest]
filterwarnings = error
addopts = -p no:asyncio
"""

IMPORTS = """
import asyncio
import pytest
import pytest_asyncio
from sqs_orchestrator import Poller, QueueNotFound, Publisher, Reject, connect
from sqs_orchestrator.testing import VirtualTimeLoop, answer, message, run_until_idle, sent

def is_virtual():
    return isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

async def handle(message):
    return {"done": message.json()["id"]}
"""

# What users do with the fixtures, as the documentation shows it.
USES = """
async def test_worker(sqs, publisher):
    async with Poller(sqs, "orders", handle):
        assert (await publisher.request("orders", {"id": 1})).json() == {"done": 1}

async def test_caller(sqs, publisher):
    async with answer(sqs, "orders", {"done": 1}) as asked:
        await publisher.request("orders", {"id": 1})
    assert asked[0].json() == {"id": 1}

async def test_one_way(sqs, publisher):
    async def forward(message):
        await publisher.send("invoices", message.json())

    await publisher.send("orders", {"id": 1})
    assert (await run_until_idle(Poller(sqs, "orders", forward))).handled == 1
    assert [m.json() for m in sent(sqs, "invoices")] == [{"id": 1}]

async def test_fixtures_of_the_user_are_on_the_same_loop(client, publisher):
    async with answer(client.sqs, "orders", 1):
        assert await client.ask() == 1

class TestInAClass:
    async def test_worker(self, sqs, publisher):
        async with Poller(sqs, "orders", handle):
            assert (await publisher.request("orders", {"id": 1})).json() == {"done": 1}
"""
CLIENT = """
class Client:
    def __init__(self, sqs, publisher):
        self.sqs, self.publisher = sqs, publisher

    async def ask(self):
        return (await self.publisher.request("orders", 1)).json()

async def client(sqs, publisher):
    yield Client(sqs, publisher)
"""
VIRTUAL = """
async def test_time_is_virtual_and_no_poll_is_waited_for(sqs):
    assert is_virtual()
    async with Poller(sqs, "orders", handle):
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() < 2
"""
DEAD_LETTERS = """
async def test_dead_letters(sqs, publisher):
    async def handle(message):
        raise ValueError("no")

    await sqs.create_queue("orders", dead_letter_queue=True, max_receive_count=3)
    await publisher.send("orders", {"id": 1})
    assert (await run_until_idle(Poller(sqs, "orders", handle))).failed == 3
    assert [m.json() for m in sent(sqs, "orders_dlq")] == [{"id": 1}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --------------------------------------------------------------------- combinations


def test_auto_mode_of_pytest_asyncio_in_virtual_time(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    client = f"{CLIENT}\nclient = pytest.fixture(client)\n"
    project.write("test_it.py", IMPORTS, client, USES, DEAD_LETTERS, VIRTUAL)
    project.run(passed=7)


def test_strict_mode_of_pytest_asyncio_in_virtual_time(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    marks = "pytestmark = pytest.mark.asyncio\n"
    client = f"{CLIENT}\nclient = pytest_asyncio.fixture(client)\n"
    project.write("test_it.py", IMPORTS, marks, client, USES, DEAD_LETTERS, VIRTUAL)
    project.run(passed=7)


@pytest.mark.parametrize("settings", [STRICT, WITHOUT_PYTEST_ASYNCIO])
def test_anyio_in_real_time(project: Project, settings: str) -> None:
    project.write("pytest.ini", settings)
    backend = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"
    """
    real = "async def test_time(sqs): assert not is_virtual()\n"
    marks = "pytestmark = pytest.mark.anyio\n"
    client = f"{CLIENT}\nclient = pytest.fixture(client)\n"
    project.write("test_it.py", IMPORTS, marks, backend, client, USES, real)
    project.run(passed=6)


def test_anyio_in_virtual_time(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    backend = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    """
    marks = "pytestmark = pytest.mark.anyio\n"
    client = f"{CLIENT}\nclient = pytest.fixture(client)\n"
    project.write("test_it.py", IMPORTS, marks, backend, client, USES, DEAD_LETTERS, VIRTUAL)
    project.run(passed=7)


def test_auto_mode_of_anyio(project: Project) -> None:
    project.write("pytest.ini", f"{WITHOUT_PYTEST_ASYNCIO}anyio_mode = auto\n")
    backend = """
    @pytest.fixture(scope="session")
    def anyio_backend():
        return "asyncio"
    """
    client = f"{CLIENT}\nclient = pytest.fixture(client)\n"
    project.write("test_it.py", IMPORTS, backend, client, USES)
    project.run(passed=5)


def test_other_backends_of_anyio_are_skipped(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    backend = """
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return request.param
    """
    marks = "pytestmark = pytest.mark.anyio\n"
    test = "async def test_it(sqs): pass\n"
    project.write("test_it.py", IMPORTS, marks, backend, test)
    assert "runs on asyncio, not on trio" in project.run(passed=1, skipped=1)


def test_both_plugins_in_one_project(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_of_anyio(sqs, publisher):
            async with answer(sqs, "orders", 1):
                await publisher.request("orders", 1)

        @pytest.mark.asyncio
        async def test_of_pytest_asyncio(sqs, publisher):
            async with answer(sqs, "orders", 1):
                await publisher.request("orders", 1)
        """,
    )
    project.run(passed=2)


# ------------------------------------------------------------------- whose loop it is


@pytest.mark.parametrize(
    ("tests", "fixtures"),
    [("class", "function"), ("module", "session"), ("session", "function"), ("session", "session")],
)
def test_loop_that_tests_share_is_used_and_not_changed(
    project: Project, tests: str, fixtures: str
) -> None:
    settings = AUTO.replace("fixture_loop_scope = function", f"fixture_loop_scope = {fixtures}")
    project.write("pytest.ini", f"{settings}asyncio_default_test_loop_scope = {tests}\n")
    project.write(
        "test_it.py",
        IMPORTS,
        """
        loops = []

        class TestIt:
            async def test_without(self):
                loops.append(asyncio.get_running_loop())

            async def test_with(self, sqs, publisher):
                async with answer(sqs, "orders", 1):
                    await publisher.request("orders", 1)
                loops.append(asyncio.get_running_loop())

            async def test_again(self):
                assert not is_virtual()
                assert {*loops} == {asyncio.get_running_loop()}
        """,
    )
    project.run(passed=3)


def test_loop_that_one_test_shares_by_its_mark_is_used(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        @pytest.mark.asyncio(loop_scope="module")
        async def test_shared(sqs, publisher):
            assert not is_virtual()
            async with answer(sqs, "orders", 1):
                await publisher.request("orders", 1)

        @pytest.mark.asyncio
        async def test_own(sqs, publisher):
            assert is_virtual()
            async with answer(sqs, "orders", 1):
                await publisher.request("orders", 1)
        """,
    )
    project.run(passed=2)


def test_loops_of_other_tests_stay_as_they_are(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        async def test_without():
            assert type(asyncio.get_running_loop()) is old

        async def test_with(sqs):
            assert is_virtual()

        def test_names(request):
            assert [item.name for item in request.session.items] == [
                "test_without", "test_with", "test_names"
            ]

        def ordinary():
            loop = asyncio.new_event_loop()
            loop.close()
            return type(loop)

        old = ordinary()
        """,
    )
    project.run(passed=3)


def test_loops_that_the_project_chose_stay(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    project.write(
        "conftest.py",
        """
        import asyncio

        class Mine(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories():
            return {"one": Mine, "two": Mine}
        """,
    )
    project.write(
        "test_it.py",
        IMPORTS,
        """
        async def test_it(sqs, publisher):
            assert type(asyncio.get_running_loop()).__name__ == "Mine"
            async with answer(sqs, "orders", 1):
                await publisher.request("orders", 1)

        @pytest.mark.asyncio(loop_factories=["two"])
        async def test_one(sqs):
            assert type(asyncio.get_running_loop()).__name__ == "Mine"
        """,
    )
    project.run(passed=3)


def test_time_is_real_where_a_test_or_the_project_asks_for_it(project: Project) -> None:
    project.write("pytest.ini", f"{AUTO}sqs_time = real\n")
    project.write(
        "test_it.py",
        IMPORTS,
        """
        async def test_of_the_project(sqs):
            assert not is_virtual()

        @pytest.mark.sqs_time("virtual")
        async def test_of_its_own(sqs):
            assert is_virtual()
        """,
    )
    project.run(passed=2)
    project.write("pytest.ini", AUTO)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        @pytest.mark.sqs_time("real")
        async def test_of_its_own(sqs):
            assert not is_virtual()
        """,
    )
    project.run(passed=1)


def test_unknown_time_is_told(project: Project) -> None:
    project.write("pytest.ini", f"{AUTO}sqs_time = local\n")
    project.write("test_it.py", "async def test_it(sqs): pass\n")
    assert "sqs_time is 'virtual' or 'real', not 'local'" in project.run(error=1)


# --------------------------------------------------------------------------- the rest


def test_strict_queues_have_to_be_created(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        @pytest.fixture
        def strict_queues():
            return True

        async def test_it(sqs, publisher):
            with pytest.raises(QueueNotFound):
                await publisher.send("orders", 1)
            await sqs.create_queue("orders")
            await publisher.send("orders", 1)
        """,
    )
    project.run(passed=1)


def test_memory_behind_the_connection_can_go_wrong_and_be_replaced(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        from sqs_orchestrator import AccessDenied
        from sqs_orchestrator.testing import MemoryServer

        @pytest.fixture
        def sqs_memory():
            return MemoryServer(latency=0.02, region="eu-west-1")

        async def test_it(sqs, publisher, sqs_memory):
            sqs_memory.faults.fail("SendMessageBatch", AccessDenied)
            with pytest.raises(AccessDenied):
                await publisher.send("orders", 1)
            assert "eu-west-1" in await sqs.queue_url("orders")
            assert sqs.server is sqs_memory
            assert is_virtual()
        """,
    )
    project.run(passed=1)


def test_tests_that_no_loop_runs_are_told(project: Project) -> None:
    project.write("pytest.ini", STRICT)
    project.write(
        "test_it.py",
        """
        def test_plain(sqs): pass
        async def test_unmarked(publisher): pass
        """,
    )
    said = project.run(errors=2)
    assert "the fixture 'sqs' is for tests that are 'async def'" in said
    assert "mark the test with @pytest.mark.asyncio" in said


def test_project_without_any_plugin_for_loops_has_message_and_server(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\naddopts = -p no:asyncio -p no:anyio\n")
    project.write(
        "test_it.py",
        IMPORTS,
        """
        def test_message():
            assert asyncio.run(handle(message({"id": 1}))) == {"done": 1}

        def test_server(sqs_server):
            async def main():
                async with connect() as sqs, Publisher(sqs) as publisher:
                    await sqs.create_queue("orders")
                    await publisher.send("orders", {"id": 1})
                    await run_until_idle(Poller(sqs, "orders", handle))

            asyncio.run(main())

        def test_server_has_no_queues_of_other_tests(sqs_server):
            async def main():
                async with connect() as sqs:
                    with pytest.raises(QueueNotFound):
                        await sqs.queue_url("orders")

            asyncio.run(main())
        """,
    )
    project.run(passed=3)


def test_server_serves_async_tests_and_lets_time_be_real(project: Project) -> None:
    project.write("pytest.ini", AUTO)
    project.write(
        "test_it.py",
        IMPORTS,
        """
        async def test_server(sqs_server, sqs):
            assert is_virtual()
            async with connect() as other, Publisher(other) as publisher:
                await other.create_queue("orders")
                async with Poller(other, "orders", handle, wait_time=1):
                    reply = await publisher.request("orders", {"id": 1}, timeout=20)
            assert reply.json() == {"done": 1}
        """,
    )
    project.run(passed=1)


def test_plugin_costs_nothing_where_nobody_asks_for_it(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import sys

        def pytest_unconfigure():
            heavy = {"sqs_orchestrator", "aiobotocore", "botocore", "moto", "anyio", "aiohttp"}
            print("imported:", sorted(heavy & {*sys.modules}))
        """,
    )
    project.write("test_it.py", "def test_it(): pass\n")
    # The plugins of others do import some of these.
    said = project.run("-s", environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, passed=1)
    assert "imported: []" in said


def test_plugin_is_an_entry_point_of_pytest() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert declared["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
