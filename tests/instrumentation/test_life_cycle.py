"""Putting on and taking off; import order; forks, exits, and the launcher with a real exporter."""

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from processes import ENVIRONMENT, Backend

from otel_llm.litellm import LiteLLMInstrumentor

HELLO = [{"role": "user", "content": "hi"}]
ENTRY_POINTS = (
    "completion",
    "acompletion",
    "main.Completions.create",
    "main.AsyncCompletions.create",
    "CustomStreamWrapper.__next__",
    "CustomStreamWrapper.__anext__",
    "CustomStreamWrapper.close",
    "CustomStreamWrapper.aclose",
    "chat_completions.dispatch.completion",
    "chat_completions.dispatch.acompletion",
)


def run(program: str, *, launcher: bool = False, **environment: str) -> str:
    """Run a program in a process of its own and return what it printed; anything on stderr fails the test."""
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument"))] if launcher else []
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(program)],
        env={**ENVIRONMENT, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def functions(litellm: ModuleType) -> dict[str, Any]:
    def look_up(path: str) -> Any:
        found: Any = litellm
        for name in path.split("."):
            found = getattr(found, name)
        return found

    return {path: look_up(path) for path in ENTRY_POINTS}


def test_taking_off_puts_back_every_function(litellm: ModuleType) -> None:
    before = functions(litellm)

    LiteLLMInstrumentor().instrument()
    on = functions(litellm)
    LiteLLMInstrumentor().uninstrument()

    assert not [path for path in before if on[path] is before[path]]
    assert functions(litellm) == before


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


SDK = """
    import os, sys
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    ended = []

    class Note(SpanProcessor):
        def on_end(self, span):
            ended.append(span)

    show = lambda span: f"{os.getpid() == MAIN} {dict(span.attributes)['otel_llm.stream.end']}\\n"
    MAIN = os.getpid()
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=show)))
    trace.get_tracer_provider().add_span_processor(Note())
    from otel_llm.litellm import LiteLLMInstrumentor
    LiteLLMInstrumentor().instrument()
    import litellm

    def ask():
        return litellm.completion("openai/gpt-4o", [], mock_response="hello", stream=True)
"""


def test_a_stream_open_at_exit_is_exported() -> None:
    assert run(SDK + "\n    stream = ask()\n    next(stream)") == "True exit"


def test_a_forked_child_records_its_own_streams_and_not_its_parent_s() -> None:
    """The parent's thread that ends abandoned streams does not exist in the child; the child's first stream starts one."""
    printed = run(
        SDK
        + """
    parents = ask()
    next(parents)
    child = os.fork()
    if child == 0:
        del parents
        litellm.disable_streaming_logging = True  # its thread pool does not survive a fork and would keep the stream
        own = ask()
        next(own)
        del own
        import gc, time
        deadline = time.monotonic() + 10
        while not ended and time.monotonic() < deadline:
            gc.collect()
        trace.get_tracer_provider().shutdown()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    """
    )
    assert printed.splitlines() == ["False abandoned", "True exit"]


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
