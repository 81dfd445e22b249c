"""An SDK that raises, an exporter that hangs, a LiteLLM newer than any tested: the application's calls go on."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, NoOpTracerProvider

from otel_llm import fault
from otel_llm.litellm import LiteLLMInstrumentor

HELLO = [{"role": "user", "content": "hi"}]


class Broken(Exception):
    """What a broken SDK raises."""


class Raises:
    """Stands for any object; the methods named raise, the others hand out such objects."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        def method(*_: Any, **__: Any) -> Any:
            if name in self._names:
                raise Broken(name)
            return Raises(*self._names)

        return method


class Span(NonRecordingSpan):
    """A span whose every use raises."""

    def __init__(self) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)

    def is_recording(self) -> bool:
        return True

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise Broken("span")

    set_attribute = set_attributes = add_event = set_status = end = _refuse  # type: ignore[assignment]


class Tracers(NoOpTracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Any:
        tracer = Raises()
        tracer.start_span = lambda *_, **__: Span()  # type: ignore[method-assign]
        return tracer


@contextmanager
def instrumented(**providers: Any) -> Iterator[list[Exception]]:
    faults: list[Exception] = []
    before = fault.set_on_fault(lambda _, error: faults.append(error))
    try:
        LiteLLMInstrumentor().instrument(**{"meter_provider": NoOpMeterProvider(), **providers})
        yield faults
    finally:
        LiteLLMInstrumentor().uninstrument()
        fault.set_on_fault(before)


def ask(litellm: ModuleType, server: OpenAIServer) -> None:
    to = {"api_base": server.url, "api_key": "k", "max_retries": 0}
    assert litellm.completion("openai/plain", HELLO, **to).choices[0].message.content == "Hello there"
    stream = litellm.completion("openai/plain", HELLO, stream=True, **to)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello there"
    with pytest.raises(litellm.RateLimitError):
        litellm.completion("openai/error429", HELLO, **to)


@pytest.mark.parametrize(
    "providers",
    [
        {"tracer_provider": Raises("get_tracer")},
        {"tracer_provider": Raises("start_span")},
        {"tracer_provider": Tracers()},
        {"meter_provider": Raises("get_meter")},
        {"meter_provider": Raises("create_histogram")},
        {"meter_provider": Raises("create_counter")},
        {"meter_provider": Raises("record", "add")},
    ],
    ids=["get_tracer", "start_span", "span", "get_meter", "create_histogram", "create_counter", "record"],
)
def test_an_sdk_that_raises_harms_no_call(litellm: ModuleType, server: OpenAIServer, providers: dict[str, Any]) -> None:
    with instrumented(**{"tracer_provider": NoOpTracerProvider(), **providers}) as faults:
        ask(litellm, server)

    assert {type(error) for error in faults} == {Broken}


def test_an_exporter_that_hangs_holds_up_no_call(litellm: ModuleType, server: OpenAIServer) -> None:
    let_go, hangs = threading.Event(), threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            hangs.set()
            let_go.wait(60)
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Hangs(), max_queue_size=4, max_export_batch_size=1))
    logging.disable(logging.WARNING)  # the SDK says that it drops spans
    try:
        with instrumented(tracer_provider=tracers) as faults:
            ask(litellm, server)
            assert hangs.wait(10)
            for _ in range(3):  # more spans than the queue takes
                ask(litellm, server)
            assert not let_go.is_set()
    finally:
        let_go.set()
        tracers.shutdown()
        logging.disable(logging.NOTSET)

    assert faults == []
