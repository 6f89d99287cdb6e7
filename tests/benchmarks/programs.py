"""The programs that play the sides: they are made on first use, and kept in `.cache`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.side import CLIENT
from tests.servers import alone_in

ROOT: Final = Path(__file__).resolve().parents[2]
_MADE: Final = ROOT / ".cache" / "benchmark"
_JAVA: Final = Path(__file__).parent / "sides" / "java"


class Unavailable(Exception):
    """Why a contender is left out."""


def python(loop: str, requirement: str | None, module: str) -> str:
    """The Python that runs *module*; makes an environment with *requirement* if need be."""
    if loop != "asyncio" and importlib.util.find_spec(loop) is None:
        raise Unavailable(f"{loop} is not installed")
    if requirement is None:
        return sys.executable
    version = ".".join(map(str, sys.version_info[:2]))
    home = _MADE / f"{module}-{version}"
    found = home / "bin" / "python"
    complete = home / "complete"
    if not complete.exists():
        print(f"Making an environment for {requirement} ...", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        pip = [str(found), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [*pip, requirement],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                why = (done.stderr or done.stdout).strip().splitlines()
                raise Unavailable(why[-1] if why else f"{command} failed")
        complete.touch()
    return str(found)


def java() -> list[str]:
    """The command that runs the program in Java; Maven builds it if need be."""
    return java_program(_JAVA, _MADE, "Side")


def java_program(source: Path, made: Path, main: str) -> list[str]:
    """The command that runs the class *main* of the Maven project in *source*, which is built
    into a directory below *made* if need be.

    Raises:
        Unavailable: There is no Java, or it cannot be built.
    """
    runs = shutil.which("java")
    if runs is None:
        raise Unavailable("it needs Java 17 or newer, and there is no `java`")
    sources = sorted(path for path in source.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    home = made / f"java-{digest[:12]}"
    with alone_in(made):
        if not home.exists():
            print("Building the program in Java ...", flush=True)
            _build(source, home)
    settings = {
        "aws.region": CLIENT["region_name"],
        "aws.accessKeyId": CLIENT["aws_access_key_id"],
        "aws.secretAccessKey": CLIENT["aws_secret_access_key"],
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    return [runs, *options, "-cp", f"{home / 'classes'}{os.pathsep}{home}/lib/*", main]


def java_version() -> str | None:
    """The version of the Java that there is, if any."""
    runs = shutil.which("java")
    if runs is None:
        return None
    done = subprocess.run([runs, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "([^"]+)"', done.stderr)
    return found[1] if found else None


def _build(source: Path, home: Path) -> None:
    """Build the Maven project in *source* into *home*: its classes, and what they need.

    Raises:
        Unavailable: There is no Maven, or it failed.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("its program is built by Maven, and there is no `mvn`")
    # Renamed when complete, so that an interrupted attempt is not taken for a whole one.
    with tempfile.TemporaryDirectory(dir=home.parent) as partial:
        target = Path(partial, "target")
        command = [
            *(maven, "--quiet", "--batch-mode", "--no-transfer-progress", "-Dstyle.color=never"),
            *(f"-Dbuilt={target}", "compile", "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={target / 'lib'}"),
        ]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(_why(done.stdout.splitlines()))
        target.rename(home)


def _why(said: Sequence[str]) -> str:
    """Maven's first error. What follows it is about Maven."""
    errors = [line.partition("[ERROR] ")[2] for line in said if "[ERROR] " in line]
    return f"Maven: {errors[0]}" if errors else "Maven failed, and did not say why"
