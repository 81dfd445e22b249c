"""The LiteLLM proxy, instrumented by the launcher alone: one trace from the client through the proxy to the engine."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.proxy_process import HERE, proxy
from e2e.sink import Sink, plain
from instrumentation.openai_server import OpenAIServer, serve
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import ENVIRONMENT
from waiting import until

from otel_llm.pseudonyms import Pseudonyms

pytestmark = pytest.mark.e2e

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
HELLO = [{"role": "user", "content": "hi"}]
SERVER = "POST /v1/chat/completions"
KEY = "a key of the tests"
OF = Pseudonyms(KEY.encode()).of
SECRETS = ("laptop-of-ulla", "research", "team-1", "ulla@example.com", "sk-laptop", KEY)


def otlp(sink: Sink, service: str) -> dict[str, str]:
    return {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.http_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


@dataclass
class Rig:
    base: str
    sink: Sink
    engine: OpenAIServer

    def ask(self, model: str = "tiny", **more: Any) -> httpx.Response:
        headers = {"Authorization": "Bearer sk-laptop", **more.pop("headers", {})}
        body = {"model": model, "messages": HELLO, **more}
        return httpx.post(f"{self.base}/v1/chat/completions", json=body, headers=headers, timeout=60)

    def trace(self, trace_id: str) -> list[Span]:
        """Every span of a trace, once the proxy's server span, which ends last, is there."""
        spans = [span for span in self.sink.spans() if span.trace_id.hex() == trace_id]
        return spans if any(span.name == SERVER for span in spans) else []

    def calls(self, trace_id: str) -> list[Span]:
        """What is in a trace of calls to a model: spans with the word of the conventions, or of LiteLLM's own callback."""
        spans = until(lambda: self.trace(trace_id), "the proxy's spans")
        words = {"gen_ai.operation.name", "llm.request.type", "gen_ai.usage.output_tokens"}
        return [span for span in spans if words & plain(span.attributes).keys()]

    def way(self, number: int = -1) -> list[str]:
        """The names on the way of a request that the engine saw, from the engine up to the client."""
        _, trace_id, span_id, _ = self.engine.requests[number]["headers"]["traceparent"].split("-")
        spans = {span.span_id.hex(): span for span in until(lambda: self.trace(trace_id), "the proxy's spans")}
        names = []
        while span := spans.get(span_id):
            if span.kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT):  # a router's own span may be between them
                names.append(span.name)
            span_id = span.parent_span_id.hex()
        return names


