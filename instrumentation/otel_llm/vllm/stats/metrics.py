"""The metrics of a vLLM engine by its stat-logger plug-in, as rows: what is told of finished requests and of the engine.

The three `gen_ai.server.*` histograms are the conventions'; what is proposed to them stands at the end, by switch. A row of
the engine's state says how it is taken out of an `Engine`; a value that vLLM does not tell gives no point.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_llm import semconv
from otel_llm.metrics import SECONDS, ClientMetric
from otel_llm.records import Value

from .engine import Engine, Tally
from .limits import Limit

Point = tuple[float | None, Mapping[str, Value]]

FIRST_TOKEN_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
OUTPUT_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

_MODEL: Final = (semconv.REQUEST_MODEL, semconv.VLLM_ENGINE_INDEX, semconv.VLLM_API_SERVER_INDEX)
_REQUEST: Final = (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, *_MODEL)
_PROPOSED: Final = "OTEL_LLM_VLLM_PROPOSED_NAMES"


@dataclass(frozen=True)
class EngineMetric(ClientMetric):
    """One row of an engine's state: read when metrics are collected."""

    points: Callable[[Engine], Iterable[Point]] = field(kw_only=True)


REQUEST_DURATION: Final = ClientMetric(
    semconv.SERVER_REQUEST_DURATION,
    "histogram",
    "s",
    "Time from a request's arrival at vLLM's front end until its last token; each choice and each prompt of a request is "
    "one. Requests aborted by their clients are in none of these histograms: vLLM keeps no statistics of them.",
    (*_REQUEST, semconv.ERROR_TYPE),
    SECONDS,
)
TIME_TO_FIRST_TOKEN: Final = ClientMetric(
    semconv.SERVER_TIME_TO_FIRST_TOKEN,
    "histogram",
    "s",
    "Time from a finished request's arrival in the engine's queue until its first token: queued plus prefill, by the "
    "engine's clock. The front end's own time (tokenizing, the way to the engine) is not in it.",
    (*_REQUEST, semconv.ERROR_TYPE),
    FIRST_TOKEN_SECONDS,
)
TIME_PER_OUTPUT_TOKEN: Final = ClientMetric(
    semconv.SERVER_TIME_PER_OUTPUT_TOKEN,
    "histogram",
    "s",
    "Mean time per output token of a finished request, the first one excepted.",
    (*_REQUEST, semconv.ERROR_TYPE),
    OUTPUT_TOKEN_SECONDS,
)
PROPOSED_PHASE_DURATION: Final = ClientMetric(
    semconv.PROPOSED_PHASE_DURATION,
    "histogram",
    "s",
    "Time of a finished request in each phase, by the engine's clock: `queue`, `prefill`, `decode`.",
    (*_REQUEST, semconv.ERROR_TYPE, semconv.PROPOSED_PHASE),
    FIRST_TOKEN_SECONDS,
    _PROPOSED,
)
REQUESTS_REJECTED: Final = ClientMetric(
    semconv.VLLM_REQUESTS_REJECTED,
    "counter",
    "{request}",
    "Requests that the front end did not admit (`--max-num-queued-reqs`, `--max-num-queued-tokens`).",
    (semconv.REQUEST_MODEL, semconv.VLLM_API_SERVER_INDEX, semconv.VLLM_REJECTION_REASON),
)
FINISHED_REQUESTS: Final = (
    REQUEST_DURATION, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, PROPOSED_PHASE_DURATION, REQUESTS_REJECTED,
)  # fmt: skip


def _told(name: str) -> Callable[[Engine], Iterable[Point]]:
    """Return what reads one number of the scheduler's last word."""
    return lambda engine: [(getattr(engine.scheduler, name, None), {})]


def _total(tally: Callable[[Engine], Tally], name: str) -> Callable[[Engine], Iterable[Point]]:
    return lambda engine: [(tally(engine).totals.get(name), {})]


def _prompt_tokens(engine: Engine) -> Iterator[Point]:
    for source, tokens in dict(engine.prompt.totals).items():
        yield tokens, {semconv.VLLM_PROMPT_SOURCE: source}


