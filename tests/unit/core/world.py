"""A simulated SQS with the queues of a fleet, in which plans of the ring are carried out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqs_orchestrator.core import ring, wire
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.core.ring import (
    Delete,
    List,
    Listed,
    ReadAge,
    ReadCounts,
    ReadTags,
    Saw,
    Tags,
    Wait,
)

PREFIX = "reply_"
BASE = "https://sqs.eu-west-1.amazonaws.com/111122223333/"
NOW = 1_700_000_000.0
RETENTION = 300.0


def own_name(number: int) -> str:
    """Random digits, the same in each run."""
    return PREFIX + hashlib.md5(str(number).encode()).hexdigest()


def java_name(number: int) -> str:
    digits = hashlib.md5(f"java {number}".encode()).hexdigest()
    return f"{PREFIX}{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}-0"


@dataclass
class World:
    """Queues by name, as SQS would have them."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    now: float | None = NOW
    ages: dict[str, float | None] = field(default_factory=dict)
    deleted_by: dict[str, str] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    readers: dict[str, set[str]] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    saw: list[int] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def add(
        self, name: str, *, beat: float | None, sweeping: bool = False, filled: bool = False
    ) -> str:
        """A queue whose last heartbeat was *beat* seconds ago."""
        tags = {}
        if beat is not None:
            tags = wire.heartbeat_tags(now=NOW - beat, retention=RETENTION)
        if sweeping:
            tags[wire.SWEEPING_TAG] = "1"
        self.tags[name] = tags
        if filled:
            self.filled.add(name)
        return name

    def sweeper(self, number: int) -> str:
        return self.add(own_name(number), beat=10, sweeping=True)

    def dead(self, number: int) -> str:
        return self.add(own_name(number), beat=RETENTION + 1, sweeping=True)

    def act(self, action: ring.Action, who: str = "") -> Any:
        match action:
            case List(prefix, limit):
                self.lists.append(prefix)
                urls = [
                    BASE + name
                    for name in self.tags
                    if name.startswith(prefix) and name not in self.unlisted
                ]
                if limit is not None and len(urls) > limit:
                    return Listed(urls[:limit], complete=False)
                return Listed(urls)
            case Saw(fleet):
                self.saw.append(fleet)
            case Wait(seconds):
                self.waited.append(seconds)
            case ReadTags(url):
                name = queue_name_of(url)
                self.reads[who] += 1
                self.readers.setdefault(name, set()).add(who)
                now = None if self.now is None else int(self.now * 1000)
                tags = self.tags.get(name)
                return Tags(None if tags is None else dict(tags), now)
            case ReadCounts(url):
                return queue_name_of(url) not in self.filled
            case ReadAge(url):
                return self.ages.get(queue_name_of(url), 1e6)
            case Delete(url):
                name = queue_name_of(url)
                if self.tags.pop(name, None) is None:
                    return False
                self.deleted_by[name] = who
                return True
        return None

    def drive(
        self,
        plan: ring.Plan,
        who: str = "",
        before: Callable[[ring.Action], object] = lambda action: None,
    ) -> list[str]:
        """Carry *plan* out; *before* sees each action first, and may meddle."""
        answer = None
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as end:
                return [queue_name_of(url) for url in end.value]
            before(action)
            answer = self.act(action, who)

    def sweep(self, who: str, **options: Any) -> list[str]:
        return self.drive(ring.walk(PREFIX, who, **options), who)

    def round(self, sweepers: Iterable[str], **options: Any) -> None:
        for who in sweepers:
            self.sweep(who, **options)
