"""What a call cost: LiteLLM's own figure for tokens the server reported, or a configured price; else nothing is said."""

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask
from instrumentation.recording import Recording, record
from instrumentation.scripted_server import ScriptedServer, chunk, serve_script
from instrumentation.test_usage import ANSWER, PROMPT, continuous, leave

WAYS = ("sync", "sync stream", "async", "async stream")
PRICED = "openai/gpt-4o-mini"  # 0.15, 0.60 and, cached, 0.075 dollars per million tokens
USAGE = {PROMPT: 11, ANSWER: 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}
COST = (8 * 0.15 + 3 * 0.075 + 7 * 0.60) / 1e6
NEEDS_FASTAPI = "litellm.llms.anthropic.messages.native.response_cache"
PRICES = {"hosted_vllm/qwen*": {"input": 0.1, "output": 0.4, "cache_read": 0.02}}


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptedServer]:
    with serve_script() as server:
        yield server


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setenv("OTEL_LLM_PRICES", json.dumps(PRICES))
    with record() as recording:
        yield recording


def cost_of(recording: Recording) -> tuple[float, str] | None:
    """The cost on the one span, which the counter agrees with."""
    attributes = recording.span().attributes or {}
    counted = recording.sums().get("otel_llm.client.cost")
    assert counted == attributes.get("otel_llm.cost")
    if counted is None:
        assert "otel_llm.cost.source" not in attributes
        return None
    return counted, str(attributes["otel_llm.cost.source"])


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["", "usage asked for"])
@pytest.mark.parametrize("way", WAYS)
def test_the_cost_is_litellm_s_for_the_tokens_the_server_reported(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, options: dict[str, Any]
) -> None:
    script.say(USAGE)

    ask(litellm, way, PRICED, script.url, **(options if "stream" in way else {}))

    by_litellm = litellm.completion_cost(
        litellm.ModelResponse(model="gpt-4o-mini", usage=litellm.Usage(**USAGE)), model=PRICED
    )
    assert (pytest.approx(by_litellm, rel=1e-12), "litellm") == cost_of(recording)
    assert by_litellm == pytest.approx(COST, rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("hosted_vllm/nobody-priced-this", USAGE),
        (PRICED, None),  # LiteLLM prices its own estimate
        (PRICED, {PROMPT: 11, "total_tokens": 11}),  # LiteLLM takes the other count for zero
        (PRICED, {PROMPT: 11, ANSWER: -7, "total_tokens": 4}),
    ],
    ids=["unknown model", "silent server", "half a usage", "nonsense"],
)
def test_what_is_not_known_has_no_cost(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str, model: str, usage: Any
) -> None:
    script.say(usage)

    ask(litellm, way, model, script.url)

    assert cost_of(recording) is None


@pytest.mark.parametrize("way", ["sync stream", "async stream"])
def test_an_estimate_has_no_cost(
    litellm: ModuleType, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("OTEL_LLM_ESTIMATE_USAGE", "true")
    script.say(None)
    with record() as recording:
        chunks = ask(litellm, way, PRICED, script.url, stream_options={"include_usage": True})

        assert chunks[-1]["usage"]["cost"] > 0, "LiteLLM no longer prices estimates: this test has lost its point"
        assert cost_of(recording) is None


@pytest.mark.parametrize("way", WAYS)
def test_a_configured_price_is_applied_to_what_the_server_reported(
    litellm: ModuleType, configured: Recording, script: ScriptedServer, way: str
) -> None:
    script.say(USAGE)

    ask(litellm, way, "hosted_vllm/qwen-7b", script.url)

    assert (pytest.approx((8 * 0.1 + 3 * 0.02 + 7 * 0.4) / 1e6, rel=1e-12), "configured") == cost_of(configured)


@pytest.mark.parametrize("way", WAYS)
def test_a_configured_price_is_not_applied_to_what_nobody_reported(
    litellm: ModuleType, configured: Recording, script: ScriptedServer, way: str
) -> None:
    script.say(None)

    ask(litellm, way, "hosted_vllm/qwen-7b", script.url)

    assert cost_of(configured) is None


def test_a_configured_price_comes_before_litellm_s(
    litellm: ModuleType, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_LLM_PRICES", '{"openai/gpt-4o*": {"input": 1, "output": 1}}')
    script.say(USAGE)
    with record() as recording:
        ask(litellm, "sync", PRICED, script.url)

        assert (pytest.approx(18 / 1e6, rel=1e-12), "configured") == cost_of(recording)


@pytest.fixture
def listed(litellm: ModuleType) -> Iterator[str]:
    """A model LiteLLM has a price for, because the application told it one."""
    row = {
        "litellm_provider": "hosted_vllm",
        "mode": "chat",
        "input_cost_per_token": 3e-6,
        "output_cost_per_token": 5e-6,
    }
    litellm.register_model({"hosted_vllm/listed": row})
    yield "hosted_vllm/listed"
    litellm.model_cost.pop("hosted_vllm/listed", None)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("hosted_vllm/listed", ((11 * 3 + 2 * 5) / 1e6, "litellm")),
        ("hosted_vllm/qwen-7b", ((11 * 0.1 + 2 * 0.4) / 1e6, "configured")),
        ("hosted_vllm/nobody-priced-this", None),
    ],
)
def test_a_stream_that_is_left_costs_what_the_server_had_reported_by_then(
    litellm: ModuleType, configured: Recording, script: ScriptedServer, model: str, cost: Any, *, is_async: bool
) -> None:
    script.chunks = continuous()

    leave(litellm, script, 2, is_async=is_async, model=model)

    assert cost_of(configured) == (None if cost is None else (pytest.approx(cost[0], rel=1e-12), cost[1]))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_that_is_left_before_any_usage_came_has_no_cost(
    litellm: ModuleType, configured: Recording, script: ScriptedServer, *, is_async: bool
) -> None:
    script.say(USAGE)

    leave(litellm, script, 1, is_async=is_async, model="hosted_vllm/qwen-7b")

    assert cost_of(configured) is None


