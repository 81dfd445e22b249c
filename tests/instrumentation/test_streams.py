"""Streamed chat calls: what is recorded, and every way a stream can end."""

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.endings import broken_off, closed, collected, dropped, elsewhere, exhausted, never_read
from instrumentation.openai_server import SLOW_S, OpenAIServer
from instrumentation.recording import Recording, whole
from instrumentation.streaming import KINDS, Driver
from opentelemetry import trace
from waiting import until

(CHAT,) = (kind for kind in KINDS if kind.name == "chat")


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType, server: OpenAIServer) -> Iterator[Driver]:
    driver = Driver(litellm, server, CHAT, is_async=request.param == "async")
    yield driver
    driver.finish()


def base(server: OpenAIServer, model: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hosted_vllm",
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "otel_llm.prompt.length": 2,
    }


ANSWERED = {
    "gen_ai.response.id": "chatcmpl-stream-1",
    "gen_ai.response.model": "served-model-1",
    "gen_ai.response.finish_reasons": ("stop",),
    "otel_llm.response.length": 11,
}
REPORTED = {
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.usage.reasoning.output_tokens": 2,
    "otel_llm.usage.source": "reported",
}


def timeless(recording: Recording) -> dict[str, Any]:
    """The one span as plain values, without those that differ each time."""
    document = whole(recording.span())
    for name in ("gen_ai.response.time_to_first_chunk", "otel_llm.litellm.overhead"):
        document["attributes"].pop(name, None)
    return document


def test_a_stream_read_to_its_end_is_one_span_with_what_the_server_reported(
    ask: Driver, recording: Recording, server: OpenAIServer
) -> None:
    stream = ask.open("plain", stream_options={"include_usage": True})
    assert recording.spans() == []
    chunks = ask.all(stream)

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there"
    assert {
        "name": "chat plain",
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": {**base(server, "plain"), **ANSWERED, **REPORTED, "otel_llm.stream.end": "exhausted"},
    } == timeless(recording)


def test_usage_a_server_reports_unasked_is_taken_though_litellm_hides_it_from_the_caller(
    ask: Driver, recording: Recording, server: OpenAIServer
) -> None:
    chunks = ask.all(ask.open("usage"))

    assert not any(getattr(chunk, "usage", None) for chunk in chunks)
    assert {
        **base(server, "usage"), **ANSWERED, **REPORTED, "otel_llm.stream.end": "exhausted"
    } == timeless(recording)["attributes"]  # fmt: skip


@pytest.mark.parametrize("options", [None, {"include_usage": True}], ids=["not asked", "asked"])
def test_the_estimate_litellm_hands_out_for_a_silent_server_is_never_recorded(
    ask: Driver, recording: Recording, server: OpenAIServer, options: dict[str, bool] | None
) -> None:
    chunks = ask.all(ask.open("silent", stream_options=options))

    if options is not None:
        assert chunks[-1].usage.prompt_tokens > 0, "LiteLLM no longer estimates: this test has lost its point"
    assert {
        **base(server, "silent"), **ANSWERED, "otel_llm.usage.source": "unknown", "otel_llm.stream.end": "exhausted"
    } == timeless(recording)["attributes"]  # fmt: skip
    assert "gen_ai.client.token.usage" not in recording.counts()


def test_the_times_of_chunks_are_the_clock_s(ask: Driver, recording: Recording) -> None:
    """The server waits before its first chunk and between the five it sends; LiteLLM keeps the last back a moment."""
    chunks = ask.all(ask.open("slow"))

    span = recording.span()
    attributes = span.attributes or {}
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    assert SLOW_S <= first < 5 * SLOW_S
    points = recording.points()
    (ttfc,) = points["gen_ai.client.operation.time_to_first_chunk"]
    (between,) = points["gen_ai.client.operation.time_per_output_chunk"]
    (duration,) = points["gen_ai.client.operation.duration"]
    assert (1, first) == (ttfc.count, ttfc.sum)
    assert len(chunks) - 1 == between.count
    assert 3.5 * SLOW_S <= between.sum <= duration.sum - first
    assert span.context is not None
    for point in (ttfc, between, duration):
        assert {span.context.span_id} == {exemplar.span_id for exemplar in point.exemplars}
        assert (point.attributes or {})["gen_ai.request.model"] == "slow"
    assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"} == set(between.attributes or {})


