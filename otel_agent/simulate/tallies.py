"""What an engine and its server have counted so far, as vLLM counts it: the numbers behind the page of metrics.

vLLM's own gaps are kept: a request whose client went away is in no count of finished requests, its tokens are in the tokens.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from otel_agent.simulate.engine import Engine, Step
from otel_agent.simulate.families import (
    CACHE_CONFIG,
    CACHE_ROW,
    ENGINE_ROWS,
    HTTP_ROWS,
    REQUEST_TOKENS,
    SLEEP_ROWS,
    token_edges,
)
from otel_agent.simulate.options import BLOCK_TOKENS, EngineOptions
from otel_agent.simulate.page import Family, Series, render
from otel_agent.simulate.sequence import Sequence

ENGINE_INDEX = "0"
# The values of a label that have series from the start.
FROM_THE_START = {
    "vllm:num_requests_waiting_by_reason": ("capacity", "deferred"),
    "vllm:engine_sleep_state": ("awake", "weights_offloaded", "discard_all"),
    "vllm:prompt_tokens_by_source": ("local_compute", "local_cache_hit", "external_kv_transfer"),
    "vllm:prompt_tokens_cached_by_source": ("device", "host", "p2p", "disk", "external_unspecified"),
    "vllm:request_success": ("stop", "length", "abort", "error", "repetition"),
    "vllm:admission_rejections": ("max_num_queued_reqs", "max_num_queued_tokens"),
}


class EngineTallies:
    """The families that begin with `vllm:`; `record` is called once for every step that is done."""

    def __init__(self, options: EngineOptions, wall: Callable[[], float] = time.time) -> None:
        edges = token_edges(options.max_model_len)
        rows = [
            replace(row, edges=edges) if row.edges is REQUEST_TOKENS and row.type == "histogram" else row
            for row in ENGINE_ROWS
        ]
        self._families = {row.name: Family(row, wall) for row in rows}
        self._labels = (options.model, ENGINE_INDEX)
        for row in rows:
            for value in FROM_THE_START.get(row.name, (None,)):
                self._at(row.name, value)
        cache = _cache_config(options)
        self._cache = Family(replace(CACHE_ROW, labels=tuple(cache)), wall)
        self._cache[tuple(cache.values())].set(1)
        self._operations = [Family(row, wall) for row in SLEEP_ROWS]
        self.slept(None)

    def families(self) -> Iterator[Family]:
        """Return what is on the page from the start, in its order."""
        yield from self._families.values()
        yield self._cache

    def operations(self) -> Iterator[Family]:
        """Return the families that are there once something was put to sleep or woken."""
        yield from (family for family in self._operations if family.used)

    def record(self, step: Step) -> None:
        """Count what one step did."""
        for sequence in step.admitted:
            self._add("prefix_cache_queries", len(sequence.prompt))
            self._add("prefix_cache_hits", sequence.cached or 0)
            self._add("prompt_tokens_cached_by_source", sequence.cached or 0, "device")
        self._add("num_preemptions", len(step.preempted))
        read = self._read(step)
        written = sum(sequence.answer is not None for sequence in step.spoke)
        self._add("generation_tokens", written)
        if step.spoke:
            self._observe("iteration_tokens_total", read + written)
        for gap in step.gaps_s:
            self._observe("inter_token_latency_seconds", gap)
        for sequence in step.finished:
            self.ended(sequence)

    def show(self, engine: Engine) -> None:
        """Bring the gauges up to date."""
        self._set("num_requests_running", len(engine.running))
        self._set("num_requests_waiting", len(engine.waiting))
        self._set("num_requests_waiting_by_reason", len(engine.waiting), "capacity")
        self._set("kv_cache_usage_perc", 1 - engine.blocks.free / engine.blocks.total)

    def ended(self, sequence: Sequence) -> None:
        """Count a request that the engine ended: by a finished answer, an error, or because the server aborted it."""
        queued, scheduled, first, last = sequence.queued_s, sequence.scheduled_s, sequence.first_s, sequence.last_s
        assert sequence.finish is not None
        self._add("request_success", 1, sequence.finish)
        if queued is not None and scheduled is not None and first is not None and last is not None:
            self._observe("e2e_request_latency_seconds", last - queued)
            self._observe("request_queue_time_seconds", scheduled - queued)
            self._observe("request_prefill_time_seconds", first - scheduled)
            self._observe("request_inference_time_seconds", last - scheduled)
            self._observe("request_decode_time_seconds", last - first)
            further = sequence.generated - 1
            self._observe("request_time_per_output_token_seconds", (last - first) / further if further > 0 else 0)
        self._observe("request_num_preemptions", sequence.preemptions)
        self._observe("request_prefill_kv_computed_tokens", len(sequence.prompt) - (sequence.cached or 0))
        self._observe("request_prompt_tokens", len(sequence.prompt))
        self._observe("request_generation_tokens", sequence.generated)
        if sequence.limit:
            self._observe("request_params_max_tokens", sequence.limit)
        siblings = sequence.siblings
        siblings.unfinished -= 1
        siblings.longest = max(siblings.longest, sequence.generated)
        if not siblings.unfinished:
            self._observe("request_params_n", siblings.n)
            self._observe("request_max_num_generation_tokens", siblings.longest)

    def turned_away(self) -> None:
        """Count a request that found the queue full."""
        self._add("admission_rejections", 1, "max_num_queued_reqs")

    def slept(self, level: int | None) -> None:
        """Show how deep the engine sleeps; None: it is awake."""
        states = {"awake": level is None, "weights_offloaded": level == 1, "discard_all": level == 2}
        for state, holds in states.items():
            self._set("engine_sleep_state", float(holds), state)

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Count one operation of the sleep mode and the time that it takes."""
        duration, in_flight = (family[name,] for family in self._operations)
        began = time.perf_counter()
        in_flight.add(1)
        try:
            yield
        finally:
            in_flight.add(-1)
            duration.observe(time.perf_counter() - began)

    def _read(self, step: Step) -> int:
        read = 0
        for sequence in step.began_to_speak:
            cached, whole = sequence.cached or 0, len(sequence.prompt)
            read += whole - cached
            self._add("prompt_tokens", whole)
            self._add("prompt_tokens_by_source", whole - cached, "local_compute")
            self._add("prompt_tokens_by_source", cached, "local_cache_hit")
            self._add("prompt_tokens_cached", cached)
            assert sequence.first_s is not None
            assert sequence.queued_s is not None
            self._observe("time_to_first_token_seconds", sequence.first_s - sequence.queued_s)
        return read

    def _at(self, name: str, value: str | None = None) -> Series:
        family = self._families[name]
        labels = self._labels if "engine" in family.row.labels else self._labels[:1]
        return family[labels if value is None else (*labels, value)]

    def _add(self, name: str, amount: float, value: str | None = None) -> None:
        self._at(f"vllm:{name}", value).add(amount)

    def _set(self, name: str, amount: float, value: str | None = None) -> None:
        self._at(f"vllm:{name}", value).set(amount)

    def _observe(self, name: str, amount: float) -> None:
        self._at(f"vllm:{name}").observe(amount)


