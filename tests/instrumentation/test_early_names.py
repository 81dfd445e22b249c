"""Names bound before the instrumentation started: recorded by callback, once, where that is asked for."""

import asyncio
import inspect
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording, record, whole
from opentelemetry.instrumentation.utils import suppress_instrumentation
from waiting import DEADLINE_S, until

from otel_llm.litellm import LiteLLMInstrumentor

HELLO = [{"role": "user", "content": "hi"}]
LISTS = ("callbacks", "input_callback", "success_callback", "failure_callback", "_async_success_callback",
         "_async_failure_callback")  # fmt: skip

# Of text completions LiteLLM makes a client for each call and leaves it open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def bound(litellm: ModuleType) -> dict[str, Any]:
    """LiteLLM's functions as they were before the instrumentation."""
    names = "completion", "text_completion", "embedding", "rerank", "image_generation", "speech", "transcription"
    both = (*names, *(f"a{name}" for name in names), "amoderation")
    return {name: getattr(litellm, name) for name in both}


@pytest.fixture
def net(bound: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Instrument with the net, after the names were bound."""
    assert bound
    monkeypatch.setenv("OTEL_LLM_CALLBACK_NET", "true")
    with record() as recording:
        yield recording


@pytest.fixture
def to(server: OpenAIServer) -> dict[str, Any]:
    """The arguments that lead a call to the server."""
    return {"api_base": server.url, "api_key": "sk-test", "max_retries": 0}


def run(litellm: ModuleType, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function, take a stream to its end, and return when LiteLLM has told its callbacks, the net before others."""
    heard: list[str] = []
    logger = litellm.integrations.custom_logger.CustomLogger()

    async def later(**_: Any) -> None:
        heard.append("async")

    logger.log_success_event = logger.log_failure_event = lambda **_: heard.append("sync")
    logger.async_log_success_event = logger.async_log_failure_event = later
    litellm.callbacks.append(logger)

    async def main() -> Any:
        try:
            result = await function(*args, **kwargs)
            return [chunk async for chunk in result] if kwargs.get("stream") else result
        finally:
            while not heard:  # noqa: ASYNC110 - LiteLLM tells it in a task of its own, sometimes in a thread
                await asyncio.sleep(0.01)
            await litellm.close_litellm_async_clients()

    try:
        if inspect.iscoroutinefunction(function):
            return asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
        result = function(*args, **kwargs)
        return [*result] if kwargs.get("stream") else result
    finally:
        until(lambda: bool(heard))
        for name in LISTS:
            callbacks = getattr(litellm, name)
            while logger in callbacks:
                callbacks.remove(logger)


@pytest.fixture(params=["completion", "acompletion"])
def early(request: pytest.FixtureRequest, bound: dict[str, Any]) -> Any:
    """Chat, as it was bound before."""
    return bound[request.param]


def test_a_call_is_recorded_below_the_span_it_was_made_in_with_its_own_times(
    litellm: ModuleType, net: Recording, early: Any, server: OpenAIServer, to: dict[str, Any]
) -> None:
    with net.tracer_provider.get_tracer("application").start_as_current_span("application"):
        run(litellm, early, "hosted_vllm/slow", HELLO, temperature=0.5, max_tokens=5, **to)

    call, application = sorted(net.spans(), key=lambda span: span.name, reverse=True)
    found = whole(call)
    assert found["attributes"].pop("otel_llm.litellm.overhead", 1) > 0
    assert {
        "name": "chat slow",
        "kind": "CLIENT",
        "status": "UNSET",
        "description": None,
        "events": [],
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "hosted_vllm",
            "gen_ai.request.model": "slow",
            "server.address": "127.0.0.1",
            "server.port": server.port,
            "otel_llm.prompt.length": 2,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 5,
            "gen_ai.response.id": "chatcmpl-plain-1",
            "gen_ai.response.model": "served-model-1",
            "gen_ai.response.finish_reasons": ("stop",),
            "otel_llm.response.length": 11,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "otel_llm.usage.source": "reported",
        },
    } == found
    assert call.parent == application.context
    outer, inner = ((span.start_time or 0, span.end_time or 0) for span in (application, call))
    assert outer[0] <= inner[0] < inner[1] <= outer[1]
    (point,) = net.points()["gen_ai.client.operation.duration"]
    assert point.sum == pytest.approx((inner[1] - inner[0]) / 1e9, abs=1e-4)
    assert point.sum >= 0.2
    assert net.counts() == {"gen_ai.client.operation.duration": 1, "gen_ai.client.token.usage": 2}


