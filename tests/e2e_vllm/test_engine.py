"""`AsyncLLM` with the real front end of vLLM over a scripted core: what a request records."""

import asyncio
import gc
import inspect
from pathlib import Path

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from vllm import PoolingParams
from vllm.v1.engine import FinishReason
from vllm.v1.engine.async_llm import AsyncLLM

from tests.e2e_vllm.engine_asking import Reader, attributes, of, steps, streamed, used
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_core import TOKEN, delta, prompt, scripted, whole_reply


async def test_a_stream_is_one_span_with_tokens_finish_reason_and_phases(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(temperature=0.5), "chatcmpl-a"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 3, finish=FinishReason.LENGTH)
        await reader.task

    (span,) = recording.spans()
    assert [output.outputs[0].token_ids for output in reader.outputs] == [[TOKEN]] * 3
    assert (span.name, span.kind, span.status.status_code) == ("chat tiny", SpanKind.INTERNAL, StatusCode.UNSET)
    assert attributes(span) == of(
        "chat", "chatcmpl-a",
        **{"gen_ai.request.max_tokens": 8, "gen_ai.request.temperature": 0.5},
        **streamed(3), **used(3, decode_s=0.5), **{"gen_ai.response.finish_reasons": ("length",)},
    )  # fmt: skip


async def test_a_plain_call_of_several_choices_has_the_sum_and_every_reason(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), whole_reply(n=2), "cmpl-b-0"))
        first, second = [request.request_id for request in await core.arrived(2)]
        core.now += 1
        core.step(first, second, cached=2)
        core.now += 0.25
        core.step(first, tokens=2, finish=FinishReason.LENGTH)
        core.now += 0.25
        core.step(second, tokens=1, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert attributes(span) == of(
        "text_completion", "cmpl-b-0", **{"gen_ai.request.max_tokens": 8, "gen_ai.request.choice.count": 2},
        **used(5, cached=2, decode_s=0.5), **{"gen_ai.response.finish_reasons": ("length", "stop")},
    )  # fmt: skip


async def test_a_stream_of_several_choices_has_the_reason_of_each(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(n=2), "mine"))
        first, second = [request.request_id for request in await core.arrived(2)]
        core.now += 1
        core.step(first, second)
        await reader.took(1)
        core.step(first, finish=FinishReason.LENGTH)
        await reader.took(2)
        core.step(second, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("length", "stop")
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 4


async def test_pooling_is_a_span_with_the_prompt_s_tokens_and_no_others(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir, runner="pooling") as (engine, core):
        reader = Reader(engine.encode(prompt(), PoolingParams(task="embed"), "e-1"))
        (request,) = await core.arrived()
        core.now += 1
        core.step(request.request_id, tokens=0, finish=FinishReason.STOP)
        await reader.task

    (span,) = recording.spans()
    expected = of("embeddings", "e-1", **used(0))
    for generating in (
        "gen_ai.usage.output_tokens",
        "otel_llm.engine.generation_time",
        "otel_llm.engine.time_to_first_token",
    ):
        del expected[generating]
    assert (span.name, attributes(span)) == ("embeddings tiny", expected)


async def test_without_statistics_tokens_are_known_and_times_of_the_engine_are_not(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "none")  # vLLM keeps statistics wherever a plug-in wants them
    with recorded() as recording, scripted(model_dir, log_stats=False) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-c"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 2, finish=FinishReason.LENGTH)
        await reader.task

    (span,) = recording.spans()
    assert attributes(span) == of(
        "chat", "chatcmpl-c", **{"gen_ai.request.max_tokens": 8}, **streamed(2),
        **{name: value for name, value in used(2).items() if not name.startswith("otel_llm.engine.")},
        **{"gen_ai.response.finish_reasons": ("length",)},
    )  # fmt: skip


async def test_suppressed_and_unsampled_requests_run_and_record_nothing(model_dir: Path) -> None:
    for sampler, suppressed in ((None, True), (ALWAYS_OFF, False)):
        with recorded(**({"sampler": sampler} if sampler else {})) as recording, scripted(model_dir) as (engine, core):
            if suppressed:
                with suppress_instrumentation():
                    reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-l"))
            else:
                reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-l"))
            (request,) = await core.arrived()
            core.step(request.request_id, finish=FinishReason.STOP)
            await reader.task
            assert len(reader.outputs) == 1
        assert recording.spans() == []


async def test_a_generator_never_iterated_asks_nothing_and_records_nothing(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        engine.generate(prompt(), delta(), "chatcmpl-m")
        gc.collect()
        await asyncio.sleep(0)
        assert core.added == []
    assert recording.spans() == []


async def test_phases_are_spans_where_that_is_asked_for(model_dir: Path) -> None:
    with recorded(OTEL_LLM_VLLM_PHASES="spans") as recording, scripted(model_dir) as (engine, core):
        reader = Reader(engine.generate(prompt(), delta(), "chatcmpl-n"))
        (request,) = await core.arrived()
        await steps(core, reader, request.request_id, 2, finish=FinishReason.LENGTH)
        await reader.task

    assert [span.name for span in recording.spans()] == ["queue", "prefill", "decode", "chat tiny"]


def test_the_methods_stay_what_they_were_and_come_back() -> None:
    before = {name: getattr(AsyncLLM, name) for name in ("generate", "encode", "add_request", "_run_output_handler")}
    with recorded():
        for name, original in before.items():
            wrapped = getattr(AsyncLLM, name)
            assert inspect.signature(wrapped) == inspect.signature(original)
            assert inspect.isasyncgenfunction(wrapped) is inspect.isasyncgenfunction(original)
            assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__) == (
                name,
                original.__qualname__,
                original.__doc__,
            )
    assert before == {name: getattr(AsyncLLM, name) for name in before}
