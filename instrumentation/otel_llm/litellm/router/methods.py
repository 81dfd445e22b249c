"""Following LiteLLM's Router: wrappers for the methods through which every routed request passes.

The Router works in one async core, which retries, falls back and calls itself again for each fallback; its sync methods
run that core on an event loop of their own. A request is open until the Router hands out its reply or stream. A stream
that breaks later and that the Router continues elsewhere opens a further one, a child of the first.

`Router.text_completion` and the sync generic calls ask one deployment, once, without the core; they are followed too.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from weakref import WeakValueDictionary

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from otel_llm import fault
from otel_llm.invocation import Telemetry, may_start
from otel_llm.litellm.read.fields import text
from otel_llm.litellm.router.metrics import RouterInstruments
from otel_llm.litellm.router.requests import RouterTelemetry, Routing, current

Function = Callable[..., Any]
PutMethods = Callable[[type, Mapping[str, Callable[[Function], Function]]], None]

_OF_A_STREAM: Final = "_otel_llm_routing"


class State:
    """Whether the instrumentation is on, and what it knows of requests beyond the task they run in."""

    telemetry: RouterTelemetry | None = None
    put_methods: PutMethods | None = None
    handed_over: Final[dict[int, Context]] = {}
    """Contexts on their way into a thread that does not inherit one, by the identity of the call's own function object."""
    handed_out: Final["WeakValueDictionary[int, _HandedOut]"] = WeakValueDictionary()
    """Requests whose stream is out, by the identity of the arguments with which the Router would go on; kept by the stream."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _HandedOut:
    routing: Routing


def apply(telemetry: Telemetry, meter: Meter, put_methods: PutMethods) -> None:
    """Follow Routers from now on, through `put_methods`, which also takes the wrappers off; imports nothing of LiteLLM's."""
    instruments = RouterInstruments(meter, telemetry.settings.max_metric_values)
    State.telemetry, State.put_methods = RouterTelemetry(telemetry.tracer, instruments), put_methods
    wrapt.register_post_import_hook(_imported, "litellm.router")


def remove() -> None:
    """Follow no further request; those that are under way end as they would have."""
    State.telemetry = State.put_methods = None


def _imported(router: ModuleType) -> None:
    # Runs inside the application's import statement, perhaps after `remove`.
    put_methods = State.put_methods
    if put_methods is None:
        return
    try:
        core = getattr(router, "router_python_core", None)
        put_methods(router.Router if core is None else core.PythonCore, _METHODS)
        put_methods(router.CooldownCache if core is None else core.CooldownCache, _COOLDOWN_METHODS)
    except Exception as own:
        fault.report("wrapping LiteLLM's Router", own)


@fault.guarded("a Router's request")
def _begin(group: object) -> Routing | None:
    """Begin a request, unless it is part of a call that is recorded already or telemetry is suppressed."""
    telemetry = State.telemetry
    if telemetry is None:
        return None
    try:
        return Routing(telemetry, text(group)) if may_start() else None
    except Exception as own:
        fault.report("start of a Router's request", own)
        return None


