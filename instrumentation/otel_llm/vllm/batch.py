"""One offline call of vLLM: a span for the call, spans for its requests, one set of metric points for them all.

A batch is one operation of the application, whatever its size: its points hold the sums. The spans of its requests are
written when it has ended, with the moments at which each was added to the engine and its last output was taken.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext

from otel_llm import fault, semconv
from otel_llm.coexistence import outer_call
from otel_llm.invocation import Telemetry
from otel_llm.invocation import current as current_invocation
from otel_llm.records import Reply, Request, Usage, Value
from otel_llm.settings import RequestSpans

from . import enqueued
from .carried import carried
from .enqueued import Added
from .names import model_of
from .outputs import Facts, facts_of, lora_name, phases_of_pooling, sum_of
from .parameters import parameters_of
from .request_span import PROVIDER, RequestSpan

_KEY: Final = otel_context.create_key("otel_llm.vllm.batch")
_ROOT: Final = Context()
_MAX_LINKS: Final = 128  # what the SDK keeps of them by default
_UNFINISHED: Final = frozenset(("abort", "error"))  # finish reasons of requests that are worth a span more than others
ENQUEUE: Final = "enqueue"


@dataclass(frozen=True, slots=True)
class Call:
    """What kind of call it is."""

    operation: str
    runs: bool = True  # whether it runs the engine; `enqueue` does not
    has_own_requests: bool = True  # whether each request is one of the engine's; a beam search makes hundreds of those


@dataclass(slots=True)
class Taken:
    """A request that came to its end."""

    facts: Facts
    ended_ns: int | None = None  # unknown where only the call's result tells of it


@fault.guarded("the batch that is open here")
def current() -> "Batch | None":
    """Return the batch whose call this place in the program is a part of."""
    found = otel_context.get_value(_KEY)
    return found if isinstance(found, Batch) and found.is_open else None


class Batch:
    """One call; begun by the wrapper around it, told of its requests by those around the engine. No method raises."""

    __slots__ = (
        "_added", "_began", "_began_ns", "_call", "_engine", "_found", "_model", "_operation", "_point", "_span", "_taken",
        "_telemetry", "context", "is_open",
    )  # fmt: skip

    def __init__(self, telemetry: Telemetry, call: Call, owner: Any, params: Any) -> None:
        """Begin now: a call of `owner`, an `LLM`, with the parameters it was given."""
        self._telemetry, self._call = telemetry, call
        self._engine = owner.llm_engine
        self._model = model_of(owner.model_config)
        # Requests enqueued before are run by whatever runs the engine next, and their outputs go to that call.
        self._found = enqueued.take(self._engine) if call.runs and call.has_own_requests else {}
        self._operation = operation = call.operation or _operation_of(self._found.values())
        self._added: dict[str, Added] = dict(self._found)
        self._taken: list[Taken] = []
        self._point: dict[str, Value] | None = None
        if call.runs and current_invocation() is None and outer_call(operation) is None:
            self._point = telemetry.points.point_of(Request(operation, self._model, PROVIDER))
        attributes = carried(telemetry.settings)
        if params is not None and not isinstance(params, Sequence):
            attributes.update(parameters_of(params))
        self.is_open = True
        self._began, self._began_ns = perf_counter(), time_ns()
        self._span = RequestSpan(
            telemetry, operation if call.runs else ENQUEUE, self._model, attributes,
            links=_links(self._found.values()), started_ns=self._began_ns,
        )  # fmt: skip
        self.context = otel_context.set_value(_KEY, self, self._span.context)

    @fault.guarded("start of a batch")
    def enter(self) -> Token[Context]:
        """Make the batch and its span current."""
        return otel_context.attach(self.context)

    @fault.guarded("end of a batch")
    def leave(self, token: Token[Context] | None) -> None:
        """Undo `enter`."""
        if token is not None:
            otel_context.detach(token)

    def added(self, request_id: str, params: Any, lora: Any, started_ns: int, stats: Any = None) -> None:
        """Note a request that was added to the engine."""
        if self._call.has_own_requests:
            self._added[request_id] = Added(started_ns, self._operation, params, lora_name(lora), stats=stats)

    def took(self, outputs: Iterable[Any]) -> None:
        """Note the requests that the engine's last step brought to their end."""
        if self._call.has_own_requests:
            now_ns = time_ns()
            self._taken.extend([Taken(self._facts(output), now_ns) for output in outputs if output.finished])

    def _facts(self, output: Any) -> Facts:
        facts = facts_of(output)
        added = self._added.get(facts.request_id) if facts.request_id is not None else None
        if added is None or added.stats is None:
            return facts
        return facts._replace(phases=phases_of_pooling(added.stats))

    @fault.guarded("end of a batch")
    def complete(self, result: Any) -> None:
        """End a call that returned."""
        self._end(None, result)

    @fault.guarded("end of a batch")
    def fail(self, error: BaseException) -> None:
        """End a call that raised; what had come to its end before is told, and counted."""
        self._end(error, None)

    def _end(self, error: BaseException | None, result: Any) -> None:
        if not self.is_open:
            return
        self.is_open = False
        elapsed_s, ended_ns = perf_counter() - self._began, time_ns()
        rest = Facts()
        try:
            if not self._taken and self._call.runs:
                self._taken = _read(result)
            requests = self._taken
            totals = sum_of(taken.facts for taken in requests)
            if error is not None:
                requests = [*requests, *self._left_behind(error)]
            elif not self._call.runs:
                self._keep()
            spans = self._chosen(requests)
            apart = {id(taken) for taken in spans}
            folded = [taken.facts for taken in requests if id(taken) not in apart]
            self._describe(len(requests) if self._call.runs else len(self._added), totals, len(folded))
            rest = sum_of(folded)
            self._write(spans, ended_ns)
            if self._point is not None:
                self._record(elapsed_s, totals, error)
        except Exception as own:
            fault.report("end of a batch", own)
        finally:
            if error is not None:
                self._span.fail(error, rest, ended_ns)
            else:
                self._span.finish(rest, ended_ns)
            self.context = _ROOT  # it holds this object: a cycle, that only the collector could free

    def _describe(self, size: int, totals: Facts, folded: int) -> None:
        """Write the sums: under names of their own, for under `gen_ai.usage` whoever adds up spans would count them twice.

        There the batch has what its folded requests used: its and its requests' spans add up to the sums.
        """
        found: dict[str, Value] = {semconv.BATCH_SIZE: size}
        if folded:
            found[semconv.BATCH_FOLDED] = folded
        if totals.input_tokens is not None:
            found[semconv.BATCH_INPUT_TOKENS] = totals.input_tokens
        if totals.output_tokens is not None:
            found[semconv.BATCH_OUTPUT_TOKENS] = totals.output_tokens
        self._span.span.set_attributes(found)

    def _keep(self) -> None:
        by = self._span.span.get_span_context()
        enqueued.keep(self._engine, {name: added._replace(enqueued_by=by) for name, added in self._added.items()})

    def _left_behind(self, error: BaseException) -> list[Taken]:
        """Return the requests of this call that an error kept from their end; those enqueued before may yet be waited for."""
        finished = {taken.facts.request_id for taken in self._taken}
        left = {name: added for name, added in self._added.items() if name not in finished}
        waiting = {name: added for name, added in left.items() if name in self._found}
        if waiting:
            enqueued.keep(self._engine, waiting)
        kind = type(error).__qualname__
        return [Taken(Facts(name, error=kind)) for name in left if name not in waiting]

    def _chosen(self, requests: Sequence[Taken]) -> Sequence[Taken]:
        """Choose those that get a span: the first of them, yet those that went wrong before the others."""
        limit, settings = self._telemetry.settings.vllm_max_request_spans, self._telemetry.settings
        if settings.vllm_request_spans is RequestSpans.CHILDREN and not self._span.span.is_recording():
            return ()
        if len(requests) <= limit:
            return requests
        wrong = [
            taken for taken in requests if taken.facts.error or not _UNFINISHED.isdisjoint(taken.facts.finish_reasons)
        ]
        if not wrong:
            return requests[:limit]
        first = {id(taken) for taken in wrong}
        return [*wrong, *(taken for taken in requests if id(taken) not in first)][:limit]

    def _write(self, requests: Sequence[Taken], ended_ns: int) -> None:
        parent, links = self._span.context, tuple[Link, ...]()
        if self._telemetry.settings.vllm_request_spans is RequestSpans.LINKS:
            parent, links = _ROOT, (Link(self._span.span.get_span_context()),)
        read: dict[int, dict[str, Value]] = {}  # by the identity of the parameters: most batches share one object
        for taken in requests:
            facts = taken.facts
            added = self._added.get(facts.request_id) if facts.request_id is not None else None
            attributes: dict[str, Value] = {}
            operation, started_ns = self._operation, self._began_ns
            if added is not None:
                operation, started_ns = added.operation, added.started_ns
                found = read.get(id(added.params))
                if found is None:
                    found = read[id(added.params)] = parameters_of(added.params)
                attributes = found
                if facts.lora is None and added.lora is not None:
                    facts = facts._replace(lora=added.lora)
            span = RequestSpan(
                self._telemetry, operation, self._model, attributes, parent=parent, links=links, started_ns=started_ns
            )
            span.finish(facts, taken.ended_ns or ended_ns)

    def _record(self, elapsed_s: float, totals: Facts, error: BaseException | None) -> None:
        usage = None
        if totals.input_tokens is not None or totals.output_tokens is not None:
            usage = Usage(
                totals.input_tokens, totals.output_tokens, totals.cached_tokens, totals.cache_write_tokens
            )  # fmt: skip
        failed = None if error is None else type(error).__qualname__
        assert self._point is not None
        self._telemetry.points.call(
            elapsed_s, self._point, Reply(usage=usage), None, failed, self._span.context
        )  # fmt: skip


def _read(result: Any) -> list[Taken]:
    """Read what a call returned, where the engine was not seen to hand it over."""
    if not isinstance(result, list):
        return []
    found: list[Taken] = []
    for output in result:
        try:
            found.append(Taken(facts_of(output)))
        except Exception as own:  # a subclass may return what it likes
            fault.report("output of a batch", own)
    return found


def _operation_of(waiting: Iterable[Added]) -> str:
    """Return what `wait_for_completion` does: what was enqueued; several kinds at once are the conventions' general one."""
    found = {added.operation for added in waiting}
    return found.pop() if len(found) == 1 else semconv.OPERATION_GENERATE_CONTENT


def _links(waiting: Iterable[Added]) -> list[Link]:
    by: Mapping[int, SpanContext] = {
        added.enqueued_by.span_id: added.enqueued_by for added in waiting if added.enqueued_by is not None
    }
    return [Link(context) for context in list(by.values())[:_MAX_LINKS]]
