"""What the pages say of the project's own tests and files is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.test_examples import PAGES, ROOT

NAMED = re.compile(r"`(?P<test>test_\w+)`")
MODULE = re.compile(r"`(?P<module>[a-z_]+(?:/[a-z_]+)*\.py)`")


def known_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
    return found


def test_pages_name_only_tests_that_exist() -> None:
    named = {
        (page.name, match["test"])
        for page in PAGES
        for match in NAMED.finditer(page.read_text("utf-8"))
    }
    known = known_tests()
    assert named
    assert {each for each in named if each[1] not in known} == set()


@pytest.mark.parametrize("page", ["architecture.md"])
def test_page_names_only_modules_that_exist(page: str) -> None:
    text = (ROOT / "docs" / "explanation" / page).read_text("utf-8")
    named = {match["module"] for match in MODULE.finditer(text)}
    assert named
    assert {each for each in named if not Path(ROOT / "sqs_orchestrator" / each).exists()} == set()
