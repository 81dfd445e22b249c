"""The offline API with a real engine: counts that are those of the outputs, times that are those of the engine."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from vllm import LLM, PoolingParams, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import BeamSearchParams

from tests.e2e_vllm.asked import attributes
from tests.e2e_vllm.model import MAX_TOKENS
from tests.e2e_vllm.recorded import Recorded, recorded

PARAMS = SamplingParams(max_tokens=8, temperature=0.5, seed=1, ignore_eos=True)
CHAT = [{"role": "user", "content": "the quick brown fox"}]


@pytest.fixture(scope="module")
def pooling(offline: dict[str, Any]) -> Iterator[Any]:
    """The same model for embeddings and scores; without statistics, as vLLM has it by default."""
    engine = LLM(**offline, runner="pooling", served_model_name="tiny")
    yield engine
    engine.llm_engine.engine_core.shutdown()


def counted(recording: Recorded) -> tuple[int, int]:
    batch = attributes(recording.batch())
    return batch["otel_llm.batch.input_tokens"], batch.get("otel_llm.batch.output_tokens", 0)


def test_counts_are_those_of_the_outputs_token_ids(llm: Any) -> None:
    params = SamplingParams(n=2, max_tokens=8, temperature=0.5, seed=1, ignore_eos=True)
    with recorded() as recording:
        outputs = llm.generate(["the quick brown fox", {"prompt_token_ids": [5, 6, 7]}], params, use_tqdm=False)

    told = [attributes(span) for span in sorted(recording.requests(), key=lambda span: span.start_time or 0)]
    assert [one["gen_ai.usage.input_tokens"] for one in told] == [len(one.prompt_token_ids) for one in outputs]
    assert [one["gen_ai.usage.output_tokens"] for one in told] == [16, 16]
    assert [one["gen_ai.response.finish_reasons"] for one in told] == [("length", "length")] * 2
    assert [one["otel_llm.request.id"] for one in told] == [one.request_id for one in outputs]
    assert counted(recording) == (sum(len(one.prompt_token_ids) for one in outputs), 32)


def test_a_prompt_seen_before_is_told_as_cached(llm: Any) -> None:
    prompt = {"prompt_token_ids": list(range(3, 150))}
    llm.generate(prompt, PARAMS, use_tqdm=False)
    with recorded() as recording:
        (output,) = llm.generate(prompt, PARAMS, use_tqdm=False)

    (request,) = recording.requests()
    assert output.num_cached_tokens > 0
    assert attributes(request)["gen_ai.usage.cache_read.input_tokens"] == output.num_cached_tokens


def test_phases_are_the_engine_s_and_their_spans_follow_each_other_within_the_request(llm: Any) -> None:
    with recorded(OTEL_LLM_VLLM_PHASES="spans") as recording:
        (output,) = llm.chat(CHAT, PARAMS, use_tqdm=False)

    stats = output.metrics
    (request,) = [span for span in recording.requests() if span.name.startswith("chat")]
    told = attributes(request)
    assert told["otel_llm.engine.queue_time"] == stats.scheduled_ts - stats.queued_ts
    assert told["otel_llm.engine.prefill_time"] == stats.first_token_ts - stats.scheduled_ts
    assert told["otel_llm.engine.generation_time"] == stats.last_token_ts - stats.first_token_ts
    assert told["otel_llm.engine.time_to_first_token"] == stats.first_token_latency

    queue, prefill, decode = recording.phases(request)
    assert [span.name for span in (queue, prefill, decode)] == ["queue", "prefill", "decode"]
    assert (request.start_time or 0) <= (queue.start_time or 0)
    assert queue.end_time == prefill.start_time
    assert prefill.end_time == decode.start_time
    assert (decode.end_time or 0) <= (request.end_time or 0)
    assert _seconds(prefill) == pytest.approx(told["otel_llm.engine.prefill_time"], abs=1e-6)
    assert _seconds(decode) == pytest.approx(told["otel_llm.engine.generation_time"], abs=1e-6)


def _seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def test_beam_search_is_one_request_a_prompt_however_many_the_engine_makes_of_it(llm: Any) -> None:
    with recorded() as recording:
        (output,) = llm.beam_search(
            ["the quick brown fox"], BeamSearchParams(beam_width=2, max_tokens=4, ignore_eos=True)
        )

    batch, (request,) = recording.batch(), recording.requests()
    assert len(output.sequences) == 2
    assert attributes(batch)["otel_llm.batch.size"] == 1
    assert attributes(batch)["gen_ai.request.choice.count"] == 2
    assert attributes(request)["gen_ai.usage.output_tokens"] == 8
    prompt = len(output.sequences[0].tokens) - 4
    assert attributes(request)["gen_ai.usage.input_tokens"] == prompt


def test_what_was_enqueued_begins_when_it_was_added(llm: Any) -> None:
    with recorded() as recording:
        llm.enqueue(["a lion", "a tiger"], PARAMS, use_tqdm=False)
        llm.enqueue_chat(CHAT, PARAMS, use_tqdm=False)
        outputs = llm.wait_for_completion(use_tqdm=False)

    enqueue, enqueue_chat, *requests, wait = recording.spans()
    assert len(outputs) == len(requests) == 3
    assert sorted(span.name.split()[0] for span in requests) == ["chat", "text_completion", "text_completion"]
    assert all((span.start_time or 0) < (wait.start_time or 0) for span in requests)
    assert [link.context for link in wait.links] == [enqueue.get_span_context(), enqueue_chat.get_span_context()]


def test_a_prompt_too_long_fails_as_it_does_without_us(llm: Any) -> None:
    with pytest.raises(VLLMValidationError, match="maximum context length") as bare:
        llm.generate({"prompt_token_ids": [5] * 2 * MAX_TOKENS}, PARAMS, use_tqdm=False)
    with recorded() as recording, pytest.raises(VLLMValidationError, match="maximum context length") as ours:
        llm.generate({"prompt_token_ids": [5] * 2 * MAX_TOKENS}, PARAMS, use_tqdm=False)

    assert (type(ours.value), str(ours.value)) == (type(bare.value), str(bare.value))
    assert attributes(recording.batch())["error.type"] == type(bare.value).__qualname__


def test_embeddings_count_their_prompts(pooling: Any) -> None:
    with recorded() as recording:
        outputs = pooling.embed(["the quick brown fox", "a lion"], use_tqdm=False)

    told = [attributes(span) for span in recording.requests()]
    assert {span.name for span in recording.spans()} == {"embeddings tiny"}
    assert [one["gen_ai.usage.input_tokens"] for one in told] == [len(one.prompt_token_ids) for one in outputs]
    assert [name for one in told for name in one if "output" in name or "engine" in name] == []
    assert recording.counts() == {"gen_ai.client.token.usage": 1, "gen_ai.client.operation.duration": 1}


def test_encode_is_what_its_task_is(pooling: Any) -> None:
    with recorded() as recording:
        pooling.encode("a lion", PoolingParams(), pooling_task="embed", use_tqdm=False)

    assert {span.name for span in recording.spans()} == {"embeddings tiny"}


def test_a_query_scored_against_many_is_counted_once_as_the_engine_ran_it(pooling: Any) -> None:
    """vLLM hands over a result for each pair, with the query's tokens in every one of them."""
    with recorded() as recording:
        results = pooling.score("the quick brown fox", ["a lion", "a tiger", "a bear"], use_tqdm=False)

    assert {span.name for span in recording.spans()} == {"score tiny"}
    assert len(results) == 3
    assert attributes(recording.batch())["otel_llm.batch.size"] == 4
    assert counted(recording)[0] < sum(len(result.prompt_token_ids) for result in results)
    assert counted(recording)[0] == sum(attributes(span)["gen_ai.usage.input_tokens"] for span in recording.requests())
