"""Every way into LiteLLM is one span: positional arguments, flags, retries, fallbacks, batches, the client object."""

import asyncio
import inspect
import io
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from waiting import until

from otel_llm.litellm.entries import ENTRIES

HELLO = [{"role": "user", "content": "hi"}]

# Of text completions and variations LiteLLM makes a client for each call and leaves it open; OpenAI's warns of the latter.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:deprecated:DeprecationWarning")


@pytest.fixture
def to(server: OpenAIServer) -> dict[str, Any]:
    """The arguments that lead a call to the server."""
    return {"api_base": server.url, "api_key": "sk-test", "max_retries": 0}


def run(litellm: ModuleType, call: Any) -> Any:
    """Await what a call returns, if it returns something to await."""

    async def main() -> Any:
        try:
            return await call
        finally:
            await litellm.close_litellm_async_clients()

    return asyncio.run(main()) if inspect.isawaitable(call) else call


def named(recording: Recording) -> list[tuple[str, str]]:
    """Name and status of every span, the first to end first."""
    return [(span.name, span.status.status_code.name) for span in recording.spans()]


POSITIONAL: dict[str, tuple[str, tuple[Any, ...], int | None]] = {
    # By function: the span, the arguments, and the characters in them.
    "completion": ("chat plain", ("hosted_vllm/plain", HELLO), 2),
    "acompletion": ("chat plain", ("hosted_vllm/plain", HELLO), 2),
    "completion_with_retries": ("chat plain", ("hosted_vllm/plain", HELLO), 2),
    "acompletion_with_retries": ("chat plain", ("hosted_vllm/plain", HELLO), 2),
    "text_completion": ("text_completion plain", ("hi", "hosted_vllm/plain"), 2),
    "embedding": ("embeddings plain", ("hosted_vllm/plain", ["hi"]), 2),
    "aembedding": ("embeddings plain", ("hosted_vllm/plain", ["hi"]), 2),
    "rerank": ("rerank plain", ("hosted_vllm/plain", "hi", ["hi"]), 4),
    "arerank": ("rerank plain", ("hosted_vllm/plain", "hi", ["hi"]), 4),
    "image_generation": ("image_generation plain", ("hi", "openai/plain"), 2),
    "image_edit": ("image_edit gpt-image-1", (io.BytesIO(b"x"), "hi", "openai/gpt-image-1"), 2),
    "speech": ("speech plain", ("openai/plain", "hi", "alloy"), 2),
    "aspeech": ("speech plain", ("openai/plain", "hi", "alloy"), 2),
    "transcription": ("transcription plain", ("openai/plain", ("said.wav", b"x")), None),
    "atranscription": ("transcription plain", ("openai/plain", ("said.wav", b"x")), None),
    "moderation": ("moderation plain", ("hi", "plain"), 2),
}
BY_NAME_ONLY = {
    # LiteLLM takes the first of them for the model, whatever the signature says, and refuses.
    "atext_completion", "aimage_generation", "aimage_edit", "image_variation", "aimage_variation",
    # It looks for `input` by name.
    "amoderation",
}  # fmt: skip


def test_the_table_of_positional_arguments_knows_every_entry_of_this_room() -> None:
    mine = {entry.name for entry in ENTRIES if "responses" not in entry.name and "anthropic" not in entry.name}
    assert mine == set(POSITIONAL) | BY_NAME_ONLY


@pytest.mark.parametrize("name", POSITIONAL)
def test_positional_arguments_are_read_as_the_function_reads_them(
    litellm: ModuleType, recording: Recording, to: dict[str, Any], name: str
) -> None:
    if "retries" in name:
        pytest.importorskip("tenacity", reason="LiteLLM repeats calls by tenacity")
    span, arguments, length = POSITIONAL[name]
    run(litellm, getattr(litellm, name)(*arguments, **to))

    assert named(recording) == [(span, "UNSET")]
    assert (recording.span().attributes or {}).get("otel_llm.prompt.length") == length


@pytest.mark.parametrize(
    ("name", "flag", "arguments"),
    [
        ("completion", "acompletion", {"model": "hosted_vllm/plain", "messages": HELLO}),
        ("embedding", "aembedding", {"model": "hosted_vllm/plain", "input": ["hi"]}),
        ("speech", "aspeech", {"model": "openai/plain", "input": "hi", "voice": "alloy"}),
    ],
)
def test_a_coroutine_asked_for_by_a_flag_is_one_span_over_its_awaiting(
    litellm: ModuleType, recording: Recording, to: dict[str, Any], name: str, flag: str, arguments: dict[str, Any]
) -> None:
    """The flags of the other functions LiteLLM takes from its own async ones only."""

    async def main() -> None:
        try:
            coroutine = getattr(litellm, name)(**{flag: True}, **arguments, **to)
            assert inspect.iscoroutine(coroutine)
            assert recording.spans() == []
            await coroutine
        finally:
            await litellm.close_litellm_async_clients()

    asyncio.run(main())

    assert len(recording.spans()) == 1
    assert recording.counts()["gen_ai.client.operation.duration"] == 1


