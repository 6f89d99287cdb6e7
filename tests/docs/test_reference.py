"""The written overviews of the reference say what the code says.

A comment before a table says what the table is about, and so what it is compared with:

    <!-- parameters: sqs_orchestrator.Publisher -->
    <!-- methods: sqs_orchestrator.Publisher -->
    <!-- functions: sqs_orchestrator.sweep -->
    <!-- attributes: sqs_orchestrator.Health -->
    <!-- errors -->

A table of parameters may be about several functions: then its column `of` says which of them
have a row, where not all do.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pytest_sqs_orchestrator
import sqs_orchestrator
from sqs_orchestrator import errors, testing
from tests.docs.test_examples import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
INDEX = ROOT / "docs" / "reference" / "index.md"
MODULES = [f"sqs_orchestrator.{name}" for name in ("aws_lambda", "opentelemetry", "testing")]
"""The modules that users import beside the package."""

DIRECTIVE = re.compile(r"^::: (?P<name>[\w.]+)\n(?P<options>(?:    .*\n|\n)*)", re.MULTILINE)
MARKER = re.compile(
    r"^<!-- (?P<kind>parameters|methods|functions|attributes|errors)(?:: (?P<of>.+))? -->$"
)
CODE = re.compile(r"`([^`]+)`")
REQUIRED = "required"

MADE_BY_THE_LIBRARY = {
    "sqs_orchestrator.Connection",
    "sqs_orchestrator.aws_lambda.LambdaHandler",
    "sqs_orchestrator.testing.MemoryConnection",
}
"""Classes whose constructors are not for programs."""


@dataclass
class Table:
    page: Path
    line: int
    kind: str
    of: list[str]
    rows: list[dict[str, str]]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def tables_of(page: Path) -> Iterator[Table]:
    lines = page.read_text("utf-8").splitlines()
    for at, line in enumerate(lines):
        match = MARKER.match(line)
        if match is None:
            continue
        begin = at + 2  # an empty line stands between: Markdown wants it
        table = itertools.takewhile(lambda line: line.startswith("|"), lines[begin:])
        heading, _, *rows = map(_cells, table)
        found = [dict(zip(heading, row, strict=True)) for row in rows]
        yield Table(page, begin + 1, match["kind"], (match["of"] or "").split(), found)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


TABLES = [table for page in PAGES for table in tables_of(page)]


def tables(kind: str) -> list[Any]:
    return [pytest.param(each, id=str(each)) for each in TABLES if each.kind == kind]


def resolve(name: str) -> Any:
    """What *name* names, the longest part of it as a module."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise LookupError(name)


def public_names() -> dict[str, str]:
    """All public names, with their modules before them, and the last part alone."""
    return {
        f"{module}.{name}": name
        for module in ["sqs_orchestrator", *MODULES]
        for name in importlib.import_module(module).__all__
    }


def the(cell: str) -> str:
    """The code in *cell*."""
    (code,) = CODE.findall(cell)
    return str(code)


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize("table", tables("parameters"))
def test_table_has_the_parameters_of_the_code(table: Table) -> None:
    for name in table.of:
        short = name.rpartition(".")[2]
        rows = [
            row
            for row in table.rows
            if short in CODE.findall(row.get("of", "")) or not row.get("of")
        ]
        found = [(the(row["parameter"]), _type(row["type"]), _default(row)) for row in rows]
        assert found == [
            (each.name, str(each.annotation), each.default) for each in parameters(resolve(name))
        ], name


def parameters(function: Any) -> list[inspect.Parameter]:
    found = inspect.signature(function).parameters.values()
    return [each for each in found if each.name != "self"]


def _type(cell: str) -> str:
    """`int` or `None` is how a page says `int | None`: a bar would end the cell."""
    return cell.replace("` or `", " | ").strip("`")


def _default(row: dict[str, str]) -> Any:
    if row["default"] == REQUIRED:
        return inspect.Parameter.empty
    return eval(the(row["default"]), {"math": math, **vars(sqs_orchestrator)})


@pytest.mark.parametrize("table", tables("parameters"))
def test_every_number_of_seconds_has_its_unit(table: Table) -> None:
    assert [
        row["parameter"] for row in table.rows if "float" in row["type"] and not row["unit"]
    ] == []


# ------------------------------------------------------------------------- methods


@pytest.mark.parametrize("table", tables("methods"))
def test_table_has_the_members_of_the_class(table: Table) -> None:
    (name,) = table.of
    shown = {_called(row)[0] for row in table.rows}
    assert len(shown) == len(table.rows)
    assert shown == members(name)


