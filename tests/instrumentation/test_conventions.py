"""Generations of the conventions: which names a call is recorded under, and that no name says anything else."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording, record

from otel_llm.conventions import Generations, generations

MESSAGES = [{"role": "user", "content": "Hi"}]
RELEASED = {"gen_ai.client.operation.duration": 2, "gen_ai.client.token.usage": 4,
            "gen_ai.client.operation.time_to_first_chunk": 1, "gen_ai.client.operation.time_per_output_chunk": 4}  # fmt: skip
OLDER = {"gen_ai.client.operation.duration": 2, "gen_ai.client.token.usage": 4}
LATEST = {"gen_ai.client.inference.duration": 2, "gen_ai.client.inference.time_to_first_chunk": 1,
          "gen_ai.client.inference.time_per_output_chunk": 4, "gen_ai.client.inference.operation.input_tokens": 2,
          "gen_ai.client.inference.operation.output_tokens": 2}  # fmt: skip
LATEST_COUNTERS = {
    "gen_ai.client.inference.usage.input_tokens": 22,
    "gen_ai.client.inference.usage.output_tokens": 14,
    "gen_ai.client.inference.usage.cache_read.input_tokens": 6,
    "gen_ai.client.inference.usage.reasoning.output_tokens": 4,
}
WORDS = {
    "": Generations(older=False, released=True, latest=False),
    "http/dup,gen_ai_latest_experimental": Generations(older=False, released=False, latest=True),
    "gen_ai_latest_experimental/dup": Generations(older=False, released=True, latest=True),
    "gen_ai_1_36": Generations(older=True, released=False, latest=False),
    "gen_ai_1_36/dup": Generations(older=True, released=True, latest=False),
    "database": Generations(older=False, released=True, latest=False),
}


@pytest.fixture(params=WORDS)
def spoken(request: Any, monkeypatch: Any) -> Iterator[tuple[Generations, Recording]]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)
    with record() as recording:
        yield WORDS[request.param], recording


@pytest.mark.parametrize("words", WORDS)
def test_the_words_of_the_variable_choose_the_generation(words: str) -> None:
    assert generations(tuple(words.split(","))) == WORDS[words]


def test_a_call_is_recorded_under_the_names_in_force_and_no_other(
    litellm: ModuleType, server: OpenAIServer, spoken: tuple[Generations, Recording]
) -> None:
    spoken_now, recording = spoken
    arguments = {"api_base": server.url, "api_key": "k", "messages": MESSAGES}
    litellm.completion("openai/plain", **arguments)
    for _ in litellm.completion("openai/plain-usage", stream=True, **arguments):
        pass

    wanted = (
        (RELEASED if spoken_now.released else {})
        | (OLDER if spoken_now.older else {})
        | (LATEST if spoken_now.latest else {})
    )
    assert wanted == recording.counts()
    assert (LATEST_COUNTERS if spoken_now.latest else {}) == recording.sums()
    systems = {
        ("gen_ai.system" in (span.attributes or {}), "gen_ai.provider.name" in (span.attributes or {}))
        for span in recording.spans()
    } | {
        ("gen_ai.system" in point.attributes, "gen_ai.provider.name" in point.attributes)
        for points in recording.points().values()
        for point in points
    }
    assert systems == {(spoken_now.older, spoken_now.released or spoken_now.latest)}


def test_the_cache_write_count_has_its_older_name() -> None:
    old, both = Generations(older=True, released=False), Generations(older=True)
    attributes = {"gen_ai.usage.cache_write.input_tokens": 5, "gen_ai.usage.input_tokens": 9}
    assert old.rename(attributes) == {
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.input_tokens": 9,
    }
    assert both.rename(attributes) == attributes | {"gen_ai.usage.cache_creation.input_tokens": 5}


def test_the_names_grafana_s_agent_plugin_reads_come_beside_the_others_by_a_switch(
    litellm: ModuleType, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_LLM_GRAFANA_METRIC_NAMES", "true")
    with record() as recording:
        arguments = {"api_base": server.url, "api_key": "k", "messages": MESSAGES}
        for _ in litellm.completion("openai/plain", stream=True, **arguments):
            pass
        litellm.completion("openai/tools", **arguments)

    counts, points = recording.counts(), recording.points()
    assert counts["gen_ai.client.time_to_first_token"] == counts["gen_ai.client.operation.time_to_first_chunk"] == 1
    assert sum(point.sum for point in points["gen_ai.client.tool_calls_per_operation"]) == 1
