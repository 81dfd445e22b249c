"""Token counts: reported by the server, estimated by LiteLLM, or unknown; which of the three is said, and they are never mixed."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask
from instrumentation.recording import Recording, record
from instrumentation.scripted_server import HEAD, ScriptedServer, chunk, serve_script
from waiting import until

from otel_llm.litellm.read.usage import combine, read_estimate

WAYS = ("sync", "sync stream", "async", "async stream")
PROMPT = "prompt_tokens"
ANSWER = "completion_tokens"
MODEL = "hosted_vllm/some"


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptedServer]:
    with serve_script() as server:
        yield server


def usage_of(recording: Recording) -> dict[str, Any]:
    """All that the one span says of usage, without the names' common start."""
    attributes = recording.span().attributes or {}
    found = {name: value for name, value in attributes.items() if ".usage." in name}
    return {name.removeprefix("gen_ai.usage.").removeprefix("otel_llm.usage."): value for name, value in found.items()}


def tokens_of(recording: Recording) -> dict[str, float]:
    points = recording.points().get("gen_ai.client.token.usage", [])
    return {str((point.attributes or {})["gen_ai.token.type"]): point.sum for point in points}


SAID = {
    "both counts": ({PROMPT: 11, ANSWER: 7}, {"input_tokens": 11, "output_tokens": 7}),
    "cached, written to the cache, reasoning": (
        {
            PROMPT: 100,
            ANSWER: 7,
            "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 16},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
        {
            "input_tokens": 100,
            "output_tokens": 7,
            "cache_read.input_tokens": 64,
            "cache_write.input_tokens": 16,
            "reasoning.output_tokens": 5,
        },
    ),
    "cached under Anthropic's names": (
        {PROMPT: 100, ANSWER: 7, "cache_read_input_tokens": 64, "cache_creation_input_tokens": 16},
        {"input_tokens": 100, "output_tokens": 7, "cache_read.input_tokens": 64, "cache_write.input_tokens": 16},
    ),
    "nothing cached": (
        {PROMPT: 11, ANSWER: 7, "prompt_tokens_details": {"cached_tokens": 0}},
        {"input_tokens": 11, "output_tokens": 7, "cache_read.input_tokens": 0},
    ),
    "sound": (
        {
            PROMPT: 30,
            ANSWER: 20,
            "prompt_tokens_details": {"text_tokens": 10, "audio_tokens": 20, "image_tokens": 0},
            "completion_tokens_details": {"text_tokens": 4, "audio_tokens": 16},
        },
        {
            "input_tokens": 30,
            "output_tokens": 20,
            "text.input_tokens": 10,
            "audio.input_tokens": 20,
            "text.output_tokens": 4,
            "audio.output_tokens": 16,
        },
    ),
    "parts that are not the whole": (
        {PROMPT: 30, ANSWER: 7, "prompt_tokens_details": {"text_tokens": 4, "image_tokens": 20}},
        {"input_tokens": 30, "output_tokens": 7, "image.input_tokens": 20},
    ),
    "the prompt alone": ({PROMPT: 11}, {"input_tokens": 11}),
    "a count below zero": ({PROMPT: 11, ANSWER: -7}, {"input_tokens": 11}),
    "a count beyond all reason": ({PROMPT: 10**30, ANSWER: 7}, {"output_tokens": 7}),
    "parts that are none": (
        {PROMPT: 11, ANSWER: 7, "prompt_tokens_details": None, "completion_tokens_details": None},
        {"input_tokens": 11, "output_tokens": 7},
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("said", SAID)
def test_what_the_server_said_is_recorded_as_reported_and_nothing_else(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, said: str
) -> None:
    usage, expected = SAID[said]
    script.say({"total_tokens": 18, **usage})

    ask(litellm, way, MODEL, script.url)

    assert {**expected, "source": "reported"} == usage_of(recording)
    kinds = {"input": "input_tokens", "output": "output_tokens"}
    assert {kind: expected[name] for kind, name in kinds.items() if name in expected} == tokens_of(recording)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("usage", [None, {PROMPT: 0, ANSWER: 0, "total_tokens": 0}], ids=["no usage", "zeros"])
def test_a_silent_server_s_usage_is_unknown_though_litellm_hands_out_numbers(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, usage: dict[str, int] | None
) -> None:
    script.say(usage)

    ask(litellm, way, MODEL, script.url)

    assert usage_of(recording) == {"source": "unknown"}
    assert tokens_of(recording) == {}
    assert "otel_llm.client.token.usage.estimated" not in recording.sums()


@pytest.fixture
def estimating(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setenv("OTEL_LLM_ESTIMATE_USAGE", "true")
    with record() as recording:
        yield recording


@pytest.mark.parametrize("way", ["sync stream", "async stream"])
def test_where_asked_for_litellm_s_own_count_stands_in_for_a_silent_server_s_under_names_of_its_own(
    litellm: ModuleType, estimating: Recording, script: ScriptedServer, way: str
) -> None:
    script.say(None)

    chunks = ask(litellm, way, MODEL, script.url, stream_options={"include_usage": True})

    counted = chunks[-1]["usage"]
    assert counted[PROMPT] > 0, "LiteLLM no longer estimates: this test has lost its point"
    assert {
        "source": "estimated",
        "estimated.input_tokens": counted[PROMPT],
        "estimated.output_tokens": counted[ANSWER],
    } == usage_of(estimating)
    assert tokens_of(estimating) == {}
    assert estimating.sums() == {"otel_llm.client.token.usage.estimated": counted[PROMPT] + counted[ANSWER]}


@pytest.mark.parametrize("way", ["sync stream", "async stream"])
def test_the_count_litellm_keeps_to_itself_is_found_as_well(
    litellm: ModuleType, estimating: Recording, script: ScriptedServer, way: str
) -> None:
    """A LiteLLM that counts nothing where the caller asks for no usage, as 1.106 does, leaves it unknown."""
    script.say(None)

    ask(litellm, way, MODEL, script.url)
    found = usage_of(estimating)

    if found != {"source": "unknown"}:
        assert found["source"] == "estimated"
        assert found["estimated.input_tokens"] > 0
        assert set(found) == {"source", "estimated.input_tokens", "estimated.output_tokens"}


@pytest.mark.parametrize("way", WAYS)
def test_an_estimate_never_stands_beside_or_in_for_what_was_reported(
    litellm: ModuleType, estimating: Recording, script: ScriptedServer, way: str
) -> None:
    script.say({PROMPT: 11, "total_tokens": 11})  # LiteLLM may count the answer; the server did not say

    ask(litellm, way, MODEL, script.url)

    assert usage_of(estimating) == {"source": "reported", "input_tokens": 11}
    assert estimating.sums() == {}


def test_servers_litellm_counts_for_are_estimated(litellm: ModuleType, recording: Recording) -> None:
    """Replicate, for one, reports no tokens: LiteLLM puts its own count on the reply."""
    from otel_llm.invocation import open_telemetry
    from otel_llm.litellm.entry import Asked
    from otel_llm.litellm.read import chat
    from otel_llm.records import Request, Usage
    from otel_llm.settings import Settings

    reply = litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": "Hello"}}])
    reply.usage = litellm.Usage(prompt_tokens=11, completion_tokens=7, total_tokens=18)
    reply._hidden_params["custom_llm_provider"] = "replicate"
    read = {
        wanted: chat.read_reply(
            reply, Asked({}, True, Request("chat", "m"), open_telemetry("t", "0", Settings(estimate_usage=wanted)))
        ).usage
        for wanted in (True, False)
    }

    assert read == {True: Usage(11, 7, is_estimated=True), False: None}
    assert recording.spans() == []


def test_a_mock_has_no_usage_estimates_asked_for_or_not(litellm: ModuleType, estimating: Recording) -> None:
    litellm.completion("openai/gpt-4o", [{"role": "user", "content": "hi"}], mock_response="made up")

    assert not [name for name in usage_of(estimating) if name != "source"]
    assert estimating.sums() == {}


def continuous() -> list[dict[str, Any]]:
    """vLLM's `continuous_usage_stats`: each chunk says the totals so far."""
    counts = [{PROMPT: 11, ANSWER: number, "total_tokens": 11 + number} for number in (1, 2, 3)]
    return [
        chunk(content="Hel", usage=counts[0]),
        chunk(content="lo", usage=counts[1]),
        chunk("stop", content="!", usage=counts[2]),
        {**HEAD, "choices": [], "usage": counts[2]},
    ]


@pytest.mark.parametrize(("read", "output"), [(1, 1), (2, 2), (None, 3)])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_of_a_stream_that_is_left_what_the_server_had_said_by_then_is_recorded(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, read: int | None, output: int, *, is_async: bool
) -> None:
    script.chunks = continuous()

    leave(litellm, script, read, is_async=is_async)

    assert {"source": "reported", "input_tokens": 11, "output_tokens": output} == usage_of(recording)


def leave(litellm: ModuleType, script: ScriptedServer, read: int | None, *, is_async: bool, model: str = MODEL) -> None:
    """Take `read` chunks of a stream, or all, and close it; one that cannot be closed, as in LiteLLM 1.106, is let go of."""
    arguments = {"messages": [], "api_base": script.url, "api_key": "k", "max_retries": 0, "stream": True}
    if not is_async:
        stream = litellm.completion(model=model, **arguments)
        for number, _ in enumerate(stream, 1):
            if number == read:
                break
        if hasattr(stream, "close"):
            stream.close()
            return
        gone = weakref.ref(stream)
        del stream
        until(lambda: gc.collect() >= 0 and gone() is None)
        return

    async def main() -> None:
        stream = await litellm.acompletion(model=model, **arguments)
        number = 0
        async for _ in stream:
            number += 1
            if number == read:
                break
        await stream.aclose()
        await litellm.close_litellm_async_clients()

    asyncio.run(main())


@pytest.mark.parametrize("way", ["sync stream", "async stream"])
def test_a_connection_that_breaks_inside_a_chunk_leaves_the_usage_unsaid(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str
) -> None:
    script.chunks = [chunk(content="Hel"), chunk(content="lo"), b'7b\r\ndata: {"choices": [], "usage": {"prompt_tok']

    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        ask(litellm, way, MODEL, script.url)

    span = recording.span()
    assert (span.status.status_code.name, (span.attributes or {})["otel_llm.response.length"]) == ("ERROR", 5)
    assert tokens_of(recording) == {}
    assert not [name for name in usage_of(recording) if name != "source"]


NONSENSE = [
    None, 5, "11", [11, 7], [], object(), {}, {PROMPT: "11"}, {PROMPT: 11.5, ANSWER: True}, {PROMPT: None, ANSWER: [7]},
    {PROMPT: float("nan"), "prompt_tokens_details": "none"}, {PROMPT: -1, "prompt_tokens_details": [1]},
    {PROMPT: {}, "completion_tokens_details": {"reasoning_tokens": {}}}, {PROMPT: 10**30, ANSWER: 2**63},
]  # fmt: skip


@pytest.mark.parametrize("usage", NONSENSE, ids=repr)
def test_nonsense_is_left_out_whatever_it_is(usage: object) -> None:
    assert combine([usage], "hosted_vllm", True) is None
    assert read_estimate(usage) is None


def test_nonsense_beside_sense_takes_nothing_away() -> None:
    from otel_llm.records import Usage

    details = {"cached_tokens": "3", "audio_tokens": -2, "text_tokens": True}
    usage = {PROMPT: 11, ANSWER: 7, "prompt_tokens_details": details, "completion_tokens_details": 5}

    assert Usage(11, 7) == combine([*NONSENSE, usage, *NONSENSE], "hosted_vllm", True)
