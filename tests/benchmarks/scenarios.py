"""The scenarios: what each team is told to do, and what is noted of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqs_orchestrator.sqs.port import SQS, SendEntry
from tests.benchmarks.contenders import OURS, OURS_UVLOOP, Contender, Mark, Team, complete_sample
from tests.benchmarks.results import Results, Sample
from tests.benchmarks.side import bodies


@dataclass(frozen=True)
class Scenario:
    """One thing to measure."""

    name: str
    kind: str
    count: int
    """Messages for the floor. Contenders get more or fewer by their pace."""
    at_a_time: int = 1
    most_rounds: int = 5
    only: Sequence[str] = ()
    """The contenders that it is for, if not all."""


CONCURRENT: Final = (1, 10, 100, 1_000, 10_000)

_COUNTS: Final = {1: 100, 10: 500, 100: 1_000, 1_000: 5_000, 10_000: 10_000}


def scenarios() -> list[Scenario]:
    """All of them, in their order."""
    found = [
        Scenario(
            f"{at_a_time:,} at a time",
            "ask",
            _COUNTS[at_a_time],
            at_a_time,
            most_rounds=3 if at_a_time == CONCURRENT[-1] else 5,
        )
        for at_a_time in CONCURRENT
    ]
    found.append(Scenario("one way", "send", 2_000, 1_000))
    found.append(Scenario("backlog", "drain", 2_000))
    found += [
        Scenario(f"{others:,} others pending", "resolve", others, most_rounds=5, only=[OURS])
        for others in (10, 10_000)
    ]
    found.append(Scenario("processes", "ask", 3_000, 1_000, most_rounds=3))
    return found


def takes_part(contender: Contender, scenario: Scenario) -> bool:
    """Whether the scenario makes sense for the contender."""
    if scenario.only:
        return contender.name in scenario.only
    if scenario.name == "processes":
        return scenario.name in contender.only or contender.name in (OURS, OURS_UVLOOP)
    if contender.only:
        return False
    match scenario.kind:
        case "ask":
            return contender.two_way and scenario.at_a_time <= contender.at_most
        case "send":
            return contender.one_way
        case "drain":
            return contender.drains
        case _:
            return True


class Stage:
    """Where the scenarios take place."""

    def __init__(self, sqs: SQS, results: Results, *, scale: float) -> None:
        self._sqs = sqs
        self._results = results
        self._scale = scale
        self._queues = 0

    async def run(self, team: Team, scenario: Scenario, number: int) -> None:
        """Let the team do it once, and note what it took."""
        await team.settled()
        await team.expect(scenario.at_a_time)
        match scenario.kind:
            case "ask":
                await self._ask(team, scenario, number)
            case "send":
                await self._send(team, scenario, number)
            case "drain":
                await self._drain(team, scenario, number)
            case "resolve":
                await self._resolve(team, scenario, number)

    def _count(self, team: Team, scenario: Scenario) -> int:
        """So many messages that it takes about as long as it takes others."""
        pace = team.contender.pace
        if scenario.at_a_time == 1 and scenario.kind == "ask":
            pace = max(min(pace, 1.5), 0.5)  # that is latency
        count = int(scenario.count * pace * self._scale)
        if scenario.kind == "ask":
            count = max(count, scenario.at_a_time)
            if scenario.at_a_time == CONCURRENT[-1]:
                count = scenario.at_a_time
        return max(count // 10 * 10, 20)

    async def _ask(self, team: Team, scenario: Scenario, number: int) -> None:
        count = self._count(team, scenario)
        before = await team.mark()
        share = len(team.requesters)
        told: list[dict[str, float]] = await asyncio.gather(
            *(
                process.do("ask", count=count // share, at_a_time=scenario.at_a_time // share)
                for process in team.requesters
            )
        )
        began = min(each["began"] for each in told)
        sample = Sample(
            scenario.name,
            team.contender.name,
            number,
            count // share * share,
            max(each["began"] + each["seconds"] for each in told) - began,
            median_latency=told[0]["median"],
            p99_latency=told[0]["p99"],
        )
        self._note(team, sample, before)

    async def _send(self, team: Team, scenario: Scenario, number: int) -> None:
        count = self._count(team, scenario)
        before = await team.mark()
        (requester,), (worker,) = team.requesters, team.workers
        told = await requester.do("send", count=count, at_a_time=scenario.at_a_time)
        # From the first send until the last message is handled. Both are processes of one
        # machine, which share its clock.
        ended = await worker.do("wait_handled", at_least=before.handled + count)
        ended = max(ended, told["began"] + told["seconds"])
        sample = Sample(
            scenario.name,
            team.contender.name,
            number,
            count,
            ended - told["began"],
            median_latency=told["median"],
            p99_latency=told["p99"],
        )
        self._note(team, sample, before)

    async def _drain(self, team: Team, scenario: Scenario, number: int) -> None:
        count = self._count(team, scenario)
        name = await self._new_queue("backlog")
        url = await self._sqs.get_queue_url(name)
        entries = [SendEntry(text) for text in bodies(count)]
        for start in range(0, count, 10):
            await self._sqs.send(url, entries[start : start + 10])
        before = await team.mark()
        (worker,) = team.workers
        told = await worker.do("drain", queue=name, count=count)
        sample = Sample(scenario.name, team.contender.name, number, count, told["seconds"])
        self._note(team, sample, before)

    async def _resolve(self, team: Team, scenario: Scenario, number: int) -> None:
        """What a request costs its requester while others wait that nobody answers."""
        (requester,) = team.requesters
        name = await self._new_queue("unanswered")
        await requester.do("hold", count=scenario.count, queue=name)
        before = await team.mark()
        count = int(3_000 * self._scale)
        told = await requester.do("ask", count=count, at_a_time=100)
        sample = Sample(
            scenario.name,
            team.contender.name,
            number,
            count,
            told["seconds"],
            median_latency=told["median"],
            p99_latency=told["p99"],
        )
        complete_sample(sample, before, await team.mark())
        self._results.samples.append(sample)
        await requester.do("release")

    async def idle(self, teams: Sequence[Team], seconds: float) -> dict[str, Any]:
        """What the teams spend while nobody asks, per minute."""
        for team in teams:
            await team.settled()
        before = [await team.mark() for team in teams]
        await asyncio.sleep(seconds)
        after = [await team.mark() for team in teams]
        minutes = seconds / 60
        return {
            team.contender.name: {
                "requester CPU, ms": (now.requester_cpu - then.requester_cpu) * 1000 / minutes,
                "worker CPU, ms": (now.worker_cpu - then.worker_cpu) * 1000 / minutes,
                "calls": {
                    name: count / minutes for name, count in (now.calls - then.calls).items()
                },
            }
            for team, then, now in zip(teams, before, after, strict=True)
        }

    def _note(self, team: Team, sample: Sample, before: Mark) -> None:
        self._results.samples.append(sample)
        team.settle(sample, before)

    async def _new_queue(self, what: str) -> str:
        self._queues += 1
        name = f"{what}-{self._queues}"
        await self._sqs.create_queue(name, {"VisibilityTimeout": "300"}, {})
        return name


async def warm_up(team: Team) -> None:
    """Let a team make its first connections and fill its caches."""
    for process in team.requesters:
        if team.contender.two_way:
            for count, at_a_time in team.contender.warm_up:
                await process.do("ask", count=count, at_a_time=at_a_time)
        else:
            await process.do("send", count=50, at_a_time=50)
    if not team.contender.two_way:
        await team.workers[0].do("wait_handled", at_least=50)
