"""vLLM's server, its own application over a scripted core: whose trace a request belongs to, and whether its client stayed.

The last tests ask the real server below `opentelemetry-instrument`, with vLLM's own tracing on.
"""

import asyncio
import json
import logging
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from vllm.v1.engine import FinishReason
from waiting import until

from otel_llm.vllm.incoming import INCOMING
from otel_llm.vllm.server import Arrivals
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_core import ScriptedCore, when
from tests.e2e_vllm.scripted_server import Client, serving
from tests.e2e_vllm.serving import Served
from tests.e2e_vllm.test_aborts import REQUESTS, counted

TRACE, PARENT = 0xA, 0xB
HEADERS = {
    "traceparent": f"00-{TRACE:032x}-{PARENT:016x}-01",
    "baggage": "session.id=s-1,other=x",
    "x-request-id": "r-1",
}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


@pytest.fixture
def http_spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """FastAPI instrumented before vLLM is imported, as `opentelemetry-instrument` does it where that package is installed."""
    provider = TracerProvider(shutdown_on_exit=False)
    FastAPIInstrumentor().instrument(tracer_provider=provider)
    monkeypatch.setattr("vllm.entrypoints.launchers.app.FastAPI", fastapi.FastAPI)
    yield provider
    FastAPIInstrumentor().uninstrument()


async def answered(
    app: Any, core: ScriptedCore, body: dict[str, Any], finish: FinishReason = FinishReason.STOP
) -> Client:
    """A request to the chat route, answered with one token."""
    client = Client(app, "/v1/chat/completions", body, HEADERS)
    (request,) = await core.arrived()
    core.step(request.request_id, finish=finish)
    await client.served
    return client


@pytest.mark.parametrize("is_stream", [False, True])
async def test_without_an_http_instrumentation_the_client_s_context_is_taken_from_the_headers(
    model_dir: Path, is_stream: bool
) -> None:
    with recorded() as recording:
        async with serving(model_dir) as (app, core):
            client = await answered(app, core, {**CHAT, "stream": is_stream})

    (span,) = recording.spans()
    assert client.status == 200
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE, PARENT)  # type: ignore[union-attr]
    assert span.name == "chat tiny"
    known = dict(span.attributes or {})
    assert (known["otel_llm.request.id"], known["session.id"]) == ("chatcmpl-r-1", "s-1")
    assert "other" not in known


@pytest.mark.parametrize("is_stream", [False, True])
async def test_below_an_http_instrumentation_its_span_is_the_parent(
    model_dir: Path, is_stream: bool, http_spans: TracerProvider
) -> None:
    seen: list[Any] = []
    http_spans.add_span_processor(_Noting(seen))
    with recorded() as recording:
        async with serving(model_dir) as (app, core):
            await answered(app, core, {**CHAT, "stream": is_stream})

    (span,) = recording.spans()
    (server,) = [one for one in seen if one.kind is SpanKind.SERVER]
    assert (server.parent.trace_id, server.parent.span_id) == (TRACE, PARENT)
    assert span.parent is not None
    assert span.parent.span_id == server.get_span_context().span_id
    assert dict(span.attributes or {})["session.id"] == "s-1"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("after", [0, 2])
async def test_a_client_that_leaves_is_told_apart_and_is_nobody_s_error(
    model_dir: Path, is_stream: bool, after: int
) -> None:
    with recorded() as recording:
        async with serving(model_dir) as (app, core):
            client = Client(app, "/v1/chat/completions", {**CHAT, "stream": is_stream}, HEADERS)
            (request,) = await core.arrived()
            (state,) = app.state.engine_client.output_processor.request_states.values()
            if after:
                core.step(request.request_id, tokens=after)
                await when(lambda: state.detokenizer.num_output_tokens() == after)
            client.leave()
            await client.served
            await when(lambda: core.aborted)
            requests = counted(recording, REQUESTS)

    (span,) = recording.spans()
    assert dict(span.attributes or {})["otel_llm.abort.reason"] == "client_disconnected"
    assert dict(span.attributes or {})["gen_ai.usage.output_tokens"] == after
    assert span.status.status_code is StatusCode.UNSET
    assert requests == {("client_disconnected",): 1}


async def test_a_request_the_engine_fails_is_an_error_of_the_same_trace(model_dir: Path) -> None:
    with recorded() as recording:
        async with serving(model_dir) as (app, core):
            client = await answered(app, core, CHAT, FinishReason.ERROR)

    (span,) = recording.spans()
    assert client.status == 500
    assert (span.parent.trace_id, span.status.status_code) == (TRACE, StatusCode.ERROR)  # type: ignore[union-attr]
    assert dict(span.attributes or {})["error.type"] == "engine_error"


async def test_several_prompts_of_one_call_are_requests_of_one_parent(model_dir: Path) -> None:
    with recorded() as recording:
        async with serving(model_dir) as (app, core):
            body = {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 8}
            client = Client(app, "/v1/completions", body, HEADERS)
            both = [request.request_id for request in await core.arrived(2)]
            core.step(*both, finish=FinishReason.STOP)
            await client.served

    ids = {
        dict(span.attributes or {})["otel_llm.request.id"]: span.parent.span_id
        for span in recording.spans()
        if span.parent
    }
    assert ids == {"cmpl-r-1-0": PARENT, "cmpl-r-1-1": PARENT}