def _waiting(engine: Engine) -> Iterator[Point]:
    yield getattr(engine.scheduler, "num_waiting_reqs", None), {semconv.VLLM_WAITING_REASON: "capacity"}
    yield getattr(engine.scheduler, "num_skipped_waiting_reqs", None), {semconv.VLLM_WAITING_REASON: "deferred"}


def _finished(engine: Engine) -> Iterator[Point]:
    for reason, requests in dict(engine.finished).items():
        yield requests, {semconv.VLLM_FINISH_REASON: reason}


def _phases(engine: Engine) -> Iterator[Point]:
    for phase, seconds in dict(engine.phases_s).items():
        yield seconds, {semconv.VLLM_PHASE: phase}


def _limit(engine: Engine) -> Iterator[Point]:
    limit = engine.limit()
    for state in Limit if limit is not None else ():
        yield int(state is limit), {semconv.VLLM_LIMIT_STATE: state.value}


def _request_count(engine: Engine) -> Iterator[Point]:
    waiting = [getattr(engine.scheduler, name, None) for name in ("num_waiting_reqs", "num_skipped_waiting_reqs")]
    told = [requests for requests in waiting if requests is not None]
    yield (sum(told) if told else None), {semconv.PROPOSED_STATE: "queued"}
    yield getattr(engine.scheduler, "num_running_reqs", None), {semconv.PROPOSED_STATE: "running"}


def _cached_tokens(engine: Engine) -> Iterator[Point]:
    utilization, limit = getattr(engine.scheduler, "kv_cache_usage", None), engine.capacity.cached_tokens
    if utilization is not None and limit is not None:
        yield round(utilization * limit), {}


def _state(
    name: str, kind: Any, unit: str, help: str, points: Callable[[Engine], Iterable[Point]], *attributes: str, only: str = ""
) -> EngineMetric:  # fmt: skip
    return EngineMetric(name, kind, unit, help, (*_MODEL, *attributes), only=only, points=points)