def _cache_config(options: EngineOptions) -> dict[str, str]:
    tokens = options.kv_blocks * BLOCK_TOKENS
    return {
        **CACHE_CONFIG,
        "engine": ENGINE_INDEX,
        "block_size": str(BLOCK_TOKENS),
        "effective_attention_block_size": str(BLOCK_TOKENS),
        "num_gpu_blocks": str(options.kv_blocks),
        "kv_cache_size_tokens": str(tokens),
        "kv_cache_max_concurrency": str(tokens / options.max_model_len),
        "gpu_memory_utilization": "0.92",
        "kv_cache_memory_bytes": "None",
    }


class HttpTallies:
    """The families that begin with `http_`, of the server before the engine."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._requests, self._read, self._sent, self._fine, self._coarse = (Family(row, wall) for row in HTTP_ROWS)
        self._fine[()]  # there from the start

    def families(self) -> Iterator[Family]:
        """Return what is on the page, in its order."""
        yield from (self._requests, self._read, self._sent, self._fine, self._coarse)

    def record(self, handler: str, method: str, status: int, read: int, sent: int, took_s: float) -> None:
        """Count one answered request; sizes are those of the headers."""
        self._requests[handler, f"{status // 100}xx", method].add()
        self._read[handler,].observe(read)
        self._sent[handler,].observe(sent)
        self._fine[()].observe(took_s)
        self._coarse[handler, method].observe(took_s)


def page(engine: EngineTallies, http: HttpTallies) -> str:
    """Return the page of metrics."""
    return render([*engine.families(), *http.families(), *engine.operations()])
