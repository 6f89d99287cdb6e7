"""The programs of `docs/examples/answering`, made to run: what they need is fetched and built on
first use, and kept in `.cache`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.servers import Missing, alone_in, get, node_and_npm

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ROOT / "docs" / "examples" / "answering"
MADE: Final = ROOT / ".cache" / "answering"


class Absent(Exception):
    """What runs or builds a program is not installed. Says what to install."""


def python(program: str = "worker.py") -> list[str]:
    """The command that runs a program with boto3."""
    return [sys.executable, str(SOURCES / "python" / program)]


def node() -> list[str]:
    """The command that runs the worker for Node.

    Raises:
        Absent: There is no Node.
        Missing: npm cannot install the SDK.
    """
    try:
        runs, npm = node_and_npm("the worker for Node", (20, 0))
    except Missing as missing:
        raise Absent(str(missing)) from None

    def install(home: Path) -> None:
        shutil.copytree(SOURCES / "node", home, dirs_exist_ok=True)
        get(
            "npm could not install the SDK",
            [*npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=home,
            env={"npm_config_fetch_retries": "1", **os.environ},
        )

    return [runs, str(_made("node", install) / "worker.js")]


def go() -> list[str]:
    """The command that runs the worker in Go.

    Raises:
        Absent: There is no Go.
        Missing: It cannot be built.
    """
    runs = shutil.which("go")
    if runs is None:
        raise Absent("the worker in Go needs Go 1.24 or newer, and there is no `go`")

    def build(home: Path) -> None:
        get(
            "Go could not build the worker",
            [runs, "build", "-o", str(home / "worker"), "."],
            cwd=SOURCES / "go",
        )

    return [str(_made("go", build) / "worker")]


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The directory with what *make* puts into it, from what is in the directory *name* of the
    sources; made anew when that has changed."""
    sources = sorted(path for path in (SOURCES / name).rglob("*") if path.is_file())
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    home = MADE / f"{name}-{digest[:12]}"
    with alone_in(MADE):
        if not home.exists():
            # Renamed when complete, so that an interrupted attempt is not taken for a whole one.
            with tempfile.TemporaryDirectory(dir=MADE) as partial:
                make(Path(partial, name))
                Path(partial, name).rename(home)
    return home


def run_to_its_end(command: Sequence[str], environment: dict[str, str]) -> list[str]:
    """Run a program; the lines that it prints."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
