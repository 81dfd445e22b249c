"""One call, one span, whoever else watches: with the official GenAI packages below LiteLLM and around it."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import ModuleType
from typing import Any

import openai
import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.trace import Span, get_current_span
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.invocation import CLIENT_INFERENCE_CONTEXT_KEY, InferenceData

from otel_llm import coexistence, semconv
from otel_llm.litellm import LiteLLMInstrumentor

HELLO = [{"role": "user", "content": "hi"}]
OURS = "otel_llm.litellm"
THEIRS = "opentelemetry.instrumentation.genai.openai"

Call = Callable[..., Any]


@pytest.fixture
def official(recording: Recording) -> Iterator[None]:
    """The official instrumentation of the OpenAI SDK, recording to the same place."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=recording.tracer_provider, meter_provider=recording.meter_provider)
    yield
    instrumentor.uninstrument()


@pytest.fixture
def handler(recording: Recording) -> TelemetryHandler:
    """What the official instrumentation of a framework records with."""
    return TelemetryHandler(recording.tracer_provider, recording.meter_provider)


def scopes(recording: Recording) -> list[str]:
    return [span.instrumentation_scope.name for span in recording.spans() if span.instrumentation_scope is not None]


def points(recording: Recording) -> dict[tuple[str, str], int]:
    """Count the points by scope and metric."""
    data = recording.reader.get_metrics_data()
    return {
        (scope.scope.name, metric.name): sum(point.count for point in metric.data.data_points)  # type: ignore[union-attr, misc]
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def before_each_request(litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, callback: Call) -> None:
    monkeypatch.setattr(litellm, "input_callback", [callback])
    monkeypatch.setattr("litellm.utils.callback_list", [])  # or it sets up no function once it has set up anything


def azure(server: OpenAIServer) -> dict[str, Any]:
    """LiteLLM asks Azure through the OpenAI SDK's own methods, which the official package wraps."""
    return {
        "model": "azure/plain",
        "messages": HELLO,
        "api_base": server.url.removesuffix("/v1"),
        "api_key": "k",
        "api_version": "2024-06-01",
        "max_retries": 0,
    }


# Clients to be closed, and new ones each time: those LiteLLM keeps keep their event loop and the methods they first had.
def client(arguments: dict[str, Any]) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=arguments["api_base"], api_key="k", api_version=arguments["api_version"], max_retries=0
    )


def async_client(arguments: dict[str, Any]) -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(
        azure_endpoint=arguments["api_base"], api_key="k", api_version=arguments["api_version"], max_retries=0
    )


def plain(litellm: ModuleType, arguments: dict[str, Any]) -> None:
    with client(arguments) as one:
        litellm.completion(**arguments, client=one)


def stream(litellm: ModuleType, arguments: dict[str, Any]) -> None:
    with client(arguments) as one:
        for _ in litellm.completion(**arguments, stream=True, client=one):
            pass


