"""What the demo shows. Plain functions from figures to text."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

BAR = 40
"""Characters of the longest bar of a histogram."""

NAME = 32
"""Characters of a queue's name where there is little room."""

WIDTH = 96
"""Characters of a line of text."""

EDGES = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Where the bins of a histogram begin, in every power of ten."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One run of requests: what it took."""

    title: str
    seconds: float
    latencies: Sequence[float]
    """Seconds, one per reply."""
    requester_calls: Counter[str]
    worker_calls: Counter[str]


def stage(requester: int, worker: int, urls: Sequence[str]) -> str:
    """Who plays, and the queues between."""
    requests, replies = (_short(_name(url)) for url in urls)
    between = max(len(requests), len(replies))
    left = f"requester (process {requester})"
    return (
        f"  {left}  ──▶  {requests:^{between}}  ──▶  worker (process {worker})\n"
        f"  {'':{len(left)}}  ◀──  {replies:^{between}}  ◀──\n"
    )


def journey(moments: Sequence[float]) -> str:
    """The way of one request; *moments*: seconds to when the worker had it, and to its end."""
    taken, answered = (f"{1000 * moment:7.1f} ms" for moment in moments)
    return (
        "The way of one request\n"
        f"  {0:7.1f} ms  the requester sends it to the queue 'orders'\n"
        f"  {taken}  the worker's handler has it, and returns its reply\n"
        f"  {answered}  the reply, sent to the requester's own queue, resolves `await request()`\n"
        "       later  both messages are deleted, in batches, since nobody waits for that\n"
    )


def latencies(scene: Scene) -> str:
    """The distribution of a scene's latencies."""
    values = [1000 * value for value in scene.latencies]
    lines = [f"{scene.title}: {scene.seconds:.2f} s"]
    bins = Counter(_bin(value) for value in values)
    if bins:
        lines[0] += f", half of the replies within {statistics.median(values):.0f} ms"
        most = max(bins.values())
        for index in range(min(bins), max(bins) + 1):
            count = bins[index]
            bar = "█" * round(BAR * count / most) or ("▏" if count else "")
            label = f"{_edge(index):g} to {_edge(index + 1):g} ms"
            lines.append(f"  {label:>16}  {bar}{' ' if bar else ''}{count}")
    return "\n".join(lines) + "\n"


def calls(scenes: Sequence[Scene]) -> str:
    """API calls per round trip, by operation, process and scene."""
    operations = sorted(set().union(*(s.requester_calls | s.worker_calls for s in scenes)))
    lines = ["API calls per round trip, which is what SQS bills and throttles by"]
    for scene in scenes:
        trips = max(1, len(scene.latencies))
        lines.append(f"  {scene.title:<36}{'requester':>12}{'worker':>12}{'together':>12}")
        rows = [
            (name, scene.requester_calls[name], scene.worker_calls[name]) for name in operations
        ]
        rows.append(("all", scene.requester_calls.total(), scene.worker_calls.total()))
        for name, *counts in rows:
            if any(counts):
                figures = "".join(f"{n / trips:12.2f}" for n in (*counts, sum(counts)))
                lines.append(f"    {name:<34}{figures}")
    return "\n".join(lines) + "\n"


def mishaps(told: Sequence[tuple[str, str, float]], notes: Sequence[str]) -> str:
    """What happens when there is no plain reply."""
    lines = ["When there is no plain reply"]
    for what, text, seconds in told:
        lines.append(f"  {what}, after {1000 * seconds:.0f} ms:")
        lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
    lines += [f"  one-way, handled and not answered:\n    {note!r}" for note in notes]
    return "\n".join(lines) + "\n"


def remains(after_leaving: Sequence[str], at_last: Sequence[str]) -> str:
    """The queues that are left."""
    return (
        "What is left behind\n"
        f"  queues after requester and worker left: {_names(after_leaving)}\n"
        f"  and after the demo deleted its own:     {_names(at_last)}\n"
    )


def _names(urls: Sequence[str]) -> str:
    return ", ".join(map(_name, urls)) or "none"


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _bin(milliseconds: float) -> int:
    index = 0
    while _edge(index + 1) <= milliseconds:
        index += 1
    return index


def _edge(index: int) -> float:
    """Where bin *index* begins, in milliseconds; the first takes all that is below it too."""
    power, step = divmod(index, len(EDGES))
    return float(EDGES[step] * 10**power) if index else 0.0
