"""The real `LLM`, `LLMEngine` and `OutputProcessor` over an engine core that does what a test says, at once.

Only what costs half a minute is left out: the model, its tokenizer (a prompt is its token ids, or a text of as many tokens
as it has words) and the process behind `EngineCoreClient`, whose messages `Core` writes.
"""

import time
from types import SimpleNamespace
from typing import Any

from vllm import LLM, PoolingParams
from vllm.utils.counter import Counter
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreRequest,
    FinishReason,
)
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import PrefillStats

QUEUE_S, PREFILL_S, DECODE_S = 0.01, 0.02, 0.03  # of every request, by the engine's clock
CACHED = 1  # tokens of every prompt that are found in the cache
TOKENS = 4  # generated for every choice


class Core:
    """In the place of the engine: gives each request its first token at one step and its last at the next."""

    def __init__(self, finish: FinishReason = FinishReason.LENGTH, at_once: int = 1) -> None:
        self.finish, self.at_once = finish, at_once
        self.finishes: dict[str, FinishReason] = {}  # by the caller's id, where one ends otherwise
        self.dies_after: int | None = None  # steps
        self.raises: BaseException = RuntimeError("the engine is gone")
        self.preempts = False
        self.headers: list[Any] = []  # with which the requests came
        self._waiting: list[EngineCoreRequest] = []
        self._running: list[EngineCoreRequest] = []
        self._steps = 0
        self.resources = SimpleNamespace(engine_dead=False)

    def add_request(self, request: EngineCoreRequest) -> None:
        self.headers.append(request.trace_headers)
        self._waiting.append(request)

    def abort_requests(self, request_ids: list[str]) -> None:
        self._waiting = [request for request in self._waiting if request.request_id not in request_ids]
        self._running = [request for request in self._running if request.request_id not in request_ids]

    def dp_engines_running(self) -> bool:
        return False

    def get_output(self) -> EngineCoreOutputs:
        """Some requests a step finishes, before the next begin: an engine that dies leaves some of each."""
        if self.dies_after is not None and self._steps >= self.dies_after:
            raise self.raises
        self._steps += 1
        now = time.monotonic()
        if not self._running:
            self._running, self._waiting = self._waiting[: self.at_once], self._waiting[self.at_once :]
            return EngineCoreOutputs(
                outputs=[_first(request, now, self.preempts) for request in self._running], timestamp=now
            )
        finished, self._running = self._running, []
        return EngineCoreOutputs(outputs=[self._last(request) for request in finished], timestamp=now + DECODE_S)

    def _last(self, request: EngineCoreRequest) -> EngineCoreOutput:
        finish = self.finishes.get(str(request.external_req_id), self.finish)
        return EngineCoreOutput(request.request_id, [7] * (TOKENS - 1), finish_reason=finish)


def _first(request: EngineCoreRequest, now: float, preempted: bool) -> EngineCoreOutput:
    scheduled = now - PREFILL_S
    events = [
        EngineCoreEvent(EngineCoreEventType.QUEUED, scheduled - QUEUE_S),
        EngineCoreEvent(EngineCoreEventType.SCHEDULED, scheduled),
    ]
    if preempted:
        events += [EngineCoreEvent(EngineCoreEventType.PREEMPTED, now)] * 2
    prompt = len(request.prompt_token_ids or ())
    prefill = PrefillStats(prompt, prompt - CACHED, CACHED, CACHED, 0)
    return EngineCoreOutput(request.request_id, [7], events=events, prefill_stats=prefill)


def scripted(core: Core | None = None, kind: type[LLM] = LLM, *, statistics: bool = False) -> Any:
    """Return an `LLM`, or one of a subclass, over such an engine."""
    engine: Any = object.__new__(LLMEngine)
    engine.log_stats = statistics
    engine.model_config = SimpleNamespace(model="/models/tiny", served_model_name="tiny", runner_type="generate")
    engine.model_config.is_encoder_decoder = False
    engine.observability_config = SimpleNamespace(otlp_traces_endpoint=None)
    engine.renderer = SimpleNamespace(mm_processor_cache=None)
    engine.dp_group, engine.should_execute_dummy_batch, engine.logger_manager = None, False, None
    engine.external_launcher_dp = False
    engine.vllm_config = SimpleNamespace(lora_config=None)
    engine.output_processor = OutputProcessor(None, log_stats=statistics)
    engine.input_processor = SimpleNamespace(
        process_inputs=_process, assign_request_id=InputProcessor.assign_request_id
    )
    engine.engine_core = core if core is not None else Core()
    engine._supported_tasks = ("generate",)
    llm: Any = object.__new__(kind)
    llm.llm_engine, llm.model_config, llm.renderer = engine, engine.model_config, engine.renderer
    llm.runner_type, llm.request_counter = "generate", Counter()
    llm.pooling_task = None  # 0.33 looks at it
    llm.default_sampling_params = {}
    llm._preprocess_cmpl_one = lambda prompt, *_, **__: _tokens(prompt)
    llm._preprocess_chat_one = lambda messages, **_: _tokens(" ".join(message["content"] for message in messages))
    return llm


def _tokens(prompt: Any) -> dict[str, Any]:
    given = prompt.get("prompt_token_ids", prompt.get("prompt")) if isinstance(prompt, dict) else prompt
    ids = list(range(len(given.split()))) if isinstance(given, str) else list(given)
    if not ids:
        raise ValueError("The prompt is empty")
    return {"type": "token", "prompt_token_ids": ids}


def _process(request_id: str, prompt: Any, params: Any, **given: Any) -> EngineCoreRequest:
    pooling = isinstance(params, PoolingParams)
    return EngineCoreRequest(
        request_id=request_id,
        prompt_token_ids=prompt["prompt_token_ids"],
        mm_features=None,
        sampling_params=None if pooling else params.clone(),
        pooling_params=params.clone() if pooling else None,
        arrival_time=given.get("arrival_time") or time.time(),
        lora_request=given.get("lora_request"),
        cache_salt=None,
        data_parallel_rank=None,
        trace_headers=given.get("trace_headers"),
    )
