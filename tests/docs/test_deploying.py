"""The manifests of the page on deploying go with what the library does."""

from __future__ import annotations

import inspect
import json
import re

from sqs_orchestrator import Poller
from tests.docs.test_examples import ROOT

PAGE = (ROOT / "docs" / "how-to" / "deploying.md").read_text("utf-8")
DRAIN = inspect.signature(Poller).parameters["drain_timeout"].default


def task() -> dict[str, object]:
    """The container of the task definition."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (container,) = json.loads(block)["containerDefinitions"]
    assert isinstance(container, dict)
    return container


def test_grace_periods_are_longer_than_a_drain() -> None:
    (pod,) = map(int, re.findall(r"terminationGracePeriodSeconds: (\d+)", PAGE))
    assert pod > DRAIN
    stop = task()["stopTimeout"]
    assert isinstance(stop, int)
    assert stop > DRAIN
    assert f"drain_timeout ({DRAIN:g})" in PAGE


def test_health_check_is_a_program_that_asks_for_liveness() -> None:
    check = task()["healthCheck"]
    assert isinstance(check, dict)
    *_, program = check["command"]
    compile(program, "healthCheck", "exec")
    assert "/livez" in program


def test_both_start_the_same_command() -> None:
    (pod,) = re.findall(r"command: \[(.*)\]", PAGE)
    assert pod.replace('"', "").split(", ") == task()["command"]