def _called(row: dict[str, str]) -> tuple[str, str]:
    """The name in the first cell of a row, and how it is called there."""
    code = the(next(iter(row.values())))
    bare = re.sub("^(await|async with|with) ", "", code)
    return bare.partition("(")[0], code


def members(name: str) -> set[str]:
    """The public members of a class that its directive shows."""
    class_ = resolve(name)
    listed = _listed(name)
    if listed is not None:
        return listed - {"__call__"}
    found = {
        each
        for each in dir(class_)
        if not each.startswith("_") and any(each in vars(base) for base in _ours(class_))
    }
    if dataclasses.is_dataclass(class_):
        found -= {each.name for each in dataclasses.fields(class_)}
    for base in _ours(class_):
        found |= set(_documented(base))
    return found - _filtered(name)


def _ours(class_: type) -> list[type]:
    return [base for base in class_.__mro__ if base.__module__.startswith("sqs_orchestrator")]


def _documented(class_: type) -> Iterator[str]:
    """The attributes that `__init__` sets and that have a docstring below."""
    if "__init__" not in vars(class_) or dataclasses.is_dataclass(class_):
        return
    source = textwrap.dedent(inspect.getsource(vars(class_)["__init__"]))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    for statement, text in zip(function.body, function.body[1:], strict=False):
        if not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
            continue
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        for each in targets:
            assert isinstance(each, ast.Attribute)
            yield each.attr


def directives() -> dict[str, tuple[Path, str]]:
    """The page and the options of each directive of the reference, by what it shows."""
    found: dict[str, tuple[Path, str]] = {}
    for page in PAGES:
        for match in DIRECTIVE.finditer(page.read_text("utf-8")):
            assert match["name"] not in found, f"{match['name']} is on {page.name} too"
            found[match["name"]] = page, match["options"]
    return found


def _listed(name: str) -> set[str] | None:
    options = directives().get(name, (None, ""))[1]
    match = re.search(r"^ +members: \[(.*)\]$", options, re.MULTILINE)
    return {each for each in match[1].split(", ") if each} if match else None


def _filtered(name: str) -> set[str]:
    options = directives().get(name, (None, ""))[1]
    match = re.search(r"^ +filters: (\[.*\])$", options, re.MULTILINE)
    texts: list[str] = json.loads(match[1]) if match else []
    return {each.removeprefix("!^").removesuffix("$") for each in texts}


@pytest.mark.parametrize("table", [*tables("methods"), *tables("functions")])
def test_table_shows_each_function_as_it_is_called(table: Table) -> None:
    for found, (member, code) in called_in(table):
        if not inspect.isfunction(found):
            assert code == member, code
            continue
        before = "await " if inspect.iscoroutinefunction(found) else ""
        if str(inspect.signature(found).return_annotation).startswith("AsyncIterator"):
            before = "async with "
        elif str(inspect.signature(found).return_annotation).startswith("Iterator"):
            before = "with "
        elif found in (sqs_orchestrator.connect, testing.connect):
            before = "async with "
        assert code in {f"{before}{member}({each})" for each in _ways_to_write(found)}


def called_in(table: Table) -> Iterator[tuple[Any, tuple[str, str]]]:
    """Each function, or other member, of a table, with its name and how it is called there."""
    for row, name in zip(table.rows, table.of * len(table.rows), strict=False):
        member, code = _called(row)
        if table.kind == "functions":
            found = next(resolve(each) for each in table.of if each.endswith(f".{member}"))
            yield found, (member, code)
            continue
        found = inspect.getattr_static(resolve(name), member, None)
        if isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
        yield found, (member, code)


def _ways_to_write(function: Any) -> set[str]:
    """The arguments of *function*: those that are passed by name in full, or as `…`."""
    first: list[str] = []
    named: list[str] = []
    for each in inspect.signature(function).parameters.values():
        default = getattr(each.default, "__name__", repr(each.default))
        text = each.name if each.default is each.empty else f"{each.name}={default}"
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.VAR_POSITIONAL:
            first.append(f"*{each.name}")
        elif each.kind is each.VAR_KEYWORD:
            named.append(f"**{each.name}")
        elif each.kind is each.KEYWORD_ONLY:
            if not named and not any(given.startswith("*") for given in first):
                first.append("*")
            named.append(text)
        else:
            first.append(text)
    return {", ".join([*first, *named]), ", ".join([*first, *(["…"] if named else [])])}


