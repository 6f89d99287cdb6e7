"""The benchmark: `nox -s benchmark`, or `python -m tests.benchmarks` in a checkout.

It starts an SQS server on this machine, starts the processes of all contenders, and lets them
do the same things in turn, round by round. A figure is compared with another contender's of
the same round only, which is moments away.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqs_orchestrator
from sqs_orchestrator.sqs.opening import open_sqs
from tests import servers
from tests.benchmarks import apart, pages, report
from tests.benchmarks.contenders import (
    CONTENDERS,
    OPTIONAL,
    OURS,
    OURS_SESSION,
    Contender,
    Failed,
    Team,
    enter_team,
    program,
)
from tests.benchmarks.plots import draw
from tests.benchmarks.programs import ROOT, Unavailable, java_version
from tests.benchmarks.results import Results, Sample
from tests.benchmarks.scenarios import Stage, scenarios, takes_part, warm_up
from tests.benchmarks.side import CLIENT

RESULTS: Final = ROOT / ".cache" / "benchmark" / "results.json"
PUBLISHED: Final = Path(__file__).with_name("published.json")
"""What the documentation shows: in the repository, so that it can be drawn anew."""

ASSETS: Final = ROOT / "docs" / "assets"

QUICK: Final = 0.4
"""The part of the messages that `--quick` sends."""


async def run(endpoint_url: str, results: Results, options: argparse.Namespace) -> None:
    """Measure everything on the server at *endpoint_url*."""
    scale = QUICK if options.quick else 1.0
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            open_sqs(
                endpoint_url=endpoint_url,
                profile_name=None,
                config=None,
                session=None,
                **CLIENT,
            )
        )
        if not options.scenarios:
            await _alone(endpoint_url, results, options)
        chosen = [
            scenario
            for scenario in scenarios()
            if not options.scenarios or any(each in scenario.name for each in options.scenarios)
        ]
        teams: list[Team] = []
        for number, contender in enumerate(_chosen(options.contenders)):
            if not any(takes_part(contender, scenario) for scenario in chosen):
                continue
            queue = f"requests-{number}"
            await port.create_queue(queue, {"VisibilityTimeout": "300"}, {})
            try:
                program(contender)
                team = await enter_team(stack, contender, endpoint_url, queue)
                await warm_up(team)
            except (Unavailable, Failed) as why:
                _leave_out(results, contender, why)
            else:
                teams.append(team)
        stage = Stage(port, results, scale=scale)
        for scenario in chosen:
            print(f"  {scenario.name}", end="", flush=True)
            began = time.monotonic()
            for number in range(min(options.rounds, scenario.most_rounds)):
                for team in _in_turn(teams, number):
                    if takes_part(team.contender, scenario):
                        try:
                            await stage.run(team, scenario, number)
                        except Failed as why:
                            _leave_out(results, team.contender, why)
                            teams.remove(team)
                print(".", end="", flush=True)
            print(f" {time.monotonic() - began:.0f} s", flush=True)
        for team in teams:
            await team.settled()
        if not options.scenarios:
            ours = [team for team in teams if team.contender.name in (OURS, OURS_SESSION)]
            # The polls that the last requests opened are over before that.
            results.apart["idle processes"] = await stage.idle(ours, 5 if options.quick else 60)


async def _alone(endpoint_url: str, results: Results, options: argparse.Namespace) -> None:
    """The figures of single processes, while no others are there."""
    print("  import, memory, resolving, idle", end="", flush=True)
    began = time.monotonic()
    results.apart["import"] = await asyncio.to_thread(apart.measure_import, 2 * options.rounds + 1)
    results.apart["memory"] = await asyncio.to_thread(apart.measure_memory, endpoint_url)
    resolving = await asyncio.to_thread(apart.measure_resolving, options.rounds)
    results.apart["resolving"] = resolving
    results.apart["idle"] = await asyncio.to_thread(apart.measure_idle)
    print(f" {time.monotonic() - began:.0f} s", flush=True)


def _in_turn(teams: Sequence[Team], number: int) -> list[Team]:
    """The teams, each round another one first."""
    first = number % len(teams) if teams else 0
    return [*teams[first:], *teams[:first]]


def _chosen(names: Sequence[str]) -> list[Contender]:
    if names:
        return [each for each in CONTENDERS if each.name in names]
    return [each for each in CONTENDERS if each.name not in OPTIONAL]


def _leave_out(results: Results, contender: Contender, why: Exception) -> None:
    results.left_out[contender.name] = str(why)
    print(f"\n  left out: {contender.name}: {why}", flush=True)


def _facts(options: argparse.Namespace, server: str) -> dict[str, Any]:
    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    packages = ("aiobotocore", "botocore", "aiohttp", "uvloop")
    return {
        "command": " ".join(["python -m tests.benchmarks", *options.given]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": server,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "sqs_orchestrator": sqs_orchestrator.__version__,
        "packages": {
            **{package: version(package) for package in packages},
            "Java": java_version(),
        },
        "rounds": options.rounds,
        "load before": os.getloadavg()[0],
    }


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, metavar="N", help="how often (default: 5)")
    parser.add_argument("--quick", action="store_true", help="two rounds, and fewer messages")
    parser.add_argument(
        "--contenders", nargs="+", default=[], metavar="NAME", help="only these; see --list"
    )
    parser.add_argument(
        "--scenarios",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="only those with this in the name",
    )
    parser.add_argument("--list", action="store_true", help="list contenders and scenarios")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"default: {RESULTS.relative_to(ROOT)}; of --pages, {PUBLISHED.relative_to(ROOT)}",
    )
    parser.add_argument("--show", action="store_true", help="measure nothing: show what --json has")
    parser.add_argument(
        "--plots",
        nargs="?",
        type=Path,
        const=ASSETS,
        metavar="DIRECTORY",
        help=f"draw the plots of the documentation (default: {ASSETS.relative_to(ROOT)})",
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="draw the plots, and write the figures into the README and the documentation",
    )
    options = parser.parse_args(arguments)
    if options.pages:
        options.plots = options.plots or ASSETS
    options.json = options.json or (PUBLISHED if options.pages else RESULTS)
    options.given = arguments
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write and draw; returns the exit code."""
    options = _options(arguments)
    if options.list:
        print("Contenders:", *(each.name for each in CONTENDERS), sep="\n  ")
        print("Scenarios:", *(each.name for each in scenarios()), sep="\n  ")
        return 0
    path: Path = options.json
    if options.show:
        results = load(path)
    else:
        results = measure(options)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(results, path)
        print(f"\nWritten to {path}")
    print(report.report(results))
    if options.plots is not None:
        for drawn in draw(results, options.plots):
            print(f"Drawn: {drawn}")
    if options.pages:
        for written in pages.write(results):
            print(f"Written: {written}")
    return 0


