"""LiteLLM's own OpenTelemetry callback beside this package: one span a call, and nothing of it on ours."""

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm.invocation import open_telemetry
from otel_llm.litellm import own_callback
from otel_llm.settings import Settings

HELLO = [{"role": "user", "content": "a question nobody may read"}]


@pytest.fixture
def beside(recording: Recording) -> Iterator[Recording]:
    telemetry = open_telemetry("otel_llm.litellm", "0", Settings(), recording.tracer_provider, recording.meter_provider)
    own_callback.apply(telemetry, "otel_llm.litellm")
    yield recording
    own_callback.remove()


def theirs(litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> asyncio.Event:
    """Register LiteLLM's callback, recording with `provider`; the event tells that it has dealt with a call."""
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    seen, loop = asyncio.Event(), asyncio.get_running_loop()

    class Callback(OpenTelemetry):  # type: ignore[misc]
        def _handle_success(self, *args: Any) -> None:
            super()._handle_success(*args)
            loop.call_soon_threadsafe(seen.set)  # it may run in a thread

    callback = Callback(config=OpenTelemetryConfig(exporter="console"), tracer_provider=provider)
    for name in ("callbacks", "input_callback", "success_callback", "service_callback"):
        monkeypatch.setattr(litellm, name, [callback] if name != "service_callback" else [])
    for name in ("failure_callback", "_async_success_callback", "_async_failure_callback"):
        monkeypatch.setattr(litellm, name, [])
    return seen


async def ask(litellm: ModuleType, server: OpenAIServer, how: str) -> None:
    arguments = {"model": "hosted_vllm/plain", "messages": HELLO, "api_base": server.url, "api_key": "k"}
    if how == "sync":
        litellm.completion(**arguments)
    elif how == "sync stream":
        list(litellm.completion(**arguments, stream=True))
    elif how == "async":
        await litellm.acompletion(**arguments)
    else:
        async for _ in await litellm.acompletion(**arguments, stream=True):
            pass


@pytest.mark.parametrize("how", ["sync", "sync stream", "async", "async stream"])
async def test_ours_is_the_one_span_of_a_call_and_holds_nothing_of_theirs(
    litellm: ModuleType, server: OpenAIServer, beside: Recording, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    seen = theirs(litellm, monkeypatch, beside.tracer_provider)
    await ask(litellm, server, how)
    await asyncio.wait_for(seen.wait(), 30)

    spans = {span.name: span for span in beside.spans()}
    assert spans.keys() == {"chat plain", "raw_gen_ai_request"}
    ours, raw = spans["chat plain"], spans["raw_gen_ai_request"]
    assert raw.parent is not None
    assert raw.parent.span_id == ours.context.span_id
    assert HELLO[0]["content"] not in str(dict(ours.attributes or {}))


async def test_what_goes_to_another_backend_goes_on(
    litellm: ModuleType, server: OpenAIServer, beside: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(elsewhere))
    monkeypatch.setenv("USE_OTEL_LITELLM_REQUEST_SPAN", "true")
    seen = theirs(litellm, monkeypatch, provider)

    await ask(litellm, server, "async")
    await asyncio.wait_for(seen.wait(), 30)

    assert [span.name for span in beside.spans()] == ["chat plain"]
    assert "litellm_request" in {span.name for span in elsewhere.get_finished_spans()}


@pytest.mark.usefixtures("beside")
def test_taking_off_puts_back_their_methods() -> None:
    from litellm.integrations.opentelemetry import OpenTelemetry
    from litellm.integrations.otel.emitter import SpanEmitter

    on = OpenTelemetry._get_span_context, SpanEmitter.start_span
    own_callback.remove()

    off = OpenTelemetry._get_span_context, SpanEmitter.start_span
    assert [one is other for one, other in zip(on, off, strict=True)] == [False, False]
    assert [method.__module__ for method in off] == [
        "litellm.integrations.opentelemetry",
        "litellm.integrations.otel.emitter",
    ]
    assert not hasattr(off[0], "__wrapped__")
