"""What is measured: the instruments of OpenTelemetry's messaging conventions, and the library's.

Some are recorded by the middleware and the wrap as things happen. The others are asked for: they
are in `statistics()` and `health()` of the objects given to `Telemetry.observe`.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from weakref import WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from ..requester.publisher import Publisher
from ..requester.reply_queue import ReplyQueue
from ..worker.poller import Poller
from .conventions import (
    ERROR_TYPE,
    OPERATION_NAME,
    Attributes,
    Destination,
    destination,
)

Observed = Poller | Publisher | ReplyQueue

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The boundaries that the conventions ask for."""

COUNTS: Final = tuple(range(11))

Join = Callable[[Iterable[float]], float]
"""What several objects of one queue make together."""

# By kind of object: the field of its statistics, the name and unit of the instrument, and what it
# tells. Those that only grow are counters, the others gauges.
COUNTERS: Final[dict[type, list[tuple[str, str, str, str]]]] = {
    Poller: [
        ("redelivered", "messages.redelivered", "{message}", "Received more than once."),
        ("expired", "messages.expired", "{message}", "Requests that nobody waits for any more."),
        ("released", "messages.released", "{message}", "Gone back to the queue unhandled."),
        ("dead_lettered", "messages.dead_lettered", "{message}", "Moved by the library itself."),
        ("extensions", "visibility.extensions", "{extension}", "Extensions that SQS confirmed."),
        ("extensions_failed", "visibility.extensions.failed", "{extension}", "Those that failed."),
        ("replies_dropped", "replies.dropped", "{message}", "Too late, or refused by SQS."),
    ],
    ReplyQueue: [
        ("unmatched", "replies.unmatched", "{message}", "Replies that nobody waited for."),
        ("lost", "reply_queues.lost", "{queue}", "Reply queues that vanished."),
        ("swept", "reply_queues.swept", "{queue}", "Abandoned queues of others, deleted."),
    ],
}
GAUGES: Final[dict[type, list[tuple[str, str, str, str, Join]]]] = {
    Poller: [
        ("waiting", "messages.waiting", "{message}", "Received, and waiting for a place.", sum),
        ("consecutive_failures", "receives.failing", "{call}", "Failed receives in a row.", max),
        ("seconds_since_poll", "poll.age", "s", "Since a receive last succeeded.", max),
    ],
    Publisher: [("unsent", "messages.unsent", "{message}", "Waiting for their batch.", sum)],
    ReplyQueue: [("fleet", "reply_queues.fleet", "{queue}", "Reply queues with its prefix.", max)],
}
HEALTHY: Final[dict[type, str]] = {Poller: "poller.healthy", Publisher: "publisher.healthy"}


