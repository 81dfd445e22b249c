"""Plain chat calls, sync and async, against a server that answers, refuses or hangs."""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording, whole
from waiting import until

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Say hello"}, {"type": "image_url", "image_url": {"url": ""}}],
    },
]

Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType, server: OpenAIServer) -> Ask:
    """Call the model of the given name, plain, by `completion` and by `acompletion`."""

    def call(model: str, **arguments: Any) -> Any:
        arguments = {
            "messages": [{"role": "user", "content": "hi"}],
            "api_base": server.url,
            "api_key": "sk-test",
            "max_retries": 0,
            **arguments,
        }
        if request.param == "sync":
            return litellm.completion(model=model, **arguments)

        async def main() -> Any:
            try:
                return await litellm.acompletion(model=model, **arguments)
            finally:
                await litellm.close_litellm_async_clients()

        return asyncio.run(main())

    return call


def common(server: OpenAIServer, model: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hosted_vllm",
        "gen_ai.request.model": model,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "otel_llm.prompt.length": 2,
    }


def timeless(recording: Recording) -> dict[str, Any]:
    """The one span as plain values, without the one that differs each time."""
    document = whole(recording.span())
    document["attributes"].pop("otel_llm.litellm.overhead", None)
    return document


def test_a_call_is_one_client_span_that_tells_the_request_as_given_and_the_reply_as_reported(
    ask: Ask, recording: Recording, server: OpenAIServer
) -> None:
    ask(
        "hosted_vllm/plain",
        messages=MESSAGES,
        temperature=0,
        top_p=0.9,
        max_tokens=64,
        seed=7,
        stop=["\n"],
        frequency_penalty=0.25,
        presence_penalty=0.5,
        n=2,
        response_format={"type": "json_object"},
    )

    assert {
        "name": "chat plain",
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": {
            **common(server, "plain"),
            "otel_llm.prompt.length": 18,
            "gen_ai.request.temperature": 0,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ("\n",),
            "gen_ai.request.frequency_penalty": 0.25,
            "gen_ai.request.presence_penalty": 0.5,
            "gen_ai.request.choice.count": 2,
            "gen_ai.output.type": "json",
            "gen_ai.response.id": "chatcmpl-plain-1",
            "gen_ai.response.model": "served-model-1",
            "gen_ai.response.finish_reasons": ("stop", "stop"),
            "otel_llm.response.length": 22,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "otel_llm.usage.source": "reported",
        },
    } == timeless(recording)


def test_nothing_is_invented_where_the_caller_gave_no_parameter_and_the_server_no_usage(
    ask: Ask, recording: Recording, server: OpenAIServer
) -> None:
    ask("hosted_vllm/silent")

    assert {
        **common(server, "silent"),
        "gen_ai.response.id": "chatcmpl-plain-1",
        "gen_ai.response.model": "served-model-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "otel_llm.response.length": 11,
        "otel_llm.usage.source": "unknown",
    } == timeless(recording)["attributes"]
    assert recording.counts() == {"gen_ai.client.operation.duration": 1}


def test_the_reply_of_a_mock_has_no_usage_for_no_server_reported_any(litellm: ModuleType, recording: Recording) -> None:
    reply = litellm.completion("openai/gpt-4o", [{"role": "user", "content": "hi"}], mock_response="made up")

    assert reply.usage.total_tokens > 0
    assert not [name for name in recording.span().attributes or {} if name.startswith("gen_ai.usage")]
    assert "gen_ai.client.token.usage" not in recording.counts()


@pytest.mark.parametrize(
    ("word", "error", "status"),
    [
        ("error400", "BadRequestError", 400),
        ("error429", "RateLimitError", 429),
        ("error500", "InternalServerError", 500),
    ],
)
def test_a_refused_call_ends_with_its_error_type_and_reaches_the_caller_unchanged(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, word: str, error: str, status: int
) -> None:
    with pytest.raises(getattr(litellm, error)) as caught:
        ask(f"hosted_vllm/{word}", messages=[{"role": "user", "content": "a secret"}])

    assert caught.value.status_code == status
    span = recording.span()
    assert {
        "name": f"chat {word}",
        "kind": "CLIENT",
        "status": "ERROR",
        "description": f"{error} (HTTP {status})",
        "events": ["exception"],
        "attributes": {**common(server, word), "otel_llm.prompt.length": 8, "error.type": error},
    } == whole(span)
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == f"litellm.exceptions.{error}"
    assert "a secret" in str(caught.value)
    assert "a secret" not in span.to_json()


def test_a_failed_call_counts_in_duration_under_its_error_type_and_nowhere_else(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType
) -> None:
    with pytest.raises(litellm.RateLimitError):
        ask("hosted_vllm/error429")

    assert recording.counts() == {"gen_ai.client.operation.duration": 1}
    (point,) = recording.points()["gen_ai.client.operation.duration"]
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hosted_vllm",
        "gen_ai.request.model": "error429",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "error.type": "RateLimitError",
    } == dict(point.attributes or {})


