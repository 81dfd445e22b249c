"""Finished requests by the stat-logger plug-in: the conventions' histograms, and the trace that a request's id names."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.stats import (
    SchedulerStats,
)

from otel_llm import semconv
from otel_llm.metrics import SECONDS
from otel_llm.vllm.stats.metrics import FIRST_TOKEN_SECONDS, OUTPUT_TOKEN_SECONDS
from tests.e2e_vllm.watched import ENGINE, Watched, finished, iteration

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
NAMED = f"00-{TRACE:032x}-{SPAN:016x}-01"
UNSAMPLED = f"00-{TRACE:032x}-{SPAN:016x}-00"


pytestmark = pytest.mark.usefixtures("faults")


def test_a_finished_request_is_a_point_of_each_of_the_conventions_histograms_with_its_trace(watched: Watched) -> None:
    watched.step(SchedulerStats(), iteration(10, 1, (finished(f"chatcmpl-{NAMED}"),)))

    points = watched.points()
    attributes = {**ENGINE, semconv.OPERATION_NAME: "chat", semconv.PROVIDER_NAME: "vllm"}
    for name, value, bounds in (
        (semconv.SERVER_REQUEST_DURATION, 1.25, SECONDS),
        (semconv.SERVER_TIME_TO_FIRST_TOKEN, 0.75, FIRST_TOKEN_SECONDS),
        (semconv.SERVER_TIME_PER_OUTPUT_TOKEN, 0.05, OUTPUT_TOKEN_SECONDS),
    ):
        (point,) = points[name]
        assert isinstance(point, HistogramDataPoint)
        assert (1, value, bounds, attributes) == (point.count, point.sum, point.explicit_bounds, dict(point.attributes))
        assert [(TRACE, SPAN, value)] == [(one.trace_id, one.span_id, one.value) for one in point.exemplars]


def test_bounds_are_the_ones_of_the_conventions() -> None:
    assert list(SECONDS) == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    assert [
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ] == list(FIRST_TOKEN_SECONDS)
    assert list(OUTPUT_TOKEN_SECONDS) == [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]


@pytest.mark.parametrize(
    ("request_id", "operation", "is_named"),
    [
        (f"chatcmpl-{NAMED}", "chat", True),
        (f"cmpl-{NAMED}-0", "text_completion", True),
        (f"cmpl-{NAMED}-17", "text_completion", True),
        (f"resp_{NAMED}", "chat", True),
        (f"embd-{NAMED}-0", "embeddings", True),
        (f"generate-tokens-{NAMED}", "text_completion", True),
        (f"transcribe-{NAMED}", "transcription", True),
        (NAMED, "text_completion", True),  # AsyncLLM.generate(request_id=...), in an application of one's own
        (f"chatcmpl-{UNSAMPLED}", "chat", False),
        ("chatcmpl-00-" + "0" * 32 + f"-{SPAN:016x}-01", "chat", False),
        (f"chatcmpl-{NAMED}0", "chat", False),
        ("chatcmpl-83a1b2", "chat", False),
        ("any id of the application", "text_completion", False),
        ("", "text_completion", False),
        (None, "text_completion", False),
    ],
)
def test_the_id_tells_operation_and_trace(watched: Watched, request_id: str, operation: str, is_named: bool) -> None:
    watched.step(None, iteration(10, 1, (finished(request_id),)))

    (point,) = watched.points()[semconv.SERVER_REQUEST_DURATION]
    assert operation == point.attributes[semconv.OPERATION_NAME]
    assert ([(TRACE, SPAN)] if is_named else []) == [(one.trace_id, one.span_id) for one in point.exemplars]


def test_a_span_that_happens_to_be_current_is_no_exemplar(watched: Watched) -> None:
    """vLLM's reading task runs in the context of the request that started it, for all requests after."""
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("test").start_as_current_span("the first request"):
        watched.step(None, iteration(10, 1, (finished("chatcmpl-83a1b2"),)))

    assert list(watched.points()[semconv.SERVER_REQUEST_DURATION][0].exemplars) == []


@pytest.mark.parametrize(
    ("request_stats", "expected"),
    [
        (finished("cmpl-a-0", num_generation_tokens=1, mean_time_per_output_token=0), {"duration", "first"}),
        (finished("embd-a-0", num_generation_tokens=0), {"duration"}),
        (finished("cmpl-a-0", FinishReason.ERROR, num_generation_tokens=0, queued_time=-81234.5), {"duration"}),
        (finished("cmpl-a-0", prefill_time=-81234.5), {"duration", "each"}),
        (finished("cmpl-a-0", prefill_time=1.8e9), {"duration", "each"}),
    ],
    ids=["one token", "no token", "never scheduled", "a time that lacks its start", "a time that is a clock"],
)
def test_what_vllm_cannot_know_is_not_recorded(watched: Watched, request_stats: Any, expected: set[str]) -> None:
    watched.step(None, iteration(10, 1, (request_stats,)))

    names = {
        "duration": semconv.SERVER_REQUEST_DURATION,
        "first": semconv.SERVER_TIME_TO_FIRST_TOKEN,
        "each": semconv.SERVER_TIME_PER_OUTPUT_TOKEN,
    }
    points = watched.points()
    assert {names[name] for name in expected} == {name for name in names.values() if name in points}


@pytest.mark.parametrize(
    ("reason", "error"),
    [*((one, None) for one in ("stop", "length", "repetition")), ("abort", "abort"), ("error", "error")],
)
def test_requests_are_counted_by_reason_and_failures_have_an_error_type(
    watched: Watched, reason: str, error: str | None
) -> None:
    watched.step(None, iteration(10, 1, (finished("cmpl-a-0", FinishReason[reason.upper()]),)))

    (point,) = watched.points()[semconv.SERVER_REQUEST_DURATION]
    assert error == point.attributes.get(semconv.ERROR_TYPE)
    assert [({semconv.VLLM_FINISH_REASON: reason}, 1)] == watched.numbers()[semconv.VLLM_REQUESTS_FINISHED]
