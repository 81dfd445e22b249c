"""What arrives at a server of one's own and at a foreign one, and that nobody else sees what was added."""

import asyncio
from collections.abc import Callable, Iterator
from copy import deepcopy
from types import ModuleType
from typing import Any

import httpx
import pytest
from instrumentation.asking import ask, every_stream, every_way, forget_clients, own_loop
from instrumentation.picky_server import PickyServer, Received, serve
from instrumentation.recording import Recording
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from otel_llm.litellm import LiteLLMInstrumentor

PUBLIC = "http://models.example/v1"  # reserved: nobody answers there but the proxy of the test


@pytest.fixture
def server() -> Iterator[PickyServer]:
    with serve() as running:
        yield running


@pytest.fixture
def through_proxy(server: PickyServer, litellm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the server answer for every host but this machine."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    forget_clients(litellm)
    yield
    forget_clients(litellm)


@pytest.fixture
def aiohttp_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses asked over LiteLLM's own aiohttp transport."""
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    used: list[str] = []
    original = LiteLLMAiohttpTransport.handle_async_request

    async def noted(self: Any, request: httpx.Request) -> httpx.Response:
        used.append(str(request.url))
        return await original(self, request)

    monkeypatch.setattr(LiteLLMAiohttpTransport, "handle_async_request", noted)
    return used


def identity(span: ReadableSpan) -> str:
    found = span.get_span_context()
    assert found is not None
    return f"00-{trace.format_trace_id(found.trace_id)}-{trace.format_span_id(found.span_id)}-{found.trace_flags:02x}"


def added(received: Received) -> dict[str, str]:
    names = ("traceparent", "tracestate", "x-request-id", "baggage")
    return {name.lower(): value for name, value in received.headers.items() if name.lower() in names}


@every_way
def test_a_server_of_ones_own_is_told_the_span_of_the_call(
    litellm: ModuleType, recording: Recording, server: PickyServer, aiohttp_used: list[str], way: str, provider: str
) -> None:
    ask(litellm, way, f"{provider}/plain", server.url)

    name = identity(recording.span())
    assert [added(received) for received in server.received] == [{"traceparent": name, "x-request-id": name}]
    assert bool(aiohttp_used) == (way in ("async", "async stream"))


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("embedding", {"input": ["hi"]}), ("transcription", {"file": ("a.wav", b"RIFF" * 100)})],
)
def test_so_it_is_for_other_operations(
    litellm: ModuleType, recording: Recording, server: PickyServer, name: str, provider: str, arguments: dict[str, Any]
) -> None:
    with own_loop():
        getattr(litellm, name)(model=f"{provider}/plain", api_base=server.url, api_key="sk-test", **arguments)

    span = identity(recording.span())
    assert [added(received) for received in server.received] == [{"traceparent": span, "x-request-id": span}]


@every_way
@pytest.mark.usefixtures("through_proxy")
def test_a_foreign_server_is_sent_what_it_was_sent_before(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str, provider: str
) -> None:
    """`hosted_vllm/` is no sign: others host it, too."""
    ask(litellm, way, f"{provider}/plain", PUBLIC)
    LiteLLMInstrumentor().uninstrument()
    ask(litellm, way, f"{provider}/plain", PUBLIC)

    with_us, without_us = server.received
    assert with_us.path == "http://models.example/v1/chat/completions"
    assert added(with_us) == {}
    assert (with_us.headers.items(), with_us.body) == (without_us.headers.items(), without_us.body)
    assert recording.span().attributes["server.address"] == "models.example"  # type: ignore[index]


