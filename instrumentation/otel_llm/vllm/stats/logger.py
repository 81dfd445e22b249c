"""The stat logger that vLLM loads: it takes what vLLM hands out after each step, and keeps every fault of ours to itself.

One for all engines of a process, as vLLM's own Prometheus logger is: an engine's index is its data-parallel rank. What is
counted stands in `engine.py` and `requests.py`, where it goes in `provider.py`. Only this file imports vLLM.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from vllm.v1.metrics.loggers import AggregateStatLoggerBase

from otel_llm import fault, semconv
from otel_llm.records import Value
from otel_llm.settings import read_settings
from otel_llm.versions import own_version, version_of

from .engine import Engine
from .limits import read_capacity
from .observe import Instruments, instruments
from .provider import Unavailable, meter_provider

_LOG = logging.getLogger(__name__)
MAX_ERRORS: Final = 10
"""Errors of ours after which the logger is off for good."""


class OtelStatLogger(AggregateStatLoggerBase):  # type: ignore[misc]  # mypy sees no vLLM
    """vLLM's statistics as OpenTelemetry metrics. None of its methods raises."""

    def __init__(
        self,
        vllm_config: Any,
        engine_indexes: Sequence[int] | int = (0,),
        *,
        meter_provider: MeterProvider | None = None,
        **_: Any,
    ) -> None:
        """Start to record into a meter provider: this one, else the process's, else one made of the OTEL_* variables."""
        self._engines: dict[int, Engine] = {}
        self._instruments: Instruments | None = None
        self._errors = 0
        try:
            fault.keep_warnings()
            self._start(vllm_config, engine_indexes, meter_provider)
        except Unavailable as reason:
            _LOG.warning("otel_llm: no metrics of vLLM's engine are sent: %s", reason)
        except Exception as own:
            self._instruments = None
            fault.report("start of the stat logger", own)

    def _start(self, config: Any, indexes: Sequence[int] | int, provider: MeterProvider | None) -> None:
        settings = read_settings()
        self._config = config
        model = getattr(config, "model_config", None)
        self._common: dict[str, Value] = {}
        name = getattr(model, "served_model_name", None) or getattr(model, "model", None)
        if name is not None:
            self._common[semconv.REQUEST_MODEL] = str(name)
        # An id that no route made is a caller's of `AsyncLLM.generate`; of a pooling model it is not known what is asked.
        self._otherwise = semconv.OPERATION_TEXT_COMPLETION if _generates(model) else None
        parallel = getattr(config, "parallel_config", None)
        servers, self._server = getattr(parallel, "_api_process_count", 1), getattr(parallel, "_api_process_rank", 0)
        if servers > 1:
            self._common[semconv.VLLM_API_SERVER_INDEX] = self._server
            if self._server == 0:
                _LOG.warning(
                    "otel_llm: vLLM runs %d API servers and gives each message of the engine to one of them: totals add up over "
                    "all, requests running and waiting and the KV cache are told by the first and may lag",
                    servers,
                )
        self._capacity = read_capacity(config)
        self._instruments = instruments(
            provider if provider is not None else _meter_provider(),
            own_version(),
            proposed_names=settings.vllm_proposed_names,
        )
        for index in (indexes,) if isinstance(indexes, int) else indexes:
            self._open(index)

    def _open(self, index: int) -> Engine:
        assert self._instruments is not None
        attributes: Mapping[str, Value] = {**self._common, semconv.VLLM_ENGINE_INDEX: index}
        engine = self._engines[index] = Engine(attributes, self._capacity, is_first_server=self._server <= 0)
        self._instruments.add(engine, self)
        return engine

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
        **_: Any,
    ) -> None:
        """Take in one step of an engine; vLLM calls it on the event loop that serves its requests."""
        recording = self._instruments
        if recording is None:
            return
        try:
            engine = self._engines.get(engine_idx) or self._open(engine_idx)
            engine.step(scheduler_stats, iteration_stats, mm_cache_stats)
            if iteration_stats is not None:
                for finished in getattr(iteration_stats, "finished_requests", ()):
                    recording.requests.record(finished, engine, self._otherwise)
        except Exception as own:
            self._failed("statistics of a step of vLLM", own)

    def log_engine_initialized(self) -> None:
        """Read what the engine's configuration says once it is up: the size of its KV cache."""
        try:
            for engine in self._engines.values():
                engine.capacity = read_capacity(self._config)
        except Exception as own:
            self._failed("configuration of vLLM", own)

    def log(self) -> None:
        """Print nothing: metrics are read when they are collected."""

    def record_sleep_state(self, is_awake: int = 0, level: int = 0, **_: Any) -> None:
        """Note that the engines sleep, or wake; the first parameter, whatever its name, is 1 where they sleep."""
        try:
            for engine in self._engines.values():
                engine.sleep_level = level if is_awake else 0
        except Exception as own:
            self._failed("the sleep of vLLM's engines", own)

    def record_admission_rejection(self, reason: str, **_: Any) -> None:
        """Count a request that the front end did not admit."""
        if self._instruments is None:
            return
        try:
            self._instruments.rejected.add(1, {**self._common, semconv.VLLM_REJECTION_REASON: str(reason)})
        except Exception as own:
            self._failed("a request that vLLM did not admit", own)

    @fault.guarded("switching the stat logger off")
    def _failed(self, place: str, error: Exception) -> None:
        fault.report(place, error)
        self._errors += 1
        if self._errors < MAX_ERRORS or self._instruments is None:
            return
        recording, self._instruments = self._instruments, None
        for engine in self._engines.values():
            recording.remove(engine)
        _LOG.warning(
            "otel_llm: recording of vLLM's statistics is off after %d errors; vLLM itself is not affected. The first is in this "
            "log; vLLM %s may be one that otel-llm %s does not know",
            self._errors,
            version_of("vllm"),
            own_version(),
        )


# vLLM makes the logger while its server starts: a method that a later base class asks for must not keep it from starting.
OtelStatLogger.__abstractmethods__ = frozenset()


def _meter_provider() -> MeterProvider:
    return meter_provider()


def _generates(model: Any) -> bool:
    return getattr(model, "runner_type", None) in (None, "generate")
