"""The examples of README.md and of the documentation do what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import Example, find, run, run_pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "sqs_orchestrator" / "guide.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXAMPLES = [example for page in PAGES for example in find(page)]


@pytest.mark.server
@pytest.mark.parametrize(
    "example", [pytest.param(e, id=f"{e.page.relative_to(ROOT)}:{e.line}") for e in EXAMPLES]
)
async def test_example_runs(example: Example, given: Any, tmp_path: Path) -> None:
    if example.skip is not None:
        pytest.skip(example.skip)
    if "pytest" in example.parts:
        await asyncio.to_thread(run_pytest, example, tmp_path)
        return
    await run(example, given)