def test_a_long_stream_is_recorded_in_parts_with_nothing_lost(
    ask: Driver, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_llm.streams._MAX_INTERVALS", 3)
    stream = ask.open("plain")
    for _ in range(4):
        ask.next(stream)

    assert recording.counts() == {"gen_ai.client.operation.time_per_output_chunk": 3}
    ask.all(stream)
    assert recording.counts()["gen_ai.client.operation.time_per_output_chunk"] == 4


def test_tool_calls_have_their_finish_reason(ask: Driver, recording: Recording) -> None:
    ask.all(ask.open("tools"))

    attributes = recording.span().attributes or {}
    assert (
        attributes["gen_ai.response.finish_reasons"],
        attributes["otel_llm.response.length"],
    ) == (("tool_calls",), 0)


def with_block(ask: Driver) -> None:
    stream = ask.open("plain")
    if not ask.is_async:
        with stream:
            ask.next(stream)
            ask.next(stream)
        return

    async def block() -> None:
        async with stream:
            await stream.__anext__()
            await stream.__anext__()

    ask.run(block())


def exhausted_and_closed(ask: Driver) -> None:
    ask.close(exhausted(ask))


@pytest.mark.parametrize(
    ("leave", "end", "length", "chunks", "error"),
    [
        (broken_off, "abandoned", 6, 2, None),
        (collected, "abandoned", 6, 2, None),
        (never_read, "abandoned", 0, 0, None),
        (closed, "closed", 6, 2, None),
        (with_block, "closed", 6, 2, None),
        (dropped, "failed", 6, 2, "MidStreamFallbackError"),
        (exhausted_and_closed, "exhausted", 11, 5, None),
        (elsewhere, "exhausted", 11, 5, None),
    ],
)
def test_every_ending_ends_one_span_once(
    ask: Driver,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
    leave: Callable[[Driver], object],
    end: str,
    length: int,
    chunks: int,
    error: str | None,
) -> None:
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        leave(ask)
        # LiteLLM's own threads let go of a stream a moment later.
        until(lambda: gc.collect() >= 0 and bool(recording.spans()))
        span = recording.span()

    attributes = span.attributes or {}
    assert (end, length) == (attributes["otel_llm.stream.end"], attributes.get("otel_llm.response.length", 0))
    assert ("UNSET" if error is None else "ERROR") == span.status.status_code.name
    if error is not None:
        assert error == attributes["error.type"]
    counts = {"gen_ai.client.operation.duration": 1}
    if chunks:
        counts["gen_ai.client.operation.time_to_first_chunk"] = 1
    if chunks > 1:
        counts["gen_ai.client.operation.time_per_output_chunk"] = chunks - 1
    if end == "exhausted":  # a server of one's own is asked for the counts
        counts["gen_ai.client.token.usage"] = 2
    assert counts == recording.counts()
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.usefixtures("recording")
def test_a_stream_is_litellm_s_own_object_and_is_not_kept_alive(ask: Driver) -> None:
    stream = ask.open("plain")

    assert type(stream) is ask.litellm.CustomStreamWrapper
    gone = weakref.ref(stream)
    del stream
    until(lambda: gc.collect() >= 0 and gone() is None)


def test_many_streams_left_behind_leave_nothing_behind(litellm: ModuleType, recording: Recording) -> None:
    from otel_llm import leftovers

    for _ in range(200):
        stream = litellm.completion("openai/gpt-4o", [], mock_response="hello", stream=True)
        next(stream)
        del stream

    until(lambda: gc.collect() >= 0 and len(recording.spans()) == 200)
    assert {"abandoned"} == {(span.attributes or {})["otel_llm.stream.end"] for span in recording.spans()}
    assert leftovers._watch._open == {}


def test_a_stream_open_when_instrumentation_is_taken_off_ends_then_and_can_still_be_read(
    ask: Driver, recording: Recording
) -> None:
    from otel_llm.litellm import LiteLLMInstrumentor

    stream = ask.open("plain")
    ask.next(stream)
    LiteLLMInstrumentor().uninstrument()

    assert (recording.span().attributes or {})["otel_llm.stream.end"] == "uninstrumented"
    assert len(ask.all(stream)) == 4
    assert len(recording.spans()) == 1
