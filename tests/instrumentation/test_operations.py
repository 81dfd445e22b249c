"""Every operation besides chat, sync and async, against a server that answers, says nothing of tokens, or refuses."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import SPEECH, OpenAIServer
from instrumentation.recording import Recording, whole

Ask = Callable[..., Any]

# Of text completions and variations LiteLLM makes a client for each call and leaves it open; OpenAI's warns of the latter.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:deprecated:DeprecationWarning")


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType, server: OpenAIServer) -> Ask:
    """Call the function of the given name, or its async twin, on the server; a stream is read to its end."""

    def call(name: str, **arguments: Any) -> Any:
        arguments = {"api_base": server.url, "api_key": "sk-test", "max_retries": 0, **arguments}
        if request.param == "sync":
            result = getattr(litellm, name)(**arguments)
            return [*result] if arguments.get("stream") else result

        async def main() -> Any:
            try:
                result = await getattr(litellm, f"a{name}")(**arguments)
                return [chunk async for chunk in result] if arguments.get("stream") else result
            finally:
                await litellm.close_litellm_async_clients()

        return asyncio.run(main())

    return call


def recorded(recording: Recording) -> dict[str, Any]:
    """The whole of the one span, but for the times that are in its attributes."""
    found = whole(recording.span())
    for name in ("otel_llm.litellm.overhead", "gen_ai.response.time_to_first_chunk"):
        assert found["attributes"].pop(name, 1) > 0
    return found


def answered(name: str, server: OpenAIServer, provider: str = "hosted_vllm", **attributes: Any) -> dict[str, Any]:
    """The whole of a span that has no error; `__` stands for a point in the names of attributes."""
    operation, _, model = name.partition(" ")
    is_reported = any(key.startswith("gen_ai__usage") for key in attributes)
    source = {"otel_llm.usage.source": "reported" if is_reported else "unknown"}
    return {
        "name": name,
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "server.address": "127.0.0.1",
            "server.port": server.port,
            **({} if operation in ("moderation", "speech") else source),
            **{key.replace("__", "."): value for key, value in attributes.items()},
        },
    }


TEXT_REPLY: dict[str, Any] = {
    "otel_llm__prompt__length": 11,
    "gen_ai__response__id": "cmpl-1",
    "gen_ai__response__model": "served-model-1",
    "otel_llm__response__length": 11,
}
TEXT_USAGE: dict[str, Any] = {
    "gen_ai__usage__input_tokens": 11,
    "gen_ai__usage__output_tokens": 7,
    "gen_ai__usage__cache_read__input_tokens": 3,
    "gen_ai__usage__reasoning__output_tokens": 2,
}


def test_a_text_completion(ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType) -> None:
    reply = ask("text_completion", model="hosted_vllm/plain", prompt=["Say ", "goodbye"], n=2, temperature=0)

    assert type(reply) is litellm.TextCompletionResponse
    assert recorded(recording) == answered(
        "text_completion plain",
        server,
        **{**TEXT_REPLY, "otel_llm__response__length": 22},
        **TEXT_USAGE,
        gen_ai__request__choice__count=2,
        gen_ai__request__temperature=0.0,
        gen_ai__response__finish_reasons=("stop", "stop"),
    )
    assert recording.counts() == {"gen_ai.client.operation.duration": 1, "gen_ai.client.token.usage": 2}


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_a_text_completion_whose_server_reports_no_tokens_has_none(
    ask: Ask, recording: Recording, server: OpenAIServer, provider: str
) -> None:
    ask("text_completion", model=f"{provider}/silent", prompt="Say goodbye")

    assert recorded(recording) == answered(
        "text_completion silent", server, provider, **TEXT_REPLY, gen_ai__response__finish_reasons=("stop",)
    )


@pytest.mark.parametrize(
    ("model", "usage"), [("usage", TEXT_USAGE), ("silent", {})], ids=["usage reported", "no usage reported"]
)
def test_a_stream_of_text_is_one_span_with_its_first_chunk_and_its_end(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, model: str, usage: dict[str, Any]
) -> None:
    chunks = ask("text_completion", model=f"hosted_vllm/{model}", prompt="Say goodbye", stream=True)

    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == "Hello there"
    assert {type(chunk) for chunk in chunks} == {litellm.TextCompletionResponse}
    assert "gen_ai.response.time_to_first_chunk" in (recording.span().attributes or {})
    assert recorded(recording) == answered(
        f"text_completion {model}",
        server,
        **TEXT_REPLY,
        **usage,
        gen_ai__request__stream=True,
        gen_ai__response__finish_reasons=("stop",),
        otel_llm__stream__end="exhausted",
    )
    counts = recording.counts()
    assert counts.pop("gen_ai.client.operation.time_per_output_chunk") == len(chunks) - 1
    assert counts == {
        "gen_ai.client.operation.duration": 1,
        "gen_ai.client.operation.time_to_first_chunk": 1,
        **({"gen_ai.client.token.usage": 2} if usage else {}),
    }


def test_a_stream_of_text_that_breaks_fails_as_the_caller_sees_it(
    ask: Ask, recording: Recording, litellm: ModuleType
) -> None:
    with pytest.raises(litellm.InternalServerError) as caught:
        ask("text_completion", model="hosted_vllm/drop", prompt="Say goodbye", stream=True)

    attributes = recording.span().attributes or {}
    assert attributes["error.type"] == type(caught.value).__qualname__
    assert attributes["otel_llm.stream.end"] == "failed"
    assert recording.counts()["gen_ai.client.operation.duration"] == 1


def test_embeddings(ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType) -> None:
    reply = ask("embedding", model="hosted_vllm/plain", input=["Ulm", "Bremen"], dimensions=2, encoding_format="float")

    assert type(reply) is litellm.EmbeddingResponse
    assert recorded(recording) == answered(
        "embeddings plain",
        server,
        otel_llm__prompt__length=9,
        gen_ai__embeddings__dimension__count=2,
        gen_ai__request__encoding_formats=("float",),
        gen_ai__response__model="served-model-1",
        gen_ai__usage__input_tokens=5,
    )
    assert recording.counts() == {"gen_ai.client.operation.duration": 1, "gen_ai.client.token.usage": 1}


@pytest.mark.parametrize("given", [[[1, 2], [3]], [1, 2, 3]], ids=["lists of tokens", "tokens"])
def test_embeddings_of_tokens_have_no_length_in_characters_and_a_silent_server_s_no_count(
    ask: Ask, recording: Recording, server: OpenAIServer, given: Any
) -> None:
    ask("embedding", model="openai/silent", input=given)

    assert recorded(recording) == answered(
        "embeddings silent", server, "openai", gen_ai__response__model="served-model-1"
    )


@pytest.mark.parametrize(("model", "usage"), [("plain", {"gen_ai__usage__input_tokens": 9}), ("silent", {})])
def test_rerank(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, model: str, usage: dict[str, Any]
) -> None:
    documents = ["Ulm", {"text": "Bremen"}, "x"]
    reply = ask("rerank", model=f"hosted_vllm/{model}", query="city", documents=documents, top_n=2)

    assert type(reply) is litellm.RerankResponse
    assert recorded(recording) == answered(
        f"rerank {model}",
        server,
        **usage,
        otel_llm__prompt__length=14,
        otel_llm__rerank__documents=3,
        otel_llm__rerank__top_n=2,
        otel_llm__rerank__results=2,
        gen_ai__response__id="rerank-1",
    )


IMAGE_USAGE = {
    "gen_ai__usage__input_tokens": 40,
    "gen_ai__usage__output_tokens": 1056,
    "gen_ai__usage__text__input_tokens": 10,
    "gen_ai__usage__image__input_tokens": 30,
}


@pytest.mark.parametrize(("model", "usage"), [("plain", IMAGE_USAGE), ("silent", {})])
def test_image_generation(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, model: str, usage: dict[str, Any]
) -> None:
    reply = ask(
        "image_generation",
        model=f"openai/{model}",
        prompt="a cat",
        n=2,
        size="1024x1024",
        quality="high",
    )

    assert type(reply) is litellm.ImageResponse
    assert recorded(recording) == answered(
        f"image_generation {model}",
        server,
        "openai",
        **usage,
        otel_llm__prompt__length=5,
        gen_ai__output__type="image",
        gen_ai__request__choice__count=2,
        otel_llm__image__size="1024x1024",
        otel_llm__image__quality="high",
        otel_llm__image__count=2,
    )


def test_image_edit(ask: Ask, recording: Recording, server: OpenAIServer) -> None:
    """Of a model with a price: the cost is the one LiteLLM computes."""
    image = io.BytesIO(b"not really an image")
    reply = ask("image_edit", model="openai/gpt-image-1", image=image, prompt="a cat")

    assert recorded(recording) == answered(
        "image_edit gpt-image-1",
        server,
        "openai",
        **IMAGE_USAGE,
        otel_llm__prompt__length=5,
        gen_ai__output__type="image",
        otel_llm__image__count=1,
        otel_llm__cost=reply._hidden_params["response_cost"],
        otel_llm__cost__source="litellm",
    )


def test_image_variation(ask: Ask, recording: Recording, server: OpenAIServer) -> None:
    ask("image_variation", model="openai/plain", image=io.BytesIO(b"not really an image"))

    assert recorded(recording) == answered(
        "image_variation plain",
        server,
        "openai",
        **IMAGE_USAGE,
        gen_ai__output__type="image",
        otel_llm__image__count=1,
    )


def test_speech_is_not_read_before_the_caller_reads_it(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType
) -> None:
    reply = ask("speech", model="openai/plain", input="Say goodbye", voice="alloy")

    assert type(reply) is litellm.types.llms.openai.HttpxBinaryResponseContent
    assert reply.read() == SPEECH
    assert recorded(recording) == answered(
        "speech plain",
        server,
        "openai",
        gen_ai__output__type="speech",
        otel_llm__prompt__length=11,
        otel_llm__audio__voice="alloy",
    )


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        (
            "plain",
            {
                "gen_ai__usage__input_tokens": 14,
                "gen_ai__usage__output_tokens": 4,
                "gen_ai__usage__audio__input_tokens": 14,
            },
        ),
        ("seconds", {"otel_llm__audio__duration": 3.0}),
        ("silent", {}),
    ],
)
def test_transcription(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, model: str, usage: dict[str, Any]
) -> None:
    reply = ask("transcription", model=f"openai/{model}", file=("said.wav", b"not really sound"))

    assert type(reply) is litellm.TranscriptionResponse
    assert recorded(recording) == answered(
        f"transcription {model}", server, "openai", **usage, otel_llm__audio__size=16, otel_llm__response__length=11
    )


def test_the_size_of_a_recording_is_told_without_reading_it(
    ask: Ask, recording: Recording, server: OpenAIServer, tmp_path: Path
) -> None:
    path = tmp_path / "said.wav"
    path.write_bytes(b"not really sound")
    with path.open("rb") as file:
        ask("transcription", model="openai/silent", file=file)

    assert server.requests[-1]["body"]["file"] == 16
    assert (recording.span().attributes or {})["otel_llm.audio.size"] == 16


@pytest.mark.parametrize(("text", "flagged"), [("a bad thing", True), ("a good one!", False)])
def test_moderation(
    ask: Ask, recording: Recording, server: OpenAIServer, litellm: ModuleType, text: str, flagged: bool
) -> None:
    reply = ask("moderation", model="plain", input=text)

    assert type(reply) is litellm.types.llms.openai.OpenAIModerationResponse
    assert recorded(recording) == answered(
        "moderation plain",
        server,
        "openai",
        otel_llm__prompt__length=11,
        otel_llm__moderation__flagged=flagged,
        gen_ai__response__id="modr-1",
        gen_ai__response__model="served-model-1",
    )


CALLS: dict[str, dict[str, Any]] = {
    "text_completion": {"prompt": "a secret"},
    "embedding": {"input": ["a secret"]},
    "rerank": {"query": "a secret", "documents": ["x"]},
    "image_generation": {"prompt": "a secret"},
    "image_edit": {"prompt": "a secret", "image": b"x"},
    "speech": {"input": "a secret", "voice": "alloy"},
    "transcription": {"file": ("said.wav", b"x")},
    "moderation": {"input": "a secret"},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_refused_call_of_any_operation_ends_with_its_error_type_and_reaches_the_caller_unchanged(
    ask: Ask, recording: Recording, name: str
) -> None:
    provider = "hosted_vllm" if name == "rerank" else "openai"
    with pytest.raises(Exception, match="refused") as caught:
        ask(name, model=f"{provider}/error400", **CALLS[name])

    span = recording.span()
    assert (span.status.status_code.name, [event.name for event in span.events]) == ("ERROR", ["exception"])
    assert (span.attributes or {})["error.type"] == type(caught.value).__qualname__
    assert "secret" not in span.to_json()
    assert recording.counts() == {"gen_ai.client.operation.duration": 1}


@pytest.mark.parametrize("name", ["text_completion", "embedding", "image_generation"])
def test_a_mock_s_tokens_are_no_server_s(ask: Ask, recording: Recording, name: str) -> None:
    mocks: dict[str, Any] = {
        "text_completion": "made up",
        "embedding": [0.5],
        "image_generation": '[{"url": "https://x.invalid"}]',
    }
    ask(name, model="openai/gpt-4o", mock_response=mocks[name], **CALLS[name])

    assert not [key for key in recording.span().attributes or {} if key.startswith("gen_ai.usage")]
