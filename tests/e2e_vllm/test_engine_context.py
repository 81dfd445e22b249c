"""Whose span is current while `AsyncLLM` works, and which span a request is below: the caller's, or the one its headers name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.trace import get_current_span
from vllm import PoolingParams
from vllm.v1.engine import FinishReason

from tests.e2e_vllm.engine_asking import CLIENT, Reader
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_core import delta, prompt, scripted


async def test_the_span_is_current_for_the_front_end_and_never_for_the_consumer(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        seen: list[Any] = []
        add = core.add_request_async

        async def noting(request: Any) -> None:
            seen.append(get_current_span().get_span_context().span_id)
            await add(request)

        core.add_request_async = noting  # type: ignore[method-assign]
        with recording.tracer_provider.get_tracer("test").start_as_current_span("handler") as handler:
            outside = []
            stream = engine.generate(prompt(), delta(), "chatcmpl-g")
            first = asyncio.ensure_future(anext(stream))
            (request,) = await core.arrived()
            core.step(request.request_id)
            await first
            outside.append(get_current_span())
            core.step(request.request_id, finish=FinishReason.STOP)
            outside.extend([get_current_span() async for _ in stream])

    (span,) = recording.spans()
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert [span.get_span_context().span_id] == seen  # type: ignore[union-attr]
    assert outside == [handler] * 2


async def test_the_task_that_takes_in_all_outputs_carries_no_request_s_context(model_dir: Path) -> None:
    """vLLM starts it with the first request, where the engine was made outside a loop; it lives as long as the engine."""
    making = scripted(model_dir)
    with recorded() as recording:
        engine, core = await asyncio.to_thread(making.__enter__)  # a thread has no running loop
        seen: list[Any] = []
        get = core.get_output_async

        async def noting() -> Any:
            seen.append(get_current_span())
            return await get()

        core.get_output_async = noting  # type: ignore[method-assign]
        with recording.tracer_provider.get_tracer("test").start_as_current_span("handler"):
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-h"))
            (request,) = await core.arrived()
            core.step(request.request_id, finish=FinishReason.STOP)
            await reader.task
        making.__exit__(None, None, None)

    assert seen
    assert set(seen) == {trace.INVALID_SPAN}


async def test_where_no_span_is_current_the_one_the_headers_name_is_the_parent(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-i", trace_headers={"traceparent": CLIENT}))
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task
        assert request.trace_headers is None  # its own tracing is off: there is nothing to warn of

    (span,) = recording.spans()
    assert (span.parent.trace_id, span.parent.span_id) == (0xA, 0xB)  # type: ignore[union-attr]


async def test_a_current_span_of_another_trace_is_the_parent_and_the_named_one_a_link(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        tracer = recording.tracer_provider.get_tracer("test")
        with tracer.start_as_current_span("handler") as handler:
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-j", trace_headers={"traceparent": CLIENT}))
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert [link.context.span_id for link in span.links] == [0xB]


@pytest.mark.parametrize("by_position", [False, True])
async def test_where_vllm_traces_our_span_is_the_parent_of_its_own(model_dir: Path, by_position: bool) -> None:
    with recorded() as recording, scripted(model_dir, runner="pooling") as (engine, core):
        engine.observability_config.otlp_traces_endpoint = "http://127.0.0.1:1"  # as --otlp-traces-endpoint sets it
        params = PoolingParams(task="embed")
        if by_position:
            reader = Reader(engine.encode(prompt(), params, "embd-a", None, {"traceparent": CLIENT}))
        else:
            reader = Reader(engine.encode(prompt(), params, "embd-a"))
        (request,) = await core.arrived()
        core.step(request.request_id, tokens=0, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    context = span.get_span_context()
    assert context is not None
    assert list(request.trace_headers) == ["traceparent"]
    assert request.trace_headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_baggage_that_was_asked_for_is_on_the_span(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        token = attach(set_baggage("secret", "no", set_baggage("session.id", "s-1")))
        try:
            reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-k"))
        finally:
            detach(token)
        (request,) = await core.arrived()
        core.step(request.request_id, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert (span.attributes or {})["session.id"] == "s-1"
    assert "secret" not in (span.attributes or {})