@pytest.mark.parametrize("name", ["completion_with_retries", "acompletion_with_retries"])
def test_a_call_with_retries_is_one_span_over_all_attempts(
    litellm: ModuleType, recording: Recording, server: OpenAIServer, to: dict[str, Any], name: str
) -> None:
    pytest.importorskip("tenacity", reason="LiteLLM repeats calls by tenacity")
    seen = len(server.requests)
    with pytest.raises(litellm.InternalServerError):
        run(litellm, getattr(litellm, name)(model="hosted_vllm/error500", messages=HELLO, num_retries=3, **to))

    assert len(server.requests) - seen == 3
    assert named(recording) == [("chat error500", "ERROR")]
    assert recording.counts() == {"gen_ai.client.operation.duration": 1}


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_retries_asked_for_in_a_call_are_inside_its_span(
    litellm: ModuleType, recording: Recording, server: OpenAIServer, to: dict[str, Any], name: str
) -> None:
    pytest.importorskip("tenacity", reason="LiteLLM repeats calls by tenacity")
    seen = len(server.requests)
    with pytest.raises(litellm.InternalServerError):
        run(litellm, getattr(litellm, name)(model="hosted_vllm/error500", messages=HELLO, num_retries=2, **to))

    assert len(server.requests) - seen > 1
    assert named(recording) == [("chat error500", "ERROR")]


@pytest.mark.parametrize("where", ["sync", "async", "sync in an event loop"])
def test_fallbacks_asked_for_in_a_call_are_inside_its_span(
    litellm: ModuleType, recording: Recording, server: OpenAIServer, to: dict[str, Any], where: str
) -> None:
    """In an event loop LiteLLM makes the attempts of the sync function in a thread of its own."""
    arguments = {"model": "hosted_vllm/error500", "messages": HELLO, "fallbacks": ["hosted_vllm/plain"], **to}
    seen = len(server.requests)

    async def main() -> Any:
        try:
            return litellm.completion(**arguments)
        finally:
            await litellm.close_litellm_async_clients()

    if where == "sync in an event loop":
        reply = asyncio.run(main())
    else:
        reply = run(litellm, getattr(litellm, "completion" if where == "sync" else "acompletion")(**arguments))

    assert reply.choices[0].message.content == "Hello there"
    assert [request["body"]["model"] for request in list(server.requests)[seen:]] == ["error500", "plain"]
    assert named(recording) == [("chat error500", "UNSET")]
    assert (recording.span().attributes or {})["gen_ai.response.model"] == "served-model-1"


def test_each_call_of_a_batch_is_a_span_below_the_caller_s(
    litellm: ModuleType, recording: Recording, to: dict[str, Any]
) -> None:
    with recording.tracer_provider.get_tracer("application").start_as_current_span("application"):
        replies = litellm.batch_completion(model="hosted_vllm/plain", messages=[HELLO] * 5, **to)

    assert [type(reply) for reply in replies] == [litellm.ModelResponse] * 5
    *calls, application = recording.spans()
    assert [call.name for call in calls] == ["chat plain"] * 5
    assert {call.parent.span_id for call in calls if call.parent is not None} == {application.context.span_id}
    assert all(call.parent is not None for call in calls)
    assert recording.counts()["gen_ai.client.operation.duration"] == 5


def test_a_batch_over_models_is_a_span_for_each_of_them(
    litellm: ModuleType, recording: Recording, to: dict[str, Any]
) -> None:
    models = ["hosted_vllm/plain", "hosted_vllm/silent"]

    assert litellm.batch_completion_models(models=models, messages=HELLO, **to).choices
    assert len(litellm.batch_completion_models_all_responses(models=models, messages=HELLO, **to)) == 2

    assert sorted(span.name for span in recording.spans()) == ["chat plain", "chat plain", "chat silent", "chat silent"]


def test_the_client_object_offers_chat_and_each_call_of_it_is_one_span(
    litellm: ModuleType, recording: Recording, server: OpenAIServer
) -> None:
    """`LiteLLM()` has no more than `chat.completions.create`, whose arguments stick to the client, as LiteLLM has it."""
    client = litellm.LiteLLM(api_key="sk-test", base_url=server.url, max_retries=0)
    assert sorted(name for name in vars(client) if name != "params") == ["chat"]

    client.chat.completions.create(HELLO, "hosted_vllm/plain", temperature=0.5)
    for _ in client.chat.completions.create(messages=HELLO, model="hosted_vllm/plain", stream=True):
        pass
    with pytest.raises(litellm.RateLimitError):
        client.chat.completions.create(HELLO, model="hosted_vllm/error429", stream=False)

    until(lambda: len(recording.spans()) == 3)
    assert named(recording) == [("chat plain", "UNSET"), ("chat plain", "UNSET"), ("chat error429", "ERROR")]
    first = recording.spans()[0].attributes or {}
    assert (first["gen_ai.request.temperature"], first["server.port"]) == (0.5, server.port)


def test_the_async_client_object_s_call_is_one_span(
    litellm: ModuleType, recording: Recording, server: OpenAIServer
) -> None:
    parameters = {"acompletion": True, "api_key": "sk-test", "api_base": server.url}
    chat = litellm.main.Chat(parameters, router_obj=None)
    run(litellm, chat.completions.create(HELLO, "hosted_vllm/plain"))

    assert named(recording) == [("chat plain", "UNSET")]


def test_a_call_inside_an_application_s_own_retry_is_a_span_each_time(
    litellm: ModuleType, recording: Recording, to: dict[str, Any]
) -> None:
    """What the application repeats itself are calls of their own."""
    for model in ("error500", "plain"):
        try:
            litellm.embedding(f"hosted_vllm/{model}", input=["hi"], **to)
        except litellm.InternalServerError:
            continue

    assert named(recording) == [("embeddings error500", "ERROR"), ("embeddings plain", "UNSET")]