async def test_the_application_serves_on_when_the_instrumentation_is_taken_off(model_dir: Path) -> None:
    with recorded() as recording:
        making = serving(model_dir)
        app, core = await making.__aenter__()
    client = await answered(app, core, CHAT)
    await making.__aexit__(None, None, None)
    assert client.status == 200
    assert recording.spans() == []


async def test_a_connection_that_closes_after_the_answer_is_no_client_gone() -> None:
    gone: list[bool] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await receive()
        await receive()
        incoming = INCOMING.get()
        assert incoming is not None
        gone.append(incoming.is_gone)

    with recorded():
        await Client(Arrivals(app), "/", {}, {}).served
    assert gone == [False]
    assert INCOMING.get() is None


async def test_a_server_that_tells_of_a_closed_connection_by_an_error_passes_it_on() -> None:
    gone: list[bool] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            incoming = INCOMING.get()
            gone.append(incoming is not None and incoming.is_gone)

    async def send(_: Any) -> None:
        raise OSError("closed")

    with recorded(), pytest.raises(OSError, match="closed"):
        await Arrivals(app)({"type": "http", "headers": []}, _never, send)
    assert gone == [True]


def test_vllm_s_tracing_makes_no_second_provider_where_one_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import vllm.tracing
    import vllm.v1.engine.async_llm as async_llm

    before = vllm.tracing.init_tracer
    made: list[Any] = []
    monkeypatch.setattr("vllm.tracing.otel.TracerProvider", lambda **given: made.append(given))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    with recorded(), caplog.at_level(logging.WARNING):
        tracer = async_llm.init_tracer("vllm.llm_engine", "http://127.0.0.1:1")
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")  # set for the processes that vLLM starts
        assert tracer is not None
        assert (made, caplog.messages) == ([], [])
    assert async_llm.init_tracer is vllm.tracing.init_tracer is before


def test_the_real_server_s_own_request_span_is_below_ours(served_tracing: Served) -> None:
    """Also a beam search, which asks the engine for one token of one beam at a time, is one request of ours."""
    trace_id = f"{0xC1:032x}"
    search = {**CHAT, "use_beam_search": True, "n": 2, "max_tokens": 3, "temperature": 0}
    assert _ask(served_tracing, CHAT, trace_id) == 200
    assert _ask(served_tracing, search, trace_id) == 200

    until(lambda: len([one for one in served_tracing.spans(trace_id) if one.name == "POST /v1/chat/completions"]) == 2)
    spans = served_tracing.spans(trace_id)
    servers = {one.span_id for one in spans if one.name == "POST /v1/chat/completions"}
    ours = [one for one in spans if one.name == "chat tiny"]
    theirs = [one for one in spans if one.name == "llm_request"]
    assert {one.parent_span_id for one in ours} == servers
    assert len(ours) == 2
    assert {one.parent_span_id for one in theirs} == {one.span_id for one in ours}
    assert "Overriding of current TracerProvider" not in served_tracing.log.read_text()


def test_a_client_that_leaves_the_real_server_leaves_our_span_alone(served_tracing: Served) -> None:
    trace_id = f"{0xC2:032x}"
    host, port = served_tracing.base.removeprefix("http://").split(":")
    body = json.dumps({**CHAT, "stream": True, "max_tokens": 8000, "ignore_eos": True}).encode()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        connection.sendall(f"{head}\r\ntraceparent: 00-{trace_id}-{PARENT:016x}-01\r\n\r\n".encode() + body)
        got = b""
        while got.count(b"data:") < 3:
            got += connection.recv(4096)

    until(lambda: [one for one in served_tracing.spans(trace_id) if one.name == "chat tiny"])
    (ours,) = [one for one in served_tracing.spans(trace_id) if one.name == "chat tiny"]
    known = {one.key: one.value for one in ours.attributes}
    assert known["otel_llm.abort.reason"].string_value == "client_disconnected"
    assert 1 <= known["gen_ai.usage.output_tokens"].int_value < 8000
    assert [one.name for one in served_tracing.spans(trace_id) if one.name == "llm_request"] == []
    until(lambda: REQUESTS in served_tracing.metrics(), "the count of requests given up")


def _ask(server: Served, body: dict[str, Any], trace_id: str) -> int:
    headers = {"content-type": "application/json", "traceparent": f"00-{trace_id}-{PARENT:016x}-01"}
    request = urllib.request.Request(f"{server.base}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return int(answer.status)


async def _never() -> Any:
    await asyncio.Event().wait()


class _Noting:
    """A span processor that keeps what ended."""

    def __init__(self, seen: list[Any]) -> None:
        self._seen = seen

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Nothing."""

    def on_ending(self, span: Any) -> None:
        """Nothing."""

    _on_ending = on_ending

    def on_end(self, span: Any) -> None:
        self._seen.append(span)

    def shutdown(self) -> None:
        """Nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True
