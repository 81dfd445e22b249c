"""vLLM's own spans behind the Collector: today's names and true units, nothing made up, and everybody else's spans as they came."""

import copy
import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from e2e.collecting import backend
from e2e.sink import Sink, plain
from e2e.stack import lone_collector, started
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from waiting import until

from compose.native.ports import Ports, free
from otel_llm import semconv
from otel_llm.vllm import operations

pytestmark = pytest.mark.e2e
FIXTURES = Path(__file__).parents[1] / "fixtures" / "vllm"
RECORDED = sorted(FIXTURES.glob("*-llm_request.json"))
SCOPE = "vllm.tracing.otel"
PHASES = {
    "gen_ai.latency.time_in_queue": semconv.ENGINE_QUEUE_TIME,
    "gen_ai.latency.time_in_model_prefill": semconv.ENGINE_PREFILL_TIME,
    "gen_ai.latency.time_in_model_decode": semconv.ENGINE_GENERATION_TIME,
    "gen_ai.latency.time_to_first_token": semconv.ENGINE_TIME_TO_FIRST_TOKEN,
}
SAMPLED: dict[str, Any] = {  # as vLLM 0.32 writes it of a request that was sampled
    "gen_ai.latency.time_to_first_token": 0.25,
    "gen_ai.latency.e2e": 2.5,
    "gen_ai.latency.time_in_queue": 0.125,
    "gen_ai.latency.time_in_model_prefill": 0.0625,
    "gen_ai.latency.time_in_model_decode": 2.0,
    "gen_ai.latency.time_in_model_inference": 2.0625,
    "gen_ai.usage.prompt_tokens": 20,
    "gen_ai.usage.completion_tokens": 12,
    "gen_ai.request.id": "chatcmpl-1",
    "gen_ai.request.top_p": 1.0,
    "gen_ai.request.max_tokens": 12,
    "gen_ai.request.n": 1,
}
BROUGHT: dict[str, Any] = {  # what becomes of it
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.top_p": 1.0,
    "gen_ai.request.max_tokens": 12,
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 12,
    "otel_llm.request.id": "chatcmpl-1",
    "otel_llm.engine.queue_time": 0.125,
    "otel_llm.engine.prefill_time": 0.0625,
    "otel_llm.engine.generation_time": 2.0,
    "otel_llm.engine.time_to_first_token": 0.25,
}