def async_plain(litellm: ModuleType, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with async_client(arguments) as one:
            await litellm.acompletion(**arguments, client=one)

    asyncio.run(main())


def async_stream(litellm: ModuleType, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with async_client(arguments) as one:
            async for _ in await litellm.acompletion(**arguments, stream=True, client=one):
                pass

    asyncio.run(main())


@pytest.mark.parametrize("call", [plain, stream, async_plain, async_stream])
@pytest.mark.usefixtures("official")
def test_the_official_package_below_litellm_makes_no_second_span_and_no_second_point(
    litellm: ModuleType, server: OpenAIServer, recording: Recording, call: Call
) -> None:
    call(litellm, azure(server))

    assert scopes(recording) == [OURS]
    assert {scope for scope, _ in points(recording)} == {OURS}


@pytest.mark.usefixtures("official")
def test_the_official_package_records_what_we_do_not(
    litellm: ModuleType, server: OpenAIServer, recording: Recording
) -> None:
    LiteLLMInstrumentor().uninstrument()

    plain(litellm, azure(server))

    assert scopes(recording) == [THEIRS]


@pytest.mark.usefixtures("official")
def test_what_a_finished_call_leaves_behind_is_recorded_by_the_official_package(
    litellm: ModuleType, server: OpenAIServer, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that outlives the call carries its context for ever, as LiteLLM's own logging task does."""
    left: list[Any] = []
    before_each_request(litellm, monkeypatch, lambda _: left.append(copy_context()))
    plain(litellm, azure(server))

    with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        left[0].run(client.chat.completions.create, model="plain", messages=HELLO)

    assert scopes(recording) == [OURS, THEIRS]


@pytest.mark.parametrize("call", [plain, stream, async_plain, async_stream])
def test_a_call_inside_an_official_one_is_recorded_on_its_span_alone(
    litellm: ModuleType, server: OpenAIServer, recording: Recording, handler: TelemetryHandler, call: Call
) -> None:
    with handler.inference("framework", request_model="theirs"):
        call(litellm, {**azure(server), "model": "azure/plain-usage", "temperature": 0.5})

    span = recording.span()
    attributes = dict(span.attributes or {})
    assert (span.name, span.status.status_code.name) == ("chat theirs", "UNSET")
    assert {
        "gen_ai.provider.name": "framework",
        "gen_ai.request.model": "theirs",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "served-model-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        semconv.PROMPT_LENGTH: 2,
    }.items() <= attributes.items()
    counted = points(recording)
    assert {scope for scope, _ in counted} == {"opentelemetry.util.genai.handler"}
    assert counted["opentelemetry.util.genai.handler", "gen_ai.client.token.usage"] == 2


def test_http_spans_of_such_a_call_are_children_of_the_official_span(
    litellm: ModuleType,
    server: OpenAIServer,
    recording: Recording,
    handler: TelemetryHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Span] = []
    before_each_request(litellm, monkeypatch, lambda _: seen.append(get_current_span()))
    with handler.inference("framework"):
        plain(litellm, azure(server))

    assert [span.get_span_context() for span in seen] == [recording.span().context]


def test_a_failure_the_framework_recovers_from_is_no_failure_of_its_span(
    litellm: ModuleType, server: OpenAIServer, recording: Recording, handler: TelemetryHandler
) -> None:
    with handler.inference("framework"):
        with pytest.raises(litellm.APIError):
            plain(litellm, {**azure(server), "model": "azure/error500"})
        plain(litellm, azure(server))

    span = recording.span()
    assert span.status.status_code.name == "UNSET"
    assert "error.type" not in (span.attributes or {})


def test_an_official_call_of_another_kind_covers_nothing(
    litellm: ModuleType, recording: Recording, handler: TelemetryHandler
) -> None:
    with handler.embedding("framework"):
        litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")

    assert sorted(span.name for span in recording.spans()) == ["chat gpt-4o", "embeddings"]


def test_content_is_never_handed_over() -> None:
    """Whether it is recorded there is for the outer instrumentation to say."""
    data = InferenceData()
    token = otel_context.attach(otel_context.set_value(CLIENT_INFERENCE_CONTEXT_KEY, data))
    try:
        outer = coexistence.outer_call(semconv.OPERATION_CHAT)
    finally:
        otel_context.detach(token)
    assert outer is not None

    outer.set_attribute("gen_ai.input.messages", "[]")
    outer.set_attribute("gen_ai.output.messages", "[]")
    outer.end()

    assert data == InferenceData()


def test_without_the_official_package_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.util.genai.invocation")
    context = otel_context.get_current()

    assert coexistence.mark(context, semconv.OPERATION_CHAT) is context
    assert coexistence.outer_call(semconv.OPERATION_CHAT) is None


def test_a_mark_is_an_empty_data_object_of_the_official_package() -> None:
    context = coexistence.mark(otel_context.Context(), semconv.OPERATION_CHAT)
    data = context[CLIENT_INFERENCE_CONTEXT_KEY]

    assert data == InferenceData()
    coexistence.unmark(context, semconv.OPERATION_CHAT)
    assert not isinstance(data, InferenceData)
