"""Calls of the offline API over a scripted engine, as rows of the table in `outcomes`."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from vllm import LLM, SamplingParams
from vllm.sampling_params import BeamSearchParams
from vllm.v1.engine import FinishReason
from vllm.v1.engine.exceptions import EngineDeadError

from tests.e2e_vllm.scripted_llm import Core, scripted

Row = Callable[[object], Any]


class Calls(LLM):
    """A subclass of an application."""

    def generate(self, prompts: Any, *args: Any, **given: Any) -> Any:
        first = self.chat([{"role": "user", "content": "first"}], params(), use_tqdm=False)
        return [*first, *super().generate(prompts, *args, **given)]


class Beams(LLM):
    """A beam search of no step; its steps need logarithms that no script tells."""

    def _beam_search_step(self, *_: Any, **__: Any) -> bool:
        return True


def params(**given: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 8, "temperature": 0.5, "stop": None, "detokenize": False, **given})


def offline(call: Callable[[Any], Any], kind: type[LLM] = LLM, **of_the_core: Any) -> Row:
    def row(_: object) -> Any:
        core = Core()
        vars(core).update(of_the_core)
        llm = scripted(core, kind, statistics=True)
        try:
            return call(llm), core.headers
        except BaseException as error:
            return error, core.headers, [type(one) for one in llm.llm_engine.output_processor.request_states.values()]

    return row


def generate(*prompts: Any, **more: Any) -> Callable[[Any], Any]:
    given = {"sampling_params": params(), "use_tqdm": False, **more}
    return lambda llm: (llm.generate(list(prompts), **given), given["sampling_params"])


def _enqueued(llm: Any) -> Any:
    ids = llm.enqueue(["a", "b c"], params(), use_tqdm=False)
    more = llm.enqueue_chat([{"role": "user", "content": "d"}], params(), use_tqdm=False)
    return ids, more, llm.wait_for_completion(use_tqdm=False)


def _interrupted(llm: Any) -> Any:
    llm.enqueue(["a", "b c"], params(), use_tqdm=False)
    core = llm.llm_engine.engine_core
    try:
        llm.wait_for_completion(use_tqdm=False)
    except KeyboardInterrupt as error:
        core.dies_after = None
        return error, llm.wait_for_completion(use_tqdm=False)


def _beam_search(llm: Any) -> Any:
    llm.renderer.get_tokenizer = lambda: SimpleNamespace(eos_token_id=0, decode=lambda *_, **__: "text")
    llm.llm_engine.input_processor.resolve_watermarking = lambda _: None
    return llm.beam_search([{"prompt_token_ids": [1, 2]}], BeamSearchParams(beam_width=2, max_tokens=2))


def _suppressed(llm: Any) -> Any:
    with suppress_instrumentation():
        return generate("a b")(llm)


def _traced(llm: Any) -> Any:
    llm.llm_engine.observability_config.otlp_traces_endpoint = "http://127.0.0.1:1"
    result = generate("a b")(llm)
    llm.llm_engine.engine_core.headers.clear()  # those are ours
    return result


OFFLINE: Mapping[str, Row] = {
    "generate": offline(generate("a b c", {"prompt_token_ids": [5, 6]})),
    "chat": offline(lambda llm: llm.chat([{"role": "user", "content": "a b"}], params(), use_tqdm=False)),
    "two choices": offline(generate("a b", "c", sampling_params=params(n=2))),
    "parameters of each": offline(generate("a", "b", sampling_params=[params(max_tokens=5), params(seed=1)])),
    "enqueue and wait": offline(_enqueued),
    "interrupted wait": offline(_interrupted, dies_after=2, raises=KeyboardInterrupt()),
    "beam search": offline(_beam_search, Beams),
    "encode of a model that generates": offline(lambda llm: llm.encode(["a"], pooling_task="embed")),
    "embed, which calls encode": offline(lambda llm: llm.embed("a b")),
    "refused prompt": offline(generate("a b", "")),
    "an engine that dies": offline(generate("a", "b", "c", "d"), dies_after=4, raises=EngineDeadError()),
    "an exit": offline(generate("a"), dies_after=1, raises=SystemExit(3)),
    "aborted by the engine": offline(generate("a", "b"), finish=FinishReason.ABORT),
    "failed by the engine": offline(generate("a"), finish=FinishReason.ERROR, preempts=True),
    "a subclass": offline(generate("a b"), Calls),
    "suppressed": offline(_suppressed),
    "vLLM traces": offline(_traced),
    "empty batch": offline(generate()),
    "none for a prompt": offline(generate(None)),
    "none for prompts": offline(lambda llm: llm.generate(None, params(), use_tqdm=False)),
    "no prompts": offline(lambda llm: llm.generate()),
    "token ids": offline(generate([5, 6, 7])),
    "a mapping with neither text nor ids": offline(generate({"nothing": 1})),
    "many choices": offline(generate("a", sampling_params=params(n=300))),
    "unicode": offline(generate("\N{GRINNING FACE} \ud800 \x00 ﷽")),
    "no parameters": offline(lambda llm: llm.generate(["a"], use_tqdm=False)),
    "parameters of a wrong kind": offline(generate("a", sampling_params=7)),
    "too few parameters": offline(generate("a", "b", sampling_params=[params()])),
    "an argument nobody knows": offline(generate("a", bogus=1)),
    "an object without an engine": lambda _: LLM.generate(object.__new__(LLM), ["a"], params()),  # type: ignore[list-item]
}
