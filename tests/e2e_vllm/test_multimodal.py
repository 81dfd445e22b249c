"""Prompts with images, offline: what stands for an image is counted with the prompt, and nothing of it is recorded."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.sampling_params import BeamSearchParams

from tests.e2e_vllm.asked import attributes
from tests.e2e_vllm.model_multimodal import AROUND, IMAGE, IMAGE_TOKENS, data_url, multimodal_folder, picture
from tests.e2e_vllm.recorded import recorded

PARAMS = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
PROMPT = f"a lion {IMAGE} a tiger"


@pytest.fixture(scope="module")
def sees(offline: dict[str, Any]) -> Iterator[Any]:
    """The engine in this process, as vLLM runs it with VLLM_ENABLE_V1_MULTIPROCESSING=0: nothing of it spins beside us."""
    given = {**offline, "model": str(multimodal_folder()), "served_model_name": "tiny"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        engine = LLM(**given, distributed_executor_backend="uni", disable_log_stats=False)
    yield engine
    engine.llm_engine.engine_core.shutdown()


def showing(*reds: int) -> dict[str, Any]:
    """A prompt with an image of each colour."""
    return {"prompt": f"a lion {IMAGE * len(reds)} a tiger", "multi_modal_data": {"image": [*map(picture, reds)]}}


def chat(*reds: int) -> list[dict[str, Any]]:
    """The same as clients of a chat send it."""
    images = [{"type": "image_url", "image_url": {"url": data_url(red)}} for red in reds]
    return [{"role": "user", "content": [{"type": "text", "text": "a lion"}, *images]}]


def _enqueued(sees: Any) -> Any:
    sees.enqueue([showing(10)], PARAMS, use_tqdm=False)
    sees.enqueue_chat(chat(11), PARAMS, use_tqdm=False)
    return sees.wait_for_completion(use_tqdm=False)


CALLS: dict[str, tuple[Callable[[Any], Any], list[int]]] = {  # and how many images each request has
    "generate": (lambda sees: sees.generate(showing(1), PARAMS, use_tqdm=False), [1]),
    "several images": (lambda sees: sees.generate(showing(2, 3), PARAMS, use_tqdm=False), [2]),
    "with and without": (lambda sees: sees.generate([showing(4), "a bear"], PARAMS, use_tqdm=False), [1, 0]),
    "chat": (lambda sees: sees.chat(chat(5), PARAMS, use_tqdm=False), [1]),
    "several chats": (lambda sees: sees.chat([chat(6), chat(7, 8)], PARAMS, use_tqdm=False), [1, 2]),
    "enqueue": (_enqueued, [1, 1]),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_image_counts_as_the_tokens_that_stand_for_it_and_changes_no_reply(sees: Any, name: str) -> None:
    call, images = CALLS[name]
    bare = call(sees)
    with recorded() as recording:
        outputs = call(sees)

    told = sorted((attributes(span) for span in recording.requests()), key=lambda one: int(one["otel_llm.request.id"]))
    stand_ins = sees.get_tokenizer().convert_tokens_to_ids(IMAGE)
    assert [one.outputs[0].token_ids for one in outputs] == [one.outputs[0].token_ids for one in bare]
    assert [one["gen_ai.usage.input_tokens"] for one in told] == [len(one.prompt_token_ids) for one in outputs]
    assert [one.prompt_token_ids.count(stand_ins) for one in outputs] == [IMAGE_TOKENS * count for count in images]
    assert [one["gen_ai.usage.output_tokens"] for one in told] == [6] * len(images)
    assert [one["otel_llm.engine.prefill_time"] > 0 for one in told] == [True] * len(images)


def test_nothing_of_a_prompt_is_on_its_spans(sees: Any) -> None:
    with recorded() as recording:
        sees.generate(showing(1), PARAMS, use_tqdm=False)
        sees.chat(chat(1), PARAMS, use_tqdm=False)

    texts = [str(value) for span in recording.spans() for value in attributes(span).values()]
    events = [event for span in recording.spans() for event in span.events]
    assert [text for text in texts if len(text) > 40 or "lion" in text or "image" in text] == []
    assert events == []


def test_an_image_seen_before_is_cached_and_another_is_not(sees: Any) -> None:
    """The tokens that stand for them are the same."""
    many = showing(*[20] * 8)
    sees.generate(many, PARAMS, use_tqdm=False)
    with recorded() as recording:
        (again,) = sees.generate(many, PARAMS, use_tqdm=False)
        (other,) = sees.generate(showing(*[21] * 8), PARAMS, use_tqdm=False)

    told = [attributes(span)["gen_ai.usage.cache_read.input_tokens"] for span in recording.requests()]
    assert again.prompt_token_ids == other.prompt_token_ids
    assert told == [again.num_cached_tokens, other.num_cached_tokens]
    assert again.num_cached_tokens > other.num_cached_tokens == 0


def test_a_beam_search_counts_the_prompt_with_its_image_once(sees: Any) -> None:
    with recorded() as recording:
        (output,) = sees.beam_search([showing(30)], BeamSearchParams(beam_width=2, max_tokens=3, ignore_eos=True))

    (request,) = recording.requests()
    text = len(sees.get_tokenizer().encode(PROMPT)) - 1
    assert len(output.sequences) == 2
    assert attributes(request)["gen_ai.usage.input_tokens"] == text + IMAGE_TOKENS + AROUND
    assert attributes(request)["gen_ai.usage.output_tokens"] == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": PROMPT, "multi_modal_data": {"image": [picture(1), picture(2)]}},
        {"prompt": PROMPT, "multi_modal_data": {"video": "none"}},
        {"prompt": PROMPT, "multi_modal_data": {"image": "no image"}},
        {"prompt": PROMPT, "multi_modal_data": None},
        {"prompt_token_ids": [5, 6], "multi_modal_data": {"image": picture(1)}},
    ],
    ids=["more images than places", "a video", "a text for an image", "none", "token ids without a place"],
)
def test_what_vllm_says_to_images_it_cannot_take_stays(sees: Any, wrong: Any) -> None:
    def ask() -> Any:
        try:
            return [one.outputs[0].token_ids for one in sees.generate(wrong, PARAMS, use_tqdm=False)]
        except Exception as error:
            return type(error), str(error)

    bare = ask()
    with recorded() as recording:
        ours = ask()

    assert ours == bare
    error = bare[0].__qualname__ if isinstance(bare[0], type) else None
    assert attributes(recording.batch()).get("error.type") == error