def test_the_message_of_an_error_is_recorded_only_where_it_is_asked_for(
    litellm: ModuleType, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("OTEL_LLM_CAPTURE_ERROR_MESSAGE", "true")
    recording: Recording = request.getfixturevalue("recording")

    with pytest.raises(litellm.BadRequestError):
        litellm.completion("hosted_vllm/error400", [], api_base=server.url, api_key="sk-test")

    span = recording.span()
    assert "refused" in str(span.status.description)
    assert "refused" in str((span.events[0].attributes or {})["exception.message"])


def test_a_cancelled_call_ends_as_cancelled_and_stays_cancelled(
    litellm: ModuleType, recording: Recording, server: OpenAIServer
) -> None:
    async def main() -> None:
        seen = len(server.requests)
        task = asyncio.create_task(
            litellm.acompletion("hosted_vllm/hang", [], api_base=server.url, api_key="sk-test", max_retries=0)
        )
        while len(server.requests) == seen:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await litellm.close_litellm_async_clients()

    asyncio.run(asyncio.wait_for(main(), 20))

    span = recording.span()
    assert (span.status.status_code.name, (span.attributes or {})["error.type"]) == ("ERROR", "CancelledError")
    assert recording.counts() == {"gen_ai.client.operation.duration": 1}


def test_points_have_the_buckets_of_the_conventions_and_exemplars_that_lead_to_the_span(
    ask: Ask, recording: Recording
) -> None:
    ask("hosted_vllm/plain")

    span = recording.span().context
    points = recording.points()
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} == set(points)
    for point in (point for all_points in points.values() for point in all_points):
        assert [(span.trace_id, span.span_id)] == [(e.trace_id, e.span_id) for e in point.exemplars]
        assert (point.attributes or {})["gen_ai.response.model"] == "served-model-1"
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert seconds == tuple(points["gen_ai.client.operation.duration"][0].explicit_bounds)
    by_type = {(p.attributes or {})["gen_ai.token.type"]: p for p in points["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in by_type.items()} == {"input": 11, "output": 7}
    assert tokens == tuple(by_type["input"].explicit_bounds)


def test_the_span_is_the_parent_of_what_happens_during_the_call(
    ask: Ask, recording: Recording, litellm: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of HTTP clients and trace ids of log lines hang on this."""
    from opentelemetry import trace
    from opentelemetry.trace import get_current_span

    tracer = recording.tracer_provider.get_tracer("application")
    seen: list[trace.SpanContext] = []

    class Callback(litellm.integrations.custom_logger.CustomLogger):  # type: ignore[misc, name-defined]
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            seen.append(get_current_span().get_span_context())

    monkeypatch.setattr(litellm, "callbacks", [Callback()])
    with tracer.start_as_current_span("application"):
        ask("hosted_vllm/plain")
        after = get_current_span().get_span_context()

    until(lambda: len(recording.spans()) == 2)
    call, application = recording.spans()
    assert call.parent == application.context == after
    assert [call.context] == seen


@pytest.mark.parametrize(
    ("model", "arguments", "provider", "bare"),
    [
        ("openai/gpt-4o", {}, "openai", "gpt-4o"),
        ("gpt-4o", {}, "openai", "gpt-4o"),
        ("azure/deployed", {"api_base": "https://example.invalid", "api_version": "1"}, "azure.ai.openai", "deployed"),
        ("hosted_vllm/meta-llama/Llama-3", {"api_base": "http://x.invalid/v1"}, "hosted_vllm", "meta-llama/Llama-3"),
        ("meta-llama/Llama-3", {"custom_llm_provider": "openai"}, "openai", "meta-llama/Llama-3"),
        ("gemini/gemini-2.5-pro", {}, "gcp.gemini", "gemini-2.5-pro"),
    ],
)
def test_provider_and_model_are_told_apart(
    litellm: ModuleType, recording: Recording, model: str, arguments: dict[str, Any], provider: str, bare: str
) -> None:
    litellm.completion(model, [{"role": "user", "content": "hi"}], mock_response="hello", api_key="k", **arguments)

    attributes = recording.span().attributes or {}
    assert (provider, bare) == (attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"])


def test_a_sampler_sees_who_is_asked_for_what_and_where(litellm: ModuleType, server: OpenAIServer) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

    from otel_llm.litellm import LiteLLMInstrumentor

    seen: list[dict[str, Any]] = []

    class Recorder(Sampler):
        def should_sample(self, parent_context: Any, trace_id: Any, name: Any, kind: Any = None, attributes: Any = None,
                          links: Any = None, trace_state: Any = None) -> SamplingResult:  # fmt: skip
            seen.append(dict(attributes))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "recorder"

    LiteLLMInstrumentor().instrument(tracer_provider=TracerProvider(Recorder(), shutdown_on_exit=False))
    try:
        litellm.completion("hosted_vllm/plain", [{"role": "user", "content": "hi"}], api_base=server.url, api_key="k")
    finally:
        LiteLLMInstrumentor().uninstrument()

    assert [common(server, "plain")] == seen
