"""What is read of a chat call and of its reply besides usage, cost and times, down to what is no call and no reply."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask
from instrumentation.openai_server import TOOL_CALL
from instrumentation.recording import Recording, record
from instrumentation.scripted_server import ScriptedServer, chunk, serve_script


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptedServer]:
    with serve_script() as server:
        yield server


WAYS = ("sync", "sync stream", "async", "async stream")


@pytest.mark.parametrize("way", WAYS)
def test_the_length_is_that_of_the_answer_without_what_was_thought_before_it(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str
) -> None:
    script.say()
    script.reply["choices"][0]["message"]["reasoning_content"] = "Let me think."
    script.chunks.insert(0, chunk(reasoning_content="Let me think."))

    ask(litellm, way, "hosted_vllm/some", script.url)

    assert (recording.span().attributes or {})["otel_llm.response.length"] == len("Hello")


@pytest.mark.parametrize("way", WAYS)
def test_what_openai_says_of_how_it_served_the_call_is_recorded(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str
) -> None:
    script.say()
    for document in (script.reply, *script.chunks):
        document.update(service_tier="flex", system_fingerprint="fp_1")

    ask(litellm, way, "openai/some", script.url)

    attributes = recording.span().attributes or {}
    assert (
        attributes["openai.response.service_tier"],
        attributes["openai.response.system_fingerprint"],
    ) == ("flex", "fp_1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_tool_calls_are_counted_however_many_pieces_they_come_in(
    litellm: ModuleType, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch, way: str, count: int
) -> None:
    monkeypatch.setenv("OTEL_LLM_GRAFANA_METRIC_NAMES", "true")
    calls = [{**TOOL_CALL, "index": number, "id": f"call-{number}"} for number in range(count)]
    script.say()
    if count:
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        script.reply["choices"][0] = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        script.chunks = [chunk(role="assistant", tool_calls=[call]) for call in calls]
        script.chunks += [chunk(tool_calls=[{"index": 0, "function": {"arguments": " "}}]), chunk("tool_calls")]

    with record() as recording:
        ask(litellm, way, "hosted_vllm/some", script.url)

        (point,) = recording.points()["gen_ai.client.tool_calls_per_operation"]
    assert (1, count) == (point.count, point.sum)


@pytest.mark.parametrize("way", WAYS)
def test_a_huge_reply_is_measured_and_not_looked_through(
    litellm: ModuleType, recording: Recording, script: ScriptedServer, way: str
) -> None:
    script.say(pieces=("x\u0000\ud83d\ude00" * 200_000, "\u00fc" * 1_000_000))

    ask(litellm, way, "hosted_vllm/some", script.url)

    attributes = recording.span().attributes or {}
    assert attributes["otel_llm.response.length"] == 1_600_000
    assert max(len(str(value)) for value in attributes.values()) < 100


@pytest.mark.parametrize(
    ("messages", "length"),
    [
        ([{"role": "user", "content": b"\xff\x00" * 10}], 0),
        ([{"role": "user", "content": [{"type": "text", "text": b"\xff"}, {"type": "text", "text": "abc"}, 5]}], 3),
        ([{"role": "user"}, None, 5, "text"], 0),
        ("not a list", None),
    ],
    ids=["bytes", "parts", "no messages", "text"],
)
@pytest.mark.parametrize("model", ["hosted_vllm/some", None, 5, ["a"], {"a": 1}, b"bytes", ""], ids=repr)
def test_arguments_of_any_kind_fail_or_pass_as_they_would_without_us(
    messages: Any, length: int | None, model: Any
) -> None:
    """LiteLLM decides about them; the reader takes what is there and never raises."""
    from otel_llm.litellm.read.chat import read_request
    from otel_llm.litellm.read.names import Names

    names = Names(lambda name: name == "hosted_vllm", lambda _: None)

    request = read_request({"model": model, "messages": messages}, names)

    assert request.parameters == ({} if length is None else {"otel_llm.prompt.length": length})
    assert request.model == ("some" if model == "hosted_vllm/some" else None)


@pytest.mark.parametrize(
    "reply", [None, 5, "text", {}, {"choices": 5}, {"choices": [None, 5, {"message": 5}]}, object()]
)
def test_a_reply_of_any_kind_is_read_as_far_as_it_is_one(reply: Any) -> None:
    from otel_llm.invocation import open_telemetry
    from otel_llm.litellm.entry import Asked
    from otel_llm.litellm.read.chat import read_reply
    from otel_llm.records import Request
    from otel_llm.settings import Settings

    read = read_reply(reply, Asked({}, True, Request("chat", "m"), open_telemetry("t", "0", Settings())))

    assert (read.usage, read.cost, read.engine, read.finish_reasons, read.response_length or 0) == (
        None,
        None,
        None,
        (),
        0,
    )
