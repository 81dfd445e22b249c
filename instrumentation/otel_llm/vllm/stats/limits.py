"""Why an engine does not run more than it does: the rule, from what vLLM's scheduler tells after each step.

Nothing here reads a clock or an engine; `engine.py` says what was seen.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

KV_PRESSURE: Final = 0.9
"""The share of the KV cache in use from which requests that wait are taken to wait for it."""


class Limit(StrEnum):
    """What holds the engine back, the values of `otel_llm.vllm.engine.limit.state`."""

    IDLE = "idle"
    NONE = "none"
    DEFERRED = "deferred"
    SEQUENCE_CAP = "sequence_cap"
    KV_PRESSURE = "kv_pressure"
    TOKEN_BUDGET = "token_budget"  # noqa: S105 - tokens of text


@dataclass(frozen=True)
class Capacity:
    """What the engine was configured with; None where this vLLM does not say."""

    sequences: int | None = None  # max_num_seqs, or max_num_active_seqs where that is lower
    batched_tokens: int | None = None  # of one step
    cached_tokens: int | None = None  # what the KV cache holds
    request_tokens: int | None = None  # prompt and reply of one request


def read_capacity(vllm_config: Any) -> Capacity:
    """Read a VllmConfig; the size of the KV cache is known to it once the engine is up."""
    scheduler = getattr(vllm_config, "scheduler_config", None)
    cache = getattr(vllm_config, "cache_config", None)
    caps = [_whole(scheduler, name) for name in ("max_num_seqs", "max_num_active_seqs")]
    cached = _whole(cache, "kv_cache_size_tokens")  # right for models whose layers cache in groups, too
    if cached is None:
        blocks, size = _whole(cache, "num_gpu_blocks"), _whole(cache, "block_size")
        cached = blocks * size if blocks and size else None
    return Capacity(
        sequences=min((cap for cap in caps if cap is not None), default=None),
        batched_tokens=_whole(scheduler, "max_num_batched_tokens"),
        cached_tokens=cached,
        request_tokens=_whole(getattr(vllm_config, "model_config", None), "max_model_len"),
    )


def limit_of(
    *,
    running: int,
    waiting: int,
    deferred: int,
    ended: int,
    preempted: bool,
    kv_utilization: float | None,
    mean_prompt_tokens: float | None,
    capacity: Capacity,
) -> Limit:
    """Tell what the last step's numbers say: the first of these that is true.

    `idle`: nothing runs and nothing waits. `none`: nothing waits. `deferred`: all that wait are held back by something
    that is no lack of capacity (a LoRA slot, a KV transfer, a grammar being compiled). `sequence_cap`: as many run as
    `max_num_seqs` lets, counting those that ended in the step, whose places are given away in the next. `kv_pressure`: a
    request was preempted in the step, or nine tenths of the KV cache are in use, or less of it is free than a prompt
    of mean length needs. `token_budget`: what is left; vLLM's scheduler stops taking in requests for one of these three
    reasons, and the last is `max_num_batched_tokens`, used up by the prefills of this step.
    """
    if not running and not waiting and not deferred:
        return Limit.IDLE
    if not waiting:
        return Limit.DEFERRED if deferred else Limit.NONE
    if capacity.sequences is not None and running + ended >= capacity.sequences:
        return Limit.SEQUENCE_CAP
    if preempted or _is_short(kv_utilization, mean_prompt_tokens, capacity.cached_tokens):
        return Limit.KV_PRESSURE
    return Limit.TOKEN_BUDGET


def _is_short(utilization: float | None, prompt_tokens: float | None, cached_tokens: int | None) -> bool:
    if utilization is None:
        return False
    if utilization >= KV_PRESSURE:
        return True
    return prompt_tokens is not None and cached_tokens is not None and (1 - utilization) * cached_tokens < prompt_tokens


def _whole(holder: Any, name: str) -> int | None:
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
