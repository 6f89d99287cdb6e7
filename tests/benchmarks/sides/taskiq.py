"""taskiq-aio-sqs, one way, in the environment of its own that `peers` makes.

With all that it has for throughput turned on: batches when sending, ten messages a receive.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_aio_sqs import SQSBroker

from tests.benchmarks.side import CLIENT, Side, bodies, told


class _Taskiq(Side):
    async def open(self) -> None:
        self.broker = SQSBroker(
            self.queue,
            endpoint_url=self.endpoint_url,
            wait_time_seconds=20,
            max_number_of_messages=10,
            enable_batching=True,
            batch_timeout=0.1,
            **CLIENT,
        )

        async def take(text: str) -> None:
            self.handle()

        self.task: Any = self.broker.register_task(take, task_name="take")
        await self.broker.startup()
        self.count_calls_of(self.broker._sqs_client)


class Requester(_Taskiq):
    """Sends."""

    async def send(self, count: int, at_a_time: int) -> dict[str, float]:
        """Send *count* messages. It says that one is sent before it is; the worker's count
        tells when all have been."""
        latencies: list[float] = []
        texts = bodies(count)

        async def send_on() -> None:
            for text in texts:
                sent = time.monotonic()
                await self.task.kiq(text)
                latencies.append(time.monotonic() - sent)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(send_on())
        return told(began, latencies)


class Worker(_Taskiq):
    """Takes."""

    async def open(self) -> None:
        await super().open()
        self.receiving = asyncio.create_task(
            run_receiver_task(self.broker, max_async_tasks=1_000, max_prefetch=10)
        )