REQUESTS_RUNNING: Final = _state(
    semconv.VLLM_REQUESTS_RUNNING, "updowncounter", "{request}", "Requests in the engine's batches.",
    _told("num_running_reqs"),
)  # fmt: skip
REQUESTS_WAITING: Final = _state(
    semconv.VLLM_REQUESTS_WAITING, "updowncounter", "{request}",
    "Requests that wait: for `capacity`, or `deferred` by something else (a LoRA slot, a KV transfer).",
    _waiting, semconv.VLLM_WAITING_REASON,
)  # fmt: skip
KV_CACHE_UTILIZATION: Final = _state(
    semconv.VLLM_KV_CACHE_UTILIZATION, "gauge", "1", "Share of the KV cache in use, 0 to 1.", _told("kv_cache_usage")
)
KV_CACHE_LIMIT: Final = _state(
    semconv.VLLM_KV_CACHE_LIMIT, "updowncounter", "{token}", "Tokens that the KV cache holds.",
    lambda engine: [(engine.capacity.cached_tokens, {})],
)  # fmt: skip
PREEMPTIONS: Final = _state(
    semconv.VLLM_PREEMPTIONS, "counter", "{preemption}", "Requests put back to waiting for want of KV cache.",
    _total(lambda engine: engine.iteration, "num_preempted_reqs"),
)  # fmt: skip
TOKENS_PROMPT: Final = _state(
    semconv.VLLM_TOKENS_PROMPT, "counter", "{token}",
    "Prompt tokens: `computed`, or read from the cache of this engine (`local_cache_hit`) or of others (`external_kv_transfer`).",
    _prompt_tokens, semconv.VLLM_PROMPT_SOURCE,
)  # fmt: skip
TOKENS_GENERATED: Final = _state(
    semconv.VLLM_TOKENS_GENERATED, "counter", "{token}", "Generated tokens, those of aborted requests included.",
    _total(lambda engine: engine.iteration, "num_generation_tokens"),
)  # fmt: skip
REQUESTS_FINISHED: Final = _state(
    semconv.VLLM_REQUESTS_FINISHED, "counter", "{request}", "Requests that ended, by reason, in vLLM's words.",
    _finished, semconv.VLLM_FINISH_REASON,
)  # fmt: skip
PHASE_TIME: Final = _state(
    semconv.VLLM_REQUEST_PHASE_TIME, "counter", "s",
    "Time that finished requests spent in each phase, together, by the engine's clock: `queue`, `prefill`, `decode`.",
    _phases, semconv.VLLM_PHASE,
)  # fmt: skip
REQUESTS_UNACCOUNTED: Final = _state(
    semconv.VLLM_REQUESTS_UNACCOUNTED, "counter", "{request}",
    "Requests that gave a token and then neither finished nor are in the engine any more: aborted by their clients. At least "
    "so many, and exactly so many whenever the engine has nothing to do; those aborted before their first token are not seen.",
    lambda engine: [(engine.unaccounted_requests, {})],
)  # fmt: skip
TOKENS_UNACCOUNTED: Final = _state(
    semconv.VLLM_TOKENS_UNACCOUNTED, "counter", "{token}",
    "Tokens generated for such requests: generated tokens less those of finished requests, and less what the requests in "
    "the engine may have. At least so many, and exactly so many whenever the engine has nothing to do.",
    lambda engine: [(engine.unaccounted_tokens, {})],
)  # fmt: skip
PREFIX_CACHE_QUERIES: Final = _state(
    semconv.VLLM_PREFIX_CACHE_QUERIES, "counter", "{token}", "Prompt tokens looked up in the prefix cache.",
    _total(lambda engine: engine.prefix, "queries"),
)  # fmt: skip
PREFIX_CACHE_HITS: Final = _state(
    semconv.VLLM_PREFIX_CACHE_HITS, "counter", "{token}", "Prompt tokens found there.",
    _total(lambda engine: engine.prefix, "hits"),
)  # fmt: skip
EXTERNAL_PREFIX_CACHE_QUERIES: Final = _state(
    semconv.VLLM_EXTERNAL_PREFIX_CACHE_QUERIES, "counter", "{token}",
    "Prompt tokens looked up in a KV connector's cache, where there is one.",
    _total(lambda engine: engine.external_prefix, "queries"),
)  # fmt: skip
EXTERNAL_PREFIX_CACHE_HITS: Final = _state(
    semconv.VLLM_EXTERNAL_PREFIX_CACHE_HITS, "counter", "{token}", "Prompt tokens found there.",
    _total(lambda engine: engine.external_prefix, "hits"),
)  # fmt: skip
MULTIMODAL_CACHE_QUERIES: Final = _state(
    semconv.VLLM_MULTIMODAL_CACHE_QUERIES, "counter", "{item}", "Images and the like looked up in the front end's cache.",
    _total(lambda engine: engine.multimodal, "queries"),
)  # fmt: skip
MULTIMODAL_CACHE_HITS: Final = _state(
    semconv.VLLM_MULTIMODAL_CACHE_HITS, "counter", "{item}", "Images and the like found there.",
    _total(lambda engine: engine.multimodal, "hits"),
)  # fmt: skip
SPECULATIVE_DRAFTS: Final = _state(
    semconv.VLLM_SPECULATIVE_DRAFTS, "counter", "{draft}", "Drafts of speculative decoding, where it is on.",
    _total(lambda engine: engine.speculative, "num_drafts"),
)  # fmt: skip
SPECULATIVE_DRAFT_TOKENS: Final = _state(
    semconv.VLLM_SPECULATIVE_DRAFT_TOKENS, "counter", "{token}", "Tokens proposed in them.",
    _total(lambda engine: engine.speculative, "num_draft_tokens"),
)  # fmt: skip
SPECULATIVE_ACCEPTED_TOKENS: Final = _state(
    semconv.VLLM_SPECULATIVE_ACCEPTED_TOKENS, "counter", "{token}", "Proposed tokens that the model accepted.",
    _total(lambda engine: engine.speculative, "num_accepted_tokens"),
)  # fmt: skip
ENGINE_LIMIT: Final = _state(
    semconv.VLLM_ENGINE_LIMIT, "updowncounter", "1",
    "What held the engine back in its last step: 1 for that state, 0 for the others. `idle`, `none` (nothing waits), "
    "`deferred`, `sequence_cap` (`--max-num-seqs`), `kv_pressure`, `token_budget` (`--max-num-batched-tokens`).",
    _limit, semconv.VLLM_LIMIT_STATE,
)  # fmt: skip
ENGINE_MAX_SEQUENCES: Final = _state(
    semconv.VLLM_ENGINE_MAX_SEQUENCES, "updowncounter", "{request}", "Requests that may run at a time, as configured.",
    lambda engine: [(engine.capacity.sequences, {})],
)  # fmt: skip
ENGINE_MAX_BATCHED_TOKENS: Final = _state(
    semconv.VLLM_ENGINE_MAX_BATCHED_TOKENS, "updowncounter", "{token}", "Tokens that one step may compute, as configured.",
    lambda engine: [(engine.capacity.batched_tokens, {})],
)  # fmt: skip
ENGINE_SLEEP_LEVEL: Final = _state(
    semconv.VLLM_ENGINE_SLEEP_LEVEL, "gauge", "{level}", "0 for an engine that is awake, else the level of its sleep, 1 or 2.",
    lambda engine: [(engine.sleep_level, {})],
)  # fmt: skip