def test_a_failed_call_is_recorded_with_its_error(
    litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any]
) -> None:
    with pytest.raises(litellm.RateLimitError):
        run(litellm, early, "hosted_vllm/error429", HELLO, **to)

    span = net.span()
    assert (span.status.status_code.name, (span.attributes or {})["error.type"]) == ("ERROR", "RateLimitError")
    assert net.counts() == {"gen_ai.client.operation.duration": 1}


def test_a_stream_has_its_first_chunk_and_no_tokens_that_might_be_an_estimate(
    litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any]
) -> None:
    run(litellm, early, "hosted_vllm/silent", HELLO, stream=True, **to)

    attributes = net.span().attributes or {}
    assert attributes["otel_llm.stream.end"] == "exhausted"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["otel_llm.response.length"] == 11
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert not [name for name in attributes if name.startswith("gen_ai.usage")]
    assert net.counts() == {
        "gen_ai.client.operation.duration": 1,
        "gen_ai.client.operation.time_to_first_chunk": 1,
    }


def test_a_stream_that_breaks_is_recorded_as_failed(
    litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any]
) -> None:
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        run(litellm, early, "hosted_vllm/drop", HELLO, stream=True, **to)

    span = net.span()
    assert (span.status.status_code.name, (span.attributes or {})["otel_llm.stream.end"]) == ("ERROR", "failed")


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # By function: its arguments, and some of what the span says.
    "text_completion": (
        {"model": "hosted_vllm/plain", "prompt": "hi"},
        {"otel_llm.prompt.length": 2, "gen_ai.usage.input_tokens": 11, "gen_ai.response.id": "cmpl-1"},
    ),
    "embedding": (
        {"model": "hosted_vllm/plain", "input": ["hi", "ho"]},
        {"otel_llm.prompt.length": 4, "gen_ai.usage.input_tokens": 5, "gen_ai.response.model": "served-model-1"},
    ),
    "rerank": (
        {"model": "hosted_vllm/plain", "query": "hi", "documents": ["ho"]},
        {"otel_llm.prompt.length": 4, "gen_ai.usage.input_tokens": 9, "otel_llm.rerank.documents": 1},
    ),
    "image_generation": (
        {"model": "openai/plain", "prompt": "hi"},
        {"otel_llm.prompt.length": 2, "gen_ai.usage.output_tokens": 1056, "otel_llm.image.count": 1},
    ),
    "speech": (
        {"model": "openai/plain", "input": "hi", "voice": "alloy"},
        {"otel_llm.prompt.length": 2, "otel_llm.audio.voice": "alloy"},
    ),
    "transcription": (
        {"model": "openai/plain", "file": ("said.wav", b"not really sound")},
        {"gen_ai.usage.audio.input_tokens": 14, "gen_ai.usage.input_tokens": 14, "otel_llm.response.length": 11},
    ),
    "amoderation": (
        {"model": "plain", "input": "hi"},
        {"otel_llm.prompt.length": 2, "otel_llm.moderation.flagged": False},
    ),
}


@pytest.mark.parametrize("name", [*OTHERS, *(f"a{name}" for name in OTHERS if name != "amoderation")])
def test_other_operations_are_recorded_as_by_their_wrappers(
    litellm: ModuleType, net: Recording, bound: dict[str, Any], server: OpenAIServer, to: dict[str, Any], name: str
) -> None:
    arguments, told = OTHERS[name if name in OTHERS else name.removeprefix("a")]
    run(litellm, bound[name], **arguments, **to)

    attributes = net.span().attributes or {}
    assert told == {key: attributes.get(key) for key in told}
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", server.port)
    assert attributes["gen_ai.request.model"] == "plain"