@contextmanager
def run(folder: Path, settings: Mapping[str, Any], **environ: str) -> Iterator[Rig]:
    with (
        serve() as engine,
        Sink() as sink,
        proxy(folder, engine.url, settings, **otlp(sink, "proxy"), **environ) as base,
    ):
        yield Rig(base, sink, engine)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy with a key for pseudonyms and a header for the trace id."""
    with run(
        tmp_path_factory.mktemp("proxy"), {}, OTEL_LLM_HMAC_KEY=KEY, OTEL_LLM_TRACE_RESPONSE_HEADER="X-Trace-Id"
    ) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_clients_trace_goes_on_through_the_proxy_to_the_engine(rig: Rig, stream: bool) -> None:
    answer = rig.ask(stream=stream, headers={"traceparent": f"00-{TRACE[:-1]}{stream:x}-00f067aa0ba902b7-01"})

    assert answer.status_code == 200
    assert rig.engine.requests[-1]["headers"]["traceparent"].split("-")[1] == f"{TRACE[:-1]}{stream:x}"
    assert rig.way() == ["POST", "chat plain", SERVER]


def test_an_instrumented_application_has_every_span_below_the_one_before(rig: Rig) -> None:
    before = len(rig.engine.requests)
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    subprocess.run(
        [launcher, sys.executable, HERE / "application.py", f"{rig.base}/v1"],
        env={**ENVIRONMENT, **otlp(rig.sink, "application"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        check=True,
        timeout=120,
    )

    numbers = range(before, len(rig.engine.requests))
    assert len(numbers) == 4  # sync and async, plain and stream
    for number in numbers:
        until(lambda number=number: len(rig.way(number)) > 4, "the application's spans")
        assert rig.way(number) == ["POST", "chat plain", SERVER, "POST", "chat tiny"]
    assert len({request["headers"]["traceparent"].split("-")[1] for request in list(rig.engine.requests)[before:]}) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_tokens_are_counted_once_and_key_team_and_user_have_pseudonyms(rig: Rig, stream: bool) -> None:
    answer = rig.ask(stream=stream)

    (call,) = rig.calls(answer.headers["X-Trace-Id"])
    attributes = plain(call.attributes)
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (11, 7)
    assert {name: attributes.get(name) for name in ("otel_llm.key_alias", "otel_llm.team", "user.id")} == {
        "otel_llm.key_alias": OF("laptop-of-ulla"),
        "otel_llm.team": OF("research"),
        "user.id": OF("ulla@example.com"),
    }


def test_what_the_caller_says_of_his_session_is_told_and_his_user_has_a_pseudonym(rig: Rig) -> None:
    answer = rig.ask(
        user="end-user", metadata={"agent_name": "planner"}, headers={"x-litellm-session-id": "session-1234"}
    )

    (call,) = rig.calls(answer.headers["X-Trace-Id"])
    attributes = plain(call.attributes)
    names = ("session.id", "gen_ai.conversation.id", "gen_ai.agent.name", "user.id")
    assert [attributes.get(name) for name in names] == ["session-1234", "session-1234", "planner", OF("end-user")]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 200),
        ({"stream": True}, 200),
        ({"model": "broken"}, 500),
        ({"model": "unknown"}, 400),
        ({"headers": {"Authorization": "Bearer wrong"}}, 401),
    ],
    ids=["plain", "stream", "the engine fails", "no such model", "no such key"],
)
def test_every_answer_names_its_trace(rig: Rig, asked: dict[str, Any], status: int) -> None:
    answer = rig.ask(**{**asked, "headers": {"traceparent": TRACEPARENT, **asked.get("headers", {})}})

    assert (answer.status_code, answer.headers.get_list("X-Trace-Id")) == (status, [TRACE])


def test_a_trace_that_is_not_sampled_is_not_named(rig: Rig) -> None:
    answer = rig.ask(headers={"traceparent": TRACEPARENT.removesuffix("01") + "00"})

    assert (answer.status_code, answer.headers.get_list("X-Trace-Id")) == (200, [])


def test_no_signal_tells_a_secret(rig: Rig) -> None:
    rig.ask()
    rig.ask(stream=True)
    rig.ask("broken")
    ours = [
        scope.SerializeToString()
        for request in (*rig.sink.requests["traces"], *rig.sink.requests["metrics"])
        for resource in (*getattr(request, "resource_spans", ()), *getattr(request, "resource_metrics", ()))
        for scope in (*getattr(resource, "scope_spans", ()), *getattr(resource, "scope_metrics", ()))
        if scope.scope.name.startswith("otel_llm")
    ]

    assert ours
    assert [secret for secret in SECRETS for document in ours if secret.encode() in document] == []


@pytest.mark.parametrize("version", ["false", "true"], ids=["its callback", "its newer callback"])
def test_beside_litellms_own_callback_a_call_still_has_one_span(tmp_path: Path, version: str) -> None:
    """And without a key for pseudonyms nobody is named. The callbacks run after the answer: asked when the proxy is down."""
    asked: list[tuple[dict[str, Any], str]] = [
        ({}, "plain"),
        ({"stream": True}, "plain"),
        ({"model": "broken"}, "error500"),
    ]
    with serve() as engine, Sink() as sink:
        with proxy(
            tmp_path, engine.url, {"callbacks": ["otel"]}, **otlp(sink, "proxy"), LITELLM_OTEL_V2=version
        ) as base:
            rig = Rig(base, sink, engine)
            for how, _ in asked:
                rig.ask(**how)

        for number, (_, model) in enumerate(asked):
            (call,) = rig.calls(engine.requests[number]["headers"]["traceparent"].split("-")[1])
            attributes = plain(call.attributes)
            assert rig.way(number) == ["POST", f"chat {model}", SERVER]
            assert not {"otel_llm.key_alias", "otel_llm.team", "user.id", "gen_ai.input.messages"} & attributes.keys()
        names = [span.name for span in sink.spans()]
        assert {"true": "route tiny", "false": "Received Proxy Server Request"}[version] in names  # it is on
        assert not [span.name for span in sink.spans() if span.name == "litellm_request"]
