"""The calls of vLLM's offline API, `LLM`: a batch for each, and what the engine below them does of it.

Where one of them calls another (`embed` calls `encode`; a subclass may call any), the outer one is the batch. The engine
is followed at its two public methods: `add_request` tells when a request began, `step` when it came to its end, also
where the engine keeps no statistics, as it does offline by default. Where vLLM's own tracing is on (`otlp_traces_endpoint`),
its `llm_request` spans are told the batch's span as their parent: one trace, in which both can be read.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_llm import fault, semconv
from otel_llm.invocation import Telemetry
from otel_llm.wrapping import Function, Wrappers

from .batch import Batch, Call, current
from .wrappers import State

_PROPAGATOR: Final = TraceContextTextMapPropagator()  # what vLLM reads, whichever the process uses
_TASKS: Final[Mapping[str, str]] = {
    "embed": semconv.OPERATION_EMBEDDINGS,
    "token_embed": semconv.OPERATION_EMBEDDINGS,
    "classify": semconv.OPERATION_CLASSIFY,
    "token_classify": semconv.OPERATION_CLASSIFY,
}


@dataclass(frozen=True)
class Entry:
    """One method of `LLM`: what it does, and which argument has the parameters of the requests."""

    call: Call
    params: str
    position: int | None  # None: it can only be given by name


_COMPLETION: Final = Call(semconv.OPERATION_TEXT_COMPLETION)
_POOLING: Final = Call(semconv.OPERATION_POOLING)
ENTRIES: Final[Mapping[str, Entry]] = {
    "generate": Entry(_COMPLETION, "sampling_params", 1),
    "chat": Entry(Call(semconv.OPERATION_CHAT), "sampling_params", 1),
    "enqueue": Entry(Call(semconv.OPERATION_TEXT_COMPLETION, runs=False), "sampling_params", 1),
    "enqueue_chat": Entry(Call(semconv.OPERATION_CHAT, runs=False), "sampling_params", 1),
    "wait_for_completion": Entry(Call(""), "", None),  # what was enqueued tells
    "beam_search": Entry(Call(semconv.OPERATION_TEXT_COMPLETION, has_own_requests=False), "params", 1),
    "encode": Entry(_POOLING, "pooling_params", 1),
    "embed": Entry(Call(semconv.OPERATION_EMBEDDINGS), "pooling_params", None),
    "classify": Entry(Call(semconv.OPERATION_CLASSIFY), "pooling_params", None),
    "score": Entry(Call(semconv.OPERATION_SCORE), "pooling_params", None),
    "reward": Entry(Call(semconv.OPERATION_CLASSIFY), "pooling_params", None),  # vLLM's older name for a classification
}


def _wrapper(entry: Entry) -> Callable[[Function], Function]:
    def make(original: Function) -> Function:
        @functools.wraps(original)
        def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            batch = _begin(entry, self, args, kwargs)
            if batch is None:
                return original(self, *args, **kwargs)
            token = batch.enter()
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                batch.fail(error)
                raise
            finally:
                batch.leave(token)
            batch.complete(result)
            return result

        return wrapper

    return make


@fault.guarded("start of a batch")
def _begin(entry: Entry, llm: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Batch | None:
    telemetry = State.active
    if telemetry is None or not is_instrumentation_enabled() or current() is not None:
        return None
    params = kwargs.get(entry.params)
    if params is None and entry.position is not None and len(args) > entry.position:
        params = args[entry.position]
    call = entry.call
    if call is _POOLING:
        call = Call(_TASKS.get(str(kwargs.get("pooling_task")), semconv.OPERATION_POOLING))
    return Batch(telemetry, call, llm, params)


def _add_request(original: Function) -> Function:
    @functools.wraps(original)
    def add_request(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        batch = current()
        if batch is None:
            return original(self, *args, **kwargs)
        started_ns = time_ns()
        result = original(self, *args, **(_with_parent(batch, self, kwargs) or kwargs))
        _added(batch, args, kwargs, started_ns, _stats_of_pooling(self, result))
        return result

    return add_request


@fault.guarded("the parent of vLLM's own span")
def _with_parent(batch: Batch, engine: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments with a header that names the batch, where vLLM writes spans of its own and was given none."""
    if engine.observability_config.otlp_traces_endpoint is None or "trace_headers" in kwargs:
        return None
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, batch.context)
    return {**kwargs, "trace_headers": headers}


@fault.guarded("a request of a batch")
def _added(batch: Batch, args: tuple[Any, ...], kwargs: Mapping[str, Any], started_ns: int, stats: Any) -> None:
    request_id = args[0] if args else kwargs["request_id"]
    params = args[2] if len(args) > 2 else kwargs["params"]
    lora = args[4] if len(args) > 4 else kwargs.get("lora_request")
    batch.added(request_id, params, lora, started_ns, stats)


@fault.guarded("statistics of a request of a batch")
def _stats_of_pooling(engine: Any, internal_id: Any) -> Any:
    """Return where the engine will write the times of a request to pool; None for others, whose outputs carry them."""
    if not engine.log_stats:
        return None
    state = engine.output_processor.request_states.get(internal_id)
    return None if state is None or state.detokenizer is not None else state.stats


def _step(original: Function) -> Function:
    @functools.wraps(original)
    def step(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        if outputs:
            _took(outputs)
        return outputs

    return step


@fault.guarded("the outputs of a batch")
def _took(outputs: Any) -> None:
    batch = current()
    if batch is not None:
        batch.took(outputs)


def _init(original: Function) -> Function:
    @functools.wraps(original)
    def init(self: Any, /, *args: Any, **kwargs: Any) -> None:
        if State.active is not None:
            kwargs.setdefault("disable_log_stats", False)
        original(self, *args, **kwargs)

    return init


def put(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:
    """Wrap the methods of `LLM`, each on the class that defines it."""
    for name, entry in ENTRIES.items():
        owner = next((kind for kind in module.LLM.__mro__ if name in vars(kind)), None)
        if owner is not None:
            wrappers.put_methods(owner, {name: _wrapper(entry)})
    if telemetry.settings.vllm_statistics:
        wrappers.put_methods(module.LLM, {"__init__": _init})


def put_engine(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:  # noqa: ARG001 - as every part
    """Wrap what `LLM` runs the engine by."""
    wrappers.put_methods(module.LLMEngine, {"add_request": _add_request, "step": _step})


PARTS: Final = (
    ("vllm.entrypoints.llm", "offline calls", put),
    ("vllm.v1.engine.llm_engine", "the engine of offline calls", put_engine),
)
