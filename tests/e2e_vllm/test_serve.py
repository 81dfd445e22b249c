"""`vllm serve` under the launcher, asked directly: its traces, and its metrics by OTLP against its own page."""

import math
from typing import Any

import pytest
from e2e.sink import plain
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from waiting import until

from tests.e2e_vllm.serving import Served, samples

TRACE = "4bf92f3577b34da6a3ce929d0e0e47"  # two digits are left for the test
PARENT = "00f067aa0ba902b7"
HELLO = {"messages": [{"role": "user", "content": "the quick brown fox"}], "ignore_eos": True}
FOX = {"prompt": "the quick brown fox", "ignore_eos": True}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ROUTES = {CHAT: "chat tiny", COMPLETIONS: "text_completion tiny"}


def traced(number: int) -> dict[str, str]:
    """What a LiteLLM client that is instrumented sends along."""
    traceparent = f"00-{TRACE}{number:02x}-{PARENT}-01"
    return {"traceparent": traceparent, "X-Request-Id": traceparent, "baggage": "session.id=session-1"}


def spans_of(served: Served, number: int, engine_spans: int = 1) -> tuple[Span, list[Span]]:
    """Wait for the server's span of a trace, and what the engine has below it."""

    def found() -> tuple[Span, list[Span]] | None:
        spans = served.spans(f"{TRACE}{number:02x}")
        server = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER and span.name != "llm_request"]
        engine = [span for span in spans if "gen_ai.operation.name" in plain(span.attributes)]
        return (server[0], engine) if server and len(engine) >= engine_spans else None

    return until(found, f"the spans of trace {number}")


def points(served: Served, name: str) -> list[Any]:
    metric = served.metrics()[name]
    return list(getattr(metric, str(metric.WhichOneof("data"))).data_points)


def total(served: Served, name: str) -> float:
    if name not in served.metrics():
        return 0.0
    return sum(point.as_int or point.as_double for point in points(served, name))


def page_total(served: Served, name: str, **labels: str) -> float:
    return sum(
        value
        for (series, told), value in samples(served.page()).items()
        if series == name and labels.items() <= dict(told).items()
    )


@pytest.mark.parametrize(("number", "path", "asked"), [(1, CHAT, HELLO), (2, COMPLETIONS, FOX)], ids=["chat", "text"])
def test_a_request_is_one_trace_from_the_client_to_the_engine(
    served: Served, number: int, path: str, asked: dict[str, Any]
) -> None:
    answer = served.ask(path, headers=traced(number), max_tokens=5, **asked)

    server, (engine,) = spans_of(served, number)
    attributes, usage = plain(engine.attributes), answer.json()["usage"]
    assert (answer.status_code, engine.name, engine.kind) == (200, ROUTES[path], Span.SPAN_KIND_INTERNAL)
    assert (engine.parent_span_id, server.parent_span_id.hex()) == (server.span_id, PARENT)
    assert attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 5
    assert (attributes["session.id"], attributes["gen_ai.provider.name"]) == ("session-1", "vllm")


def test_phases_of_the_span_are_those_the_server_tells_its_client(served: Served) -> None:
    told = served.ask(CHAT, headers=traced(3), max_tokens=5, **HELLO).json()["metrics"]

    _, (engine,) = spans_of(served, 3)
    attributes = plain(engine.attributes)
    phases = {name: attributes[f"otel_llm.engine.{name}_time"] * 1e3 for name in ("queue", "prefill", "generation")}
    assert phases == pytest.approx(
        {
            "queue": told["queue_time_ms"],
            "prefill": told["time_to_first_token_ms"],
            "generation": told["generation_time_ms"],
        }
    )


def test_a_stream_tells_its_first_token_and_all_its_tokens(served: Served) -> None:
    with served.stream(CHAT, headers=traced(4), max_tokens=9, **HELLO) as answer:
        chunks = [line for line in answer.iter_lines() if line]

    _, (engine,) = spans_of(served, 4)
    attributes = plain(engine.attributes)
    assert (answer.status_code, chunks[-1], attributes["gen_ai.usage.output_tokens"]) == (200, "data: [DONE]", 9)
    assert attributes["gen_ai.request.stream"] is True
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < 60


def test_two_prompts_of_two_choices_are_two_requests_of_the_engine(served: Served) -> None:
    served.ask(COMPLETIONS, headers=traced(5), prompt=["a lion", "a tiger"], n=2, max_tokens=3, ignore_eos=True)

    server, engine = spans_of(served, 5, engine_spans=2)
    assert [span.parent_span_id for span in engine] == [server.span_id] * 2
    assert [plain(span.attributes)["gen_ai.usage.output_tokens"] for span in engine] == [6, 6]
    assert [plain(span.attributes)["gen_ai.response.finish_reasons"] for span in engine] == [["length", "length"]] * 2


def test_an_aborted_request_is_told_and_counted_once(served: Served) -> None:
    """vLLM's own statistics and traces forget it."""
    names = ("otel_llm.vllm.requests.aborted", "otel_llm.vllm.requests.unaccounted")
    before = {name: total(served, name) for name in names}
    with served.stream(COMPLETIONS, headers=traced(6), max_tokens=8000, **FOX) as answer:
        next(answer.iter_lines())

    _, (engine,) = spans_of(served, 6)
    attributes = plain(engine.attributes)
    assert 0 < attributes["gen_ai.usage.output_tokens"] < 8000
    assert attributes["otel_llm.abort.reason"] == "client_disconnected"
    until(lambda: all(total(served, name) == before[name] + 1 for name in names), "both counts of it")
    assert page_total(served, "vllm:request_success_total", finished_reason="abort") == 0


