"""`AsyncLLM` as an application without a server calls it: a real engine, a model that sees, and whatever a consumer may do."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from tests.e2e_vllm.asked import attributes
from tests.e2e_vllm.model import MAX_TOKENS
from tests.e2e_vllm.model_multimodal import AROUND, IMAGE, IMAGE_TOKENS, multimodal_folder, picture
from tests.e2e_vllm.recorded import Recorded, recorded
from tests.e2e_vllm.scripted_core import delta, whole_reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "the quick brown fox"
LONG = {"max_tokens": 8000, "ignore_eos": True}  # so long that a consumer can leave in the middle
SHORT = {"max_tokens": 6, "ignore_eos": True}
SEEN: dict[str, Any] = {"prompt": f"a lion {IMAGE} a tiger", "multi_modal_data": {"image": picture(1)}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(offline: dict[str, Any]) -> AsyncIterator[AsyncLLM]:
    given = {**offline, "model": str(multimodal_folder()), "served_model_name": "tiny"}
    made = AsyncLLM.from_engine_args(AsyncEngineArgs(**given))
    yield made
    made.shutdown()


async def taking(stream: AsyncIterator[Any]) -> list[Any]:
    return [output async for output in stream]


async def first_of(stream: AsyncIterator[Any], taken: asyncio.Event) -> None:
    """Read a stream to its end, and tell when it has begun."""
    async for _ in stream:
        taken.set()


async def idle(engine: AsyncLLM) -> None:
    """Wait until the front end keeps nothing of any request."""
    async with asyncio.timeout(30):
        while engine.output_processor.request_states:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)


def the_span(recording: Recorded) -> ReadableSpan:
    (span,) = recording.spans()
    return span


async def test_a_stream_is_a_span_below_the_caller_s_which_stays_current(engine: AsyncLLM) -> None:
    current, outputs = set(), []
    with (
        recorded() as recording,
        recording.tracer_provider.get_tracer("application").start_as_current_span("ask") as asking,
    ):
        async for output in engine.generate(PROMPT, delta(**SHORT), "chatcmpl-stream"):
            current.add(trace.get_current_span())
            outputs.append(output)
        current.add(trace.get_current_span())

    span, told = the_span(recording), attributes(the_span(recording))
    stats = outputs[-1].metrics
    assert current == {asking}
    assert span.parent == asking.get_span_context()
    assert (span.name, span.kind, span.status.status_code) == ("chat tiny", SpanKind.INTERNAL, StatusCode.UNSET)
    assert told["otel_llm.request.id"] == "chatcmpl-stream"
    assert told["gen_ai.usage.input_tokens"] == len(outputs[0].prompt_token_ids)
    assert told["gen_ai.usage.output_tokens"] == sum(len(one.outputs[0].token_ids) for one in outputs) == 6
    assert told["gen_ai.response.finish_reasons"] == ("length",)
    assert told["otel_llm.engine.queue_time"] == stats.scheduled_ts - stats.queued_ts
    assert told["otel_llm.engine.prefill_time"] == stats.first_token_ts - stats.scheduled_ts
    assert told["otel_llm.engine.generation_time"] == stats.last_token_ts - stats.first_token_ts


async def test_times_of_its_outputs_are_the_consumer_s(engine: AsyncLLM) -> None:
    pause_s = 0.05
    with recorded() as recording:
        outputs = 0
        async for _ in engine.generate(PROMPT, delta(**SHORT), "mine"):
            outputs += 1
            await asyncio.sleep(pause_s)

    span, told = the_span(recording), attributes(the_span(recording))
    whole_s = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    first, mean, longest = (
        told[name]
        for name in (
            "gen_ai.response.time_to_first_chunk",
            "otel_llm.response.chunk.interval.mean",
            "otel_llm.response.chunk.interval.max",
        )
    )
    assert span.name == "text_completion tiny"  # an id of the application's own says nothing
    assert told["otel_llm.response.chunk.count"] == outputs > 1
    assert told["otel_llm.engine.time_to_first_token"] < first
    assert pause_s <= mean <= longest
    assert first + mean * (outputs - 1) == pytest.approx(whole_s, abs=0.01)  # it ends with its last output


async def test_an_image_counts_as_the_tokens_that_stand_for_it_and_is_not_recorded(engine: AsyncLLM) -> None:
    with recorded() as recording:
        outputs = await taking(engine.generate(SEEN, whole_reply(**SHORT), "sees"))

    told, ids = attributes(the_span(recording)), outputs[-1].prompt_token_ids
    text = len(engine.get_tokenizer().encode(SEEN["prompt"])) - 1
    assert told["gen_ai.usage.input_tokens"] == len(ids) == text + IMAGE_TOKENS + AROUND
    assert told["gen_ai.usage.output_tokens"] == 6
    assert "gen_ai.request.stream" not in told
    assert not any("lion" in str(value) for value in told.values())


async def test_choices_of_a_request_and_a_prompt_that_was_cached(engine: AsyncLLM) -> None:
    prompt = {"prompt_token_ids": list(range(3, 150)) * 2}
    await taking(engine.generate(prompt, whole_reply(**SHORT), "before"))
    with recorded() as recording:
        (output,) = await taking(engine.generate(prompt, whole_reply(n=3, **SHORT), "cmpl-again"))

    told = attributes(the_span(recording))
    assert told["gen_ai.usage.input_tokens"] == 294
    assert told["gen_ai.usage.output_tokens"] == sum(len(one.token_ids) for one in output.outputs) == 18
    assert told["gen_ai.response.finish_reasons"] == ("length",) * 3
    assert told["gen_ai.usage.cache_read.input_tokens"] == output.num_cached_tokens > 0


async def test_requests_at_the_same_time_have_each_their_own(engine: AsyncLLM) -> None:
    async def ask(number: int) -> str:
        tracer = recording.tracer_provider.get_tracer("application")
        with tracer.start_as_current_span(f"ask {number}") as asking:
            params = delta(max_tokens=number, ignore_eos=True)
            await taking(engine.generate({"prompt_token_ids": [5] * number}, params, f"mine-{number}"))
        return f"{asking.get_span_context().trace_id:032x}"

    with recorded() as recording:
        traces = dict(zip(range(1, 17), await asyncio.gather(*map(ask, range(1, 17))), strict=True))

    told = {
        attributes(span)["otel_llm.request.id"]: (
            f"{span.get_span_context().trace_id:032x}",  # type: ignore[union-attr]
            attributes(span)["gen_ai.usage.input_tokens"],
            attributes(span)["gen_ai.usage.output_tokens"],
        )
        for span in recording.spans()
    }
    assert told == {f"mine-{number}": (traces[number], number, number) for number in range(1, 17)}


async def _break(engine: AsyncLLM) -> None:
    async for _ in engine.generate(SEEN, delta(**LONG), "left"):
        break
    gc.collect()  # the generator is dropped, not closed: the loop closes it


async def _close(engine: AsyncLLM) -> None:
    stream = engine.generate(SEEN, delta(**LONG), "left")
    await anext(stream)
    await stream.aclose()


async def _cancel(engine: AsyncLLM) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(first_of(engine.generate(SEEN, delta(**LONG), "left"), begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _run_out_of_time(engine: AsyncLLM) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await taking(engine.generate(SEEN, delta(**LONG), "left"))


async def _abort(engine: AsyncLLM) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(first_of(engine.generate(SEEN, delta(**LONG), "left"), begun))
    await begun.wait()
    await engine.abort("left")
    await task


async def _stop_the_engine(engine: AsyncLLM) -> None:
    """As an application does before it changes the weights."""
    begun = asyncio.Event()
    task = asyncio.create_task(first_of(engine.generate(SEEN, delta(**LONG), "left"), begun))
    await begun.wait()
    await engine.pause_generation(mode="abort")
    await task
    await engine.resume_generation()


@pytest.mark.parametrize(
    ("leave", "reason", "error"),
    [
        (_break, "closed", None),
        (_close, "closed", None),
        (_cancel, "cancelled", "CancelledError"),
        (_run_out_of_time, "cancelled", "CancelledError"),
        (_abort, "requested", None),
        (_stop_the_engine, "engine", None),
    ],
    ids=["break", "aclose", "cancelled", "timeout", "abort by id", "paused"],
)
async def test_a_request_left_in_the_middle_ends_with_the_tokens_so_far_and_the_reason(
    engine: AsyncLLM, leave: Any, reason: str, error: str | None
) -> None:
    with recorded() as recording:
        await leave(engine)
        await idle(engine)

    span, told = the_span(recording), attributes(the_span(recording))
    assert (told["otel_llm.abort.reason"], told.get("error.type")) == (reason, error)
    assert (span.status.status_code is StatusCode.ERROR) is (error is not None)
    assert 0 < told["gen_ai.usage.output_tokens"] < LONG["max_tokens"]
    assert told["gen_ai.usage.input_tokens"] > IMAGE_TOKENS


async def test_a_prompt_too_long_fails_as_it_does_without_us(engine: AsyncLLM) -> None:
    async def ask() -> VLLMValidationError:
        with pytest.raises(VLLMValidationError) as raised:
            await taking(engine.generate({"prompt_token_ids": [5] * 2 * MAX_TOKENS}, delta(), "long"))
        return raised.value

    bare = await ask()
    with recorded() as recording:
        ours = await ask()

    assert (type(ours), str(ours)) == (type(bare), str(bare))
    assert attributes(the_span(recording))["error.type"] == type(bare).__qualname__


async def test_an_engine_shut_down_below_a_request_is_told_as_its_consumer_hears_of_it(engine: AsyncLLM) -> None:
    """The last one here: the engine is gone. Of a request that runs, vLLM lets the consumer wait until it is cancelled."""
    with recorded() as recording:
        begun = asyncio.Event()
        task = asyncio.create_task(first_of(engine.generate(SEEN, delta(**LONG), "last"), begun))
        await begun.wait()
        engine.shutdown()
        task.cancel()
        with pytest.raises((asyncio.CancelledError, EngineDeadError)) as raised:
            await task

    span, told = the_span(recording), attributes(the_span(recording))
    assert (told["error.type"], span.status.status_code) == (type(raised.value).__qualname__, StatusCode.ERROR)
    assert 0 < told["gen_ai.usage.output_tokens"] < LONG["max_tokens"]
