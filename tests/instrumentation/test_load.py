"""Many streams at once and many left behind: no context lost or crossed, nothing kept, no span left open."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import Any

import pytest
from instrumentation.recording import Recording
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import get_current_span
from waiting import until

from otel_llm.invocation import Invocation
from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.streams import StreamRecorder

STREAMS = 200
LEFT = 10_000
HELLO = [{"role": "user", "content": "hi"}]


class Count(SpanProcessor):
    """Counts spans and keeps none."""

    def __init__(self) -> None:
        self.started = 0
        self.ends: Counter[object] = Counter()

    def on_start(self, span: Span, parent_context: object = None) -> None:
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ends[(span.attributes or {}).get("otel_llm.stream.end")] += 1


def test_200_streams_at_once_lose_and_cross_no_context(litellm: ModuleType, recording: Recording) -> None:
    tracer = recording.tracer_provider.get_tracer("application")
    strays: list[int] = []

    async def one(number: int) -> None:
        with tracer.start_as_current_span(f"request {number}") as request:
            stream = await litellm.acompletion(
                f"openai/model-{number}", HELLO, mock_response=f"reply {number}", stream=True
            )
            words = []
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content or "")
                await asyncio.sleep(0)  # each step of a stream runs between steps of all the others
                if get_current_span() is not request:
                    strays.append(number)
            assert "".join(words) == f"reply {number}"

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(STREAMS)))

    asyncio.run(main())

    spans = recording.spans()
    requests = {span.context.span_id: span for span in spans if span.name.startswith("request ")}
    parents = {span.name: span.parent for span in spans if span.name.startswith("chat ")}
    assert strays == []
    assert {f"chat model-{number}": f"request {number}" for number in range(STREAMS)} == {
        name: requests[parent.span_id].name for name, parent in parents.items() if parent is not None
    }
    assert {(span.attributes or {}).get("otel_llm.stream.end") for span in spans if span.name in parents} == {
        "exhausted"
    }
    assert recording.counts()["gen_ai.client.operation.duration"] == STREAMS


@pytest.fixture
def streaming(litellm: ModuleType, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put functions in LiteLLM's place that hand out its own stream objects without the work of a call."""
    LiteLLMInstrumentor().uninstrument()
    made = litellm.completion("openai/gpt-4o", HELLO, mock_response="hello", stream=True)
    chunks, log = list(made.completion_stream), made.logging_obj

    def stream_of(source: Any) -> Any:
        return litellm.CustomStreamWrapper(
            completion_stream=source, model="gpt-4o", logging_obj=log, custom_llm_provider="openai"
        )

    async def source() -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    def completion(**_):
        return stream_of(iter(chunks))

    async def acompletion(**_):  # no name of this module: these two lose its globals
        return stream_of(source())

    for function in (completion, acompletion):
        # What is LiteLLM's own is known by its globals.
        names = {"__name__": "litellm.stand_in"}
        monkeypatch.setattr(
            litellm, function.__name__, FunctionType(function.__code__, names, None, None, function.__closure__)
        )
    LiteLLMInstrumentor().instrument(tracer_provider=recording.tracer_provider, meter_provider=recording.meter_provider)
    yield
    LiteLLMInstrumentor().uninstrument()


def of_ours() -> int:
    """How many open or ended calls and streams are in memory."""
    return sum(type(thing) in (StreamRecorder, Invocation) for thing in gc.get_objects())


@pytest.mark.usefixtures("streaming")
def test_10000_streams_left_behind_leave_no_open_span_and_nothing_in_memory(
    litellm: ModuleType, recording: Recording
) -> None:
    """Quarters are compared, and the least growth counts: LiteLLM's own caches grow now and then, a leak every time."""
    recording.exporter.clear()
    recording.exporter.shutdown()  # it would keep every span
    count = Count()
    recording.tracer_provider.add_span_processor(count)
    before = of_ours()  # what other tests hold

    async def leave(number: int) -> None:
        for _ in range(number):
            await anext(await litellm.acompletion(model="openai/gpt-4o", messages=HELLO, stream=True))

    def objects_after(number: int) -> int:
        for _ in range(number // 2):
            next(litellm.completion(model="openai/gpt-4o", messages=HELLO, stream=True))
        asyncio.run(leave(number // 2))
        gc.collect()
        until(lambda: count.started == count.ends.total(), "the last span")
        gc.collect()
        return len(gc.get_objects())

    counts = [objects_after(LEFT // 4) for _ in range(4)]
    growth = min(after - earlier for earlier, after in pairwise(counts))

    assert count.ends == {"abandoned": LEFT}
    until(lambda: gc.collect() >= 0 and of_ours() <= before)
    assert growth < LEFT // 4 // 10  # far less than one object for a stream
