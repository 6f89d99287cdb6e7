"""What telemetry costs: CPU per round trip with it and without, requester and worker together.

`python -m tests.benchmarks.telemetry` runs both on one event loop, once for each setting, on one
server of its own. The settings take turns, round by round, so that what else the machine does
meets them all; of the rounds the median counts. Spans go through the SDK's batch processor to an
exporter that drops them: what sending them costs depends on where they go.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NoOpTracerProvider

from sqs_orchestrator import Message, Poller, Publisher, connect
from sqs_orchestrator.opentelemetry import Telemetry
from tests.servers import CREDENTIALS, running_server

WARM: Final = 100
"""Round trips before those that are measured, at most."""
SETTINGS: Final = ("off", "no SDK", "metrics, 1 % of the traces", "metrics, all traces")


class _Dropping(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        assert all(isinstance(span, ReadableSpan) for span in spans)
        return SpanExportResult.SUCCESS


def telemetry(setting: str) -> Telemetry | None:
    if setting == "off":
        return None
    if setting == "no SDK":
        return Telemetry(NoOpTracerProvider(), NoOpMeterProvider())
    ratio = 1.0 if setting.endswith("all traces") else 0.01
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
    provider.add_span_processor(BatchSpanProcessor(_Dropping()))
    return Telemetry(provider, MeterProvider([InMemoryMetricReader()]))


@asynccontextmanager
async def publisher(endpoint_url: str, queue: str, setting: str) -> AsyncIterator[Publisher]:
    """A publisher, and a worker that answers it."""

    async def handle(message: Message) -> str:
        return message.body

    made = telemetry(setting)
    doors: dict[str, Any] = {} if made is None else {"wrap": made.wrap}
    middleware = [] if made is None else [made]
    async with connect(endpoint_url=endpoint_url, **CREDENTIALS, **doors) as sqs:
        await sqs.create_queue(queue)
        poller = Poller(sqs, queue, handle, concurrency=50, middleware=middleware, wait_time=1)
        async with poller, Publisher(sqs, middleware=middleware) as made_publisher:
            yield made_publisher


async def cpu(asking: Publisher, queue: str, count: int, at_a_time: int) -> float:
    """Seconds of CPU per round trip."""

    async def ask() -> None:
        for _ in range(count // at_a_time):
            await asking.request(queue, "hello")

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(ask())
    return (time.process_time() - began) / count


async def measured(
    endpoint_url: str, rounds: int, count: int, at_a_time: int
) -> dict[str, list[float]]:
    """Seconds of CPU per round trip, by setting and round."""
    costs: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    async with AsyncExitStack() as stack:
        publishers = {}
        for number, setting in enumerate(SETTINGS):
            queue = f"telemetry-{at_a_time}-{number}"
            entered = publisher(endpoint_url, queue, setting)
            publishers[setting] = await stack.enter_async_context(entered), queue
        for each, queue in publishers.values():
            await cpu(each, queue, min(WARM, count), at_a_time)
        for _ in range(rounds):
            for setting, (each, queue) in publishers.items():
                costs[setting].append(await cpu(each, queue, count, at_a_time))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="fauxqs", help="moto, fauxqs or elasticmq")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=500, help="round trips in a round")
    arguments = parser.parse_args()
    with running_server(arguments.server) as url:
        for at_a_time in (1, 50):
            costs = asyncio.run(measured(url, arguments.rounds, arguments.count, at_a_time))
            off = costs["off"]
            print(f"{at_a_time} at a time")
            for setting, each in costs.items():
                ratio = statistics.median(b / a for a, b in zip(off, each, strict=True))
                print(f"  {setting:28} {statistics.median(each) * 1e6:8.0f} µs  x {ratio:.2f}")


if __name__ == "__main__":
    main()
