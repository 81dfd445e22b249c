"""What is recorded of routed requests as plain values: spans by parent, points by metric; and what is expected of them."""

from typing import Any

from instrumentation.recording import Recording
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.trace import ReadableSpan

Tree = tuple[str, str, dict[str, Any], list[Any]]


REFUSED = "InternalServerError (HTTP 500)"


def tree(recording: Recording) -> list[Tree]:
    """All spans by parent: name, status, what the Router's part in it is, and the children; the oldest first."""
    spans = sorted(recording.spans(), key=lambda span: span.start_time or 0)

    def below(parent: int | None) -> list[Tree]:
        return [
            (span.name, span.status.description or span.status.status_code.name, routed(span), below(identity(span)))
            for span in spans
            if (span.parent.span_id if span.parent is not None else None) == parent
        ]

    return below(None)


def identity(span: ReadableSpan) -> int:
    return span.get_span_context().span_id  # type: ignore[no-any-return,union-attr]  # SDK's type is optional


def routed(span: ReadableSpan) -> dict[str, Any]:
    assert span.kind.name == ("CLIENT" if "gen_ai.operation.name" in (span.attributes or {}) else "INTERNAL")
    return {
        name.removeprefix("otel_llm.router."): value
        for name, value in (span.attributes or {}).items()
        if name.startswith("otel_llm.router.") or name == "error.type"
    }


def request_of(group: str, *, attempts: int = 1, retries: int = 0, fallbacks: tuple[str, ...] = (), **more: Any) -> Any:
    """What the span over the attempts says."""
    counts = {"attempt.count": attempts, "retry.count": retries, "fallback.count": len(fallbacks)}
    groups = {"fallback.model_groups": fallbacks} if fallbacks else {}
    more = {name.replace("__", "."): value for name, value in more.items()}
    return {"model_group": group, "strategy": "simple-shuffle", **counts, **groups, **more}


def attempt(number: int, group: str, identity: str, error: str | None = None) -> dict[str, Any]:
    failed = {"error.type": error} if error is not None else {}
    return {"attempt.number": number, "model_group": group, "deployment.id": identity, **failed}


def points(recording: Recording) -> dict[str, list[tuple[dict[str, Any], float]]]:
    """The Router's points by name of the metric: attributes, and the value or, of a histogram, the count."""
    data = recording.reader.get_metrics_data()
    return {
        metric.name.removeprefix("otel_llm.router."): [
            (
                {name.removeprefix("otel_llm.router."): value for name, value in (point.attributes or {}).items()},
                point.count if isinstance(point, HistogramDataPoint) else point.value,
            )
            for point in metric.data.data_points
        ]
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("otel_llm.router.")
    }
