"""Requests given up before their end: counted exactly, with the reason, at the one place where vLLM lets go of them.

vLLM keeps no statistics of such a request; its tokens are in the totals and it is nowhere. `OutputProcessor.abort_requests`
is where the front end drops it. What it asks the engine alone to drop, because a stop string ended a reply, does not come
by here and is a finished request. `OutputProcessor.add_request` tells which state belongs to which open request.

A request cancelled while vLLM still hands it to the engine is not given up by vLLM: the engine runs it to its end with
nobody listening, and it is counted as finished there; its span says `cancelled`.
"""

import functools
import sys
import weakref
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.context import Context

from otel_llm import fault, semconv
from otel_llm.bound import Bound
from otel_llm.invocation import Telemetry
from otel_llm.metrics import counter
from otel_llm.records import Value
from otel_llm.wrapping import Function, Wrappers

from .metrics import ABORTED, ABORTED_TOKENS
from .open_request import OpenRequest, enclosing, reason_of
from .request_span import PROVIDER
from .states import State, tokens_of
from .wrappers import State as Instrumentation

# Both sides weak: a request left behind must be collected, and it holds its states.
_REQUESTS: "weakref.WeakKeyDictionary[State, weakref.ref[OpenRequest]]" = weakref.WeakKeyDictionary()


def put(module: Any, telemetry: Telemetry, wrappers: Wrappers) -> None:
    """Wrap the two methods of `OutputProcessor`, unless that is not wanted."""
    if not telemetry.settings.vllm_aborts:
        return
    requests, tokens = counter(telemetry.meter, ABORTED), counter(telemetry.meter, ABORTED_TOKENS)
    wrappers.put_methods(
        module.OutputProcessor,
        {"add_request": _add_request, "abort_requests": functools.partial(_abort_requests, requests, tokens)},
    )


def _add_request(original: Function) -> Function:
    @functools.wraps(original)
    def add_request(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        request = enclosing()
        if request is not None:
            _join(request, self, args[0] if args else kwargs.get("request"))
        return result

    return add_request


@fault.guarded("the state of a request")
def _join(request: OpenRequest, processor: Any, added: Any) -> None:
    state = processor.request_states.get(added.request_id)
    if state is not None:
        request.kept_as(state)
        _REQUESTS[state] = weakref.ref(request)


def _abort_requests(requests: Bound, tokens: Bound, original: Function) -> Function:
    @functools.wraps(original)
    def abort_requests(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        given = _given(args, kwargs) if Instrumentation.active is not None else None
        if given is None:
            return original(self, *args, **kwargs)
        request_ids, internal, args, kwargs = given
        # vLLM gives up for its own reasons inside the handler of the exception that made it; `abort` by id has none.
        passing = sys.exception() if internal else None
        states = _states(self, request_ids, internal) or ()
        _give_reasons(states, passing)
        aborted = original(self, *args, **kwargs)
        _count(requests, tokens, states, passing, aborted)
        return aborted

    return abort_requests


@fault.guarded("the ids of requests to give up")
def _given(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[str], bool, tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """Return the ids, whether they are vLLM's own, and the arguments with the ids in a list: they may be readable only once."""
    internal = args[1] if len(args) > 1 else kwargs["internal"]
    request_ids = list(args[0] if args else kwargs["request_ids"])
    if args:
        return request_ids, internal, (request_ids, *args[1:]), kwargs
    return request_ids, internal, args, {**kwargs, "request_ids": request_ids}


@fault.guarded("the requests to give up")
def _states(processor: Any, request_ids: list[str], internal: bool) -> list[State]:
    """Return what is kept of these requests; a parent's choices come by here again, by their own ids."""
    known = processor.request_states
    if not internal:
        given = processor.external_req_ids
        request_ids = [one for request_id in request_ids for one in given.get(request_id, ())]
    return [known[one] for one in dict.fromkeys(request_ids) if one in known]


@fault.guarded("why requests were given up")
def _give_reasons(states: Iterable[State], passing: BaseException | None) -> None:
    # Before vLLM lets go of them: the consumer may be woken with the last output.
    for state in states:
        request = _request_of(state)
        if request is not None and request.reason is None:
            request.reason = reason_of(passing, request.incoming)


@fault.guarded("count of the requests given up")
def _count(
    requests: Bound, tokens: Bound, states: Iterable[State], passing: BaseException | None, aborted: Any
) -> None:
    gone = set(aborted)
    for state in states:
        if state.request_id not in gone:
            continue
        request = _request_of(state)
        attributes: dict[str, Value] = {semconv.PROVIDER_NAME: PROVIDER}
        context: Context | None = None
        reason = reason_of(passing)
        if request is not None:
            context, reason = request.context, request.reason or reason
            if request.model is not None:
                attributes[semconv.REQUEST_MODEL] = request.model
        attributes[semconv.ABORT_REASON] = reason.value
        requests.add(1, attributes, context)
        read, generated = tokens_of(state)
        if read:
            tokens.add(read, {**attributes, semconv.TOKEN_TYPE: semconv.TOKEN_INPUT}, context)
        if generated:
            tokens.add(generated, {**attributes, semconv.TOKEN_TYPE: semconv.TOKEN_OUTPUT}, context)


def _request_of(state: State) -> OpenRequest | None:
    known = _REQUESTS.get(state)
    return None if known is None else known()


PARTS: Final = (("vllm.v1.engine.output_processor", "requests given up", put),)
