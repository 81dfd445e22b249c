"""What is read of vLLM's own classes: counts from token ids, phases from one clock, nothing where nothing was told."""

from typing import Any

import pytest
from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
from vllm.entrypoints.generate.beam_search.utils import BeamSearchOutput, BeamSearchSequence
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, EmbeddingOutput, EmbeddingRequestOutput, RequestError
from vllm.sampling_params import BeamSearchParams, StructuredOutputsParams
from vllm.v1.metrics.stats import RequestStateStats

from otel_llm.vllm.outputs import Facts, Phases, facts_of, phases_of, sum_of
from otel_llm.vllm.parameters import parameters_of

STATS = RequestStateStats(
    num_generation_tokens=5,
    num_preemptions=2,
    arrival_time=1_795_000_000.0,
    queued_ts=100.0,
    scheduled_ts=100.25,
    first_token_ts=101.0,
    last_token_ts=103.0,
    first_token_latency=1.125,
)


def choice(tokens: int, reason: str | None = "stop", index: int = 0) -> CompletionOutput:
    return CompletionOutput(index, "text", list(range(tokens)), None, None, finish_reason=reason)


def completed(*choices: CompletionOutput, **given: Any) -> RequestOutput:
    known: dict[str, Any] = {"prompt_token_ids": [1, 2, 3], "num_cached_tokens": 2, "num_cache_creation_tokens": 0}
    return RequestOutput("7", "a b c", prompt_logprobs=None, outputs=list(choices), finished=True, **{**known, **given})


def test_a_completion_with_several_choices_tells_a_reason_each_and_the_tokens_of_all() -> None:
    output = completed(
        choice(4, "stop"), choice(6, "length", 1), metrics=STATS, lora_request=LoRARequest("adapter", 1, "/adapter")
    )

    assert facts_of(output) == Facts(
        "7", 3, 10, 2, 0, ("stop", "length"), "adapter", Phases(0.25, 0.75, 2.0, 1.125, 1_795_000_000.0, 2)
    )


@pytest.mark.parametrize("word", ["stop", "length", "abort", "error", "repetition"])
def test_every_finish_reason_of_vllm_is_told_in_its_word(word: str) -> None:
    assert facts_of(completed(choice(1, word))).finish_reasons == (word,)


def test_a_choice_that_has_not_finished_tells_no_reason() -> None:
    assert facts_of(completed(choice(2, None))).finish_reasons == ()


def test_the_encoder_s_prompt_counts_as_input() -> None:
    assert facts_of(completed(choice(1), encoder_prompt_token_ids=[1] * 5)).input_tokens == 8


def test_without_statistics_no_phase_is_told() -> None:
    assert facts_of(completed(choice(1))).phases is None


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("queued_ts", Phases(None, 0.75, 2.0, 1.125, 1_795_000_000.0, 2)),
        ("scheduled_ts", Phases(None, None, 2.0, 1.125, 1_795_000_000.0, 2)),
        ("first_token_ts", Phases(0.25, None, None, 1.125, 1_795_000_000.0, 2)),
        ("last_token_ts", Phases(0.25, 0.75, None, 1.125, 1_795_000_000.0, 2)),
        ("first_token_latency", Phases(0.25, 0.75, 2.0, None, 1_795_000_000.0, 2)),
    ],
)
def test_a_timestamp_that_was_not_taken_leaves_out_the_phases_beside_it(missing: str, told: Phases) -> None:
    """A request that is aborted while it waits has none of the later ones: they are 0 then."""
    stats = RequestStateStats(**{**vars(STATS), missing: 0.0})

    assert phases_of(stats) == told


def test_statistics_just_begun_tell_nothing() -> None:
    assert phases_of(RequestStateStats()) == Phases()


def test_pooling_tells_its_prompt_and_no_output_tokens() -> None:
    output = PoolingRequestOutput("3", EmbeddingOutput([0.5]), [1, 2, 3, 4], 1, True)

    assert facts_of(output) == Facts("3", input_tokens=4, cached_tokens=1)
    assert facts_of(EmbeddingRequestOutput("3", EmbeddingOutput([0.5]), [1], 0, True)).input_tokens == 1


def test_a_request_that_failed_alone_tells_the_engine_s_word_for_it() -> None:
    output = PoolingRequestOutput(
        "3", EmbeddingOutput([]), [1], 0, True, error=RequestError("bad_mm_item", "what it was")
    )

    assert facts_of(output).error == "bad_mm_item"


def test_beams_count_the_prompt_once_and_what_each_adds() -> None:
    prompt: Any = {"type": "token", "prompt_token_ids": [1, 2, 3]}
    beams = [BeamSearchSequence(prompt, [1, 2, 3, *added], []) for added in ([4, 5], [4, 6, 7])]

    assert facts_of(BeamSearchOutput(beams)) == Facts(input_tokens=3, output_tokens=5)


def test_beams_after_an_encoder_count_the_decoder_s_prompt() -> None:
    prompt: Any = {"type": "enc_dec", "encoder_prompt": {}, "decoder_prompt": {"prompt_token_ids": [1]}}
    beam = BeamSearchSequence(prompt, [1, 9, 9], [], finish_reason="abort")

    assert facts_of(BeamSearchOutput([beam])) == Facts(input_tokens=1, output_tokens=2, finish_reasons=("abort",))


def test_sums_leave_unknown_what_nobody_told() -> None:
    told = [Facts("0", 3, 4, None), Facts("1", 5, None, None)]

    assert sum_of(told) == Facts(input_tokens=8, output_tokens=4)
    assert sum_of([]) == Facts()


def test_parameters_that_change_nothing_are_left_out() -> None:
    assert parameters_of(SamplingParams(max_tokens=None)) == {}
    assert parameters_of(PoolingParams()) == {}
    assert parameters_of(SamplingParams()) == {"gen_ai.request.max_tokens": 16}  # vLLM's own, which bounds the reply


def test_parameters_that_change_something_are_told_under_the_conventions_names() -> None:
    params = SamplingParams(
        n=2, temperature=0.5, top_p=0.9, top_k=40, max_tokens=32, seed=7, stop="END", presence_penalty=0.1,
        frequency_penalty=0.2, repetition_penalty=1.1, structured_outputs=StructuredOutputsParams(json_object=True),
    )  # fmt: skip

    assert parameters_of(params) == {
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 32,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.presence_penalty": 0.1,
        "gen_ai.request.frequency_penalty": 0.2,
        "otel_llm.request.repetition_penalty": 1.1,
        "gen_ai.output.type": "json",
    }


def test_a_temperature_of_zero_is_told() -> None:
    """Greedy decoding, the most common of all parameters."""
    assert parameters_of(SamplingParams(temperature=0))["gen_ai.request.temperature"] == 0


def test_beam_search_and_pooling_have_parameters_of_their_own() -> None:
    assert parameters_of(BeamSearchParams(beam_width=3, max_tokens=8)) == {
        "gen_ai.request.choice.count": 3,
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.temperature": 0.0,
    }
    assert parameters_of(PoolingParams(dimensions=64)) == {"gen_ai.embeddings.dimension.count": 64}
