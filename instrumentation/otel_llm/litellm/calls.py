"""The wrappers around LiteLLM's functions: start an invocation, make LiteLLM's call inside it, end it with what came of it.

Plain functions take the place of functions, so that signature, coroutine flag, `copy.deepcopy` and pickling by name stay
as they are. A wrapper whose instrumentation is off, of which other code may hold references, calls straight through.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from otel_llm import fault
from otel_llm.invocation import Invocation, Telemetry, may_start
from otel_llm.litellm.content.capture import capture_input, capture_output
from otel_llm.litellm.entry import Asked, Entry
from otel_llm.litellm.read.chat import read_error
from otel_llm.litellm.read.identity import read_identity
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.read.request import is_mock
from otel_llm.litellm.router.requests import attempt_attributes
from otel_llm.records import Reply

Function = Callable[..., Any]
Arguments = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any] | None]
"""From the arguments of one call to the arguments by name; None for a call that is recorded elsewhere."""


deferred: Final[ContextVar[bool]] = ContextVar("otel_llm.litellm.deferred", default=False)
"""Whether LiteLLM is preparing a call here whose coroutine a wrapper will follow."""


@dataclass(frozen=True)
class Active:
    """What wrappers need while the instrumentation is on."""

    telemetry: Telemetry
    names: Names


class State:
    """Whether the instrumentation is on, for all wrappers."""

    active: Active | None = None


def by_position(original: Function) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]:
    """Return what names the arguments of a call to `original`."""
    names = tuple(inspect.signature(original).parameters)
    return lambda args, kwargs: {**dict(zip(names, args, strict=False)), **kwargs} if args else kwargs


def wrapper_of(original: Function, entry: Entry, arguments: Arguments) -> Function:
    """Make the wrapper that takes the place of `original`."""
    return (_async_wrapper if inspect.iscoroutinefunction(original) else _sync_wrapper)(original, entry, arguments)


def _sync_wrapper(original: Function, entry: Entry, arguments: Arguments) -> Function:
    flag = entry.coroutine_flag

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if flag is not None and kwargs.get(flag) is True:
            token = deferred.set(True)
            try:
                result = original(*args, **kwargs)
            finally:
                deferred.reset(token)
            return _follow(result, entry, arguments, args, kwargs) if inspect.iscoroutine(result) else result
        started = _start(entry, arguments, args, kwargs)
        if started is None:
            return original(*args, **kwargs)
        invocation, asked = started
        entered = invocation.enter()
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            _fail(invocation, error)
            raise
        finally:
            invocation.leave(entered)
        _finish(entry, invocation, asked, result)
        return result

    return wrapper


def _async_wrapper(original: Function, entry: Entry, arguments: Arguments) -> Function:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await _follow(original(*args, **kwargs), entry, arguments, args, kwargs)

    return wrapper


async def _follow(
    call: Coroutine[Any, Any, Any], entry: Entry, arguments: Arguments, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    started = _start(entry, arguments, args, kwargs)
    if started is None:
        return await call
    invocation, asked = started
    token = invocation.enter()
    try:
        result = await call
    except BaseException as error:
        _fail(invocation, error)
        raise
    finally:
        invocation.leave(token)
    _finish(entry, invocation, asked, result)
    return result


@fault.guarded("start of a LiteLLM call")
def _start(
    entry: Entry, arguments: Arguments, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Invocation, Asked] | None:
    active = State.active
    by_name = arguments(args, kwargs) if active is not None and may_start() else None
    if active is None or by_name is None:
        return None
    telemetry = active.telemetry
    request = entry.read_request(by_name, active.names)
    request.parameters.update(read_identity(by_name, telemetry.settings))
    request.parameters.update(attempt_attributes(by_name))
    asked = Asked(by_name, not is_mock(by_name), request, telemetry)
    invocation = Invocation(telemetry, request)
    capture_input(telemetry.content, invocation.span, request, by_name)
    return invocation, asked


@fault.guarded("error of a LiteLLM call")
def _fail(invocation: Invocation, error: BaseException) -> None:
    try:
        reply = read_error(error)
    except Exception as own:
        fault.report("error of a LiteLLM call", own)
        reply = Reply()
    invocation.fail(error, reply)


@fault.guarded("reply of a LiteLLM call")
def _finish(entry: Entry, invocation: Invocation, asked: Asked, result: Any) -> None:
    try:
        if entry.follow is not None and entry.follow(result, invocation, asked):
            return
        reply = entry.read_reply(result, asked)
        capture_output(reply, result, asked.request)
    except Exception as own:
        fault.report("reply of a LiteLLM call", own)
        reply = Reply()
    invocation.complete(reply)
