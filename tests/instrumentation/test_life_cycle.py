"""Putting on and taking off; import order; event loops; the launcher with a real exporter."""

import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.programs import run
from instrumentation.recording import Recording, record
from processes import Backend

from otel_llm.litellm import LiteLLMInstrumentor

HELLO = [{"role": "user", "content": "hi"}]


def attributes() -> dict[str, Any]:
    """Every attribute of every module of LiteLLM, and of every class defined there."""
    found: dict[str, Any] = {}
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == "litellm":
            for owner in (module, *vars(module).copy().values()):
                if owner is module or (isinstance(owner, type) and owner.__module__ == name):
                    label = name if owner is module else f"{name}.{owner.__qualname__}"
                    found.update({f"{label}.{key}": value for key, value in vars(owner).items()})
    return found


def test_taking_off_puts_back_everything(litellm: ModuleType, server: OpenAIServer) -> None:
    """Also what is wrapped only when it is first seen, as the classes of streams are."""
    to = {"api_base": server.url, "api_key": "k", "max_retries": 0}

    def use() -> None:
        litellm.completion("openai/plain", HELLO, **to)
        list(litellm.completion("openai/plain", HELLO, stream=True, **to))
        list(litellm.text_completion(model="openai/plain", prompt="hi", stream=True, **to))

    use()  # whatever LiteLLM imports and caches at a first call
    LiteLLMInstrumentor().instrument()
    LiteLLMInstrumentor().uninstrument()  # whatever is imported to wrap it
    before = attributes()

    LiteLLMInstrumentor().instrument()
    use()
    on = attributes()
    LiteLLMInstrumentor().uninstrument()
    after = attributes()

    changed = {path for path, value in before.items() if callable(value) and on.get(path) is not value}
    assert {f"litellm.{name}" for name in ("completion", "acompletion")} <= changed
    assert not [path for path, value in before.items() if callable(value) and after.get(path) is not value]
    assert not [path for path in after.keys() - before.keys() if "otel_llm" in path]


def test_putting_on_twice_makes_one_span(litellm: ModuleType, recording: Recording) -> None:
    logging.disable()  # the base class warns
    LiteLLMInstrumentor().instrument()
    logging.disable(logging.NOTSET)

    litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")

    assert len(recording.spans()) == 1


def test_a_function_held_from_before_passes_through_when_off_and_records_when_on_again(
    litellm: ModuleType, recording: Recording
) -> None:
    held = litellm.completion
    LiteLLMInstrumentor().uninstrument()
    held("openai/gpt-4o", HELLO, mock_response="hello")
    assert recording.spans() == []

    LiteLLMInstrumentor().instrument(tracer_provider=recording.tracer_provider)
    held("openai/gpt-4o", HELLO, mock_response="hello")
    assert len(recording.spans()) == 1


def test_the_wrapper_of_another_instrumentor_is_left_alone_with_one_line(
    litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wrapt

    theirs = wrapt.FunctionWrapper(litellm.completion, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))
    monkeypatch.setattr(litellm, "completion", theirs)

    LiteLLMInstrumentor().instrument()
    try:
        assert litellm.completion is theirs
        assert caplog.messages == ["otel_llm: litellm.completion is already wrapped by other code and is left alone"]
    finally:
        LiteLLMInstrumentor().uninstrument()


