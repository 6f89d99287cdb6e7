"""What the pages say of the project's own tests and files is so."""

from __future__ import annotations

import ast
import re

import pytest

from sqs_orchestrator import errors, http_status
from tests.docs.test_examples import PAGES, ROOT

NAMED = re.compile(r"`(?P<test>test_\w+)`")
PATH = re.compile(r"`(?P<path>[a-z_]+(?:/[a-z_]+)*\.py|(?:core|tests)(?:/\w+)+)/?`")


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


GUARANTEES = (ROOT / "docs" / "explanation" / "delivery.md").read_text("utf-8")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
HEADING = re.compile(r"^\|.*\| test \|$")


def test_each_row_of_the_guarantees_names_its_tests() -> None:
    tables = [block.splitlines() for block in GUARANTEES.split("\n\n") if block.startswith("|")]
    assert len(tables) > 5
    for heading, _, *rows in tables:
        assert HEADING.match(heading), heading
        for row in rows:
            assert row.count("|") == heading.count("|"), row
            assert NAMED.fullmatch(row.split("|")[-2].split(",")[0].strip()), row


@pytest.mark.parametrize("module", ["test_crash_points.py", "test_races.py"])
def test_guarantees_name_every_crash_point_and_race_that_is_tested(module: str) -> None:
    tree = ast.parse((ROOT / "tests" / "shell" / module).read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, FUNCTIONS)]
    tests = {node.name for node in functions if node.name.startswith("test_")}
    assert len(tests) > 5
    assert tests - {match["test"] for match in NAMED.finditer(GUARANTEES)} == set()


@pytest.mark.parametrize("page", ["contributing.md", "explanation/architecture.md"])
def test_page_names_only_modules_and_tests_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = {match["path"] for match in PATH.finditer(text)}
    places = [ROOT / "sqs_orchestrator", ROOT]
    assert named
    assert {path for path in named if not any((place / path).exists() for place in places)} == set()


def test_page_has_the_http_status_of_each_error() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \| (\d{3})\b", text, re.MULTILINE)
    told: dict[str, int] = {}
    for named, status in rows:
        for name in re.findall(r"`(\w+)`", named):
            # Its first row is of the plain error; a second one has a fact beside its name.
            told.setdefault(name, int(status))
    told["QueueError"] = int(dict(rows)["`QueueNotFound`, `AccessDenied`, any other `QueueError`"])
    for name in errors.__all__:
        assert told[name] == http_status(getattr(errors, name)()), name


def test_contributing_has_every_directory_of_tests() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    directories = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/*.py"))}
    assert directories == set(re.findall(r"^\| `tests/(\w+)`", text, re.MULTILINE))


def test_hooks_before_a_commit_have_the_versions_of_pyproject() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    needed = re.findall(r'"[^"]*>=[^"]*"', hooks)
    assert needed
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    assert [each for each in needed if each not in pyproject] == []
