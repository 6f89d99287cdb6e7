"""What the benchmark makes of its samples, and the fleets that it simulates."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sqs_orchestrator.core import pacing
from tests.benchmarks import fleet, pages, programs
from tests.benchmarks.__main__ import ASSETS, PUBLISHED, load, save
from tests.benchmarks.bars import Bar, asking, bars
from tests.benchmarks.contenders import (
    CONTENDERS,
    FLOOR,
    JAVA,
    OPTIONAL,
    OURS,
    SCALED,
    SINGLE,
    program,
)
from tests.benchmarks.plots import NAMES, draw
from tests.benchmarks.programs import Unavailable
from tests.benchmarks.report import report
from tests.benchmarks.results import Results, Sample, Spread
from tests.benchmarks.scenarios import CONCURRENT, scenarios, takes_part
from tests.benchmarks.telemetry import SETTINGS, measured


def sample(scenario: str, contender: str, number: int, seconds: float, cpu: float) -> Sample:
    """A run of a thousand messages."""
    calls = {"SendMessageBatch": 200, "ReceiveMessage": 200, "DeleteMessageBatch": 200}
    return Sample(scenario, contender, number, 1_000, seconds, 0.01, 0.02, cpu / 2, cpu / 2, calls)


@pytest.fixture
def results() -> Results:
    """Three rounds, in which the machine becomes ever slower."""
    facts = {
        "server": "fauxqs",
        "machine": "x86_64, 2 cores",
        "python": "3.13.0",
        "packages": {"aiobotocore": "3.0"},
        "rounds": 3,
        "load before": 0.0,
    }
    found = Results(facts)
    for at_a_time in CONCURRENT:
        for number, slowness in enumerate((1.0, 2.0, 10.0)):
            found.samples += [
                sample(asking(at_a_time), OURS, number, 0.25 * slowness, 0.2 * slowness),
                sample(asking(at_a_time), FLOOR, number, 0.5 * slowness, 0.6 * slowness),
            ]
    return found


def test_ratio_compares_within_a_round(results: Results) -> None:
    spread = results.ratio(asking(10), OURS, FLOOR, lambda each: each.rate)
    assert spread == Spread(2.0, 2.0, 2.0)


def test_ratio_skips_rounds_that_the_other_missed(results: Results) -> None:
    del results.samples[1]  # the floor's of the first round
    spread = results.ratio(asking(1), OURS, FLOOR, lambda each: each.cpu)
    assert spread is not None
    assert spread.median == pytest.approx(1 / 3)
    assert results.ratio(asking(1), OURS, SINGLE, lambda each: each.cpu) is None


def test_spread_is_of_all_rounds(results: Results) -> None:
    spread = results.spread(asking(1_000), OURS, lambda each: each.cpu)
    assert spread is not None
    assert (spread.least, spread.median, spread.most) == pytest.approx((2e-4, 4e-4, 2e-3))


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("", Spread(0.5, 0.1, 9), at_most=0.5), True),
        (Bar("", Spread(0.51, 0.1, 9), at_most=0.5), False),
        (Bar("", Spread(2, 0.1, 9), at_least=2), True),
        (Bar("", Spread(1.9, 0.1, 9), at_least=2), False),
        (Bar("", Spread(1, 1, 1), at_least=1, at_most=1), True),
        (Bar("", Spread(0, 0, 0), at_least=1, at_most=1), False),
        (Bar("", None, at_most=0.5), None),
    ],
)
def test_bar_is_met_by_the_median(bar: Bar, met: bool | None) -> None:
    assert bar.met is met


def test_bars_judge_what_was_measured(results: Results) -> None:
    found = {bar.what: bar for bar in bars(results)}
    assert found["API calls per round trip, 1,000 at a time"].met is True
    assert found["CPU per round trip, to the floor's"].met is True
    # 400 microseconds are 2,500 a second.
    assert found["round trips per second of CPU, asyncio"].met is False
    assert found["one-way throughput, to the floor's"].met is None


def test_report_names_what_was_left_out(results: Results) -> None:
    results.left_out["some peer"] = "it does not exist"
    shown = report(results)
    assert "Left out: some peer: it does not exist" in shown
    assert "MISSED" in shown


def test_results_survive_their_file(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(results, path)
    assert load(path) == results
    assert json.loads(path.read_text("utf-8"))["samples"][0]["round"] == 0


def test_pages_get_the_figures_and_keep_their_text(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {}
    for name in ("PAGE", "README"):
        real: Path = getattr(pages, name)
        copy = tmp_path / name
        copy.write_text(real.read_text("utf-8"), "utf-8")
        monkeypatch.setattr(pages, name, copy)
        before, _, rest = copy.read_text("utf-8").partition(pages.BEGIN)
        texts[copy] = before, rest.partition(pages.END)[2]
    for _ in range(2):
        assert list(pages.write(results)) == list(texts)
    for copy, (before, after) in texts.items():
        written = copy.read_text("utf-8")
        assert written.startswith(before + pages.BEGIN)
        assert written.endswith(pages.END + after)
        assert "| this library | " in written
        assert "| 0.60 |" in written
        assert f"{NAMES[SINGLE]} | " not in written  # it was not measured
    bar = "| CPU per round trip, to the floor's | at most 0.5 x | 0.333 x (0.333 to 0.333) | met |"
    assert bar in (tmp_path / "PAGE").read_text("utf-8")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="nothing was published by `--pages` yet")
def test_plots_of_the_documentation_show_what_was_published(tmp_path: Path) -> None:
    for path in draw(load(PUBLISHED), tmp_path):
        assert path.read_text("utf-8") == (ASSETS / path.name).read_text("utf-8")


def test_plots_are_well_formed(results: Results, tmp_path: Path) -> None:
    paths = list(draw(results, tmp_path))
    assert len(paths) == 4
    for path in paths:
        root = ET.fromstring(path.read_text("utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "this library" in words


def test_plots_show_whoever_asks(results: Results, tmp_path: Path) -> None:
    asking_ones = [each for each in CONTENDERS if each.two_way and not each.only]
    shown = [each.name for each in asking_ones if each.name not in OPTIONAL]
    results.samples = [
        sample(asking(1_000), name, 0, 1.0 + number, 1.0) for number, name in enumerate(shown)
    ]
    drawn = {
        path.stem: path.read_text("utf-8").count("<title>") for path in draw(results, tmp_path)
    }
    # Curves and the bars of the rate compare the ways, and not the loops and sessions as well.
    assert drawn == {
        "benchmark-cpu": len(shown),
        "benchmark-rate": 5,
        "benchmark-concurrency": 5,
        "benchmark-calls": 5,
    }


def test_curves_keep_their_spread_within_the_axes(results: Results, tmp_path: Path) -> None:
    shown = {path.name: path for path in draw(results, tmp_path)}["benchmark-concurrency.svg"]
    axis, *reaches = re.findall(r' d="M[\d.]+ ([-\d.]+)V([-\d.]+)', shown.read_text("utf-8"))
    top, bottom = map(float, axis)
    assert len(reaches) == 2 * len(CONCURRENT)
    for reach in reaches:
        for end in map(float, reach):
            assert top <= end <= bottom


def test_plots_show_the_curve_over_processes(results: Results, tmp_path: Path) -> None:
    for each, name in SCALED.items():
        results.samples.append(sample("processes", name, 0, 1 / each, 0.2))
    paths = {path.name: path for path in draw(results, tmp_path)}
    shown = paths["benchmark-processes.svg"].read_text("utf-8")
    for each in (1, 2, 4):
        assert f"round trips per second, {each} processes on each side: " in shown


def test_curve_over_processes_has_so_many() -> None:
    (scenario,) = (each for each in scenarios() if each.name == "processes")
    found = {each.name: each for each in CONTENDERS if takes_part(each, scenario)}
    for each, name in SCALED.items():
        assert (found[name].requesters, found[name].workers) == (each, each)


def test_every_scenario_has_its_contenders() -> None:
    for scenario in scenarios():
        assert any(takes_part(contender, scenario) for contender in CONTENDERS), scenario


# The program in Java itself is run by the benchmark only: building it downloads much.


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory where programs are found; what is made goes beside it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(programs, "_MADE", tmp_path / "made")
    return directory


def put(directory: Path, name: str, script: str) -> None:
    """Make a program of that name."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


