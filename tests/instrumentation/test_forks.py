"""Processes that fork, spawn and exit: each records its own calls, once."""

import textwrap
from pathlib import Path

from instrumentation.programs import run

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


CALLS = """
    import asyncio

    HELLO = [{"role": "user", "content": "hi"}]

    def calls():
        litellm.completion("openai/gpt-4o", HELLO, mock_response="hello")
        for _ in litellm.completion("openai/gpt-4o", HELLO, mock_response="hello", stream=True):
            pass

        async def main():
            await litellm.acompletion("openai/gpt-4o", HELLO, mock_response="hello")
            async for _ in await litellm.acompletion("openai/gpt-4o", HELLO, mock_response="hello", stream=True):
                pass

        asyncio.run(main())
"""


def test_workers_forked_by_a_server_record_each_their_own_calls() -> None:
    """As gunicorn does with `preload_app`: everything set up and used once before the fork, then workers that live on."""
    printed = run(
        SDK.replace("formatter=show", 'formatter=lambda span: f"{os.getpid() == MAIN} {span.name}\\n"')
        + CALLS
        + """
    litellm.disable_streaming_logging = True
    calls()
    trace.get_tracer_provider().force_flush()
    sys.stdout.flush()
    for _ in range(2):
        if os.fork() == 0:
            calls()
            trace.get_tracer_provider().force_flush()
            sys.stdout.flush()
            os._exit(0)
    for _ in range(2):
        assert os.wait()[1] == 0
    """
    )
    assert sorted(printed.splitlines()) == ["False chat gpt-4o"] * 8 + ["True chat gpt-4o"] * 4


def test_a_multiprocessing_pool_records_in_its_workers() -> None:
    printed = run(
        SDK.replace("formatter=show", 'formatter=lambda span: f"{os.getpid() == MAIN} {span.name}\\n"')
        + CALLS
        + """
    def work(_):
        calls()
        trace.get_tracer_provider().force_flush()
        sys.stdout.flush()
        return os.getpid()

    import multiprocessing
    litellm.disable_streaming_logging = True
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pids = pool.map(work, range(2), chunksize=1)
    assert os.getpid() not in pids
    """
    )
    assert printed.splitlines() == ["False chat gpt-4o"] * 8


def test_a_spawned_worker_is_instrumented_by_its_own_instrument_call(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(textwrap.dedent(SDK.replace("formatter=show", "formatter=lambda span: span.name + chr(10)") + CALLS + """
    def work():
        calls()
        trace.get_tracer_provider().force_flush()

    if __name__ == "__main__":
        import multiprocessing
        worker = multiprocessing.get_context("spawn").Process(target=work)
        worker.start()
        worker.join(100)
        sys.exit(worker.exitcode)
    """))  # fmt: skip
    assert run(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')") == "\n".join(["chat gpt-4o"] * 4)