class Instruments:
    """All instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        histogram = meter.create_histogram
        self.operation_duration = histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.process_duration = histogram(
            "messaging.process.duration",
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.request_duration = histogram(
            "sqs_orchestrator.request.duration",
            "s",
            "Duration of requests, from the call until its reply or its error.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.batch_size = histogram(
            "sqs_orchestrator.batch.size",
            "{message}",
            "Messages in one call that sends, deletes or extends.",
            explicit_bucket_boundaries_advisory=COUNTS,
        )
        self.poll_size = histogram(
            "sqs_orchestrator.poll.size",
            "{message}",
            "Messages that one poll brought.",
            explicit_bucket_boundaries_advisory=COUNTS,
        )
        self.context_dropped = meter.create_counter(
            "sqs_orchestrator.context.dropped",
            "{message}",
            "Messages without room for the trace context, or for all of it.",
        )
        # What goes up and down with each message is counted here, and told when it is asked for: to
        # record it in an instrument of the SDK costs ten times as much.
        self.sent: Counter[tuple[Destination, str, str | None]] = Counter()
        """Messages in sending calls, by queue, operation and why they failed."""
        self.consumed: Counter[tuple[Destination, str, str | None]] = Counter()
        """Messages that receives brought, likewise."""
        self._pending: dict[Destination, int] = {}
        self._running: dict[Destination, dict[object, float]] = {}
        self._observed: WeakSet[Observed] = WeakSet()
        meter.create_observable_counter(
            "messaging.client.sent.messages",
            [functools.partial(_counted, self.sent)],
            "{message}",
            "Number of messages producer attempted to send to the broker.",
        )
        meter.create_observable_counter(
            "messaging.client.consumed.messages",
            [functools.partial(_counted, self.consumed)],
            "{message}",
            "Number of messages that were delivered to the application.",
        )
        meter.create_observable_up_down_counter(
            "sqs_orchestrator.requests.pending",
            [self._count_pending],
            "{request}",
            "Requests that wait for their reply.",
        )
        meter.create_observable_up_down_counter(
            "sqs_orchestrator.handlers.running",
            [self._count_running],
            "{handler}",
            "Handlers that run.",
        )
        meter.create_observable_gauge(
            "sqs_orchestrator.handlers.oldest",
            [self._oldest],
            "s",
            "For how long the handler has run that has run longest; 0 where none runs.",
        )
        for kind, counters in COUNTERS.items():
            for field, name, unit, text in counters:
                meter.create_observable_counter(
                    f"sqs_orchestrator.{name}", [self._asks(kind, _counter(field), sum)], unit, text
                )
        for kind, gauges in GAUGES.items():
            for field, name, unit, text, join in gauges:
                meter.create_observable_gauge(
                    f"sqs_orchestrator.{name}",
                    [self._asks(kind, _counter(field), join)],
                    unit,
                    text,
                )
        for kind, name in HEALTHY.items():
            meter.create_observable_gauge(
                f"sqs_orchestrator.{name}",
                [self._asks(kind, _is_healthy, min)],
                "1",
                "1 if it can do its work now, else 0.",
            )

    # ----------------------------------------------------------------- what is under way

    def request_began(self, to: Destination) -> None:
        """A request begins."""
        self._pending[to] = self._pending.get(to, 0) + 1

    def request_ended(self, to: Destination) -> None:
        """It has ended."""
        self._pending[to] -= 1

    def handler_began(self, to: Destination) -> object:
        """A handler begins. Returns what `handler_ended` takes."""
        token = object()
        self._running.setdefault(to, {})[token] = time.monotonic()
        return token

    def handler_ended(self, to: Destination, token: object) -> None:
        """It has ended."""
        del self._running[to][token]

    # Readers ask from threads of their own. A list is made at once, whoever adds meanwhile.

    def _count_pending(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(count, to.for_metrics) for to, count in list(self._pending.items())]

    def _count_running(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(len(each), to.for_metrics) for to, each in list(self._running.items())]

    def _oldest(self, _: CallbackOptions) -> Iterator[Observation]:
        now = time.monotonic()
        for to, running in list(self._running.items()):
            first = list(running.values())[:1]
            yield Observation(now - first[0] if first else 0.0, to.for_metrics)

    # -------------------------------------------------------------- what is asked for

    def observe(self, observed: Observed) -> None:
        """Ask it how it is, for as long as it exists."""
        self._observed.add(observed)

    def _asks(
        self, kind: type, ask: Callable[[Any], float | None], join: Join
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observations(_: CallbackOptions) -> Iterator[Observation]:
            values: dict[str, list[float]] = {}
            for each in list(self._observed):
                if isinstance(each, kind):
                    value = ask(each)
                    if value is not None:
                        queue = each.queue if isinstance(each, Poller) else ""
                        values.setdefault(queue, []).append(value)
            for queue, several in values.items():
                attributes: Attributes = destination(queue).for_metrics
                yield Observation(join(several), attributes)

        return observations


def _counter(field: str) -> Callable[[Observed], float | None]:
    def ask(observed: Observed) -> float | None:
        value: float | None = getattr(observed.statistics(), field)
        return value

    return ask


def _is_healthy(observed: Poller | Publisher) -> int:
    return int(observed.health().healthy)


def _counted(
    counts: Counter[tuple[Destination, str, str | None]], _: CallbackOptions
) -> Iterator[Observation]:
    for (to, operation, error), count in list(counts.items()):
        facts: Attributes = {**to.for_metrics, OPERATION_NAME: operation}
        if error is not None:
            facts[ERROR_TYPE] = error
        yield Observation(count, facts)