STATE: Final[tuple[EngineMetric, ...]] = (
    REQUESTS_RUNNING, REQUESTS_WAITING, REQUESTS_FINISHED, REQUESTS_UNACCOUNTED, PHASE_TIME, TOKENS_PROMPT, TOKENS_GENERATED,
    TOKENS_UNACCOUNTED, PREEMPTIONS, KV_CACHE_UTILIZATION, KV_CACHE_LIMIT, PREFIX_CACHE_QUERIES, PREFIX_CACHE_HITS,
    EXTERNAL_PREFIX_CACHE_QUERIES, EXTERNAL_PREFIX_CACHE_HITS, MULTIMODAL_CACHE_QUERIES, MULTIMODAL_CACHE_HITS,
    SPECULATIVE_DRAFTS, SPECULATIVE_DRAFT_TOKENS, SPECULATIVE_ACCEPTED_TOKENS, ENGINE_LIMIT, ENGINE_MAX_SEQUENCES,
    ENGINE_MAX_BATCHED_TOKENS, ENGINE_SLEEP_LEVEL,
)  # fmt: skip
PROPOSED: Final[tuple[EngineMetric, ...]] = (
    _state(
        semconv.PROPOSED_REQUEST_COUNT, "updowncounter", "{request}", "Requests in the engine, `queued` or `running`.",
        _request_count, semconv.PROPOSED_STATE, only=_PROPOSED,
    ),
    _state(
        semconv.PROPOSED_KV_CACHE_USAGE, "updowncounter", "{token}",
        "Tokens' worth of the KV cache in use: its share times what it holds.", _cached_tokens, only=_PROPOSED,
    ),
    _state(
        semconv.PROPOSED_KV_CACHE_LIMIT, "updowncounter", "{token}", KV_CACHE_LIMIT.help, KV_CACHE_LIMIT.points,
        only=_PROPOSED,
    ),
    _state(
        semconv.PROPOSED_KV_CACHE_UTILIZATION, "gauge", "1", KV_CACHE_UTILIZATION.help, KV_CACHE_UTILIZATION.points,
        only=_PROPOSED,
    ),
    _state(
        semconv.PROPOSED_PREFIX_CACHE_QUERIES, "counter", "{token}", PREFIX_CACHE_QUERIES.help,
        PREFIX_CACHE_QUERIES.points, only=_PROPOSED,
    ),
    _state(
        semconv.PROPOSED_PREFIX_CACHE_HITS, "counter", "{token}", PREFIX_CACHE_HITS.help, PREFIX_CACHE_HITS.points,
        only=_PROPOSED,
    ),
)  # fmt: skip

METRICS: Final[tuple[ClientMetric, ...]] = (*FINISHED_REQUESTS, *STATE, *PROPOSED)