java_client = next(each for each in CONTENDERS if each.name == JAVA)


def test_java_client_is_left_out_without_java(only_path: Path) -> None:
    put(only_path, "mvn", "exit 0")
    with pytest.raises(Unavailable, match="no `java`"):
        program(java_client)
    assert programs.java_version() is None


def test_java_client_is_left_out_without_maven(only_path: Path) -> None:
    put(only_path, "java", "exit 0")
    with pytest.raises(Unavailable, match="no `mvn`"):
        program(java_client)


def test_java_program_is_built_again_after_a_failure(only_path: Path) -> None:
    put(only_path, "java", "exit 0")
    made = 'for each; do case $each in -Dbuilt=*) /bin/mkdir "${each#*=}";; esac; done'
    put(only_path, "mvn", f"{made}; echo '[ERROR] no such thing'; echo '[ERROR] Help'; exit 1")
    with pytest.raises(Unavailable, match=r"^Maven: no such thing$"):
        program(java_client)
    put(only_path, "mvn", made)
    command = program(java_client)
    assert command[0] == str(only_path / "java")
    classes, _ = command[-2].split(os.pathsep)
    assert Path(classes).parent.is_dir()
    # It is not built twice.
    (only_path / "mvn").unlink()
    assert program(java_client) == command


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("requesters", [10, 1_000])
def test_survivors_clean_up_within_the_budget(requesters: int, part: float) -> None:
    outcome = fleet.simulate(requesters, part)
    assert outcome.crashed == min(max(round(requesters * part), 1), requesters - 1)
    assert outcome.wronged == 0
    assert outcome.retention - fleet.HEARTBEAT * 6 < outcome.all_after
    assert outcome.tag_calls <= pacing.TAG_CALLS
    assert outcome.most_tag_calls <= 1.2 * pacing.TAG_CALLS


def test_healthy_fleet_lists_once_per_sweep() -> None:
    outcome = fleet.Simulation(1_000, 0).run(1_000)
    assert outcome.listings == pytest.approx(pacing.SWEEPS, rel=0.1)
    assert outcome.tag_calls == pytest.approx(pacing.HEARTBEATS + pacing.SWEEPS, rel=0.1)
    assert outcome.wronged == 0


def test_stretch_stands_for_the_whole_ring() -> None:
    whole = fleet.simulate(3_000, 0.5)
    stretch = fleet.simulate(3_000, 0.5, most_sweepers=1_000)
    assert stretch.tag_calls == pytest.approx(whole.tag_calls, rel=0.15)
    assert stretch.half_after == pytest.approx(whole.half_after, rel=0.15)
    assert stretch.wronged == 0


# ---------------------------------------------------------------------------- telemetry


@pytest.mark.server
async def test_the_price_of_telemetry_is_measured_with_each_setting(small_server: str) -> None:
    costs = await measured(small_server, rounds=2, count=4, at_a_time=2)
    assert list(costs) == list(SETTINGS)
    assert all(len(each) == 2 and min(each) > 0 for each in costs.values())
