"""Putting wrappers on LiteLLM's entry points and on its stream class, and taking them off again.

Plain functions take the place of functions, so that signature, coroutine flag, `copy.deepcopy` and pickling by name stay
as they are. A wrapper whose instrumentation is off, of which other code may hold references, calls straight through.

Not covered here: names bound before the instrumentation (`from litellm import completion` in an earlier import).
"""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final

from otel_llm import fault, leftovers
from otel_llm.invocation import Invocation, Reply, Telemetry, may_start
from otel_llm.semconv import StreamEnd

from . import extract, stream

_LOG = logging.getLogger(__name__)
_ORIGINAL: Final = "__otel_llm_original__"  # on a wrapper of ours: what it wraps

Function = Callable[..., Any]
Arguments = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any] | None]
"""From the arguments of one call to the arguments by name; None for a call that is recorded elsewhere."""


@dataclass(frozen=True)
class _Active:
    """What wrappers need while the instrumentation is on."""

    telemetry: Telemetry
    names: extract.Names
    stream_class: type


class _State:
    active: _Active | None = None
    patched: ClassVar[list[tuple[Any, str, Function]]] = []  # owner, attribute, our wrapper


def apply(litellm: ModuleType, telemetry: Telemetry) -> None:
    """Wrap LiteLLM's entry points, except those already wrapped, and record with `telemetry` from now on."""
    providers = frozenset(str(getattr(provider, "value", provider)) for provider in litellm.provider_list)

    def is_provider(name: str) -> bool:
        return name in providers or any(row.get("provider") == name for row in litellm.custom_provider_map)

    def provider_of_model(model: str) -> str | None:
        row = litellm.model_cost.get(model)
        provider = row.get("litellm_provider") if isinstance(row, dict) else None
        return provider if isinstance(provider, str) else None

    stream_class = litellm.CustomStreamWrapper
    for name, make in stream.METHODS.items():
        original: Function | None = getattr(stream_class, name, None)  # LiteLLM before 1.109 has no `close`
        if original is not None and not hasattr(original, _ORIGINAL):
            _put(stream_class, name, make(original), original)
    for name in ("completion", "acompletion"):
        _wrap(litellm, name, _by_position)
    # The client object calls a global of `litellm.main` that text completion uses as well; hence its own methods.
    _wrap(litellm.main.Completions, "create", _of_client)
    _wrap(litellm.main.AsyncCompletions, "create", _of_client)
    _State.active = _Active(telemetry, extract.Names(is_provider, provider_of_model), stream_class)


def remove() -> None:
    """Take the wrappers off and end the spans of open streams; a wrapper that somebody else wrapped stays and is idle."""
    _State.active = None
    leftovers.end_all(StreamEnd.UNINSTRUMENTED)
    for owner, name, wrapper in reversed(_State.patched):
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, getattr(wrapper, _ORIGINAL))
    _State.patched.clear()


def _put(owner: Any, name: str, wrapper: Function, original: Function) -> None:
    setattr(wrapper, _ORIGINAL, original)
    setattr(owner, name, wrapper)
    _State.patched.append((owner, name, wrapper))


def _wrap(owner: Any, name: str, arguments_of: Callable[[Function], Arguments]) -> None:
    original: Function = getattr(owner, name)
    if hasattr(original, _ORIGINAL):
        return
    # A copied name says nothing; the globals of a plain function tell whose code it is.
    if type(original) is not FunctionType or not str(original.__globals__.get("__name__")).startswith("litellm"):
        _LOG.warning("otel_llm: %s.%s is already wrapped by other code and is left alone", owner.__name__, name)
        return
    make = _async_wrapper if inspect.iscoroutinefunction(original) else _sync_wrapper
    wrapper = make(original, arguments_of(original))
    _put(owner, name, wrapper, original)
    # Where the function was defined elsewhere, its home gets the same wrapper: pickle looks for it there, by name.
    home = sys.modules.get(original.__module__)
    if isinstance(owner, ModuleType) and home is not owner and home is not None and vars(home).get(name) is original:
        _put(home, name, wrapper, original)


def _by_position(original: Function) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]:
    names = tuple(inspect.signature(original).parameters)
    return lambda args, kwargs: {**dict(zip(names, args, strict=False)), **kwargs} if args else kwargs


def _of_client(original: Function) -> Arguments:
    by_position = _by_position(original)

    def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        client, given = args[0], by_position(args, kwargs)
        if client.router_obj is not None:  # each attempt of the router is a call of the module's function
            return None
        return {**client.params, **given, "model": given.get("model") or client.params.get("model")}

    return arguments


def _sync_wrapper(original: Function, arguments: Arguments) -> Function:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("acompletion") is True:  # LiteLLM's own way to get a coroutine from the sync function
            result = original(*args, **kwargs)
            return _follow(result, arguments, args, kwargs) if inspect.iscoroutine(result) else result
        started = _start(arguments, args, kwargs)
        if started is None:
            return original(*args, **kwargs)
        invocation = started.invocation
        token = invocation.enter()
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            _fail(invocation, error)
            raise
        finally:
            invocation.leave(token)
        _finish(started, result)
        return result

    return wrapper


def _async_wrapper(original: Function, arguments: Arguments) -> Function:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await _follow(original(*args, **kwargs), arguments, args, kwargs)

    return wrapper


async def _follow(
    call: Coroutine[Any, Any, Any], arguments: Arguments, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    started = _start(arguments, args, kwargs)
    if started is None:
        return await call
    invocation = started.invocation
    token = invocation.enter()
    try:
        result = await call
    except BaseException as error:
        _fail(invocation, error)
        raise
    finally:
        invocation.leave(token)
    _finish(started, result)
    return result


@dataclass(frozen=True, slots=True)
class _Started:
    invocation: Invocation
    stream_class: type
    is_server: bool


def _start(arguments: Arguments, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Started | None:
    active = _State.active
    if active is None:
        return None
    try:
        by_name = arguments(args, kwargs) if may_start() else None
        if by_name is None:
            return None
        request, is_server = extract.read_request(by_name, active.names), not extract.is_mock(by_name)
        return _Started(Invocation(active.telemetry, request), active.stream_class, is_server)
    except Exception as own:
        fault.report("start of a LiteLLM call", own)
        return None


def _fail(invocation: Invocation, error: BaseException) -> None:
    try:
        reply = extract.read_error(error)
    except Exception as own:
        fault.report("error of a LiteLLM call", own)
        reply = Reply()
    invocation.fail(error, reply)


def _finish(started: _Started, result: Any) -> None:
    try:
        if isinstance(result, started.stream_class):
            stream.follow(result, started.stream_class, started.invocation, started.is_server)
            return
        reply = extract.read_reply(result, started.is_server)
    except Exception as own:
        fault.report("reply of a LiteLLM call", own)
        reply = Reply()
    started.invocation.complete(reply)