@pytest.fixture
def instrument(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Instrument with variables of the environment."""

    def with_settings(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        LiteLLMInstrumentor().instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))

    yield with_settings
    LiteLLMInstrumentor().uninstrument()


@pytest.mark.usefixtures("through_proxy")
@pytest.mark.parametrize("way", ["sync stream", "async stream"])
@pytest.mark.parametrize(
    ("setting", "own", "foreign"),
    [
        ({}, (True, True), (False, False)),
        ({"OTEL_LLM_PROPAGATE": "always"}, (True, True), (True, False)),
        ({"OTEL_LLM_PROPAGATE": "never"}, (False, True), (False, False)),
        ({"OTEL_LLM_ASK_USAGE": "always"}, (True, True), (False, True)),
        ({"OTEL_LLM_ASK_USAGE": "never"}, (True, False), (False, False)),
        ({"OTEL_LLM_SELF_HOSTED_HOSTS": "*.example,models.example"}, (True, True), (True, True)),
    ],
)
def test_the_switches_say_who_is_told_the_span_and_who_is_asked_for_usage(
    litellm: ModuleType,
    instrument: Callable[..., None],
    server: PickyServer,
    way: str,
    setting: dict[str, str],
    own: tuple[bool, bool],
    foreign: tuple[bool, bool],
) -> None:
    instrument(**setting)

    ask(litellm, way, "hosted_vllm/plain", server.url)
    ask(litellm, way, "hosted_vllm/plain", PUBLIC)

    seen = [("traceparent" in added(received), "stream_options" in received.json) for received in server.received]
    assert seen == [own, foreign]


@every_way
def test_the_callers_own_headers_stay(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str, provider: str
) -> None:
    own = {
        "traceparent": "00-11111111111111111111111111111111-2222222222222222-01",
        "x-request-id": "order-7",
        "baggage": "a=b",
    }

    ask(litellm, way, f"{provider}/plain", server.url, extra_headers=own)
    ask(litellm, way, f"{provider}/plain", server.url, extra_headers={"X-REQUEST-ID": "order-8"})

    assert [added(received) for received in server.received] == [
        own,
        {"x-request-id": "order-8", "traceparent": identity(recording.spans()[1])},
    ]


def test_a_header_of_the_same_trace_that_was_passed_on_gives_way_to_the_span_of_the_call(
    litellm: ModuleType, recording: Recording, server: PickyServer
) -> None:
    """A proxy that forwards its client's headers would make the server's span a sibling of the call's."""
    tracer = recording.tracer_provider.get_tracer("application")
    with tracer.start_as_current_span("application") as span:
        outer = identity(span)  # type: ignore[arg-type]
        headers = {"traceparent": outer, "tracestate": "old=1"}
        ask(litellm, "sync", "hosted_vllm/plain", server.url, extra_headers=headers)

    call = identity(recording.spans()[0])
    assert call[:35] == outer[:35]
    assert added(server.received[0]) == {"traceparent": call, "x-request-id": call}


@every_stream
@pytest.mark.usefixtures("recording")
def test_what_the_caller_passed_in_is_not_touched(
    litellm: ModuleType, server: PickyServer, way: str, provider: str
) -> None:
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": 'say {"stream": true}'}],
        "extra_headers": {"X-Own": "1"},
        "extra_body": {"own": {"stream": False}},
        "stop": ["."],
    }
    before = deepcopy(given)

    ask(litellm, way, f"{provider}/plain", server.url, **given)

    assert given == before
    assert server.received[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.usefixtures("through_proxy")
@pytest.mark.parametrize("way", ["sync", "async"])
def test_baggage_goes_out_by_its_list_and_to_ones_own_servers_only(
    litellm: ModuleType, instrument: Callable[..., None], server: PickyServer, way: str
) -> None:
    instrument(OTEL_LLM_PROPAGATE_BAGGAGE="session.id, user.id")
    token = context.attach(baggage.set_baggage("session.id", "s-1", baggage.set_baggage("secret", "s")))
    try:
        ask(litellm, way, "openai/plain", server.url)
        ask(litellm, way, "openai/plain", PUBLIC)
    finally:
        context.detach(token)

    assert [added(received).get("baggage") for received in server.received] == ["session.id=s-1", None]


def test_each_attempt_of_a_router_is_told_apart(litellm: ModuleType, recording: Recording, server: PickyServer) -> None:
    def deployment(model: str) -> dict[str, Any]:
        arguments = {"model": f"hosted_vllm/{model}", "api_base": server.url, "api_key": "sk-test"}
        return {"model_name": model, "litellm_params": arguments}

    async def main() -> None:
        router = litellm.Router(
            [deployment("error500"), deployment("plain")], fallbacks=[{"error500": ["plain"]}], num_retries=0
        )
        try:
            await router.acompletion(model="error500", messages=[{"role": "user", "content": "hi"}])
        finally:
            await litellm.close_litellm_async_clients()
            forget_clients(litellm)

    forget_clients(litellm)
    asyncio.run(main())

    calls = {
        identity(span): span.attributes["gen_ai.request.model"]  # type: ignore[index]
        for span in recording.spans()
        if span.name.startswith("chat ")
    }
    sent = [(calls[added(received)["traceparent"]], received.json["model"]) for received in server.received]
    assert sent == [("error500", "error500"), ("plain", "plain")]


def test_every_retry_of_a_call_names_the_call(litellm: ModuleType, recording: Recording, server: PickyServer) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask(litellm, "sync", "openai/error500", server.url, max_retries=1)

    name = identity(recording.span())
    assert [added(received)["traceparent"] for received in server.received] == [name, name]


# Redirects


@every_way
@pytest.mark.usefixtures("through_proxy")
def test_a_redirect_to_a_foreign_server_carries_nothing_there(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str, provider: str
) -> None:
    server.elsewhere = "http://models.example/v1/chat/completions"

    ask(litellm, way, f"{provider}/moved", server.url)

    own, foreign = server.received
    assert added(own)["traceparent"] == identity(recording.span())
    assert (foreign.path, added(foreign)) == ("http://models.example/v1/chat/completions", {})
    assert "stream_options" not in foreign.json
    assert ("stream_options" in own.json) == ("stream" in way)


# Beside the instrumentation of HTTP


@every_way
def test_with_spans_of_http_the_server_is_told_the_one_inside_the_call(
    litellm: ModuleType, recording: Recording, server: PickyServer, way: str, provider: str
) -> None:
    instrumentors = (HTTPXClientInstrumentor(), AioHttpClientInstrumentor())
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=recording.tracer_provider, meter_provider=recording.meter_provider)
    try:
        ask(litellm, way, f"{provider}/plain", server.url)
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()

    http, call = recording.spans()
    assert (http.kind.name, call.name) == ("CLIENT", "chat plain")
    assert http.parent is not None
    assert http.parent.span_id == call.context.span_id
    assert added(server.received[0]) == {"traceparent": identity(http), "x-request-id": identity(call)}