@pytest.mark.parametrize(
    ("name", "stream", "model"),
    [
        (name, stream, model)
        for name in ("completion", "acompletion", "text_completion", "atext_completion")
        for stream in (False, True)
        for model in ("plain", "error400")
        if not ("text" in name and stream and model != "plain")  # which LiteLLM does not tell its callbacks
    ],
)
def test_a_call_that_a_wrapper_records_is_not_recorded_again(
    litellm: ModuleType, net: Recording, to: dict[str, Any], name: str, stream: bool, model: str
) -> None:
    said: dict[str, Any] = {"prompt": "hi"} if "text" in name else {"messages": HELLO}
    try:
        run(litellm, getattr(litellm, name), model=f"hosted_vllm/{model}", stream=stream, **said, **to)
    except litellm.BadRequestError:
        assert model == "error400"

    assert [span.name for span in net.spans()] == [f"{'text_completion' if 'text' in name else 'chat'} {model}"]


def test_suppressed_calls_stay_unrecorded(litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any]) -> None:
    with suppress_instrumentation():
        run(litellm, early, "hosted_vllm/plain", HELLO, **to)

    assert net.spans() == []


def test_a_mock_s_tokens_are_no_server_s(litellm: ModuleType, net: Recording, early: Any) -> None:
    run(litellm, early, "openai/gpt-4o", HELLO, mock_response="made up")

    assert not [name for name in net.span().attributes or {} if name.startswith("gen_ai.usage")]


def test_callbacks_assigned_later_do_not_take_the_net_away(
    litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("callbacks", "success_callback", "failure_callback"):
        monkeypatch.setattr(litellm, name, [])
    run(litellm, early, "hosted_vllm/plain", HELLO, **to)

    assert net.span().name == "chat plain"


def test_lengths_of_replies_that_litellm_keeps_from_callbacks_are_not_told(
    litellm: ModuleType, net: Recording, early: Any, to: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    run(litellm, early, "hosted_vllm/plain", HELLO, **to)

    attributes = net.span().attributes or {}
    assert "otel_llm.response.length" not in attributes
    assert attributes["otel_llm.prompt.length"] == 2


def test_the_net_is_there_only_where_it_is_asked_for_and_goes_with_the_instrumentation(
    litellm: ModuleType, bound: dict[str, Any], to: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def registered() -> list[str]:
        return [
            f"{name}: {type(callback).__name__}"
            for name in LISTS
            for callback in getattr(litellm, name)
            if type(callback).__module__.startswith("otel_llm")
        ]

    with record() as recording:
        assert registered() == []
        run(litellm, bound["completion"], "hosted_vllm/plain", HELLO, **to)
        assert recording.spans() == []

    monkeypatch.setenv("OTEL_LLM_CALLBACK_NET", "true")
    with record() as recording:
        assert registered() == [f"{name}: OtelLLMNet" for name in LISTS]
        run(litellm, bound["completion"], "hosted_vllm/plain", HELLO, **to)
        assert len(recording.spans()) == 1
        assert registered() == [f"{name}: OtelLLMNet" for name in LISTS]

    assert registered() == []
    run(litellm, bound["completion"], "hosted_vllm/plain", HELLO, **to)
    assert len(recording.spans()) == 1
    assert not LiteLLMInstrumentor().is_instrumented_by_opentelemetry


def test_what_goes_wrong_in_the_net_reaches_neither_the_caller_nor_litellm_s_log(
    litellm: ModuleType, to: dict[str, Any], early: Any, net: Recording, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from otel_llm import fault
    from otel_llm.litellm import early as module

    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("ours")

    monkeypatch.setattr(module, "_read", refuse)
    faults: list[str] = []
    before = fault.set_on_fault(lambda place, _: faults.append(place))
    try:
        with caplog.at_level(logging.ERROR):
            reply = run(litellm, early, "hosted_vllm/plain", HELLO, **to)
    finally:
        fault.set_on_fault(before)

    assert reply.choices[0].message.content == "Hello there"
    assert set(faults) == {"a request heard of by callback", "a call heard of by callback"}
    assert net.spans() == []
    assert not [line for line in caplog.records if "LiteLLM" in line.name]
