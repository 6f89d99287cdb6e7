"""`guide`: the text that comes with the package."""

from __future__ import annotations

import importlib
import re

import pytest

from sqs_orchestrator import cli
from sqs_orchestrator.cli import plain

MOST = 300
"""Lines that a coding assistant can be expected to keep in mind."""


@pytest.fixture
def guide(capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["guide"]) == 0
    return capsys.readouterr().out


def test_guide_is_printed_without_what_its_tests_need(guide: str) -> None:
    assert guide.startswith("# sqs-orchestrator")
    assert "<!--" not in guide
    assert len(guide.splitlines()) < MOST


def test_guide_needs_no_extra(guide: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plain.run(["guide"]) == 0
    assert capsys.readouterr().out == guide


def test_what_examples_of_the_guide_import_is_public(guide: str) -> None:
    imported = re.findall(r"from (sqs_orchestrator[\w.]*) import (.+)", guide)
    assert len(imported) > 5
    for module, names in imported:
        for name in names.split(", "):
            assert name in importlib.import_module(module).__all__