def measure(options: argparse.Namespace) -> Results:
    """Start a server and measure."""
    given = os.environ.get("SQS_ENDPOINT_URL")
    if given:
        results = Results(_facts(options, f"the one at {given}"))
        asyncio.run(run(given, results, options))
    else:
        server = os.environ.get("SQS_SERVER", "fauxqs")
        version = f" {servers._VERSION}" if server == "fauxqs" else ""
        with servers.running_server(server) as endpoint_url:
            results = Results(_facts(options, f"{server}{version}, started for it"))
            print(f"On {results.facts['server']}:", flush=True)
            asyncio.run(run(endpoint_url, results, options))
    results.facts["load after"] = os.getloadavg()[0]
    return results


def save(results: Results, path: Path) -> None:
    """Write what was measured, a line for each sample."""
    raw = asdict(results)
    lines = ",\n".join(json.dumps(sample) for sample in raw.pop("samples"))
    others = json.dumps(raw, indent=1).removesuffix("\n}")
    path.write_text(f'{others},\n "samples": [\n{lines}\n]}}\n', "utf-8")


def load(path: Path) -> Results:
    """What an earlier run wrote."""
    raw = json.loads(path.read_text("utf-8"))
    raw["samples"] = [Sample(**sample) for sample in raw["samples"]]
    return Results(**raw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
