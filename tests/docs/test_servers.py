"""The table of how servers differ from SQS has what the contract suite expects to fail there, and
nothing else."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests import servers
from tests.docs.test_examples import ROOT

PAGE = (ROOT / "docs" / "reference" / "servers.md").read_text("utf-8")
SUITE = [f"tests.contract.{path.stem}" for path in (ROOT / "tests/contract").glob("test_*.py")]
SAME = "as SQS"

Cells = dict[tuple[str, str], str]


def marks() -> Iterator[tuple[str, pytest.Mark]]:
    """Each test's name, and a mark of its or of one of its cases."""
    for module in map(importlib.import_module, SUITE):
        for name, test in vars(module).items():
            for mark in getattr(test, "pytestmark", []) if name.startswith("test_") else []:
                yield name, mark
                if mark.name == "parametrize":
                    for case in mark.args[1]:
                        for each in getattr(case, "marks", ()):
                            yield name, getattr(each, "mark", each)


def expected() -> Cells:
    """By test and server: how that deviates."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, mark in marks():
        if mark.name == "deviates":
            for server in mark.args:
                reasons = found.setdefault((name, server), [])
                if mark.kwargs["reason"] not in reasons:
                    reasons.append(mark.kwargs["reason"])
    return {place: "; ".join(sorted(reasons)) for place, reasons in found.items()}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table that begins so, its heading first."""
    table = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len({len(row) for row in cells}) == 1
    return [cells[0], *cells[2:]]


def told() -> Cells:
    """What the page says, by test and server."""
    heading, *table = rows("| SQS |")
    names = [name.lower() for name in heading[1:-1]]
    assert names == list(servers.SERVERS)
    found: Cells = {}
    for _, *cells, test in table:
        for server, cell in zip(names, cells, strict=True):
            key = (test.strip("`"), server)
            assert key not in found
            if cell != SAME:
                found[key] = "; ".join(sorted(cell.split("; ")))
    return found


def test_table_has_each_deviation_that_the_contract_suite_expects() -> None:
    assert len(expected()) > 30
    assert told() == expected()


def test_every_server_that_the_tests_know_has_a_way_to_start_it() -> None:
    _, *table = rows("| server |")
    assert [row[0].strip("[").split("]")[0].lower() for row in table] == list(servers.SERVERS)


def test_page_names_the_versions_that_are_tested() -> None:
    pins = {name: each.requirements[0] for name, each in servers.PACKAGES.items()}
    tested = {name: pin.rpartition("==")[2] for name, pin in pins.items()} | servers.VERSIONS
    _, *table = rows("| server |")
    named = dict(zip(servers.SERVERS, table, strict=True))
    for name, version in tested.items():
        _, cell, start, _ = named[name]
        assert cell.split(",")[0] == version
        assert version in start


def test_nox_session_runs_every_server() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    (listed,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SERVERS"
    ]
    assert listed == list(servers.SERVERS)


def test_contributing_names_every_server() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    (row,) = re.findall(r"^\| `SQS_SERVER` \|.*", text, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row)[1:] == list(servers.SERVERS)
