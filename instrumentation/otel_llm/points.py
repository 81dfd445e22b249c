"""Recording one call's points under the metric names of every generation in force, each only where its value is known.

Points carry the call's context, so that exemplars lead to its span. Attributes with open sets of values are capped.
"""

from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from . import metrics, semconv
from .bound import Bound
from .cap import Cap
from .conventions import Generations
from .records import EngineTimes, Reply, Request, Streamed, Usage, Value
from .settings import Settings

Point = dict[str, Value]

# Grafana's agent plugin adds the cached tokens to the input of series that do not say so.
_INCLUSIVE: Final = {semconv.GRAFANA_TOKEN_SEMANTICS: "inclusive"}


class Points:
    """The instruments of one meter. Called at the end of a call, from any thread."""

    def __init__(self, meter: Meter, settings: Settings, spoken: Generations) -> None:
        self._meter = meter
        self._rename = spoken.rename if spoken.older else None
        limit = settings.max_metric_values
        self._models, self._replying_models, self._servers = Cap(limit), Cap(limit), Cap(limit)
        self._copied = tuple((name, Cap(limit)) for name in settings.metric_attributes)
        released = spoken.released or spoken.older
        self._duration = metrics.histogram(meter, metrics.DURATION) if released else None
        self._count_reported = metrics.histogram(meter, metrics.TOKEN_USAGE).record if released else None
        first, chunk = [], []
        if spoken.released:
            first.append(metrics.histogram(meter, metrics.TIME_TO_FIRST_CHUNK))
            chunk.append(metrics.histogram(meter, metrics.TIME_PER_OUTPUT_CHUNK))
        self._latest = _Latest(meter) if spoken.latest else None
        if spoken.latest:
            first.append(metrics.histogram(meter, metrics.INFERENCE_TIME_TO_FIRST_CHUNK))
            chunk.append(metrics.histogram(meter, metrics.INFERENCE_TIME_PER_OUTPUT_CHUNK))
        self._tool_calls = None
        self._for_grafana = settings.grafana_names
        if self._for_grafana:
            first.append(metrics.histogram(meter, metrics.GRAFANA_TIME_TO_FIRST_TOKEN))
            self._tool_calls = metrics.histogram(meter, metrics.GRAFANA_TOOL_CALLS)
        self._first_chunk: Sequence[Bound] = first
        self._per_chunk: Sequence[Bound] = chunk
        self._cost = metrics.counter(meter, metrics.COST)
        self._engine: Sequence[tuple[str, Bound]] = (
            ("queue_s", metrics.histogram(meter, metrics.ENGINE_QUEUE_TIME)),
            ("first_token_s", metrics.histogram(meter, metrics.ENGINE_TIME_TO_FIRST_TOKEN)),
            ("generation_s", metrics.histogram(meter, metrics.ENGINE_GENERATION_TIME)),
        )
        self._estimated = metrics.counter(meter, metrics.ESTIMATED_TOKENS)

    def point_of(self, request: Request) -> Point:
        """Return the attributes that every point of a call has, as far as they are known at its start."""
        point: Point = {semconv.OPERATION_NAME: request.operation}
        if request.provider is not None:
            point[semconv.PROVIDER_NAME] = request.provider
        if request.model is not None:
            point[semconv.REQUEST_MODEL] = self._models.of(request.model)
        if request.server_address is not None:
            point[semconv.SERVER_ADDRESS] = self._servers.of(request.server_address)
            if request.server_port is not None:
                point[semconv.SERVER_PORT] = request.server_port
        for name, cap in self._copied:
            value = request.parameters.get(name)
            if isinstance(value, str):
                point[name] = cap.of(value)
        return point

    def server(self, address: str) -> str:
        """Return an address as points carry it, where it is learned later."""
        return self._servers.of(address)

    def call(
        self, elapsed_s: float, point: Point, reply: Reply | None, streamed: Streamed | None, error: str | None,
        context: Context,
    ) -> None:  # fmt: skip
        """Record a call at its end; `point` is its own, `error` the type of what it raised."""
        if reply is not None:
            if reply.model is not None:
                point = {**point, semconv.RESPONSE_MODEL: self._replying_models.of(reply.model)}
            if self._rename is not None:
                point = self._rename(point)
            self._reply(point, reply, context)
        elif self._rename is not None:
            point = self._rename(point)
        if streamed is not None:
            if streamed.first_chunk_s is not None:
                for instrument in self._first_chunk:
                    instrument.record(streamed.first_chunk_s, point, context)
            if streamed.intervals_s:
                self.intervals(streamed.intervals_s, point, context)
        failed = point if error is None else {**point, semconv.ERROR_TYPE: error}
        if self._duration is not None:
            self._duration.record(elapsed_s, failed, context)
        if self._latest is not None:
            self._latest.call(elapsed_s, failed, point, reply, context)

    def intervals(self, intervals_s: Sequence[float], point: Point, context: Context) -> None:
        """Record times from one chunk to the next; the longest of them carries the exemplar."""
        few: Point = {name: point[name] for name in metrics.CHUNK if name in point}
        if semconv.SYSTEM_1_36 in point:
            few[semconv.SYSTEM_1_36] = point[semconv.SYSTEM_1_36]
        longest = max(range(len(intervals_s)), key=intervals_s.__getitem__)
        for instrument in self._per_chunk:
            instrument.record_all(intervals_s[:longest], few)
            instrument.record(intervals_s[longest], few, context)
            instrument.record_all(intervals_s[longest + 1 :], few)

    def _reply(self, point: Point, reply: Reply, context: Context) -> None:
        usage = reply.usage
        if usage is not None:
            count = self._count_reported if not usage.is_estimated else self._estimated.add
            if count is not None:
                is_split = self._for_grafana and not usage.is_estimated
                tokens = {**point, **_INCLUSIVE} if is_split else point
                if usage.input_tokens is not None:
                    count(usage.input_tokens, {**tokens, semconv.TOKEN_TYPE: semconv.TOKEN_INPUT}, context)
                if usage.output_tokens is not None:
                    count(usage.output_tokens, {**tokens, semconv.TOKEN_TYPE: semconv.TOKEN_OUTPUT}, context)
                if is_split:  # parts of the above, under the plugin's own types
                    for kind, some in (
                        ("cache_read", usage.cache_read_tokens),
                        ("cache_write", usage.cache_write_tokens),
                        ("reasoning", usage.reasoning_tokens),
                    ):
                        if some is not None:
                            count(some, {**tokens, semconv.TOKEN_TYPE: kind}, context)
        if reply.cost is not None:
            self._cost.add(reply.cost.usd, {**point, semconv.COST_SOURCE: reply.cost.source}, context)
        if reply.engine is not None:
            self._engine_times(point, reply.engine, context)
        if self._tool_calls is not None and reply.tool_calls is not None:
            self._tool_calls.record(reply.tool_calls, point, context)

    def _engine_times(self, point: Point, engine: EngineTimes, context: Context) -> None:
        for name, instrument in self._engine:
            seconds = getattr(engine, name)
            if seconds is not None:
                instrument.record(seconds, point, context)


