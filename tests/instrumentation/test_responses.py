"""Calls of the Responses API: one span that tells the request as given and the reply as the server reported it."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.recording import Recording, whole
from instrumentation.responses_server import ResponsesServer, serve
from instrumentation.streaming import native_models, need_proxy
from waiting import until

REPORTED = {
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.usage.reasoning.output_tokens": 2,
    "otel_llm.usage.source": "reported",
}
ANSWERED = {
    "gen_ai.response.id": "resp_1",
    "gen_ai.response.model": "served-model-1",
    "gen_ai.response.finish_reasons": ("stop",),
    "openai.response.service_tier": "default",
    "otel_llm.response.length": 11,
}
TIMES = ("gen_ai.response.time_to_first_chunk", "otel_llm.litellm.overhead")
Ask = Callable[..., Any]


@pytest.fixture(scope="module", name="newer")
def _newer(litellm: ModuleType) -> Iterator[ResponsesServer]:
    with serve() as running, native_models(litellm):
        yield running


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType, newer: ResponsesServer) -> Ask:
    """Makes a call and returns the reply, or all events of the stream."""
    base = {"api_base": newer.url, "api_key": "sk-test", "max_retries": 0}

    async def asynchronous(**arguments: Any) -> Any:
        try:
            reply = await litellm.aresponses(**arguments)
            return [event async for event in reply] if arguments.get("stream") else reply
        finally:
            await litellm.close_litellm_async_clients()

    def call(model: str, given: Any = "hi", **arguments: Any) -> Any:
        arguments = {"model": model, "input": given, **base, **arguments}
        if request.param == "async":
            return asyncio.run(asynchronous(**arguments))
        reply = litellm.responses(**arguments)
        return list(reply) if arguments.get("stream") else reply

    return call


def request_of(newer: ResponsesServer, provider: str, model: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "openai.api.type": "responses",
        "server.address": "127.0.0.1",
        "server.port": newer.port,
        "otel_llm.prompt.length": 2,
    }


def timeless(recording: Recording) -> dict[str, Any]:
    """The one span as plain values, without those that differ each time."""
    document = whole(recording.span())
    for name in TIMES:
        document["attributes"].pop(name, None)
    return document


def test_a_call_is_one_span_with_the_request_as_given_and_the_reply_as_reported(
    ask: Ask, recording: Recording, newer: ResponsesServer
) -> None:
    ask(
        "openai/plain",
        [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        instructions="be brief",
        temperature=0,
        max_output_tokens=50,
        reasoning={"effort": "low"},
        service_tier="flex",
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        conversation="conv_1",
    )

    assert {
        "name": "chat plain",
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": {
            **request_of(newer, "openai", "plain"),
            "otel_llm.prompt.length": 10,
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.reasoning.level": "low",
            "openai.request.service_tier": "flex",
            "gen_ai.output.type": "json",
            "gen_ai.conversation.id": "conv_1",
            **ANSWERED,
            **REPORTED,
        },
    } == timeless(recording)


def test_the_next_turn_names_the_response_before_as_its_span_does(ask: Ask, recording: Recording) -> None:
    """LiteLLM hands out ids with its own routing in them; both spans have the server's."""
    reply = ask("openai/plain")
    assert reply.id != "resp_1", "LiteLLM no longer encodes ids: this test has lost its point"
    ask("openai/plain", previous_response_id=reply.id)

    first, second = (dict(span.attributes or {}) for span in recording.spans())
    assert first["gen_ai.response.id"] == "resp_1" == second["gen_ai.request.previous_response.id"]


