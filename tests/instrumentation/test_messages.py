"""Calls in the form of Anthropic's messages, to Anthropic and over LiteLLM's bridges to chat and to Responses."""

import asyncio
import json
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from instrumentation.recording import Recording, whole
from instrumentation.responses_server import ResponsesServer, message_events, serve
from instrumentation.streaming import native_models, need_proxy

from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import messages
from otel_llm.records import Request

TIMES = ("gen_ai.response.time_to_first_chunk", "otel_llm.litellm.overhead")
NATIVE, OVER_CHAT, OVER_RESPONSES = "anthropic/", "hosted_vllm/", "openai/native-"
Ask = Callable[..., Any]


@pytest.fixture(scope="module", name="newer")
def _newer(litellm: ModuleType) -> Iterator[ResponsesServer]:
    with serve() as running, native_models(litellm):
        yield running


@pytest.fixture(params=["anthropic_messages", "acreate", "create"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType, newer: ResponsesServer) -> Ask:
    """Makes a call by one of the three functions and returns the reply, or all of the stream."""

    async def asynchronous(**arguments: Any) -> Any:
        function = litellm.anthropic.messages.acreate
        if request.param == "anthropic_messages":
            function = litellm.anthropic_messages
        try:
            reply = await function(**arguments)
            return [chunk async for chunk in reply] if arguments.get("stream") else reply
        finally:
            await litellm.close_litellm_async_clients()

    def call(model: str, **arguments: Any) -> Any:
        arguments = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 100,
            "api_base": newer.root if model.startswith(NATIVE) else newer.url,
            "api_key": "sk-test",
            "max_retries": 0,
            **arguments,
        }
        if request.param != "create":
            return asyncio.run(asynchronous(**arguments))
        if not model.startswith(OVER_CHAT):
            pytest.skip("LiteLLM has no synchronous call for it")
        reply = litellm.anthropic.messages.create(**arguments)
        return list(reply) if arguments.get("stream") else reply

    return call


def timeless(recording: Recording) -> dict[str, Any]:
    """The one span as plain values, without those that differ each time."""
    document = whole(recording.span())
    for name in TIMES:
        document["attributes"].pop(name, None)
    return document


def expected(newer: ResponsesServer, model: str, **besides: Any) -> dict[str, Any]:
    provider, _, name = model.partition("/")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": name,
        "gen_ai.request.max_tokens": 100,
        "server.address": "127.0.0.1",
        "server.port": newer.port,
        "otel_llm.prompt.length": 2,
        "gen_ai.response.model": "served-model-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "otel_llm.response.length": 11,
        "otel_llm.usage.source": "reported",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        **besides,
    }


@pytest.mark.parametrize(
    ("model", "besides"),
    [
        (f"{NATIVE}plain", {"gen_ai.response.id": "msg_1", "gen_ai.usage.cache_write.input_tokens": 2}),
        (f"{OVER_CHAT}plain", {"gen_ai.response.id": "chatcmpl-plain-1"}),
        (f"{OVER_RESPONSES}plain", {"gen_ai.response.id": "resp_1"}),
    ],
)
def test_a_call_is_one_span_with_cached_tokens_among_the_input(
    ask: Ask, recording: Recording, newer: ResponsesServer, model: str, besides: dict[str, Any]
) -> None:
    ask(model)

    assert {
        "name": f"chat {model.partition('/')[2]}",
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": expected(newer, model, **besides),
    } == timeless(recording)


@pytest.mark.parametrize(
    ("model", "besides"),
    [
        (
            f"{OVER_CHAT}plain",
            {"gen_ai.response.id": "chatcmpl-stream-1", "gen_ai.usage.reasoning.output_tokens": 2},
        ),
        (
            f"{OVER_RESPONSES}plain",
            {
                "gen_ai.response.id": "resp_1",
                "gen_ai.usage.reasoning.output_tokens": 2,
                "openai.response.service_tier": "default",
            },
        ),
        (f"{NATIVE}plain", {"gen_ai.response.id": "msg_1", "gen_ai.usage.cache_write.input_tokens": 2}),
    ],
)
def test_a_stream_is_one_span_with_what_the_server_reported(
    ask: Ask, recording: Recording, newer: ResponsesServer, model: str, besides: dict[str, Any]
) -> None:
    if not model.startswith(OVER_CHAT):
        need_proxy()
    events = b"".join(ask(model, stream=True))

    assert events.count(b"event: message_stop") == 1
    streamed = {"gen_ai.request.stream": True, "otel_llm.stream.end": "exhausted"}
    assert expected(newer, model, **besides, **streamed) == timeless(recording)["attributes"]


@pytest.mark.parametrize("model", [f"{OVER_CHAT}silent", f"{OVER_RESPONSES}silent"])
@pytest.mark.parametrize("stream", [False, True])
def test_counts_litellm_makes_up_are_never_recorded(ask: Ask, recording: Recording, model: str, stream: bool) -> None:
    if stream and model.startswith(OVER_RESPONSES):
        need_proxy()
    ask(model, stream=stream)

    attributes = timeless(recording)["attributes"]
    assert [name for name in attributes if name.startswith("gen_ai.usage")] == []
    assert "gen_ai.client.token.usage" not in recording.counts()


@pytest.mark.parametrize(("word", "reason"), [("tools", "tool_calls"), ("incomplete", "length")])
def test_finish_reasons_are_those_of_chat(ask: Ask, recording: Recording, word: str, reason: str) -> None:
    ask(f"{NATIVE}{word}")

    assert (recording.span().attributes or {})["gen_ai.response.finish_reasons"] == (reason,)


def test_a_refused_call_is_an_error(ask: Ask, recording: Recording) -> None:
    with pytest.raises(Exception, match="refused") as raised:
        ask(f"{NATIVE}error500")

    span = recording.span()
    assert ("ERROR", raised.type.__name__) == (span.status.status_code.name, (span.attributes or {})["error.type"])


def test_a_stream_cut_anywhere_is_read_as_far_as_it_came() -> None:
    """Chunks are what the network made of the events; the counts before the last event are no counts of the whole."""
    said = b"".join(
        f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind, **event}).encode() + b"\n\n"
        for kind, event in message_events(["plain"])
    )
    telemetry: Any = SimpleNamespace(settings=None, prices=None)
    asked = Asked({}, True, Request("chat", "plain"), telemetry)
    for size in (1, 7, 64, len(said)):
        reply = messages.read_events([said[at : at + size] for at in range(0, len(said), size)], asked, True)
        assert reply.usage is not None
        assert (
            reply.usage.input_tokens,
            reply.usage.output_tokens,
            reply.response_length,
            reply.finish_reasons,
        ) == (11, 7, 11, ("stop",))
    half = messages.read_events([said[: said.index(b"message_delta")]], asked, True)
    assert half.usage is not None
    assert (
        half.usage.input_tokens,
        half.usage.output_tokens,
        half.response_length,
        half.finish_reasons,
    ) == (11, None, 11, ())
