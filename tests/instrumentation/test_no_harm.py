"""What an application gets is what it would have got: functions, results, exceptions, and no fault of ours."""

import asyncio
import copy
import inspect
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from opentelemetry.instrumentation.utils import suppress_instrumentation
from waiting import until

from otel_llm import fault
from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.litellm.wrappers import WRAPPERS

HELLO = [{"role": "user", "content": "hi"}]


@contextmanager
def off() -> Iterator[None]:
    LiteLLMInstrumentor().uninstrument()
    yield


def facts(function: Any) -> dict[str, Any]:
    return {
        "type": type(function),
        "name": (function.__module__, function.__qualname__, function.__doc__),
        "signature": inspect.signature(function),
        "coroutine": inspect.iscoroutinefunction(function),
        "deep copy": copy.deepcopy(function) is function,
        "pickled": pickle.loads(pickle.dumps(function)) is function,
    }


def test_every_wrapped_function_looks_like_the_one_it_wraps(
    litellm: ModuleType, server: OpenAIServer, recording: Recording
) -> None:
    """Those of LiteLLM's classes of streams are put on with the first stream."""
    for _ in litellm.completion("openai/plain", HELLO, stream=True, api_base=server.url, api_key="k"):
        pass
    wrapped = {(owner, name): getattr(owner, name) for owner, name, _ in WRAPPERS.put_on}
    looks = {place: facts(function) for place, function in wrapped.items()}

    with off():
        originals = {(owner, name): getattr(owner, name) for owner, name in wrapped}

    assert len(wrapped) > 20
    assert not [place for place, function in originals.items() if function is wrapped[place]]
    assert {place: facts(function) for place, function in originals.items()} == looks
    assert len(recording.spans()) == 1


@pytest.mark.usefixtures("recording")
def test_the_result_is_litellm_s_own_object(litellm: ModuleType) -> None:
    reply = litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")

    assert type(reply) is litellm.ModelResponse


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exception_of_any_kind_passes_unchanged(
    litellm: ModuleType, recording: Recording, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    raised = error("from below")

    def refuse(*_: Any, **__: Any) -> None:
        raise raised

    with off():
        monkeypatch.setattr(litellm, "completion", wrappable(refuse, litellm))
        LiteLLMInstrumentor().instrument(
            tracer_provider=recording.tracer_provider, meter_provider=recording.meter_provider
        )
        with pytest.raises(error) as caught:
            litellm.completion("gpt-4o", HELLO)

    assert caught.value is raised
    assert error.__qualname__ == (recording.span().attributes or {})["error.type"]
    LiteLLMInstrumentor().uninstrument()


def wrappable(function: Any, litellm: ModuleType) -> Any:
    """Give a function LiteLLM's globals, by which the instrumentation knows LiteLLM's own functions."""
    return type(function)(function.__code__, vars(litellm) | {"raised": None}, "completion", None, function.__closure__)


def test_faults_are_counted_and_logged_once_per_place(caplog: pytest.LogCaptureFixture) -> None:
    log = fault.FaultLog()

    for _ in range(3):
        log("here", ValueError("x"))
    log("there", ValueError("x"))

    assert log.counts() == {"here": 3, "there": 1}
    assert len(caplog.records) == 2


def test_a_hook_that_raises_is_silenced() -> None:
    def hook(_place: str, _error: Exception) -> None:
        raise RuntimeError

    before = fault.set_on_fault(hook)
    try:
        fault.report("here", ValueError())
    finally:
        fault.set_on_fault(before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": 7, "messages": HELLO},
        {"model": None, "messages": HELLO},
        {"model": "openai/gpt-4o", "messages": None},
        {"model": "openai/gpt-4o", "messages": [object()]},
        {"model": "openai/gpt-4o", "messages": HELLO, "temperature": object(), "stop": [1, object()], "n": "many"},
        {"model": "openai/gpt-4o", "messages": HELLO, "api_base": "http://[broken"},
        {"model": "openai/gpt-4o", "messages": HELLO, "api_base": 12},
        {},
    ],
)
def test_arguments_of_any_kind_give_the_outcome_they_give_without_us(
    litellm: ModuleType, recording: Recording, arguments: dict[str, Any]
) -> None:
    def outcome() -> tuple[type, object]:
        try:
            reply = litellm.completion(**arguments, mock_response="hello")
        except Exception as error:
            return type(error), str(error)
        return type(reply), reply.choices[0].message.content

    ours = outcome()
    with off():
        assert outcome() == ours
    assert len(recording.spans()) == 1


def test_a_suppressed_call_is_not_recorded(litellm: ModuleType, recording: Recording) -> None:
    with suppress_instrumentation():
        litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")

    assert recording.spans() == []


def test_fallbacks_make_no_second_span(litellm: ModuleType, server: OpenAIServer, recording: Recording) -> None:
    reply = litellm.completion(
        "openai/error500", HELLO, fallbacks=["openai/plain"], api_base=server.url, api_key="k", max_retries=0
    )

    assert reply.choices[0].message.content == "Hello there"
    attributes = recording.span().attributes or {}
    assert (
        attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]
    ) == ("error500", "served-model-1")  # fmt: skip


def test_the_sync_function_s_coroutine_makes_one_span_that_starts_when_it_runs(
    litellm: ModuleType, recording: Recording
) -> None:
    async def main() -> Any:
        coroutine = litellm.completion("openai/gpt-4o", HELLO, acompletion=True, mock_response="hello")
        assert inspect.iscoroutine(coroutine)
        return await coroutine

    assert asyncio.run(main()).choices[0].message.content == "hello"
    assert recording.span().name == "chat gpt-4o"


def test_the_client_object_is_seen(litellm: ModuleType, server: OpenAIServer, recording: Recording) -> None:
    client = litellm.LiteLLM(base_url=server.url, api_key="k")

    client.chat.completions.create(model="hosted_vllm/plain", messages=HELLO, temperature=0.5)

    attributes = recording.span().attributes or {}
    assert ("plain", 0.5, server.port) == tuple(
        attributes[name] for name in ("gen_ai.request.model", "gen_ai.request.temperature", "server.port")
    )


def test_concurrent_calls_keep_their_contexts_apart(litellm: ModuleType, recording: Recording) -> None:
    tracer = recording.tracer_provider.get_tracer("application")

    async def one(number: int) -> None:
        with tracer.start_as_current_span(f"request {number}"):
            stream = await litellm.acompletion(f"openai/model-{number}", HELLO, mock_response="hello", stream=True)
            async for _ in stream:
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(main())

    until(lambda: len(recording.spans()) == 100)
    requests = {span.context.span_id: span.name for span in recording.spans() if span.kind.name == "INTERNAL"}
    calls = [span for span in recording.spans() if span.kind.name == "CLIENT"]
    assert len(calls) == 50
    for call in calls:
        assert call.parent is not None
        assert requests[call.parent.span_id] == call.name.replace("chat model-", "request ")


def test_threads_keep_their_contexts_apart(litellm: ModuleType, recording: Recording) -> None:
    def work(number: int) -> None:
        with recording.tracer_provider.get_tracer("application").start_as_current_span(f"request {number}"):
            for _ in litellm.completion(f"openai/model-{number}", HELLO, mock_response="hello", stream=True):
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    requests = {span.context.span_id: span.name for span in recording.spans() if span.kind.name == "INTERNAL"}
    parents = {span.name: span.parent for span in recording.spans() if span.kind.name == "CLIENT"}
    assert {f"chat model-{n}": f"request {n}" for n in range(8)} == {
        name: requests[parent.span_id] for name, parent in parents.items() if parent is not None
    }
