"""What the README says of the package, its extras, its sessions and its pages is so."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib

import pytest
from hypothesis import settings

from sqs_orchestrator import ReplyQueue, __version__
from tests.docs.test_examples import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NOXFILE = (ROOT / "noxfile.py").read_text("utf-8")

LINKS = sorted(set(re.findall(r"\]\(([^)\s]+)\)", README)))


def test_extras_are_those_of_the_project() -> None:
    told = re.findall(r'^pip install "\.\[(\w+)\]"', README, re.MULTILINE)
    assert sorted(told) == sorted(PROJECT["optional-dependencies"])


def test_pythons_and_dependencies_are_those_of_the_project() -> None:
    (tested,) = re.findall(r"tested on ([\d., ]+ and [\d.]+\d)\.", README)
    pythons = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if " 3." in each]
    assert re.findall(r"3\.\d+", tested) == pythons
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer; tested" in README
    (needs,) = re.findall(r"It needs (.*?), and", README)
    dependencies = [re.split("[>=<]", each)[0] for each in PROJECT["dependencies"]]
    assert re.findall("`(.*?)`", needs) == dependencies


def test_sessions_exist() -> None:
    functions = {node.name for node in ast.parse(NOXFILE).body if isinstance(node, ast.FunctionDef)}
    named = set(re.findall(r"python3 noxfile\.py (\w+)", README))
    assert {"demo", "example", "pythons", "tests"} <= named <= functions


def test_tests_run_in_two_processes_and_in_ten_times_as_many_cases() -> None:
    assert "They run in two processes" in README
    assert '"--maxprocesses=2"' in NOXFILE
    assert "they are ten times as many" in README
    few, many = (settings.get_profile(name).max_examples for name in ("dev", "full"))
    assert many == 10 * few == settings.get_profile("ci").max_examples


def test_comparison_has_this_version_and_its_heartbeat() -> None:
    assert f"version {__version__}," in README
    heartbeat = inspect.signature(ReplyQueue).parameters["heartbeat_interval"].default
    assert f"| every {heartbeat:g} s, rarer in large fleets |" in README


@pytest.mark.parametrize("link", [each for each in LINKS if not each.startswith("https://")])
def test_link_leads_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    text = (ROOT / path).read_text("utf-8") if path else README
    if anchor:
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in titles]


@pytest.mark.parametrize("kind", ["how-to", "explanation"])
def test_every_page_is_linked(kind: str) -> None:
    pages = {f"docs/{kind}/{path.name}" for path in (ROOT / "docs" / kind).glob("*.md")}
    assert pages - {link.partition("#")[0] for link in LINKS} == set()
