"""The span of one request to vLLM: how it ends, and where its phases lie in time."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_current_span

from otel_llm.invocation import Telemetry, open_telemetry
from otel_llm.settings import Phases as Recorded
from otel_llm.settings import Settings
from otel_llm.vllm.outputs import Facts, Phases
from otel_llm.vllm.request_span import RequestSpan

NS = 1_000_000_000
ARRIVED = 1_795_000_000
PHASES = Phases(queue_s=0.25, prefill_s=0.5, decode_s=2.0, first_token_s=1.0, arrived_s=float(ARRIVED))


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def telemetry(exporter: InMemorySpanExporter, **settings: Any) -> Telemetry:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return open_telemetry("t", "1", Settings(**settings), provider)


def request(telemetry: Telemetry, **given: Any) -> RequestSpan:
    return RequestSpan(telemetry, "chat", "tiny", {}, **{"started_ns": ARRIVED * NS, **given})


def drawn(exporter: InMemorySpanExporter) -> list[tuple[str, float, float]]:
    """Name, start and end in seconds since the arrival, of every span but the request's."""
    return [
        (span.name, (span.start_time or 0) / NS - ARRIVED, (span.end_time or 0) / NS - ARRIVED)
        for span in exporter.get_finished_spans()[:-1]
    ]


def test_phases_are_laid_out_from_the_first_token_by_their_lengths(exporter: InMemorySpanExporter) -> None:
    one = request(telemetry(exporter, vllm_phases=Recorded.SPANS))
    one.finish(Facts("7", phases=PHASES), (ARRIVED + 4) * NS)

    assert drawn(exporter) == [("queue", 0.25, 0.5), ("prefill", 0.5, 1.0), ("decode", 1.0, 3.0)]
    *below, whole = exporter.get_finished_spans()
    assert [span.parent for span in below] == [whole.get_span_context()] * 3


def test_phases_are_moved_back_to_the_end_where_the_front_end_took_the_first_token_in_late(
    exporter: InMemorySpanExporter,
) -> None:
    """Their lengths stay; what would then begin before the request does is cut."""
    one = request(telemetry(exporter, vllm_phases=Recorded.SPANS))
    one.finish(Facts("7", phases=PHASES), int((ARRIVED + 2.625) * NS))

    assert drawn(exporter) == [("queue", 0.0, 0.125), ("prefill", 0.125, 0.625), ("decode", 0.625, 2.625)]


@pytest.mark.parametrize("missing", ["first_token_s", "arrived_s"])
def test_without_the_anchor_no_phase_is_drawn(exporter: InMemorySpanExporter, missing: str) -> None:
    one = request(telemetry(exporter, vllm_phases=Recorded.SPANS))
    one.finish(Facts("7", phases=PHASES._replace(**{missing: None})))

    assert drawn(exporter) == []


def test_by_default_phases_are_attributes_alone(exporter: InMemorySpanExporter) -> None:
    request(telemetry(exporter)).finish(Facts("7", phases=PHASES))

    (span,) = exporter.get_finished_spans()
    assert engine(span) == {
        "otel_llm.engine.queue_time": 0.25,
        "otel_llm.engine.prefill_time": 0.5,
        "otel_llm.engine.generation_time": 2.0,
        "otel_llm.engine.time_to_first_token": 1.0,
    }


def engine(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in (span.attributes or {}).items() if "engine" in name}


def test_a_request_ends_once(exporter: InMemorySpanExporter) -> None:
    one = request(telemetry(exporter))
    one.abort("client_gone", Facts("7", 3, 2))
    one.finish(Facts("7", 3, 9, finish_reasons=("stop",)))
    one.fail(RuntimeError())

    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "otel_llm.request.id": "7",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "otel_llm.abort.reason": "client_gone",
    }
    assert not one.is_open


def test_a_request_that_raised_tells_the_error_and_what_had_come_of_it(exporter: InMemorySpanExporter) -> None:
    request(telemetry(exporter)).fail(ValueError("the prompt"), Facts("7", 3, 2))

    (span,) = exporter.get_finished_spans()
    (event,) = span.events
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 2
    assert set(event.attributes or {}) == {"exception.type", "exception.stacktrace"}


def test_a_failure_that_the_engine_hands_over_as_an_output_is_an_error(exporter: InMemorySpanExporter) -> None:
    request(telemetry(exporter)).finish(Facts("7", 3, error="bad_mm_item"))

    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "bad_mm_item")


def test_it_is_current_where_it_is_entered_and_only_there(exporter: InMemorySpanExporter) -> None:
    one = request(telemetry(exporter))
    before = get_current_span()
    token = one.enter()
    inside = get_current_span()
    one.leave(token)

    assert inside is one.span
    assert get_current_span() is before


def test_the_older_generation_of_names_is_spoken_where_asked(exporter: InMemorySpanExporter) -> None:
    one = request(telemetry(exporter, stability_opt_in=("gen_ai_1_36",)))
    one.finish(Facts(cache_write_tokens=4))

    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "vllm",
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.cache_creation.input_tokens": 4,
    }


def test_a_request_never_ends_before_it_began(exporter: InMemorySpanExporter) -> None:
    request(telemetry(exporter)).finish(Facts(), (ARRIVED - 1) * NS)

    (span,) = exporter.get_finished_spans()
    assert span.end_time == span.start_time