@pytest.mark.parametrize("table", [*tables("methods"), *tables("functions")])
def test_table_names_the_errors_of_the_docstring(table: Table) -> None:
    for (found, (member, _)), row in zip(called_in(table), table.rows, strict=True):
        section = re.search(
            r"^Raises:\n((?:    .*\n?|\n)*)", inspect.getdoc(found) or "", re.MULTILINE
        )
        raised = set(re.findall(r"^    (\w+):", section[1], re.MULTILINE)) if section else set()
        named = {each for each in CODE.findall(row["raises"]) if not each.endswith(")")}
        assert named == raised, member


# ---------------------------------------------------------------------- attributes


@pytest.mark.parametrize("table", tables("attributes"))
def test_table_has_the_fields_of_the_class(table: Table) -> None:
    (name,) = table.of
    fields = dataclasses.fields(resolve(name))
    found = [(the(row["attribute"]), _type(row["type"])) for row in table.rows]
    assert found == [(each.name, str(each.type)) for each in fields]


def test_every_error_has_its_row_with_its_attributes() -> None:
    (table,) = [each for each in TABLES if each.kind == "errors"]
    found = {the(row["error"]): set(CODE.findall(row["attributes"])) for row in table.rows}
    assert found == {name: _facts(getattr(errors, name)) for name in errors.__all__}


def _facts(kind: type) -> set[str]:
    """The arguments of an error that those before it in the tree do not have."""
    own = {each.name for each in parameters(kind)}
    above = {"message"}
    for base in kind.__bases__:
        if issubclass(base, errors.SQSOrchestratorError):
            above |= {each.name for each in parameters(base)}
    return own - above


# -------------------------------------------------------------------- completeness


def test_every_public_name_has_its_place_on_one_page_and_the_index_says_where() -> None:
    shown = {name: page for name, (page, _) in directives().items()}
    rows = [line for line in INDEX.read_text("utf-8").splitlines() if line.startswith("| ")]
    on_index: dict[str, set[str]] = {}
    for row in rows:
        first = _cells(row)[0]
        for target in re.findall(r"\]\(([\w-]+\.md)", row):
            for code in CODE.findall(first):
                on_index.setdefault(code, set()).add(target)
    for full, name in public_names().items():
        if name == "__version__":
            continue
        module = full.rpartition(".")[0]
        pages = {shown[each] for each in (full, module) if each in shown}
        if name in errors.__all__:
            pages.add(shown["sqs_orchestrator.errors"])
        if module in shown and full in shown:
            raise AssertionError(f"{full} is shown twice")
        assert len(pages) == 1, f"{full} has its place on {len(pages)} pages"
        code = name if module == "sqs_orchestrator" else full.removeprefix("sqs_orchestrator.")
        assert on_index.get(code) == {page.name for page in pages}, f"{code} in index.md"


def test_every_function_and_class_has_its_tables() -> None:
    described = {(each.kind, name) for each in TABLES for name in each.of}
    missing = []
    for full, name in public_names().items():
        thing = resolve(full)
        if name in errors.__all__ or not callable(thing):
            continue
        needed: set[str] = set()
        if not isinstance(thing, type):
            needed = {"functions"} | ({"parameters"} if parameters(thing) else set())
        elif dataclasses.is_dataclass(thing):
            needed.add("attributes")
        elif full not in MADE_BY_THE_LIBRARY and _can_be_made(thing):
            needed.add("parameters")
        if isinstance(thing, type) and not issubclass(thing, Exception) and members(full):
            needed.add("methods")
        missing += [(kind, full) for kind in needed if (kind, full) not in described]
    assert missing == []


def _can_be_made(class_: type) -> bool:
    return (
        "__init__" in vars(class_)
        and not getattr(class_, "_is_protocol", False)
        and bool(parameters(class_))
    )


def test_what_a_table_of_methods_leaves_out_has_its_table() -> None:
    described = {name for each in TABLES if each.kind == "parameters" for name in each.of}
    missing = []
    for table in TABLES:
        if table.kind != "methods":
            continue
        for row in table.rows:
            member, code = _called(row)
            if "…" in code and f"{table.of[0]}.{member}" not in described:
                missing.append(f"{table}: {member}")
    assert missing == []


def test_page_of_the_plugin_has_every_fixture() -> None:
    page = (ROOT / "docs" / "reference" / "testing.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:function|session) \|", page, re.MULTILINE)
    tree = ast.parse(inspect.getsource(pytest_sqs_orchestrator))
    fixtures = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    ]
    assert sorted(rows) == sorted(fixtures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_names_only_modules_that_exist(page: Path) -> None:
    named = re.findall(r"`(sqs_orchestrator/[\w/]+\.py)`", page.read_text("utf-8"))
    assert [each for each in named if not (ROOT / each).exists()] == []
