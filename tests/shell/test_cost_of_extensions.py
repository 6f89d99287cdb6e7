"""What it costs to keep messages hidden: the figures of `docs/explanation/cost.md`."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from sqs_orchestrator import Message, Poller
from sqs_orchestrator.testing import MemoryServer
from tests.shell.workers import bench_on, until

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "cost.md"

ROW = re.compile(r"\| (\d+) s \| (\d+) \| (\d+) s \| ([\d.]+) \| ([\d.]+) \|")
ROWS = [match.groups() for match in ROW.finditer(PAGE.read_text())]


@pytest.mark.parametrize(("work", "concurrency", "timeout", "extending", "all_calls"), ROWS)
async def test_extensions_cost_what_the_documents_say(
    server: MemoryServer,
    work: str,
    concurrency: str,
    timeout: str,
    extending: str,
    all_calls: str,
) -> None:
    mean, places = float(work), int(concurrency)
    count = 20 * places

    async def handle(message: Message) -> None:
        await asyncio.sleep(mean * random.uniform(0.5, 1.5))

    async with bench_on(server) as bench:
        await bench.send(*map(str, range(count)))
        server.calls.clear()
        async with Poller(
            bench.sqs, "orders", handle, concurrency=places, visibility_timeout=float(timeout)
        ) as poller:
            await until(lambda: bench.empty, within=100 * mean)
            calls = [
                server.calls[operation]
                for operation in (
                    "ChangeMessageVisibilityBatch",
                    "ReceiveMessage",
                    "DeleteMessageBatch",
                )
            ]
    assert poller.statistics().duplicates == 0
    assert calls[0] / count == pytest.approx(float(extending), abs=0.04, rel=0.1)
    assert sum(calls) / count == pytest.approx(float(all_calls), abs=0.04, rel=0.1)


def test_the_documents_have_these_figures() -> None:
    assert len(ROWS) == 12