class Door:
    """A running Collector with a sink behind it: takes spans in, hands out what became of them."""

    def __init__(self, ports: Ports, sink: Sink) -> None:
        self._url, self._sink, self._sent = f"{ports.url('otlp_http')}/v1/traces", sink, 0

    def sent(self, resource_spans: Sequence[dict[str, Any]]) -> list[Span]:
        """Send spans, in OTLP's JSON, and return them as they arrived, in the order in which they were sent."""
        wanted = [span["spanId"] for r in resource_spans for s in r["scopeSpans"] for span in s["spans"]]
        before = len(self._sink.spans())
        body = json.dumps({"resourceSpans": resource_spans}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        until(lambda: len(self._sink.spans()) >= before + len(wanted), "the spans")
        arrived = {span.span_id.hex(): span for span in self._sink.spans()[before:]}
        return [arrived[span_id] for span_id in wanted]

    def one(
        self,
        attributes: dict[str, Any],
        resource: dict[str, Any] | None = None,
        scope: str = SCOPE,
        name: str = "llm_request",
    ) -> tuple[str, dict[str, Any]]:
        """Send one span and return its name and attributes."""
        self._sent += 1
        span = {
            "traceId": f"{self._sent:032x}",
            "spanId": f"{self._sent:016x}",
            "name": name,
            "kind": 2,
            "startTimeUnixNano": "1000000000",
            "endTimeUnixNano": "3500000000",
            "attributes": written(attributes),
        }
        told = {"attributes": written(resource or {})}
        (arrived,) = self.sent([{"resource": told, "scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}])
        assert arrived.kind == Span.SPAN_KIND_SERVER
        return arrived.name, plain(arrived.attributes)


def written(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes in OTLP's JSON."""
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in attributes.items()]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Sink() as sink:
        ports = free()
        with started(lone_collector(tmp_path_factory.mktemp("collector"), ports, backend(sink))):
            yield Door(ports, sink)


@pytest.mark.parametrize("recording", RECORDED, ids=lambda path: path.stem)
def test_a_real_servers_spans_have_todays_names(door: Door, recording: Path) -> None:
    """And the ones it makes while it loads a model, which are nobody's request, are left as they are."""
    told = json.loads(recording.read_text())["resourceSpans"]
    raw = [span for r in told for s in r["scopeSpans"] for span in s["spans"]]
    requests = 0
    for before, after in zip(raw, door.sent(copy.deepcopy(told)), strict=True):
        attributes = {a["key"]: next(iter(a["value"].values())) for a in before["attributes"]}
        if before["name"] != "llm_request":
            assert (after.name, plain(after.attributes)) == (before["name"], attributes)
            continue
        requests += 1
        operation = "chat" if attributes["gen_ai.request.id"].startswith("chatcmpl-") else "text_completion"
        expected = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "vllm",
            "gen_ai.usage.input_tokens": int(attributes["gen_ai.usage.prompt_tokens"]),
            "gen_ai.usage.output_tokens": int(attributes["gen_ai.usage.completion_tokens"]),
            "gen_ai.request.max_tokens": int(attributes["gen_ai.request.max_tokens"]),
            "otel_llm.request.id": attributes["gen_ai.request.id"],
            **{ours: attributes[theirs] for theirs, ours in PHASES.items()},
            **{
                name: attributes[name]
                for name in ("gen_ai.request.temperature", "gen_ai.request.top_p")
                if name in attributes
            },
        }
        assert (after.name, plain(after.attributes)) == (operation, expected)
        lasted_s = (after.end_time_unix_nano - after.start_time_unix_nano) / 1e9
        assert 0 < expected[semconv.ENGINE_QUEUE_TIME] + expected[semconv.ENGINE_PREFILL_TIME] < lasted_s, "seconds"
    assert requests > 0


def test_a_request_says_what_it_was_in_the_instrumentations_words(door: Door) -> None:
    assert door.one(SAMPLED) == ("chat", BROUGHT)


@pytest.mark.parametrize(
    ("resource", "attributes"),
    [
        ({"gen_ai.request.model": "qwen"}, {}),
        ({"gen_ai.request.model": "qwen"}, {"gen_ai.response.model": "qwen"}),
        ({}, {"gen_ai.response.model": "qwen"}),  # as vLLM wrote it before its V1 engine
        ({"gen_ai.request.model": "the server's"}, {"gen_ai.request.model": "qwen"}),
    ],
)
def test_the_model_is_known_where_the_span_or_the_resource_names_it(
    door: Door, resource: dict[str, Any], attributes: dict[str, Any]
) -> None:
    expected = BROUGHT | attributes | {"gen_ai.request.model": "qwen"}
    assert door.one(SAMPLED | attributes, resource) == ("chat qwen", expected)


def test_every_route_of_the_server_is_the_operation_that_the_instrumentation_calls_it(door: Door) -> None:
    ids = [f"{prefix}1" if prefix.endswith("_") else f"{prefix}-1" for prefix in operations._PREFIXES]
    ids = [{"generative-1": "generative-scoring-1"}.get(one, one) for one in ids] + ["0", "my-chatcmpl-1", ""]
    seen = {one: door.one(SAMPLED | {"gen_ai.request.id": one})[0] for one in ids}
    assert seen == {one: operations.operation_of(one, None, semconv.OPERATION_TEXT_COMPLETION) for one in ids}


def test_a_request_that_samples_nothing_has_no_output_tokens(door: Door) -> None:
    pooled = {
        name: value
        for name, value in SAMPLED.items()
        if name not in ("gen_ai.request.n", "gen_ai.request.top_p", "gen_ai.request.max_tokens")
    } | {"gen_ai.usage.completion_tokens": 0, "gen_ai.latency.time_in_model_decode": 0.0}
    expected = {
        "gen_ai.provider.name": "vllm",
        "gen_ai.usage.input_tokens": 20,
        "otel_llm.engine.queue_time": 0.125,
        "otel_llm.engine.prefill_time": 0.0625,
    }
    for request_id, operation in (("embd-1-0", "embeddings"), ("0", "pooling")):
        assert door.one(pooled | {"gen_ai.request.id": request_id}) == (
            operation,
            expected | {"gen_ai.operation.name": operation, "otel_llm.request.id": request_id},
        )


def test_choices_are_counted_where_there_are_several(door: Door) -> None:
    assert door.one(SAMPLED | {"gen_ai.request.n": 4}) == ("chat", BROUGHT | {"gen_ai.request.choice.count": 4})


def test_a_moment_that_never_came_makes_no_phase(door: Door) -> None:
    """vLLM takes 0 for it and subtracts: a time of minus the machine's uptime."""
    never = {
        "gen_ai.latency.time_in_queue": -81_234.5,
        "gen_ai.latency.time_in_model_prefill": -81_234.5,
        "gen_ai.latency.time_in_model_decode": 0.0,
        "gen_ai.latency.time_to_first_token": 0.0,
        "gen_ai.usage.completion_tokens": 0,
    }
    expected = {name: value for name, value in BROUGHT.items() if not name.startswith("otel_llm.engine.")}
    assert door.one(SAMPLED | never) == ("chat", expected | {"gen_ai.usage.output_tokens": 0})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ("pooling", {"gen_ai.operation.name": "pooling", "gen_ai.provider.name": "vllm"})),
        (
            {"gen_ai.request.id": 7, "gen_ai.request.n": "many", "gen_ai.latency.time_in_queue": "long"},
            (
                "text_completion",
                {
                    "gen_ai.operation.name": "text_completion",
                    "gen_ai.provider.name": "vllm",
                    "otel_llm.request.id": 7,
                },
            ),
        ),
        (
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.response.finish_reasons": "stop"},
            (
                "chat",
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "vllm",
                    "gen_ai.usage.input_tokens": 3,
                    "gen_ai.response.finish_reasons": "stop",
                },
            ),
        ),
    ],
    ids=["nothing", "wrong types", "a vLLM that has today's names already"],
)
def test_what_is_missing_or_odd_passes(door: Door, attributes: dict[str, Any], expected: object) -> None:
    assert door.one(attributes) == expected


@pytest.mark.parametrize(("scope", "name"), [("my.gateway", "llm_request"), (SCOPE, "Overall Loading"), ("", "GET /")])
def test_spans_of_others_pass_as_they_came(door: Door, scope: str, name: str) -> None:
    assert door.one(SAMPLED, {"gen_ai.request.model": "qwen"}, scope, name) == (name, SAMPLED)


def test_a_switch_keeps_vllms_own_names_beside_todays(tmp_path: Path) -> None:
    with Sink() as sink:
        ports = free()
        environment = backend(sink) | {"COLLECTOR_KEEP_VLLM_NAMES": "true"}
        with started(lone_collector(tmp_path, ports, environment)):
            assert Door(ports, sink).one(SAMPLED) == ("chat", SAMPLED | BROUGHT)
