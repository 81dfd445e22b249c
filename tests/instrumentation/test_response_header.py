"""The trace id in a response header of the proxy: set by the HTTP server's instrumentation, and gone when taken off."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.instrumentation import propagators
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from otel_llm.invocation import open_telemetry
from otel_llm.litellm import proxy
from otel_llm.litellm.wrappers import WRAPPERS
from otel_llm.settings import Settings

pytestmark = pytest.mark.usefixtures("proxy_module")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def proxy_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has imported the proxy; the real one needs an environment of its own and is tested there."""
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", ModuleType("litellm.proxy.proxy_server"))
    yield
    proxy.remove()
    WRAPPERS.take_off()
    assert propagators.get_global_response_propagator() is None


def put_on(header: str | None) -> None:
    proxy.apply(
        open_telemetry("tests", "0", Settings(trace_response_header=header), meter_provider=NoOpMeterProvider())
    )


async def ask(headers: Any = (), sampler: Sampler = ALWAYS_ON) -> list[tuple[bytes, bytes]]:
    """Ask a small ASGI application and return the headers of its response."""
    sent: list[dict[str, Any]] = []

    async def application(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    instrumented = OpenTelemetryMiddleware(application, tracer_provider=TracerProvider(sampler, shutdown_on_exit=False))
    traceparent = (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [traceparent],
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
    }
    await instrumented(scope, receive, send)
    return [(name, value) for name, value in sent[0]["headers"]]


@pytest.mark.parametrize("headers", [[], (), [(b"server", b"x")], ((b"server", b"x"),)])
async def test_the_header_joins_those_of_the_response(headers: Any) -> None:
    put_on("X-Trace-Id")

    assert await ask(headers) == [*headers, (b"x-trace-id", TRACE.encode())]
    assert await ask(headers) == [*headers, (b"x-trace-id", TRACE.encode())]  # the application's own list is as it was


async def test_a_trace_that_is_not_sampled_is_not_named() -> None:
    put_on("X-Trace-Id")

    assert await ask(sampler=ALWAYS_OFF) == []


async def test_what_another_propagator_sets_stays_and_is_all_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = propagators.TraceResponsePropagator()
    monkeypatch.setattr(propagators, "_RESPONSE_PROPAGATOR", theirs)
    put_on("X-Trace-Id")

    assert [name for name, _ in await ask()] == [b"traceresponse", b"access-control-expose-headers", b"x-trace-id"]
    proxy.remove()
    assert propagators.get_global_response_propagator() is theirs
    monkeypatch.undo()


async def test_put_on_twice_it_is_set_once() -> None:
    put_on("X-Trace-Id")
    put_on("X-Trace-Id")

    assert await ask() == [(b"x-trace-id", TRACE.encode())]


@pytest.mark.parametrize("header", ["", "X Trace", "X-Trace:", "X-Trace\r\nEvil: 1", "Spur-für"])
def test_what_is_no_name_of_a_header_is_refused_with_one_line(caplog: pytest.LogCaptureFixture, header: str) -> None:
    put_on(header)

    assert caplog.messages == [
        f"OTEL_LLM_TRACE_RESPONSE_HEADER={header!r} is not the name of a header; the trace id is not handed back"
    ]


def test_nothing_is_set_without_the_setting_and_outside_of_the_proxy() -> None:
    put_on(None)
    assert propagators.get_global_response_propagator() is None
    del sys.modules["litellm.proxy.proxy_server"]
    put_on("X-Trace-Id")
    assert propagators.get_global_response_propagator() is None
    sys.modules["litellm.proxy.proxy_server"] = ModuleType("litellm.proxy.proxy_server")  # the fixture takes it away
