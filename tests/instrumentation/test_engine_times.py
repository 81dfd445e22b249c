"""Two clocks side by side: what the engine says of its own times, what LiteLLM says of its own, and what is left."""

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask, every_way
from instrumentation.recording import Recording, record
from instrumentation.scripted_server import HEAD, ScriptedServer, chunk, serve_script

from otel_llm.litellm.read.engine import engine_times, seconds

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
METRICS = {  # as vLLM sends it with --enable-per-request-metrics
    "time_to_first_token_ms": 0.5,
    "generation_time_ms": 0.25,
    "queue_time_ms": 0.125,
    "mean_itl_ms": 0.0416,
    "tokens_per_second": 28000.0,
    "speculative_decoding": None,
}
ON_THE_SPAN = {
    "otel_llm.engine.queue_time": 0.000125,
    "otel_llm.engine.time_to_first_token": 0.0005,
    "otel_llm.engine.generation_time": 0.00025,
}


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptedServer]:
    with serve_script() as server:
        yield server


def engine_of(recording: Recording) -> dict[str, Any]:
    attributes = recording.span().attributes or {}
    return {name: value for name, value in attributes.items() if ".engine." in name}


@every_way
def test_vllm_s_times_stand_beside_the_client_s_and_the_shares_sum_to_the_whole(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, provider: str
) -> None:
    script.say(USAGE, metrics=METRICS)

    ask(litellm, way, f"{provider}/some", script.url)

    assert engine_of(recording) == ON_THE_SPAN
    points = recording.points()
    times = {name: point[0].sum for name, point in points.items() if ".engine." in name}
    assert times == {
        "otel_llm.client.engine.queue_time": 0.000125,
        "otel_llm.client.engine.time_to_first_token": 0.0005,
        "otel_llm.client.engine.generation_time": 0.00025,
    }
    outside = (recording.span().attributes or {})["otel_llm.outside_engine_time"]
    assert isinstance(outside, float)
    (duration,) = points["gen_ai.client.operation.duration"]
    assert outside + 0.0005 + 0.00025 == pytest.approx(duration.sum, abs=1e-9)
    assert not [name for name in points if name.startswith("gen_ai.server")]


@every_way
def test_a_server_that_says_nothing_of_its_times_leaves_them_unknown(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, provider: str
) -> None:
    script.say(USAGE)

    ask(litellm, way, f"{provider}/some", script.url)

    assert engine_of(recording) == {}
    assert "otel_llm.outside_engine_time" not in (recording.span().attributes or {})
    assert not [name for name in recording.points() if "engine" in name]


@pytest.mark.parametrize("metrics", ["fast", 5, [1], {"queue_time_ms": "1", "generation_time_ms": -1}, {"other": 1}])
@pytest.mark.parametrize("way", ["sync", "sync stream"])
def test_times_that_are_none_are_left_out(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, metrics: Any
) -> None:
    script.say(USAGE, metrics=metrics)

    ask(litellm, way, "hosted_vllm/some", script.url)

    assert engine_of(recording) == {}


def test_a_figure_that_is_no_time_takes_nothing_from_the_others() -> None:
    times = engine_times({**METRICS, "queue_time_ms": float("inf"), "generation_time_ms": True})

    assert times is not None
    assert (times.queue_s, times.first_token_s, times.generation_s) == (None, 0.0005, None)
    assert [seconds(one) for one in (0, 1500, float("nan"), -0.1, 10**400, "1", None)] == [0, 1.5, *[None] * 5]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize("way", ["sync stream", "async stream"])
def test_the_caller_sees_the_chunks_he_would_have_seen(
    litellm: ModuleType, script: ScriptedServer, way: str, provider: str
) -> None:
    script.say(USAGE, metrics=METRICS)

    def chunks() -> list[dict[str, Any]]:
        return [{**part, "created": 0} for part in ask(litellm, way, f"{provider}/some", script.url)]

    without = chunks()
    with record():
        assert chunks() == without


def test_streams_read_in_turns_each_have_their_own(
    litellm: ModuleType, recording: Recording, script: ScriptedServer
) -> None:
    def script_of(queue_ms: float) -> list[Any]:
        metrics = {**METRICS, "queue_time_ms": queue_ms}
        return [chunk(content="Hel"), chunk("stop"), {**HEAD, "choices": [], "usage": USAGE, "metrics": metrics}]

    async def main() -> None:
        streams = []
        for number in range(1, 5):
            script.chunks = script_of(number)
            provider = "openai" if number % 2 else "hosted_vllm"
            arguments = {"api_base": script.url, "api_key": "k", "stream": True, "max_retries": 0}
            streams.append(await litellm.acompletion(f"{provider}/some-{number}", [], **arguments))
        await asyncio.gather(*(read(stream) for stream in streams))
        await litellm.close_litellm_async_clients()

    async def read(stream: Any) -> None:
        async for _ in stream:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 20))

    assert {f"some-{number}": number / 1000 for number in range(1, 5)} == {
        str((span.attributes or {})["gen_ai.request.model"]): (span.attributes or {})["otel_llm.engine.queue_time"]
        for span in recording.spans()
    }


@pytest.mark.parametrize("way", ["sync", "sync stream", "async", "async stream"])
def test_litellm_s_own_share_is_what_litellm_says_in_seconds(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str
) -> None:
    script.say(USAGE)

    ask(litellm, way, "openai/some", script.url)

    overhead = (recording.span().attributes or {})["otel_llm.litellm.overhead"]
    (duration,) = recording.points()["gen_ai.client.operation.duration"]
    assert isinstance(overhead, float)
    assert 0 < overhead < duration.sum


def test_the_overhead_is_read_from_where_litellm_notes_it(
    litellm: ModuleType, recording: Recording, script: ScriptedServer
) -> None:
    script.say(USAGE)

    reply = litellm.completion("openai/some", [], api_base=script.url, api_key="k")

    milliseconds = reply._hidden_params["litellm_overhead_time_ms"]
    assert (recording.span().attributes or {})["otel_llm.litellm.overhead"] == milliseconds / 1000