def _with_fallbacks(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Taken once: what the core asks of itself belongs to the request that it opens.
        handed = State.handed_over.pop(id(kwargs.get("original_function")), None) if State.handed_over else None
        call = original(self, *args, **kwargs)
        if handed is None:
            return await _route(call, kwargs)
        token = otel_context.attach(handed)
        try:
            return await _route(call, kwargs)
        finally:
            otel_context.detach(token)

    return wrapper


async def _route(call: Coroutine[Any, Any, Any], kwargs: Mapping[str, Any]) -> Any:
    routing = current() if kwargs.get("fallback_depth") and not _is_mirrored(kwargs) else None
    if routing is not None:  # the Router calls itself, for a fallback
        routing.falls_back(text(kwargs.get("model")))
        token = routing.enter()
        try:
            return await call
        finally:
            routing.leave(token)
    routing = _begin(kwargs.get("model"))
    return await call if routing is None else await _follow(routing, call)


@fault.guarded("a Router's request")
def _is_mirrored(kwargs: Mapping[str, Any]) -> bool:
    # A copy of a request, sent to another model on the side, has all of its arguments.
    metadata = kwargs.get("metadata")
    return isinstance(metadata, dict) and metadata.get("is_silent_experiment") is True


async def _follow(routing: Routing, call: Coroutine[Any, Any, Any]) -> Any:
    token = routing.enter()
    try:
        reply = await call
    except BaseException as error:
        routing.fail(error)
        raise
    finally:
        routing.leave(token)
    routing.complete()
    return reply


def _function_with_fallbacks(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Where a loop runs in this thread the Router's core runs in another, which inherits no context.
        function = kwargs.get("original_function")
        if State.telemetry is None or function is None or not _runs_in_a_loop():
            return original(self, *args, **kwargs)
        State.handed_over[id(function)] = otel_context.get_current()
        try:
            return original(self, *args, **kwargs)
        finally:
            State.handed_over.pop(id(function), None)

    return wrapper


def _runs_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _once(original: Function) -> Function:
    """Follow a method that asks one deployment, without the core."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        routing = _begin(args[0] if args else kwargs.get("model"))
        if routing is None:
            return original(self, *args, **kwargs)
        token = routing.enter()
        routing.attempts()
        try:
            reply = original(self, *args, **kwargs)
        except BaseException as error:
            routing.is_refused(error)
            routing.fail(error)
            raise
        finally:
            routing.leave(token)
        routing.is_answered(reply)
        routing.complete()
        return reply

    return wrapper


def _make_call(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        routing = current()
        if routing is None:
            return await original(self, *args, **kwargs)
        routing.attempts()
        try:
            reply = await original(self, *args, **kwargs)
        except BaseException as error:
            routing.is_refused(error)
            raise
        routing.is_answered(reply)
        return reply

    return wrapper


def _hand_out(original: Function) -> Function:
    """Remember whose a stream is, before the Router hands it out."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = original(self, *args, **kwargs)
        _remember(stream, kwargs)
        return stream

    return wrapper


def _hand_out_async(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = await original(self, *args, **kwargs)
        _remember(stream, kwargs)
        return stream

    return wrapper


@fault.guarded("a Router's request")
def _remember(stream: Any, kwargs: Mapping[str, Any]) -> None:
    try:
        routing, arguments = current(), kwargs.get("initial_kwargs")
        if routing is not None and isinstance(arguments, dict):
            # The stream holds the arguments as well, so that their identity is theirs for as long as this is known.
            vars(stream)[_OF_A_STREAM] = State.handed_out[id(arguments)] = _HandedOut(routing)
    except Exception as own:
        fault.report("stream of a Router", own)


def _go_on(original: Function) -> Function:
    """Follow what the Router does after a failure; here: when it is that of a stream that is out already."""

    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = State.handed_out.get(id(kwargs.get("kwargs"))) if current() is None else None
        routing = _begin_again(before.routing, kwargs) if before is not None else None
        call = original(self, *args, **kwargs)
        return await call if routing is None else await _follow(routing, call)

    return wrapper


def _choose(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        routing = current()
        if routing is not None:
            _note_strategy(routing, found)
        return found

    return wrapper


def _pass_over(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        left = original(self, *args, **kwargs)
        if kwargs.get("cooldown_deployments"):
            _note_cooling(kwargs)
        return left

    return wrapper


def _cool_down(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        instruments = _instruments_unless_cooling(self, kwargs)
        result = original(self, *args, **kwargs)
        if instruments is not None:
            _count_cooldown(instruments, kwargs)
        return result

    return wrapper


@fault.guarded("a Router's request")
def _begin_again(before: Routing, kwargs: Mapping[str, Any]) -> Routing | None:
    telemetry = State.telemetry
    if telemetry is None:
        return None
    try:
        return Routing(telemetry, text(kwargs.get("model_group")), before, kwargs.get("e"))
    except Exception as own:
        fault.report("start of the routing of a broken stream", own)
        return None


@fault.guarded("a Router's request")
def _note_strategy(routing: Routing, found: Any) -> None:
    strategy = found[0] if isinstance(found, tuple) and found else None
    if isinstance(strategy, str):
        routing.strategy = strategy


@fault.guarded("a Router's request")
def _note_cooling(kwargs: Mapping[str, Any]) -> None:
    routing = current()
    if routing is None:
        return
    try:
        cooling = kwargs["cooldown_deployments"]
        ids = [one["model_info"]["id"] for one in kwargs["healthy_deployments"]]
        routing.passes_over([identity for identity in ids if identity in cooling])
    except Exception as own:
        fault.report("cooldowns met by a Router", own)


@fault.guarded("a Router's request")
def _instruments_unless_cooling(cache: Any, kwargs: Mapping[str, Any]) -> RouterInstruments | None:
    telemetry = State.telemetry
    if telemetry is None:
        return None
    try:
        # LiteLLM may say it several times of one failure, and of each request that was under way.
        key = cache.get_cooldown_cache_key(kwargs["model_id"])
        return telemetry.instruments if cache.in_memory_cache.get_cache(key) is None else None
    except Exception as own:
        fault.report("cooldown of a deployment", own)
        return None


@fault.guarded("a Router's request")
def _count_cooldown(instruments: RouterInstruments, kwargs: Mapping[str, Any]) -> None:
    try:
        instruments.cooled_down(kwargs["model_id"], type(kwargs.get("original_exception")).__qualname__)
    except Exception as own:
        fault.report("cooldown of a deployment", own)


_METHODS: Final[Mapping[str, Callable[[Function], Function]]] = {
    "async_function_with_fallbacks": _with_fallbacks,
    "function_with_fallbacks": _function_with_fallbacks,
    "make_call": _make_call,
    "text_completion": _once,
    "_generic_api_call_with_fallbacks": _once,
    "async_function_with_fallbacks_common_utils": _go_on,
    "_acompletion_streaming_iterator": _hand_out_async,
    "_aresponses_streaming_iterator": _hand_out_async,
    "_aanthropic_messages_streaming_iterator": _hand_out_async,
    "_completion_streaming_iterator": _hand_out,
    "_get_routing_context": _choose,
    "_filter_cooldown_deployments": _pass_over,
}
"""By name of the Router's method: what makes its wrapper."""

_COOLDOWN_METHODS: Final[Mapping[str, Callable[[Function], Function]]] = {"add_deployment_to_cooldown": _cool_down}
