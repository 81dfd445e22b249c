"""One call's content recorded as a test sets it, and what the span and the event hold in the end."""

import json
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_span_in_context

from otel_llm import semconv
from otel_llm.content import open_content
from otel_llm.records import Content
from otel_llm.settings import CaptureContent, Settings

MAIN = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m"}
SAID = Content(
    system_instructions=[{"type": "text", "content": "Be brief."}],
    input_messages=[{"role": "user", "parts": [{"type": "text", "content": "Hi, I am bob@example.com"}]}],
    tool_definitions=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
)
ANSWERED = Content(
    output_messages=[
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {"x": 1}}],
            "finish_reason": "tool_call",
        }
    ]
)
MASKED_INPUT = [{"role": "user", "parts": [{"type": "text", "content": "Hi, I am [masked:email]"}]}]
RECORDED = {
    semconv.INPUT_MESSAGES: MASKED_INPUT,
    semconv.OUTPUT_MESSAGES: ANSWERED.output_messages,
    semconv.SYSTEM_INSTRUCTIONS: SAID.system_instructions,
    semconv.TOOL_DEFINITIONS: SAID.tool_definitions,
}


class Run:
    """One call recorded as it is set: what the span and the event hold in the end."""

    def __init__(self, settings: Settings, *contents: Content | None, sampler: Any = None, **more: Any) -> None:
        self.spans, self.logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        tracers = TracerProvider(shutdown_on_exit=False, **({"sampler": sampler} if sampler else {}))
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        recorder = open_content(settings, loggers, **more)
        assert recorder is not None
        span = tracers.get_tracer("test").start_span("chat m")
        request, reply = (*contents, None, None)[:2]
        recorder.record(span, set_span_in_context(span), MAIN, request, reply)
        span.end()
        self.span_context = span.get_span_context()

    @property
    def on_span(self) -> dict[str, Any]:
        """The JSON of each attribute, parsed."""
        return {
            name: json.loads(str(text))
            for span in self.spans.get_finished_spans()
            for name, text in (span.attributes or {}).items()
        }

    @property
    def texts(self) -> dict[str, str]:
        return {
            name: str(text)
            for span in self.spans.get_finished_spans()
            for name, text in (span.attributes or {}).items()
        }

    @property
    def events(self) -> list[Any]:
        return [data.log_record for data in self.logs.get_finished_logs()]

    @property
    def on_event(self) -> dict[str, Any]:
        (event,) = self.events
        return json.loads(json.dumps(dict(event.attributes)))


def settings(mode: CaptureContent = CaptureContent.SPAN_AND_EVENT, **more: Any) -> Settings:
    return Settings(capture_content=mode, **more)
