"""The offline API over an engine that does what a test says: what a call records, however it ends."""

import inspect
from typing import Any

import pytest
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.v1.engine import FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine

from otel_llm.invocation import Invocation, open_telemetry
from otel_llm.records import Request
from otel_llm.settings import Settings
from otel_llm.vllm.offline import ENTRIES
from tests.e2e_vllm.asked import IN, PARAMS, attributes, generate, used
from tests.e2e_vllm.recorded import recorded
from tests.e2e_vllm.scripted_llm import DECODE_S, PREFILL_S, QUEUE_S, TOKENS, Core, scripted


def test_a_call_is_a_span_over_one_for_each_request_and_one_set_of_points() -> None:
    with recorded() as recording:
        outputs = generate(scripted(), "a b c", {"prompt_token_ids": [5, 6]})

    batch, first, second = recording.batch(), *recording.requests()
    assert [output.request_id for output in outputs] == ["0", "1"]
    assert {span.name for span in (batch, first, second)} == {"text_completion tiny"}
    assert {span.kind for span in (batch, first, second)} == {SpanKind.INTERNAL}
    assert {span.status.status_code for span in (batch, first, second)} == {StatusCode.UNSET}
    assert attributes(batch) == {
        **IN, "otel_llm.batch.size": 2, "otel_llm.batch.input_tokens": 5, "otel_llm.batch.output_tokens": 2 * TOKENS
    }  # fmt: skip
    assert attributes(first) == {**IN, **used("0", 3)}
    assert attributes(second) == {**IN, **used("1", 2)}
    assert first.parent == second.parent == batch.get_span_context()
    assert batch.parent is None
    assert (batch.start_time or 0) <= (first.start_time or 0) <= (second.start_time or 0)
    assert (first.end_time or 0) <= (second.end_time or 0) <= (batch.end_time or 0)
    point = {key: IN[key] for key in ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")}
    tokens = [one for one in recording.points() if one[0] == "gen_ai.client.token.usage"]
    assert tokens == [
        ("gen_ai.client.token.usage", {**point, "gen_ai.token.type": "input"}, 1, 5),
        ("gen_ai.client.token.usage", {**point, "gen_ai.token.type": "output"}, 1, 2 * TOKENS),
    ]
    assert recording.counts() == {"gen_ai.client.token.usage": 2, "gen_ai.client.operation.duration": 1}


def test_statistics_tell_the_phases_and_the_preemptions_of_each_request() -> None:
    core = Core()
    core.preempts = True
    with recorded() as recording:
        generate(scripted(core, statistics=True), "a b c")

    (request,) = recording.requests()
    told = attributes(request)
    assert told["otel_llm.engine.queue_time"] == pytest.approx(QUEUE_S)
    assert told["otel_llm.engine.prefill_time"] == pytest.approx(PREFILL_S)
    assert told["otel_llm.engine.generation_time"] == pytest.approx(DECODE_S, abs=0.01)
    assert told["otel_llm.engine.time_to_first_token"] > 0
    assert told["otel_llm.engine.preemptions"] == 2


def test_without_statistics_nothing_is_said_of_phases() -> None:
    with recorded(OTEL_LLM_VLLM_PHASES="spans") as recording:
        generate(scripted(), "a b c")

    assert [name for span in recording.spans() for name in attributes(span) if "engine" in name] == []
    assert len(recording.spans()) == 2


def test_several_choices_are_one_request() -> None:
    params = SamplingParams(n=3, max_tokens=8, detokenize=False)
    with recorded() as recording:
        generate(scripted(), "a b", params=params)

    (request,) = recording.requests()
    assert attributes(request)["gen_ai.response.finish_reasons"] == ("length",) * 3
    assert attributes(request)["gen_ai.usage.output_tokens"] == 3 * TOKENS
    assert attributes(request)["gen_ai.usage.input_tokens"] == 2
    assert attributes(request)["gen_ai.request.choice.count"] == 3


def test_parameters_of_their_own_are_told_of_each_request() -> None:
    one, two = SamplingParams(max_tokens=5, detokenize=False), SamplingParams(max_tokens=6, detokenize=False)
    with recorded() as recording:
        generate(scripted(), "a", "b", params=[one, two])

    assert [attributes(span)["gen_ai.request.max_tokens"] for span in recording.requests()] == [5, 6]
    assert "gen_ai.request.max_tokens" not in attributes(recording.batch())


def test_the_defaults_of_the_model_are_told_of_requests_that_gave_none() -> None:
    llm = scripted()
    llm.default_sampling_params = {"temperature": 0.6, "top_p": 0.95}
    with recorded() as recording:
        llm.generate("a b", use_tqdm=False)

    assert attributes(recording.requests()[0])["gen_ai.request.temperature"] == 0.6
    assert "gen_ai.request.temperature" not in attributes(recording.batch())


def test_an_adapter_is_named() -> None:
    with recorded() as recording:
        generate(scripted(), "a b", lora_request=LoRARequest("adapter", 1, "/adapter"))

    assert attributes(recording.requests()[0])["otel_llm.lora.name"] == "adapter"


def test_an_empty_batch_is_a_call_without_requests() -> None:
    with recorded() as recording:
        assert generate(scripted()) == []

    assert attributes(recording.batch()) == {**IN, "otel_llm.batch.size": 0}
    assert recording.requests() == []
    assert recording.counts() == {"gen_ai.client.operation.duration": 1}


@pytest.mark.parametrize("reason", list(FinishReason))
def test_how_a_request_ended_is_told_in_vllm_s_word(reason: FinishReason) -> None:
    with recorded() as recording:
        generate(scripted(Core(reason)), "a b")

    assert attributes(recording.requests()[0])["gen_ai.response.finish_reasons"] == (str(reason),)


def test_beyond_the_bound_requests_are_counted_on_the_batch_and_no_token_is_on_two_spans() -> None:
    with recorded(OTEL_LLM_VLLM_MAX_REQUEST_SPANS="3") as recording:
        generate(scripted(), *["a b"] * 10)

    batch = attributes(recording.batch())
    assert [attributes(span)["otel_llm.request.id"] for span in recording.requests()] == ["0", "1", "2"]
    assert (batch["otel_llm.batch.size"], batch["otel_llm.batch.folded"]) == (10, 7)
    assert (batch["otel_llm.batch.input_tokens"], batch["otel_llm.batch.output_tokens"]) == (20, 10 * TOKENS)
    for kind, total in (("input", 20), ("output", 10 * TOKENS)):
        assert sum(attributes(span)[f"gen_ai.usage.{kind}_tokens"] for span in recording.spans()) == total
    assert recording.counts() == {"gen_ai.client.token.usage": 2, "gen_ai.client.operation.duration": 1}


def test_of_a_huge_batch_those_that_went_wrong_get_a_span_first() -> None:
    core = Core()
    core.finishes["4"] = FinishReason.ABORT
    with recorded(OTEL_LLM_VLLM_MAX_REQUEST_SPANS="2") as recording:
        generate(scripted(core), *["a b"] * 6)

    assert [attributes(span)["otel_llm.request.id"] for span in recording.requests()] == ["4", "0"]


def test_as_links_the_requests_are_traces_of_their_own_that_lead_to_the_batch() -> None:
    with (
        recorded(OTEL_LLM_VLLM_REQUEST_SPANS="links") as recording,
        recording.tracer_provider.get_tracer("application").start_as_current_span("job"),
    ):
        generate(scripted(), "a", "b")

    batch, requests = recording.batch(), recording.requests()
    assert batch.parent is not None
    assert [span.parent for span in requests] == [None, None]
    assert [[link.context for link in span.links] for span in requests] == [[batch.get_span_context()]] * 2
    assert len({span.context.trace_id for span in (batch, *requests) if span.context is not None}) == 3


def test_an_engine_that_dies_leaves_the_error_as_it_is_and_what_was_done_on_record() -> None:
    core, error = Core(), EngineDeadError()
    core.dies_after, core.raises = 4, error
    with recorded() as recording, pytest.raises(EngineDeadError) as raised:
        generate(scripted(core), *["a b"] * 4)

    batch, requests = recording.batch(), recording.requests()
    assert raised.value is error
    assert (batch.status.status_code, batch.status.description) == (StatusCode.ERROR, "EngineDeadError")
    assert attributes(batch) == {
        **IN, "otel_llm.batch.size": 4, "otel_llm.batch.input_tokens": 4, "otel_llm.batch.output_tokens": 2 * TOKENS,
        "error.type": "EngineDeadError",
    }  # fmt: skip
    assert [event.name for event in batch.events] == ["exception"]
    assert "exception.message" not in (batch.events[0].attributes or {})
    assert [attributes(span).get("error.type") for span in requests] == [None, None, *["EngineDeadError"] * 2]
    assert [span.status.status_code for span in requests] == [StatusCode.UNSET] * 2 + [StatusCode.ERROR] * 2
    assert [attributes(span).get("gen_ai.usage.output_tokens") for span in requests] == [TOKENS, TOKENS, None, None]
    durations = [one for one in recording.points() if one[0] == "gen_ai.client.operation.duration"]
    assert [(one[1]["error.type"], one[2]) for one in durations] == [("EngineDeadError", 1)]


def test_an_interrupt_from_the_keyboard_passes_and_ends_the_spans() -> None:
    core = Core()
    core.dies_after, core.raises = 1, KeyboardInterrupt()
    with recorded() as recording, pytest.raises(KeyboardInterrupt):
        generate(scripted(core), "a b")

    assert {attributes(span)["error.type"] for span in recording.spans()} == {"KeyboardInterrupt"}


def test_a_prompt_that_is_refused_fails_the_call_and_those_added_before_it() -> None:
    with recorded() as recording, pytest.raises(ValueError, match="empty"):
        generate(scripted(), "a b", "")

    assert {attributes(span)["error.type"] for span in recording.spans()} == {"ValueError"}
    assert attributes(recording.batch())["otel_llm.batch.size"] == 1


def test_chat_is_a_chat() -> None:
    with recorded() as recording:
        scripted().chat([{"role": "user", "content": "a b c d"}], PARAMS, use_tqdm=False)

    assert {span.name for span in recording.spans()} == {"chat tiny"}
    assert attributes(recording.requests()[0]) == {**IN, "gen_ai.operation.name": "chat", **used("0", 4)}


def test_the_span_is_current_during_the_call_and_the_caller_s_baggage_is_on_it() -> None:
    llm, seen = scripted(), []
    render = llm._preprocess_cmpl_one
    llm._preprocess_cmpl_one = lambda *args, **given: (seen.append(_current()), render(*args, **given))[1]
    with recorded() as recording:
        token = attach(set_baggage("session.id", "s-1"))
        before = _current()
        generate(llm, "a b")
        after = _current()
        detach(token)

    batch = recording.batch()
    assert seen == [batch.get_span_context()]
    assert before == after
    assert attributes(batch)["session.id"] == "s-1"


def _current() -> Any:
    return get_current_span().get_span_context()


def test_a_call_that_vllm_makes_inside_another_is_a_part_of_it() -> None:
    """`embed` calls `encode`, which refuses here: the model generates."""
    with recorded() as recording, pytest.raises(ValueError, match="only supported for pooling models"):
        scripted().embed("a b")

    assert [(span.name, attributes(span)["error.type"]) for span in recording.spans()] == [
        ("embeddings tiny", "ValueError")
    ]


def test_the_calls_a_subclass_makes_of_its_parent_are_recorded_one_by_one() -> None:
    class Mine(LLM):
        def generate(self, prompts: Any, *args: Any, **given: Any) -> Any:
            self.chat([{"role": "user", "content": "first"}], PARAMS, use_tqdm=False)
            return super().generate(prompts, *args, **given)

    with recorded() as recording:
        generate(scripted(kind=Mine), "a b")

    assert [span.name for span in recording.spans()] == ["chat tiny"] * 2 + ["text_completion tiny"] * 2


def test_vllm_s_own_spans_are_told_the_batch_as_their_parent_where_it_writes_any() -> None:
    silent, traced = Core(), Core()
    llm = scripted(traced)
    llm.llm_engine.observability_config.otlp_traces_endpoint = "http://127.0.0.1:4317"
    with recorded() as recording:
        generate(llm, "a b")
        context = recording.batch().get_span_context()
        generate(scripted(silent), "a b")

    assert context is not None
    assert silent.headers == [None]
    flags = int(context.trace_flags)
    assert traced.headers == [{"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"}]


def test_a_call_inside_one_of_another_library_has_spans_below_it_and_no_points_of_its_own() -> None:
    """As LiteLLM's provider `vllm` calls it in the process: the application made one call."""
    with recorded() as recording:
        outer = Invocation(open_telemetry("outer", "1", Settings(), recording.tracer_provider), Request("chat", "m"))
        token = outer.enter()
        generate(scripted(), "a b")
        outer.leave(token)

    assert recording.batch().parent == outer.span.get_span_context()
    assert recording.counts() == {}


def test_a_suppressed_call_records_nothing() -> None:
    with recorded() as recording:
        with suppress_instrumentation():
            assert len(generate(scripted(), "a b")) == 1
        assert recording.spans() == []
        assert recording.counts() == {}


def test_a_call_that_is_not_sampled_costs_no_spans_and_still_counts() -> None:
    with recorded(ALWAYS_OFF) as recording:
        generate(scripted(), "a b", "c")

    assert recording.spans() == []
    assert recording.counts() == {"gen_ai.client.token.usage": 2, "gen_ai.client.operation.duration": 1}


def test_outputs_that_cannot_be_read_are_the_application_s_all_the_same() -> None:
    """A subclass may make of outputs what it likes; the batch is told by what the engine handed over."""

    class Texts(LLM):
        def _run_engine(self, *args: Any, **given: Any) -> Any:
            return [output.request_id for output in super()._run_engine(*args, **given)]

    with recorded() as recording:
        assert generate(scripted(kind=Texts), "a b") == ["0"]

    assert attributes(recording.batch())["otel_llm.batch.size"] == 1


def test_the_message_of_an_error_is_recorded_only_where_asked() -> None:
    core = Core()
    core.dies_after = 0
    with recorded(OTEL_LLM_CAPTURE_ERROR_MESSAGE="true") as recording, pytest.raises(RuntimeError):
        generate(scripted(core), "a b")

    assert recording.batch().status.description == "RuntimeError: the engine is gone"


def test_signatures_names_and_documentation_stay() -> None:
    before = {name: _shape(LLM, name) for name in ENTRIES}
    engine = {name: _shape(LLMEngine, name) for name in ("add_request", "step")}
    with recorded():
        assert {name: _shape(LLM, name) for name in ENTRIES} == before
        assert {name: _shape(LLMEngine, name) for name in engine} == engine


def _shape(owner: type, name: str) -> Any:
    method = getattr(owner, name, None)
    if method is None:  # this vLLM has no such method
        return None
    return inspect.signature(method), method.__name__, method.__qualname__, method.__module__, method.__doc__


def test_taking_off_leaves_every_class_as_it_was() -> None:
    owners = [*LLM.__mro__[:-1], LLMEngine]
    before = [dict(vars(owner)) for owner in owners]
    with recorded(OTEL_LLM_VLLM_STATISTICS="true"):
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


def test_statistics_are_asked_for_only_where_the_application_did_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(LLM, "__init__", lambda self, model, **kwargs: given.append((model, kwargs)))
    with recorded(OTEL_LLM_VLLM_STATISTICS="true"):
        LLM("m")
        LLM("m", disable_log_stats=True)
    with recorded():
        LLM("m")

    assert given == [("m", {"disable_log_stats": False}), ("m", {"disable_log_stats": True}), ("m", {})]
