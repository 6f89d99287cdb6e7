"""The manifests of the page on deploying go with what the library does."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
from typing import Any

import botocore.session
import pytest
import yaml
from botocore import xform_name
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.validate import ParamValidator

from sqs_orchestrator import Poller
from tests.docs.test_examples import ROOT

PAGE = (ROOT / "docs" / "how-to" / "deploying.md").read_text("utf-8")
DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(Poller).parameters.items()
}
DRAIN = DEFAULTS["drain_timeout"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


MANIFESTS = {
    manifest["kind"]: manifest for block in blocks("yaml") for manifest in yaml.safe_load_all(block)
}
DEPLOYMENT = MANIFESTS["Deployment"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
TASK, POLICY = map(json.loads, blocks("json"))
(TASK_CONTAINER,) = TASK["containerDefinitions"]


def operation(service: str, name: str) -> Any:
    return botocore.session.get_session().get_service_model(service).operation_model(name)


def test_grace_periods_are_longer_than_a_drain() -> None:
    assert POD["terminationGracePeriodSeconds"] > DRAIN
    assert TASK_CONTAINER["stopTimeout"] > DRAIN
    assert f"drain_timeout ({DRAIN:g})" in PAGE


def test_page_has_the_wait_of_a_poll_which_a_drain_awaits() -> None:
    assert f"`wait_time` ({DEFAULTS['wait_time']:g})" in PAGE
    assert DEFAULTS["wait_time"] <= DRAIN - 2


def test_probes_ask_the_port_that_the_worker_opens() -> None:
    (container,) = POD["containers"]
    port = int(container["command"][-1])
    assert container["ports"] == [{"containerPort": port}]
    for name, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[name]["httpGet"] == {"path": path, "port": port}
        # One that takes longer is no answer of a thread.
        assert container[name]["timeoutSeconds"] < container[name]["periodSeconds"]


def test_health_check_is_a_program_that_asks_for_liveness() -> None:
    check = TASK_CONTAINER["healthCheck"]
    *_, program = check["command"]
    compile(program, "healthCheck", "exec")
    assert "/livez" in program
    (patience,) = re.findall(r"timeout=(\d+)", program)
    assert int(patience) < check["timeout"] < check["interval"]


def test_both_start_the_same_command() -> None:
    (container,) = POD["containers"]
    assert container["command"] == TASK_CONTAINER["command"]
    (dockerfile,) = blocks("dockerfile")
    (command,) = re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)
    assert json.loads(command) == container["command"]


def test_both_name_the_region_where_botocore_looks_for_it() -> None:
    (container,) = POD["containers"]
    assert container["env"] == TASK_CONTAINER["environment"]
    (variable,) = container["env"]
    # The order: the name in a profile, the variable, the default, the conversion.
    assert BOTOCORE_DEFAUT_SESSION_VARIABLES["region"][1] == variable["name"]


def test_scaled_object_is_of_the_deployment_and_counts_as_the_text_does() -> None:
    spec = MANIFESTS["ScaledObject"]["spec"]
    assert spec["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    (trigger,) = spec["triggers"]
    authentication = MANIFESTS["TriggerAuthentication"]["metadata"]["name"]
    assert trigger["authenticationRef"]["name"] == authentication
    (given,) = re.findall(r"with (\d+) handlers of ([\d.]+) s and a wait of (\d+) s", PAGE)
    concurrency, handler, wait = map(float, given)
    waiting = concurrency * wait / handler
    assert f"that is {waiting:g}." in PAGE
    # What is in work counts as well.
    assert int(trigger["metadata"]["queueLength"]) == waiting + concurrency


@pytest.mark.parametrize(
    ("service", "name", "given"),
    [
        ("ecs", "RegisterTaskDefinition", {"family": "orders", **TASK}),
        ("application-autoscaling", "PutScalingPolicy", POLICY),
    ],
)
def test_aws_takes_the_json(service: str, name: str, given: Any) -> None:
    report = ParamValidator().validate(given, operation(service, name).input_shape)
    assert not report.has_errors(), report.generate_report()


def test_steps_leave_no_gap_and_begin_at_the_threshold() -> None:
    steps = POLICY["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert steps[0]["MetricIntervalLowerBound"] == 0
    for one, next_one in itertools.pairwise(steps):
        assert one["MetricIntervalUpperBound"] == next_one["MetricIntervalLowerBound"]
    assert "MetricIntervalUpperBound" not in steps[-1]
    (threshold,) = re.findall(r"--threshold (\d+)", PAGE)
    more = int(threshold) + steps[-1]["MetricIntervalLowerBound"]
    assert f"wait for {threshold} seconds, and doubles them from {more} seconds on" in PAGE


def test_commands_have_the_operations_and_options_that_aws_has() -> None:
    (script,) = [block for block in blocks("sh") if "aws " in block]
    text = script.replace("\\\n", " ").replace("$(", "\n").replace(")\n", "\n")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("aws ")]
    assert len(commands) == 3
    general = {"cli-input-json", "query", "output"}
    for _, service, name, *words in commands:
        model = botocore.session.get_session().get_service_model(service)
        known = {xform_name(each, "-"): each for each in model.operation_names}
        shape = model.operation_model(known[name]).input_shape
        options = {xform_name(each, "-") for each in shape.members} | general
        given = {word.removeprefix("--") for word in words if word.startswith("--")}
        assert given <= options
        if "cli-input-json" not in given:
            assert {xform_name(each, "-") for each in shape.required_members} <= given
    registered = commands[0]
    for option, key in (
        ("--resource-id", "ResourceId"),
        ("--scalable-dimension", "ScalableDimension"),
        ("--service-namespace", "ServiceNamespace"),
    ):
        assert registered[registered.index(option) + 1] == POLICY[key]