@pytest.mark.parametrize(
    ("model", "response_id"),
    [("openai/native-plain", "resp_1"), ("hosted_vllm/plain", "resp_1"), ("lm_studio/plain", "chatcmpl-stream-1")],
    ids=["streamed", "cut from a whole reply", "over chat"],
)
def test_a_stream_is_one_span_with_what_the_server_reported(
    ask: Ask, recording: Recording, newer: ResponsesServer, model: str, response_id: str
) -> None:
    events = ask(model, stream=True)

    assert "".join(getattr(event, "delta", "") for event in events) == "Hello there"
    provider, _, name = model.partition("/")
    answered = {**ANSWERED, "gen_ai.response.id": response_id}
    if provider == "lm_studio":
        del answered["openai.response.service_tier"]
    assert {
        **request_of(newer, provider, name),
        "gen_ai.request.stream": True,
        **answered,
        **REPORTED,
        "otel_llm.stream.end": "exhausted",
    } == timeless(recording)["attributes"]
    counts = recording.counts()
    assert (1, 1, len(events) - 1, 2) == (
        counts["gen_ai.client.operation.duration"],
        counts["gen_ai.client.operation.time_to_first_chunk"],
        counts["gen_ai.client.operation.time_per_output_chunk"],
        counts["gen_ai.client.token.usage"],
    )


@pytest.mark.parametrize("model", ["openai/native-silent", "hosted_vllm/silent", "lm_studio/silent"])
def test_the_estimate_litellm_puts_into_the_last_event_is_never_recorded(
    ask: Ask, recording: Recording, model: str
) -> None:
    events = ask(model, stream=True)

    if model != "hosted_vllm/silent":
        assert events[-1].response.usage.output_tokens > 0, "LiteLLM no longer estimates: this test has lost its point"
    attributes = timeless(recording)["attributes"]
    assert [name for name in attributes if name.startswith("gen_ai.usage")] == []
    assert attributes["otel_llm.usage.source"] == "unknown"
    assert "gen_ai.client.token.usage" not in recording.counts()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("word", "reason"), [("tools", "tool_calls"), ("incomplete", "length")])
def test_finish_reasons_are_those_of_chat(ask: Ask, recording: Recording, stream: bool, word: str, reason: str) -> None:
    ask(f"openai/native-{word}", stream=stream)

    assert (recording.span().attributes or {})["gen_ai.response.finish_reasons"] == (reason,)


def test_a_stream_the_server_calls_failed_is_an_error(ask: Ask, recording: Recording) -> None:
    with pytest.raises(Exception, match="the engine broke") as raised:
        ask("openai/native-failed", stream=True)

    span = recording.span()
    attributes = dict(span.attributes or {})
    assert ("ERROR", raised.type.__name__, "failed", ("error",), "resp_1") == (
        span.status.status_code.name,
        attributes["error.type"],
        attributes["otel_llm.stream.end"],
        attributes["gen_ai.response.finish_reasons"],
        attributes["gen_ai.response.id"],
    )


def test_a_refused_call_is_an_error_with_its_http_status(ask: Ask, recording: Recording) -> None:
    with pytest.raises(Exception, match="refused") as raised:
        ask("openai/error429")

    span = recording.span()
    assert (raised.type.__name__, f"{raised.type.__name__} (HTTP 429)") == (
        (span.attributes or {})["error.type"],
        span.status.description,
    )


def test_a_stream_left_after_its_last_event_has_all_it_told(
    litellm: ModuleType, recording: Recording, newer: ResponsesServer
) -> None:
    """Most consumers stop at `response.completed` and never ask for the end."""
    stream = litellm.responses(
        model="openai/native-plain", input="hi", stream=True, api_base=newer.url, api_key="sk-test"
    )
    for event in stream:
        if event.type == "response.completed":
            break
    del stream, event
    until(lambda: gc.collect() >= 0 and bool(recording.spans()))

    attributes = timeless(recording)["attributes"]
    assert {**ANSWERED, **REPORTED, "otel_llm.stream.end": "abandoned"}.items() <= attributes.items()


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_from_litellm_s_cache_has_no_usage(
    ask: Ask, litellm: ModuleType, recording: Recording, stream: bool
) -> None:
    need_proxy()
    litellm.cache = litellm.Cache()
    try:
        ask("openai/native-plain", f"cached? {stream}", stream=stream)
        # LiteLLM writes to its cache in the background.
        until(lambda: bool(litellm.cache.cache.cache_dict), "the cache")
        ask("openai/native-plain", f"cached? {stream}", stream=stream)
    finally:
        litellm.cache = None

    first, second = (dict(span.attributes or {}) for span in recording.spans())
    assert REPORTED.items() <= first.items()
    assert [name for name in second if name.startswith("gen_ai.usage")] == []
