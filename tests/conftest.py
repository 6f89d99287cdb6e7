"""What all tests share.

Tests that Hypothesis makes up run ten cases each, so that the unit tests take seconds. Where the
environment has `CI`, they run all hundred, the same ones every time. `HYPOTHESIS_PROFILE=full`
runs a hundred new ones.

What selected tests need from outside, a server most of all, is looked for before the first of them
runs. Where it is not there, the run ends with one line that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore.loaders import create_loader
from hypothesis import settings

from tests.servers import SERVERS as KNOWN
from tests.servers import Missing, chosen_server

# No deadlines: they would judge how busy the machine is. `ci` is Hypothesis's own profile.
settings.register_profile("dev", max_examples=10, deadline=None)
settings.register_profile("full", max_examples=100, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


# Each session would read botocore's data files anew, which takes longer than most tests.
botocore.session.create_loader = functools.cache(create_loader)


def pytest_report_header() -> str:
    """Say which copy is tested: an installed wheel, or the source tree."""
    spec = importlib.util.find_spec("sqs_orchestrator")
    assert spec is not None
    assert spec.origin is not None
    return f"testing: {Path(spec.origin).parent}"


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[OUTSIDE] = Outside()
    # pytest-asyncio asks for "the current loop" before it sets its own. With none ever set,
    # asyncio makes one to answer, which nobody closes; with None set, it says there is none.
    asyncio.set_event_loop(None)
    # A shell that runs this in the background has it ignore Ctrl-C, and so would all the
    # programs that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# ------------------------------------------------------------- what is needed from outside


class Outside:
    """What the tests of this run share that is not theirs, each started when first asked for."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._urls: dict[str, str] = {}

    def server(self, default: str) -> str:
        """The URL of that server, or of the one that the environment names."""
        if default not in self._urls:
            self._urls[default] = self._stack.enter_context(chosen_server(default))
        return self._urls[default]

    def close(self) -> None:
        self._stack.close()


OUTSIDE = pytest.StashKey[Outside]()

SERVERS = {"small_server": "moto", "volume_server": "fauxqs", "strict_server": "elasticmq"}
"""The fixtures that are servers, and what runs where the environment names none."""


@pytest.fixture(scope="session")
def small_server(pytestconfig: pytest.Config) -> str:
    """The endpoint URL of a server that starts quickly."""
    return pytestconfig.stash[OUTSIDE].server(SERVERS["small_server"])


@pytest.fixture(scope="session")
def volume_server(pytestconfig: pytest.Config) -> str:
    """The endpoint URL of a server that takes many messages."""
    return pytestconfig.stash[OUTSIDE].server(SERVERS["volume_server"])


@pytest.fixture(scope="session")
def strict_server(pytestconfig: pytest.Config) -> str:
    """The endpoint URL of a server that refuses what SQS refuses."""
    return pytestconfig.stash[OUTSIDE].server(SERVERS["strict_server"])


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library that gives a process a wrong clock."""
    return find_faketime()


def find_faketime() -> Path:
    # Not imported: that would change this process, too.
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        library = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
        if library.exists():
            return library
    for library in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return library
    # No reason to skip: what was not tested must not read as if it had been.
    raise Missing("no libfaketime: pip install libfaketime, or apt-get install libfaketime")


def needs(item: pytest.Item) -> set[str]:
    """The fixtures of those above that *item* needs."""
    found = {*SERVERS, "faketime"} & {*getattr(item, "fixturenames", ())}
    # Some ask for it later, or in another process.
    if not found & {*SERVERS} and item.get_closest_marker("server") is not None:
        found.add("small_server")
    return found


def look(config: pytest.Config, need: str) -> None:
    """See whether it is there."""
    if need in SERVERS:
        config.stash[OUTSIDE].server(SERVERS[need])
    elif sys.platform == "linux":
        find_faketime()


HELP = f"""\
SQS_ENDPOINT_URL names an SQS server of your own that runs already; SQS_SERVER one to start: \
{", ".join(KNOWN)}.
`-m "not server"` leaves these tests out."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First, so that `-m` goes by it.
    for item in items:
        if needs(item) & {*SERVERS}:
            item.add_marker(pytest.mark.server)


# First, since xdist's would announce that the tests can run.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    for need, tests in Counter(need for item in session.items for need in needs(item)).items():
        try:
            look(session.config, need)
        except Missing as missing:
            more = HELP if need in SERVERS else HELP.splitlines()[-1]
            said = f"{tests} of the tests cannot run: {missing}\n{more}"
            # In a process of xdist, this alone reaches the one that tells the user.
            session.shouldfail = said
            raise pytest.UsageError(said) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    session.config.stash[OUTSIDE].close()


# --------------------------------------------------------------------------- every test


@pytest.fixture(autouse=True)
def no_aws_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test may depend on the AWS settings of whoever runs it, nor spend their money."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    nowhere = str(tmp_path_factory.getbasetemp() / "no-such-file")
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
