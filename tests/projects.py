"""Small projects as users have them: a directory with tests, on which pytest runs in a process of
its own, with the plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

PLUGIN = "pytest_sqs_orchestrator"

HANGS = 120.0
"""Seconds after which a run is taken to hang."""


class Project:
    """A directory with tests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Or pytest would take the settings of whatever project the directory lies in.
        (path / "pytest.ini").write_text("[pytest]\n", "utf-8")

    def write(self, name: str, *parts: str) -> None:
        """Make a file of its parts, each indented in its own way."""
        (self.path / name).write_text("".join(map(textwrap.dedent, parts)), "utf-8")

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None, **outcomes: int
    ) -> str:
        """Run its tests, which end as *outcomes* says; what pytest prints."""
        # Where the package is installed pytest has loaded the plugin, and `-p` says nothing new.
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-rA"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONSAFEPATH": "1",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=HANGS,
            check=False,
        )
        summaries = re.findall(r"^=+ (.*) in [\d.]+s.*=+$", done.stdout, re.MULTILINE)
        found = {
            word: int(count)
            for summary in summaries[-1:]
            for count, word in re.findall(r"(\d+) (\w+)", summary)
        }
        assert found == outcomes, done.stdout
        return done.stdout