def test_a_wrapper_around_ours_stays_and_ours_goes_silent(
    litellm: ModuleType, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = litellm.completion

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    monkeypatch.setattr(litellm, "completion", theirs)
    LiteLLMInstrumentor().uninstrument()

    assert litellm.completion is theirs
    litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")
    assert recording.spans() == []
    # the recording's own tear-down must not find the wrapper of this test
    monkeypatch.undo()
    litellm.completion = ours.__otel_llm_original__


def test_importing_the_package_imports_nothing_else() -> None:
    assert (
        run(
            """
        import sys
        before = set(sys.modules)
        import otel_llm
        print(*sorted(set(sys.modules) - before - {"otel_llm"}))
        """
        )
        == ""
    )


def test_a_process_without_litellm_pays_nothing_and_one_that_imports_it_later_is_instrumented() -> None:
    assert (
        run(
            """
        import sys
        from otel_llm.litellm import LiteLLMInstrumentor

        LiteLLMInstrumentor().instrument()
        heavy = [name for name in ("litellm", "vllm", "psutil", "opentelemetry.sdk", "otel_agent") if name in sys.modules]
        import threading
        print(threading.active_count() - 1, heavy, "otel_llm.litellm.patch" in sys.modules, end=" ")
        import litellm
        print(hasattr(litellm.completion, "__otel_llm_original__"))
        """
        )
        == "0 [] False True"
    )


def test_anyio_s_cancel_scopes_and_threads(litellm: ModuleType, server: OpenAIServer, recording: Recording) -> None:
    """On asyncio: LiteLLM's async transport knows no other loop."""
    anyio = pytest.importorskip("anyio", reason="comes with LiteLLM's HTTP client")
    tracer = recording.tracer_provider.get_tracer("application")
    to = {"api_base": server.url, "api_key": "k", "max_retries": 0}

    async def main() -> None:
        with tracer.start_as_current_span("request"):
            with anyio.move_on_after(0.2) as scope:
                await litellm.acompletion("openai/hang", HELLO, **to)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(lambda: litellm.acompletion("openai/plain", HELLO, **to))
            await anyio.to_thread.run_sync(lambda: litellm.completion("openai/plain", HELLO, **to))
        await litellm.close_litellm_async_clients()

    anyio.run(main)

    spans = recording.spans()
    (request,) = (span for span in spans if span.name == "request")
    calls = [span for span in spans if span is not request]
    assert {span.parent.span_id for span in calls if span.parent is not None} == {request.context.span_id}
    assert sorted((span.name, (span.attributes or {}).get("error.type")) for span in calls if "hang" in span.name) == [
        ("chat hang", "CancelledError")
    ]
    assert [span.name for span in calls].count("chat plain") == 4


@pytest.fixture
def backend() -> Iterator[Backend]:
    running = Backend()
    yield running
    running.close()


APPLICATION = """
    import asyncio, logging, os
    import litellm
    from opentelemetry import trace

    arguments = {
        "model": "hosted_vllm/plain",
        "messages": [{"role": "user", "content": "hi"}],
        "api_base": os.environ["SERVER"],
        "api_key": "k",
    }
    log = logging.getLogger("application")

    class Callback(litellm.integrations.custom_logger.CustomLogger):
        def log_pre_api_call(self, model, messages, kwargs):
            log.warning("during")

    litellm.callbacks = [Callback()]

    async def main():
        await litellm.acompletion(**arguments)
        async for _ in await litellm.acompletion(**arguments, stream=True):
            pass
        await litellm.close_litellm_async_clients()

    with trace.get_tracer("application").start_as_current_span("application"):
        log.warning("before")
        litellm.completion(**arguments)
        for _ in litellm.completion(**arguments, stream=True):
            pass
        asyncio.run(main())
"""


def test_the_launcher_alone_gives_one_trace_with_http_spans_and_log_lines_below_the_calls(
    server: OpenAIServer, backend: Backend
) -> None:
    """No line of the application knows of this package; sync calls go by httpx, async ones by aiohttp."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    server.requests.clear()
    run(
        APPLICATION,
        launcher=True,
        SERVER=server.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=backend.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
    )

    spans = [
        span
        for path, body in backend.sent
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    names = {span.span_id: span.name for span in spans}
    tree = sorted((names.get(span.parent_span_id, ""), span.name) for span in spans)
    calls = ["chat plain"] * 4
    assert sorted([("", "application"), *(("application", call) for call in calls), *((call, "POST") for call in calls)]
                  ) == tree  # fmt: skip
    assert len({span.trace_id for span in spans}) == 1
    sent = [request["headers"]["traceparent"] for request in server.requests]
    assert {span.span_id.hex() for span in spans if span.name == "POST"} == {header.split("-")[2] for header in sent}

    lines = [
        (record.body.string_value, names[record.span_id])
        for path, body in backend.sent
        if path == "/v1/logs"
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if scope.scope.name == "application"
    ]
    assert [("before", "application"), *[("during", "chat plain")] * 4] == lines
    exported = {
        metric.name
        for request in backend.metrics()
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "otel_llm.litellm"
        for metric in scope.metrics
    }
    assert {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
    } == exported


@pytest.mark.parametrize(
    ("found", "warned"), [("1.110.0", True), ("2.3", True), ("1.109.7", False), ("1.106.2", False)]
)
def test_a_litellm_newer_than_tested_is_instrumented_with_one_warning(
    litellm: ModuleType,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: str,
    warned: bool,
) -> None:
    monkeypatch.setattr("otel_llm.versions.version", lambda package: found if package == "litellm" else "1")
    with record() as recording:
        litellm.completion("openai/plain", [{"role": "user", "content": "hi"}], api_base=server.url, api_key="k")
        assert recording.span().name == "chat plain"

    said = [message for message in caplog.messages if "newer than the newest one tested" in message]
    assert len(said) == warned
