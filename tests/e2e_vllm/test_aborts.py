"""Requests given up are counted exactly, with their tokens, so that with the finished ones they are all vLLM has counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.engine import FinishReason
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.loggers import StatLoggerBase

from otel_llm import semconv
from tests.e2e_vllm.recorded import Recorded, recorded
from tests.e2e_vllm.scripted_core import ScriptedCore, delta, prompt, scripted, when, whole_reply

REQUESTS, TOKENS = semconv.VLLM_REQUESTS_ABORTED, semconv.VLLM_TOKENS_ABORTED


def counted(recording: Recorded, name: str) -> dict[tuple[str, ...], int]:
    """What a counter counted, by reason and, of tokens, by type."""
    data = recording.reader.get_metrics_data()
    return {
        tuple(
            str(attributes[key]) for key in ("otel_llm.abort.reason", "gen_ai.token.type") if key in attributes
        ): value
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
        for attributes, value in [(dict(point.attributes or {}), int(point.value))]  # type: ignore[union-attr]
    }


class Totals(StatLoggerBase):
    """What vLLM counts, by its own word: a stat logger of an application."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self.prompt = self.generated = self.steps = 0
        self.finished: list[Any] = []

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        if iteration_stats is not None:
            self.prompt += iteration_stats.num_prompt_tokens
            self.generated += iteration_stats.num_generation_tokens
            self.finished.extend(iteration_stats.finished_requests)
            self.steps += 1

    def log_engine_initialized(self) -> None:
        """Nothing to say."""


async def _taking(stream: Any) -> list[Any]:
    return [output async for output in stream]


async def _ids(core: ScriptedCore, count: int) -> list[str]:
    return [request.request_id for request in await core.arrived(count)]


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tokens_of_aborted_and_finished_requests_are_all_that_vllm_counted(model_dir: Path) -> None:
    made: list[Totals] = []

    def make(config: Any, engine_index: int) -> Totals:
        made.append(Totals(config, engine_index))
        return made[0]

    with recorded() as recording, scripted(model_dir, stat_loggers=[make]) as (engine, core):
        finished = asyncio.create_task(_taking(engine.generate(prompt(), delta(), "chatcmpl-finished")))
        one = (await _ids(core, 1))[0]
        dropped = asyncio.create_task(_taking(engine.generate(prompt(), delta(), "chatcmpl-dropped")))
        two = (await _ids(core, 2))[1]
        queued = asyncio.create_task(_taking(engine.generate(prompt(), delta(), "chatcmpl-queued")))
        await _ids(core, 3)
        several = asyncio.create_task(_taking(engine.generate(prompt(), whole_reply(n=2), "chatcmpl-several")))
        four, five = (await _ids(core, 5))[3:]

        core.step(one, two, four, five)
        core.step(two, four, tokens=3)
        core.step(four, finish=FinishReason.STOP)  # one choice ends, the other is given up with the request
        core.step(one, finish=FinishReason.LENGTH)
        await finished
        await when(lambda: made[0].generated == 12)
        await _cancelled(dropped)
        await _cancelled(queued)
        await engine.abort("chatcmpl-several")
        await several

        # What the engine puts out before it learns of it is nobody's, and vLLM does not count it either.
        steps = made[0].steps
        core.step(two, five)
        await when(lambda: made[0].steps == steps + 1)
        tokens = counted(recording, TOKENS)
        requests = counted(recording, REQUESTS)

    assert requests == {("cancelled",): 2, ("requested",): 1}
    assert tokens == {
        ("cancelled", "input"): 4,  # of the queued one nothing has been read
        ("cancelled", "output"): 4,
        ("requested", "input"): 4,
        ("requested", "output"): 1,
    }
    (totals,) = made
    read = sum(request.num_prompt_tokens for request in totals.finished)
    generated = sum(request.num_generation_tokens for request in totals.finished)
    aborted = {kind: sum(value for (_, one), value in tokens.items() if one == kind) for kind in ("input", "output")}
    assert (read + aborted["input"], generated + aborted["output"]) == (totals.prompt, totals.generated) == (16, 12)


async def test_a_reply_that_a_stop_string_ends_is_finished_and_not_aborted(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = asyncio.create_task(_taking(engine.generate(prompt(), delta(stop=[_text(engine)]), "chatcmpl-a")))
        (request_id,) = await _ids(core, 1)
        core.step(request_id, tokens=2)
        outputs = await reader
        await when(lambda: core.aborted)
        assert outputs[-1].outputs[0].finish_reason == "stop"
        assert core.aborted == [request_id]  # the engine alone is told
        assert counted(recording, REQUESTS) == {}

    (span,) = recording.spans()
    assert "otel_llm.abort.reason" not in (span.attributes or {})


async def test_an_exemplar_of_the_count_leads_to_the_request_s_span(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        reader = asyncio.create_task(_taking(engine.generate(prompt(), delta(), "chatcmpl-b")))
        await _ids(core, 1)
        await _cancelled(reader)
        data = recording.reader.get_metrics_data()

    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    (span,) = recording.spans()
    assert dict(point.attributes or {}) == {
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "otel_llm.abort.reason": "cancelled",
    }
    assert [exemplar.span_id for exemplar in point.exemplars] == [span.get_span_context().span_id]  # type: ignore[union-attr]


async def test_a_request_without_a_span_is_counted_as_well(model_dir: Path) -> None:
    """`add_request` is public; who calls it reads the queue himself."""
    with recorded() as recording, scripted(model_dir) as (engine, _):
        queue = await engine.add_request("own", prompt(), delta())
        await engine.abort(queue.request_id, internal=True)
        await engine.abort("nobody has this id")
        assert counted(recording, REQUESTS) == {("requested",): 1}
    assert recording.spans() == []


async def test_ids_may_come_as_whatever_can_be_iterated_once(model_dir: Path) -> None:
    with recorded() as recording, scripted(model_dir) as (engine, core):
        tasks = [
            asyncio.create_task(_taking(engine.generate(prompt(), delta(), f"chatcmpl-{number}"))) for number in "ab"
        ]
        known = await _ids(core, 2)
        assert sorted(
            engine.output_processor.abort_requests(iter(("chatcmpl-a", "chatcmpl-b")), internal=False)
        ) == sorted(known)
        await asyncio.gather(*tasks)
        assert counted(recording, REQUESTS) == {("requested",): 2}


def test_the_methods_come_back() -> None:
    before = (OutputProcessor.add_request, OutputProcessor.abort_requests)
    with recorded():
        assert before != (OutputProcessor.add_request, OutputProcessor.abort_requests)
    assert before == (OutputProcessor.add_request, OutputProcessor.abort_requests)


def _text(engine: Any) -> str:
    """What the core's one token reads as."""
    from tests.e2e_vllm.scripted_core import TOKEN

    return str(engine.get_tokenizer().decode([TOKEN])).strip()
