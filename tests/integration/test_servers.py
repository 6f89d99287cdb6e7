"""Where what the tests need is not there, their run ends before they begin, and says why."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers import Missing, Package, alone_in, package_server, settings_of_pip

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
        ({"SQS_SERVER": "no-such"}, "SQS_SERVER=no-such is none of moto, fauxqs, elasticmq, "),
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
    assert ended.stdout.count("SQS_SERVER=no-such is none of moto, fauxqs, elasticmq, ") == 1
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


# ------------------------------------------------------------ servers that are packages

ANSWERING = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def small_package(program: str, version: str = "1") -> Package:
    return Package(
        name="small",
        requirements=(f"small-server=={version}",),
        program=program,
        settings={"PORT": "{port}"},
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds `small-server`, and nothing else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    about = "small_server-1.dist-info"
    with zipfile.ZipFile(wheels / "small_server-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_server.py", ANSWERING)
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: small-server\nVersion: 1\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return wheels


def test_package_has_an_environment_of_its_own_and_ends_with_the_tests(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small_server.py").write_text("raise SystemExit('what the tests import')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    home = tmp_path / "home"
    package = small_package("import small_server")
    with package_server(package, home) as endpoint_url:
        address = urlsplit(endpoint_url)
    with contextlib.closing(socket.socket()) as after:
        assert after.connect_ex((address.hostname, address.port)) != 0
    # It is there now.
    (wheels / "small_server-1-py3-none-any.whl").unlink()
    with package_server(package, home):
        pass
    with (
        pytest.raises(Missing, match=r"^small did not start: no licence$"),
        package_server(small_package("raise SystemExit('no licence')"), home),
    ):
        pass


def test_package_that_pip_does_not_find_is_missing(tmp_path: Path, wheels: Path) -> None:
    with (
        pytest.raises(Missing, match=r"^pip could not install small-server==2: .*2") as caught,
        package_server(small_package("", version="2"), tmp_path / "home"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert wheels.exists()


def test_pip_hears_where_packages_are_and_nothing_else() -> None:
    kept = {"PATH": "/bin", "HTTPS_PROXY": "http://proxy", "PIP_INDEX_URL": "https://here"}
    ours = {"PYTHONPATH": "/here", "PYTHONSAFEPATH": "1", "PIP_TARGET": "/x", "VIRTUAL_ENV": "/v"}
    assert settings_of_pip({**kept, **ours}) == kept