def test_a_prompt_that_is_too_long_is_an_error_of_the_server_alone(served: Served) -> None:
    answer = served.ask(COMPLETIONS, headers=traced(7), prompt="a lion " * 20_000, max_tokens=3)

    server, engine = spans_of(served, 7, engine_spans=0)
    assert (answer.status_code, engine, server.status.code) == (400, [], Status.STATUS_CODE_UNSET)
    assert plain(server.attributes)["http.status_code"] == 400


def test_metrics_by_otlp_are_those_of_the_servers_own_page(served: Served) -> None:
    served.ask(CHAT, max_tokens=11, **HELLO)
    long = "the quick brown fox jumps over the lazy dog " * 20
    for _ in range(2):  # the second time from the prefix cache
        served.ask(COMPLETIONS, prompt=long, max_tokens=2, ignore_eos=True)
    until(lambda: _finished(served) == page_total(served, "vllm:e2e_request_latency_seconds_count"), "all requests")
    until(lambda: total(served, "otel_llm.vllm.requests.running") == 0, "a quiet engine")

    by_otlp = {
        "requests": total(served, "otel_llm.vllm.requests.finished"),
        "duration": sum(point.sum for point in points(served, "gen_ai.server.request.duration")),
        "generated": total(served, "otel_llm.vllm.tokens.generated"),
        "prompt": total(served, "otel_llm.vllm.tokens.prompt"),
        "prefix queries": total(served, "otel_llm.vllm.prefix_cache.queries"),
        "prefix hits": total(served, "otel_llm.vllm.prefix_cache.hits"),
        "preemptions": total(served, "otel_llm.vllm.preemptions"),
        "time in phases": total(served, "otel_llm.vllm.request.phase.time"),
    }
    phases = (f"vllm:request_{phase}_time_seconds_sum" for phase in ("queue", "prefill", "decode"))
    by_page = {
        "requests": page_total(served, "vllm:request_success_total"),
        "duration": page_total(served, "vllm:e2e_request_latency_seconds_sum"),
        "generated": page_total(served, "vllm:generation_tokens_total"),
        "prompt": page_total(served, "vllm:prompt_tokens_total"),
        "prefix queries": page_total(served, "vllm:prefix_cache_queries_total"),
        "prefix hits": page_total(served, "vllm:prefix_cache_hits_total"),
        "preemptions": page_total(served, "vllm:num_preemptions_total"),
        "time in phases": sum(page_total(served, name) for name in phases),
    }
    assert by_otlp == pytest.approx(by_page)
    assert by_otlp["prefix hits"] > 0


def test_tokens_of_finished_and_aborted_requests_are_all_that_were_generated(served: Served) -> None:
    for length in range(1, 6):
        with served.stream(COMPLETIONS, max_tokens=8000, **FOX) as answer:
            lines = answer.iter_lines()
            for _ in range(length):
                next(lines)
    until(lambda: page_total(served, "vllm:num_requests_running") == 0, "the engine to abort them")
    generated = page_total(served, "vllm:generation_tokens_total")
    finished = page_total(served, "vllm:request_generation_tokens_sum")
    until(lambda: total(served, "otel_llm.vllm.tokens.generated") == generated, "a quiet moment")

    def aborted() -> int:
        told = points(served, "otel_llm.vllm.tokens.aborted")
        return sum(point.as_int for point in told if plain(point.attributes)["gen_ai.token.type"] == "output")

    # An export may fall between a request's last token and its end.
    until(lambda: aborted() > generated - finished - 1, "the export after the last abort")
    assert aborted() == generated - finished


def test_buckets_at_edges_that_both_have_hold_the_same_requests(served: Served) -> None:
    until(lambda: _finished(served) == page_total(served, "vllm:e2e_request_latency_seconds_count"), "all requests")

    ours = _cumulated(points(served, "gen_ai.server.time_per_output_token"))
    theirs = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples(served.page()).items()
        if name == "vllm:request_time_per_output_token_seconds_bucket"
    }
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 8
    # vLLM counts replies of one token as well, with a time of zero per further token: as many at every edge.
    assert len({theirs[edge] - ours[edge] for edge in shared}) == 1


def test_an_exemplar_of_each_histogram_leads_to_the_requests_trace(served: Served) -> None:
    served.ask(CHAT, headers=traced(8), max_tokens=5, **HELLO)

    def linked() -> set[str]:
        return {
            metric.name
            for request in list(served.sink.requests["metrics"])
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.histogram.data_points
            for exemplar in point.exemplars
            if exemplar.trace_id.hex() == f"{TRACE}08"
        }

    wanted = {f"gen_ai.server.{name}" for name in ("request.duration", "time_to_first_token", "time_per_output_token")}
    until(lambda: linked() >= wanted, "the exemplars")


def _finished(served: Served) -> int:
    name = "gen_ai.server.request.duration"
    return sum(point.count for point in points(served, name)) if name in served.metrics() else -1


def _cumulated(histogram: list[Any]) -> dict[float, float]:
    found: dict[float, float] = {}
    for point in histogram:
        below = 0
        for edge, count in zip((*point.explicit_bounds, math.inf), point.bucket_counts, strict=True):
            below += count
            found[edge] = found.get(edge, 0) + below
    return found
