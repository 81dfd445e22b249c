"""Following LiteLLM's stream object: wrappers for the four methods through which every consumer passes.

The object handed to the caller is LiteLLM's own, of LiteLLM's own class; it carries a recorder until it ends. A stream
without one costs a dictionary look-up per chunk. Closing from inside an iteration step is LiteLLM's own tidying up, and
how that step ends says how the stream ended.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_llm.invocation import Invocation
from otel_llm.records import Reply
from otel_llm.semconv import StreamEnd
from otel_llm.streams import StreamRecorder

from . import chat
from .entry import Asked

_RECORDER: Final = "_otel_llm_recorder"
_ITERATION: Final = ("__iter__", "__next__", "__aiter__", "__anext__")

Function = Callable[..., Any]


def follow(stream: Any, invocation: Invocation, asked: Asked) -> bool:
    """Follow `stream` to its end, if it is an object of LiteLLM's stream class or of a subclass of it."""
    from litellm import CustomStreamWrapper  # long imported: it made the stream

    if not isinstance(stream, CustomStreamWrapper):
        return False
    recorder = StreamRecorder(invocation, _reader(stream, asked))
    # A subclass may hand out an iterator of its own, which passes none of our methods.
    if all(getattr(type(stream), name, None) is getattr(CustomStreamWrapper, name, None) for name in _ITERATION):
        vars(stream)[_RECORDER] = recorder
    else:
        recorder.end(StreamEnd.UNOBSERVED)
    return True


def _reader(stream: Any, asked: Asked) -> Callable[[], Reply]:
    # Holds the stream's parts, not the stream. The list is the one LiteLLM appends to.
    chunks, provider = stream.chunks, stream.custom_llm_provider
    is_server = asked.is_server and not getattr(stream, "is_mock", False) and provider != "cached_response"
    return lambda: chat.read_chunks(chunks, provider, is_server)


def _end(stream: Any, recorder: StreamRecorder, how: StreamEnd) -> None:
    vars(stream).pop(_RECORDER, None)
    recorder.end(how)


def _fail(stream: Any, recorder: StreamRecorder, error: BaseException) -> None:
    vars(stream).pop(_RECORDER, None)
    recorder.fail(error)


def _next(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any) -> Any:
        recorder: StreamRecorder | None = vars(self).get(_RECORDER)
        if recorder is None:
            return original(self)
        token = recorder.enter()
        try:
            chunk = original(self)
        except StopIteration:
            _end(self, recorder, StreamEnd.EXHAUSTED)
            raise
        except BaseException as error:
            _fail(self, recorder, error)
            raise
        finally:
            recorder.leave(token)
        recorder.chunk()
        return chunk

    return wrapper


def _anext(original: Function) -> Function:
    @functools.wraps(original)
    async def wrapper(self: Any) -> Any:
        recorder: StreamRecorder | None = vars(self).get(_RECORDER)
        if recorder is None:
            return await original(self)
        token = recorder.enter()
        try:
            chunk = await original(self)
        except StopAsyncIteration:
            _end(self, recorder, StreamEnd.EXHAUSTED)
            raise
        except BaseException as error:
            _fail(self, recorder, error)
            raise
        finally:
            recorder.leave(token)
        recorder.chunk()
        return chunk

    return wrapper


def _close(original: Function) -> Function:
    @functools.wraps(original)
    def wrapper(self: Any) -> Any:
        recorder: StreamRecorder | None = vars(self).get(_RECORDER)
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
        recorder: StreamRecorder | None = vars(self).get(_RECORDER)
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
