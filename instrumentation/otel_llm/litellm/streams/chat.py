"""Following LiteLLM's stream objects in place: wrappers for the methods through which every consumer passes.

The object handed to the caller is LiteLLM's own, of LiteLLM's own class, whose methods are wrapped when its first object
is seen; the object carries a recorder until it ends. A stream without one costs a dictionary look-up per chunk. Closing
from inside an iteration step is LiteLLM's own tidying up, and how that step ends says how the stream ended.

`follow` knows the streams of chat; those of other operations are found by modules of their own, which `attach` a recorder
as this one does.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from otel_llm import fault
from otel_llm.invocation import Invocation
from otel_llm.litellm.entry import Asked
from otel_llm.litellm.read import chat
from otel_llm.litellm.wrappers import WRAPPERS
from otel_llm.semconv import StreamEnd
from otel_llm.streams import StreamRecorder

_RECORDER: Final = "_otel_llm_recorder"  # on a stream, until it ends
_KEEP: Final = "_otel_llm_keep"  # beside it: what is handed the chunks, where a reader needs them
_ITERATION: Final = ("__iter__", "__next__", "__aiter__", "__anext__")
_OF_ALL_STREAMS: Final = frozenset(("collections", "_collections_abc", "typing"))  # bases that return `self`, no more

Function = Callable[..., Any]
Keep = Callable[[Any], object]


class Listener(Protocol):
    """What is told what happens to a stream: a `StreamRecorder`, or what stands for one on a stream inside another."""

    is_reading: bool

    def enter(self) -> Any: ...
    def leave(self, token: Any) -> None: ...
    def chunk(self) -> None: ...
    def end(self, how: StreamEnd) -> None: ...
    def fail(self, error: BaseException) -> None: ...


def follow(stream: Any, invocation: Invocation, asked: Asked) -> bool:
    """Follow `stream` to its end, if it is one of LiteLLM's streams of chat or text completion."""
    if not isinstance(stream, _kind()):
        return False
    arrived = chat.Arrived(stream, asked, invocation)
    attach(stream, StreamRecorder(invocation, arrived.read), arrived.keep)
    return True


@functools.cache
def _kind() -> type:
    from litellm import CustomStreamWrapper  # long imported, but an import statement takes its time in every call

    kind: type = CustomStreamWrapper
    return kind


def attach(stream: Any, recorder: Listener, keep: Keep | None = None) -> None:
    """Have `recorder` told what happens to `stream`, and `keep` handed its chunks; neither may hold the stream."""
    kind: Any = type(stream)
    methods = _methods_of(kind)
    if methods is None:
        recorder.end(StreamEnd.UNOBSERVED)
        return
    put(methods)
    parts = vars(stream)
    if keep is not None:
        parts[_KEEP] = keep
    parts[_RECORDER] = recorder


@functools.lru_cache(maxsize=64)
def _methods_of(kind: type) -> Mapping[type, Mapping[str, Callable[[Function], Function]]] | None:
    """The methods to wrap, by the class that defines them; None where an application's subclass iterates by itself."""
    found: dict[type, dict[str, Callable[[Function], Function]]] = {}
    for name in (*_ITERATION, "close", "aclose"):
        owner = next((one for one in kind.__mro__ if name in vars(one)), None)
        if owner is None:
            continue
        home = owner.__module__.partition(".")[0]
        if home == "litellm":
            if name in METHODS:
                found.setdefault(owner, {})[name] = METHODS[name]
        elif name in _ITERATION and home not in _OF_ALL_STREAMS:
            return None
    return found


def put(methods: Mapping[type, Mapping[str, Callable[[Function], Function]]]) -> None:
    """Wrap methods of LiteLLM's classes that are not wrapped yet."""
    for owner, makers in methods.items():
        WRAPPERS.put_methods(owner, makers)


def _forget(stream: Any) -> None:
    parts = vars(stream)
    parts.pop(_RECORDER, None)
    parts.pop(_KEEP, None)


# What the wrappers call, and what must not raise into them.


@fault.guarded("end of a step of a stream")
def _leave(recorder: Listener, token: Any) -> None:
    recorder.leave(token)


@fault.guarded("end of a stream")
def _end(stream: Any, recorder: Listener, how: StreamEnd) -> None:
    _forget(stream)
    recorder.end(how)


@fault.guarded("error of a stream")
def _fail(stream: Any, recorder: Listener, error: BaseException) -> None:
    _forget(stream)
    recorder.fail(error)


def _next(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any) -> Any:
        parts = vars(self)
        recorder: Listener | None = parts.get(_RECORDER)
        if recorder is None or recorder.is_reading:  # then a subclass of LiteLLM's own calls its base
            return original(self)
        token = None
        try:  # once a chunk: a guarded function would cost more than what it guards
            token = recorder.enter()
        except Exception as own:
            fault.report("start of a step of a stream", own)
        try:
            chunk = original(self)
        except StopIteration:
            _end(self, recorder, StreamEnd.EXHAUSTED)
            _leave(recorder, token)
            raise
        except BaseException as error:
            _fail(self, recorder, error)
            _leave(recorder, token)
            raise
        try:
            recorder.leave(token)
            recorder.chunk()
            keep: Keep | None = parts.get(_KEEP)
            if keep is not None:
                keep(chunk)
        except Exception as own:
            fault.report("chunk of a stream", own)
        return chunk

    return wrapper


def _anext(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any) -> Any:
        parts = vars(self)
        recorder: Listener | None = parts.get(_RECORDER)
        if recorder is None or recorder.is_reading:
            return await original(self)
        token = None
        try:  # once a chunk: a guarded function would cost more than what it guards
            token = recorder.enter()
        except Exception as own:
            fault.report("start of a step of a stream", own)
        try:
            chunk = await original(self)
        except StopAsyncIteration:
            _end(self, recorder, StreamEnd.EXHAUSTED)
            _leave(recorder, token)
            raise
        except BaseException as error:
            _fail(self, recorder, error)
            _leave(recorder, token)
            raise
        try:
            recorder.leave(token)
            recorder.chunk()
            keep: Keep | None = parts.get(_KEEP)
            if keep is not None:
                keep(chunk)
        except Exception as own:
            fault.report("chunk of a stream", own)
        return chunk

    return wrapper


def _close(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any) -> Any:
        recorder: Listener | None = vars(self).get(_RECORDER)
        if recorder is None or recorder.is_reading:
            return original(self)
        try:
            return original(self)
        finally:
            _end(self, recorder, StreamEnd.CLOSED)

    return wrapper


def _aclose(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any) -> Any:
        recorder: Listener | None = vars(self).get(_RECORDER)
        if recorder is None or recorder.is_reading:
            return await original(self)
        try:
            return await original(self)
        finally:
            _end(self, recorder, StreamEnd.CLOSED)

    return wrapper


METHODS: Final[Mapping[str, Callable[[Function], Function]]] = {
    "__next__": _next,
    "__anext__": _anext,
    "close": _close,
    "aclose": _aclose,
}
"""By name of the method: what makes its wrapper."""
