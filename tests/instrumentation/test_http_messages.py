"""A server of models has one span of an HTTP request, not one of each message, unless that is asked for or somebody hooks in."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm import asgi
from otel_llm.invocation import open_telemetry
from otel_llm.settings import Settings
from otel_llm.wrapping import Wrappers

CHUNKS = 3
MESSAGES = ["http receive", *["http send"] * (1 + CHUNKS)]


@pytest.fixture
def wrappers() -> Iterator[Wrappers]:
    found = Wrappers()
    yield found
    found.take_off()


def put_on(wrappers: Wrappers, *, keep: bool = False) -> None:
    settings = Settings(http_message_spans=keep)
    asgi.put(open_telemetry("tests", "0", settings, meter_provider=NoOpMeterProvider()), wrappers)


async def spans_of_a_stream(**hooks: Any) -> list[str]:
    """Stream an answer through the middleware, made now, and return the names of the spans, the request's last."""

    async def application(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for left in reversed(range(CHUNKS)):
            await send({"type": "http.response.body", "body": b"data", "more_body": left > 0})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        del message

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "scheme": "http", "http_version": "1.1"}  # fmt: skip
    await OpenTelemetryMiddleware(application, tracer_provider=provider, **hooks)(scope, receive, send)
    spans = exporter.get_finished_spans()
    assert spans[-1].attributes is not None
    assert spans[-1].attributes["http.status_code"] == 200
    return [span.name.removeprefix("GET / ") for span in spans]


async def test_messages_have_no_spans(wrappers: Wrappers) -> None:
    put_on(wrappers)
    put_on(wrappers)  # both instrumentors may be at work in one process

    assert await spans_of_a_stream() == ["GET /"]


async def test_they_have_some_where_that_is_asked_for(wrappers: Wrappers) -> None:
    put_on(wrappers, keep=True)

    assert sorted(await spans_of_a_stream()) == ["GET /", *MESSAGES]


async def test_they_have_some_where_a_hook_is_called_with_them(wrappers: Wrappers) -> None:
    seen: list[str] = []
    put_on(wrappers)

    names = await spans_of_a_stream(client_response_hook=lambda span, scope, message: seen.append(message["type"]))

    assert sorted(names) == ["GET /", *MESSAGES]
    assert len(seen) == 1 + CHUNKS


async def test_all_is_as_it_was_when_taken_off(wrappers: Wrappers) -> None:
    put_on(wrappers)
    wrappers.take_off()

    assert sorted(await spans_of_a_stream()) == ["GET /", *MESSAGES]
