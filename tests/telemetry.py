"""What the tests of telemetry look at: spans and metrics, kept in memory by OpenTelemetry's SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON as ALWAYS
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler

from sqs_orchestrator.opentelemetry import Telemetry


class Recorded:
    """A `Telemetry`, and what it has recorded."""

    def __init__(self, sampler: Sampler = ALWAYS) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=ParentBased(sampler))
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader])
        self.tracer = self.tracer_provider.get_tracer("tests")
        self.telemetry = Telemetry(self.tracer_provider, self.meter_provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended, in the order of their beginning."""
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def tree(self, root: str) -> str:
        """The trace that begins with the span *root*, a line for each span."""
        spans = self.spans
        (first,) = [span for span in spans if span.name == root and span.parent is None]
        lines: list[str] = []

        def write(span: ReadableSpan, depth: int) -> None:
            lines.append(f"{'  ' * depth}{span.name} {span.kind.name}")
            for each in spans:
                if each.parent is not None and each.parent.span_id == span.context.span_id:
                    write(each, depth + 1)

        write(first, 0)
        return "\n".join(lines)

    def measured(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """The points of a metric by their attributes: values, or counts of histograms."""
        data = self._reader.get_metrics_data()
        points: dict[frozenset[tuple[str, Any]], Any] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            value = getattr(point, "value", getattr(point, "count", None))
                            points[frozenset((point.attributes or {}).items())] = value
        return points

    def total(self, name: str, **attributes: Any) -> Any:
        """The sum of a metric over the points with these attributes, dots written as `__`."""
        wanted = {(key.replace("__", "."), value) for key, value in attributes.items()}
        return sum(value for facts, value in self.measured(name).items() if wanted <= facts)


def trace_ids(spans: Sequence[ReadableSpan]) -> set[int]:
    return {span.context.trace_id for span in spans}


def links(span: ReadableSpan) -> set[int]:
    """The ids of the spans that *span* has links to."""
    return {link.context.span_id for link in span.links}


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
