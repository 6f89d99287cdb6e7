"""What is held, where SQS hands out in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sqs_orchestrator.cli.holding import Holding
from sqs_orchestrator.sqs.port import Received
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory


def received(names: str) -> list[Received]:
    return [Received(name, f"handle of {name}", name) for name in names]


@pytest.mark.parametrize(
    ("polls", "seen"),
    [
        # Those held come again before others that were never seen.
        (["abc", "abc", "cd", ""], ["abc", "d"]),
        # After a whole round of them there are no others: it would go on for ever.
        (["abc", "abc", "abc", "d"], ["abc"]),
        (["abc", ""], ["abc"]),
    ],
)
async def test_what_is_held_and_comes_again_hides_no_others(
    memory: MemoryServer, polls: list[str], seen: list[str]
) -> None:
    script: Iterator[str] = iter(polls)

    class Scripted(MemorySQS):
        async def receive(self, *_: Any, **__: Any) -> list[Received]:
            return received(next(script))

    async with connect_in_memory(port=Scripted(memory)) as sqs:
        holding = Holding(sqs, "url")
        batches = [batch async for batch in holding.batches()]
    assert ["".join(each.body for each in batch) for batch in batches] == seen