@pytest.mark.parametrize("way", ["sync", "sync stream"])
def test_what_no_server_was_asked_for_costs_nothing_and_says_nothing(
    litellm: ModuleType, recording: Recording, way: str
) -> None:
    ask(litellm, way, PRICED, "http://127.0.0.1:9", mock_response="made up")

    assert cost_of(recording) is None


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_reply_of_litellm_s_cache_cost_nothing(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The first call is spent, the second one is not: neither its tokens nor a cost are counted again."""
    if find_spec("fastapi") is None:  # LiteLLM 1.109 imports it on a hit, for the sake of a type of its proxy's
        stand_in = ModuleType(NEEDS_FASTAPI)
        stand_in.CachedAnthropicMessagesStreamIterator = type("Never", (), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, NEEDS_FASTAPI, stand_in)
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    script.say(USAGE)
    asked = len(script.requests)

    ask(litellm, way, PRICED, script.url, caching=True)
    ask(litellm, way, PRICED, script.url, caching=True)

    assert len(script.requests) == asked + 1, "the second reply did not come from the cache"
    spent, cached = recording.spans()
    assert (spent.attributes or {})["otel_llm.cost"] == pytest.approx(COST, rel=1e-12)
    assert (cached.attributes or {})["otel_llm.usage.source"] == "unknown"
    assert "otel_llm.cost" not in (cached.attributes or {})
    assert recording.sums() == {"otel_llm.client.cost": pytest.approx(COST, rel=1e-12)}


def test_a_reply_that_says_it_is_a_cache_s_has_neither_usage_nor_cost(litellm: ModuleType) -> None:
    from otel_llm.invocation import open_telemetry
    from otel_llm.litellm.entry import Asked
    from otel_llm.litellm.read import chat
    from otel_llm.records import Request
    from otel_llm.settings import Settings

    reply = litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": "Hello"}}])
    reply.usage = litellm.Usage(**USAGE)
    asked = Asked({}, True, Request("chat", "m"), open_telemetry("t", "0", Settings(estimate_usage=True)))
    read = {}
    for hit in (False, True):
        reply._hidden_params.update(custom_llm_provider="openai", response_cost=0.25, cache_hit=hit)
        found = chat.read_reply(reply, asked)
        read[hit] = (found.usage is not None, found.cost is not None and found.cost.usd)

    assert read == {False: (True, 0.25), True: (False, False)}


def test_a_price_given_with_the_call_is_litellm_s_business(
    litellm: ModuleType, recording: Recording, script: ScriptedServer
) -> None:
    script.say({PROMPT: 1000, ANSWER: 100, "total_tokens": 1100})

    ask(litellm, "sync", "openai/mine", script.url, input_cost_per_token=1e-6, output_cost_per_token=2e-6)

    assert (pytest.approx(0.0012, rel=1e-12), "litellm") == cost_of(recording)


def test_a_chunk_with_a_usage_beside_its_words_does_not_change_what_the_caller_sees(
    litellm: ModuleType, script: ScriptedServer
) -> None:
    script.chunks = [chunk(content="Hel"), chunk("stop", content="lo", usage=USAGE)]
    without = ask(litellm, "sync stream", PRICED, script.url)
    with record() as recording:
        with_us = ask(litellm, "sync stream", PRICED, script.url)

        assert (pytest.approx(COST, rel=1e-12), "litellm") == cost_of(recording)
    for part in (*without, *with_us):
        part.pop("created")
    assert with_us == without
