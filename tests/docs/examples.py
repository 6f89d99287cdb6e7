"""Finds the Python examples in Markdown pages, and runs them.

Every block that is marked as `python` is run as it stands, with `await` allowed at its top
level. What a reader need not see stands in comments right before the block:

    <!-- example: skip: why it cannot run here -->
    <!-- example: continues -->
    <!-- example: before
    await given.queue("orders")
    -->
    <!-- example: beside
    assert (await given.request("orders", {"id": 1})).json() == {"done": 1}
    -->
    <!-- example: after
    assert reply.json() == 1
    assert printed == ["1"]
    -->
    <!-- example: pytest: test_orders.py asyncio_mode=strict -->

`continues` goes on with the names of the block before it, `continues: first` with those of the
first block of the page. `beside` runs while the block does, and once it has ended the block is
cancelled: for workers, which never end by themselves. In all of them `given` sets the stage, and
`printed` has what the block printed, call by call.

With `pytest` the block is a file of a small project, which has the files of the page so far. It
is not run here: where its name begins with `test_`, pytest runs its tests, with those settings.
What is `before` it is a file too, and its first line is `# ` and its name.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import inspect
import re
import textwrap
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project

LIMIT = 60.0
"""Seconds for one example."""

PATIENCE = 0.5
"""Seconds for a cancelled block to end by itself."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)")
_PART = re.compile(r"^ *<!-- example: *(?P<what>\w+)(?P<rest>.*)$")
_PARTS = ("after", "before", "beside", "continues", "pytest", "skip")


@dataclass
class Example:
    """One block, and what the comments before it say."""

    page: Path
    line: int
    """Where its code begins, counted from 1."""
    code: str
    parts: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Line and text of each comment, by what it is."""
    previous: Example | None = None
    """The example that this one continues."""
    files: dict[str, str] = field(default_factory=dict)
    """The files of the page's project, this one included, by their names."""

    @property
    def skip(self) -> str | None:
        """Why it cannot run; `None` if it can."""
        return self.parts["skip"][1] if "skip" in self.parts else None


def find(page: Path) -> list[Example]:
    """The examples of a page, in their order."""
    lines = page.read_text("utf-8").splitlines()
    found: list[Example] = []
    parts: dict[str, tuple[int, str]] = {}
    files: dict[str, str] = {}
    at = 0
    while at < len(lines):
        if match := _PART.match(lines[at]):
            what, begin = match["what"], at
            while "-->" not in lines[at]:
                at += 1
            text = "\n".join([match["rest"], *lines[begin + 1 : at + 1]]).partition("-->")[0]
            _check(page, begin + 1, what, text)
            if what in ("skip", "continues", "pytest"):
                text = text.removeprefix(":").strip()
            parts[what] = (begin + 1, text)
        elif match := _FENCE.match(lines[at]):
            begin = at = at + 1
            while lines[at].strip() != match["fence"]:
                at += 1
            if match["language"] in {"py", "python", "python3"}:
                code = textwrap.dedent("\n".join(lines[begin:at]))
                example = Example(page, begin + 1, code, parts)
                if "continues" in parts:
                    first = parts["continues"][1] == "first"
                    example.previous = found[0 if first else -1]
                if "pytest" in parts:
                    if "before" in parts:
                        text = parts["before"][1].strip()
                        files[text.partition("\n")[0].removeprefix("# ")] = f"{text}\n"
                    files[parts["pytest"][1].split()[0]] = f"{code}\n"
                    example.files = dict(files)
                found.append(example)
            parts = {}
        elif lines[at].strip() and parts:
            raise ValueError(f"{page}:{at + 1}: a comment for an example has none after it")
        at += 1
    return found


def _check(page: Path, line: int, what: str, text: str) -> None:
    if what not in _PARTS:
        raise ValueError(f"{page}:{line}: {what!r} is none of {', '.join(_PARTS)}")
    if what == "skip" and not text.removeprefix(":").strip():
        raise ValueError(f"{page}:{line}: say why the example is skipped")


def run_pytest(example: Example, directory: Path) -> None:
    """Run the tests of an example that has some, in a process of their own."""
    name, *settings = example.parts["pytest"][1].split()
    if not name.startswith("test_"):
        return
    project = Project(directory)
    for file, text in example.files.items():
        project.write(file, text)
    options = ["asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function", *settings]
    tests = len(re.findall(r"^(?:async )?def test_", example.code, re.MULTILINE))
    arguments = [argument for option in options for argument in ("-o", option)]
    project.run("-W", "error", "--strict-markers", *arguments, name, passed=tests)


async def run(example: Example, given: Any = None) -> dict[str, Any]:
    """Run an example, after those that it continues; returns the names that it leaves."""
    names: dict[str, Any]
    if example.previous is not None:
        names = await run(example.previous, given)
    else:
        names = {"__name__": "__main__", "given": given, "printed": []}
        names["print"] = functools.partial(_print, names["printed"])
    names["printed"].clear()
    async with asyncio.timeout(LIMIT):
        await _run_part(example, "before", names)
        block = asyncio.ensure_future(_run(example.page, example.line, example.code, names))
        if "beside" not in example.parts:
            await block
        else:
            await _run_beside(block, asyncio.ensure_future(_run_part(example, "beside", names)))
        await _run_part(example, "after", names)
    return names


async def _run_beside(block: asyncio.Future[None], beside: asyncio.Future[None]) -> None:
    try:
        await asyncio.wait({block, beside}, return_when=asyncio.FIRST_COMPLETED)
        if block.done():
            block.result()
        await beside
    finally:
        for each in (block, beside):
            each.cancel()
        # A worker drains, for as long as its long poll takes, and stops at once when it is
        # cancelled again.
        await asyncio.wait({block}, timeout=PATIENCE)
        block.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await block


def _print(printed: list[str], *values: object, **options: Any) -> None:
    printed.append(" ".join(map(str, values)))
    print(*values, **options)


async def _run_part(example: Example, what: str, names: dict[str, Any]) -> None:
    if what in example.parts:
        line, text = example.parts[what]
        await _run(example.page, line, textwrap.dedent(text), names)


async def _run(page: Path, line: int, code: str, names: dict[str, Any]) -> None:
    # The empty lines before it make tracebacks name the line of the page.
    compiled = compile(
        "\n" * (line - 1) + code,
        str(page),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    with _asyncio_run_here() as mains:
        result = eval(compiled, names)
        if inspect.iscoroutine(result):
            await result
    for main in mains:
        await main


@contextlib.contextmanager
def _asyncio_run_here() -> Iterator[list[Coroutine[Any, Any, Any]]]:
    """What an example hands to `asyncio.run()` runs in the loop that runs already."""
    mains: list[Coroutine[Any, Any, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "run", mains.append)
        yield mains
