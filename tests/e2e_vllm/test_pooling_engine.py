"""Models that judge instead of write: classes, scores of pairs, and `AsyncLLM.encode` called by an application itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from vllm import LLM, PoolingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

from tests.e2e_vllm.asked import attributes
from tests.e2e_vllm.recorded import Recorded, recorded

FOX, LION, TIGER = "the quick brown fox", "a lion", "a tiger and a bear"
TIMES = {"otel_llm.engine.queue_time", "otel_llm.engine.prefill_time"}
JUDGE: dict[str, Any] = {
    "runner": "pooling",
    "convert": "classify",
    "hf_overrides": {"num_labels": 1},  # with one class, vLLM scores pairs by the model, not by two embeddings
    "served_model_name": "tiny",
}


@pytest.fixture(scope="module")
def judge(offline: dict[str, Any]) -> Iterator[Any]:
    """The engine in this process, as vLLM runs it with VLLM_ENABLE_V1_MULTIPROCESSING=0: nothing of it spins beside us."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        engine = LLM(**offline, **JUDGE, distributed_executor_backend="uni", disable_log_stats=False)
    yield engine
    engine.llm_engine.engine_core.shutdown()


def told_of(recording: Recorded, outputs: Any) -> None:
    """The requests' spans tell what the outputs say, each prompt once."""
    told = [attributes(span) for span in recording.requests()]
    assert [one["gen_ai.usage.input_tokens"] for one in told] == [len(one.prompt_token_ids) for one in outputs]
    assert {name for one in told for name in one if "output" in name} == set()
    assert attributes(recording.batch())["otel_llm.batch.size"] == len(outputs)
    assert attributes(recording.batch())["otel_llm.batch.input_tokens"] == sum(
        one["gen_ai.usage.input_tokens"] for one in told
    )
    assert recording.counts() == {"gen_ai.client.token.usage": 1, "gen_ai.client.operation.duration": 1}


def test_a_classification_is_a_batch_of_prompts(judge: Any) -> None:
    with recorded() as recording:
        outputs = judge.classify([FOX, LION], use_tqdm=False)

    assert [len(output.outputs.probs) for output in outputs] == [1, 1]
    assert {span.name for span in recording.spans()} == {"classify tiny"}
    told_of(recording, outputs)


def test_a_score_by_the_model_is_a_request_for_each_pair(judge: Any) -> None:
    with recorded() as recording:
        outputs = judge.score(FOX, [LION, TIGER], use_tqdm=False)

    assert len(outputs) == 2
    assert {span.name for span in recording.spans()} == {"score tiny"}
    told_of(recording, outputs)


def test_encode_for_classes_is_a_classification(judge: Any) -> None:
    with recorded() as recording:
        outputs = judge.encode([FOX, LION, TIGER], pooling_task="classify", use_tqdm=False)

    assert {span.name for span in recording.spans()} == {"classify tiny"}
    told_of(recording, outputs)


def test_statistics_tell_when_it_waited_and_when_it_was_computed_and_of_nothing_that_was_generated(judge: Any) -> None:
    with recorded(OTEL_LLM_VLLM_PHASES="spans") as recording:
        judge.classify([FOX, LION], use_tqdm=False)

    for request in recording.requests():
        told = attributes(request)
        assert {name for name in told if "engine" in name} == TIMES
        assert told["otel_llm.engine.prefill_time"] > 0
        queue, prefill = recording.phases(request)
        assert (queue.name, prefill.name) == ("queue", "prefill")
        assert (request.start_time or 0) <= (queue.start_time or 0)
        assert queue.end_time == prefill.start_time
        assert (prefill.end_time or 0) <= (request.end_time or 0)


def test_what_the_model_cannot_do_fails_as_it_does_without_us(judge: Any) -> None:
    with pytest.raises(Exception) as bare:
        judge.embed(FOX, use_tqdm=False)
    with recorded() as recording, pytest.raises(type(bare.value)) as ours:
        judge.embed(FOX, use_tqdm=False)

    assert str(ours.value) == str(bare.value)
    assert attributes(recording.batch())["error.type"] == type(bare.value).__qualname__


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(offline: dict[str, Any]) -> AsyncIterator[AsyncLLM]:
    made = AsyncLLM.from_engine_args(AsyncEngineArgs(**offline, **JUDGE))
    yield made
    made.shutdown()


@pytest.mark.asyncio(loop_scope="module")
async def test_encode_of_the_asynchronous_engine_is_a_span_below_the_caller_s(engine: AsyncLLM) -> None:
    current, outputs = set(), []
    with (
        recorded() as recording,
        recording.tracer_provider.get_tracer("application").start_as_current_span("ask") as asking,
    ):
        async for output in engine.encode(FOX, PoolingParams(task="classify"), "mine"):
            current.add(trace.get_current_span())
            outputs.append(output)

    (span,) = recording.spans()
    told = attributes(span)
    assert current == {asking}
    assert span.parent == asking.get_span_context()
    assert (span.name, span.kind, span.status.status_code) == ("classify tiny", SpanKind.INTERNAL, StatusCode.UNSET)
    assert told["gen_ai.usage.input_tokens"] == len(outputs[0].prompt_token_ids)
    # It was queued and computed; it has no first token, and nothing was decoded.
    assert {name for name in told if "output" in name or "chunk" in name} == set()
    assert {name for name in told if "engine" in name} == TIMES
    assert told["otel_llm.engine.prefill_time"] > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_of_encodes_at_the_same_time_one_runs_to_its_end_and_the_others_are_given_up(engine: AsyncLLM) -> None:
    async def ask(name: str) -> None:
        params = PoolingParams(task="classify")
        async for _ in engine.encode({"prompt_token_ids": [5] * 8000}, params, name):
            pass

    names = ("read", "cancelled", "aborted")
    with recorded() as recording:
        tasks = [asyncio.create_task(ask(name)) for name in names]
        async with asyncio.timeout(30):
            while len(engine.output_processor.request_states) < len(names):  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0)
        tasks[1].cancel()
        await engine.abort("aborted")
        ended = await asyncio.gather(*tasks, return_exceptions=True)

    told = {str(one["otel_llm.request.id"]): one for one in map(attributes, recording.spans())}
    assert [type(one) for one in ended] == [type(None), asyncio.CancelledError, type(None)]
    assert {name: told[name].get("otel_llm.abort.reason") for name in names} == {
        "read": None, "cancelled": "cancelled", "aborted": "requested"
    }  # fmt: skip
    assert {name: told[name].get("error.type") for name in names} == {
        "read": None, "cancelled": "CancelledError", "aborted": None
    }  # fmt: skip
    assert [told[name]["gen_ai.usage.input_tokens"] for name in names] == [8000] * 3
