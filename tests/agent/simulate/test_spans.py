"""The stand-in's own `llm_request` spans: for whom there are some, and that they leave everything else alone."""

import pytest
from agent.simulate.serving import standing_in
from e2e.sink import Sink
from opentelemetry import trace
from waiting import until

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def sink(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with Sink() as sink:
        yield sink


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_go_where_they_are_told_to_below_the_callers_span(sink, protocol):
    endpoint = (
        f"http://127.0.0.1:{sink.grpc_port}" if protocol == "grpc" else f"http://127.0.0.1:{sink.http_port}/v1/traces"
    )
    with standing_in(otlp_endpoint=endpoint, otlp_protocol=protocol) as server:
        server.post(CHAT, {"traceparent": TRACEPARENT, "x-request-id": "abc"}, messages=HELLO, max_tokens=2)
        until(sink.spans, "a span")
    [span] = sink.spans()
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (
        "llm_request",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
    )
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_errors_have_a_span_and_clients_that_left_and_refused_requests_have_none(sink):
    """As in vLLM, whose gaps the instrumentation fills."""
    long = {"max_model_len": 4096, "kv_blocks": 512, "step_s": 0.01}
    with standing_in(otlp_endpoint=f"http://127.0.0.1:{sink.grpc_port}", **long) as server:
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 3000, "ignore_eos": True, "stream": True}
        with server.client.stream("POST", CHAT, json=body, headers={"x-request-id": "left"}) as answer:
            next(answer.iter_lines())
        server.until_value(0, "vllm:num_requests_running")
        server.post(CHAT, {"x-request-id": "refused"}, messages=[])
        server.post(
            CHAT, {"x-request-id": "failed", "x-simulate-error": "500@2"}, messages=HELLO, max_tokens=9, ignore_eos=True
        )
        server.post("/v1/embeddings", {"x-request-id": "embedded"}, input="hello")
    said = [
        {attribute.key: attribute.value.WhichOneof("value") and attribute.value for attribute in span.attributes}
        for span in sink.spans()
    ]
    assert [one["gen_ai.request.id"].string_value for one in said] == ["chatcmpl-failed", "embd-embedded-0"]
    assert [one["gen_ai.usage.completion_tokens"].int_value for one in said] == [2, 0]
    assert "gen_ai.request.n" not in said[1]


def test_a_request_that_is_put_to_sleep_before_it_began_has_a_span_without_negative_times(sink):
    from concurrent.futures import ThreadPoolExecutor

    with (
        standing_in(otlp_endpoint=f"http://127.0.0.1:{sink.grpc_port}") as server,
        ThreadPoolExecutor(1) as other,
    ):
        server.post("/sleep?level=0&mode=keep")
        waiting = other.submit(server.post, CHAT, messages=HELLO, max_tokens=2)
        server.until_value(1, "vllm:num_requests_waiting")
        server.post("/sleep?level=1")
        assert waiting.result().json()["choices"][0]["finish_reason"] == "abort"
    [span] = sink.spans()
    times = {one.key: one.value.double_value for one in span.attributes if ".latency." in one.key}
    assert min(times.values()) >= 0
    assert times["gen_ai.latency.time_in_model_inference"] == 0