class _Latest:
    """The newer generation: counters by modality, histograms by operation; a failed call counts with what is known."""

    def __init__(self, meter: Meter) -> None:
        self._inference = metrics.histogram(meter, metrics.INFERENCE_DURATION)
        self._embeddings = metrics.histogram(meter, metrics.EMBEDDINGS_DURATION)
        self._counters = {kind: metrics.counter(meter, row) for kind, row in metrics.USAGE_COUNTERS.items()}
        self._input = metrics.histogram(meter, metrics.INFERENCE_INPUT_TOKENS)
        self._output = metrics.histogram(meter, metrics.INFERENCE_OUTPUT_TOKENS)
        self._embedded = metrics.histogram(meter, metrics.EMBEDDINGS_INPUT_TOKENS)

    def call(self, elapsed_s: float, failed: Point, point: Point, reply: Reply | None, context: Context) -> None:
        is_embedding = point.get(semconv.OPERATION_NAME) == semconv.OPERATION_EMBEDDINGS
        (self._embeddings if is_embedding else self._inference).record(elapsed_s, failed, context)
        usage = reply.usage if reply is not None else None
        if usage is None or usage.is_estimated:
            return
        if usage.input_tokens is not None:
            (self._embedded if is_embedding else self._input).record(usage.input_tokens, point, context)
        if usage.output_tokens is not None and not is_embedding:
            self._output.record(usage.output_tokens, point, context)
        if not is_embedding:
            for kind, modality, count in by_modality(usage):
                self._counters[kind].add(count, {**point, semconv.TOKEN_MODALITY: modality}, context)


def by_modality(usage: Usage) -> Sequence[tuple[str, str, int]]:
    """Split counts by modality: what the server told apart, and the rest as `text`, or as `unknown` where it told none apart."""
    found: list[tuple[str, str, int]] = []
    for kind, total in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
        if total is None:
            continue
        parts = {name.split(".")[0]: n for name, n in usage.by_modality.items() if name.split(".", 1)[1:] == [kind]}
        found.extend((kind, modality, count) for modality, count in parts.items() if modality != "text")
        rest = total - sum(count for modality, count in parts.items() if modality != "text")
        if rest > 0 or not parts:
            found.append((kind, "text" if parts else "unknown", rest))
    for kind, count in (
        ("cache_read.input_tokens", usage.cache_read_tokens),
        ("cache_write.input_tokens", usage.cache_write_tokens),
        ("reasoning.output_tokens", usage.reasoning_tokens),
    ):
        if count is not None:
            found.append((kind, "unknown", count))
    return found
