"""Where what the tests need is not there, their run ends before they begin, and says why."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import alone_in

ROOT = Path(__file__).resolve().parents[2]


def run(tests: str, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on *tests* with these settings and no others."""
    unset = dict.fromkeys(["SQS_SERVER", "SQS_ENDPOINT_URL"], "")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, *options],
        cwd=ROOT,
        env={**os.environ, **unset, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"SQS_SERVER": "no-such"}, "SQS_SERVER=no-such is none of moto, fauxqs, elasticmq"),
        ({"SQS_SERVER": "elasticmq", "PATH": "/no/such"}, "elasticmq needs Java 17 or newer"),
        ({"SQS_ENDPOINT_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1 does not answer"),
        ({"SQS_ENDPOINT_URL": "localhost"}, "localhost does not answer as an SQS does"),
    ],
)
def test_missing_server_is_said_once_and_fails_the_run(settings: dict[str, str], why: str) -> None:
    ended = run("tests/processes", **settings)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("ERROR: ")]
    assert why in line
    assert "SQS_ENDPOINT_URL" in ended.stderr
    assert "passed" not in ended.stdout
    assert "failed" not in ended.stdout


def test_missing_server_is_said_by_a_run_in_several_processes_too() -> None:
    ended = run("tests/processes", "-n1", SQS_SERVER="no-such")
    assert ended.returncode == pytest.ExitCode.INTERRUPTED
    assert ended.stdout.count("SQS_SERVER=no-such is none of moto, fauxqs, elasticmq") == 1
    assert "passed" not in ended.stdout
    assert "failed" not in ended.stdout


def test_one_process_fetches_a_server_while_others_wait(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    with alone_in(directory), pytest.raises(BlockingIOError):
        lock_at_once(directory)
    lock_at_once(directory)


def lock_at_once(directory: Path) -> None:
    with (directory / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_tests_that_need_no_server_run_without_one() -> None:
    ended = run("tests/processes", "-m", "not server", SQS_SERVER="no-such")
    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    ended = run("tests/unit/core/test_names.py", SQS_SERVER="no-such")
    assert ended.returncode == pytest.ExitCode.OK
