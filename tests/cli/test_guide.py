"""`guide`: the text that comes with the package."""

from __future__ import annotations

import re
import sys

import pytest

import sqs_orchestrator
from sqs_orchestrator import aws_lambda, cli, testing
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


def test_names_in_the_guide_exist(guide: str) -> None:
    imported = re.findall(r"from (sqs_orchestrator[\w.]*) import (.+)", guide)
    assert len(imported) > 5
    for module, names in imported:
        for name in names.split(", "):
            assert name in sys.modules[module].__all__
    known = {*sqs_orchestrator.__all__, *aws_lambda.__all__, *testing.__all__}
    errors = re.findall(r"`([A-Z]\w+(?:Error|Timeout|Lost|Closed|Denied|NotFound))`", guide)
    assert set(errors) - {"ValueError"} <= known
    assert {"RemoteError", "ReplyTimeout"} <= set(errors)
