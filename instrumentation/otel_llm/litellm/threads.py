"""Carrying the current span into threads that LiteLLM starts for calls: batches, and fallbacks asked for in an event loop.

Into its other threads LiteLLM copies the context itself, but for `batch_completion_models_all_responses`, whose calls
start traces of their own. Only OpenTelemetry's context is carried: the application's own context variables are in those
threads what they are without us.
"""

import functools
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

from opentelemetry import context as otel_context

P = ParamSpec("P")
T = TypeVar("T")
Function = Callable[..., Any]

_put: Final[list[tuple[ModuleType, str, Any, Any]]] = []  # module, name, what was there, ours


class CarryingExecutor(ThreadPoolExecutor):
    """A pool of threads whose work runs in the OpenTelemetry context it was submitted in."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit work as the base class does."""
        context = otel_context.get_current()

        def work() -> T:
            token = otel_context.attach(context)
            try:
                return fn(*args, **kwargs)
            finally:
                otel_context.detach(token)

        return super().submit(work)


def _carrying(original: Function) -> Function:
    """Wrap LiteLLM's `run_async_function(async_function, ...)`, which takes a thread where an event loop runs."""

    @functools.wraps(original)
    def wrapper(async_function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        context = otel_context.get_current()

        async def inside(*args: Any, **kwargs: Any) -> Any:
            token = otel_context.attach(context)
            try:
                return await async_function(*args, **kwargs)
            finally:
                otel_context.detach(token)

        return original(inside, *args, **kwargs)

    return wrapper


_PLACES: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    # A module of LiteLLM, a name in it, and what makes ours of what it holds.
    ("litellm.batch_completion.main", "ThreadPoolExecutor", lambda _: CarryingExecutor),
    ("litellm.litellm_core_utils.fallback_utils", "run_async_function", _carrying),
)


def apply() -> None:
    """Carry the context from now on, in those modules that this LiteLLM has."""
    if _put:
        return
    for module_name, name, make in _PLACES:
        module = sys.modules.get(module_name)
        original = getattr(module, name, None)
        if module is not None and original is not None:
            ours = make(original)
            setattr(module, name, ours)
            _put.append((module, name, original, ours))


def remove() -> None:
    """Leave the context where it is again; what somebody else put in our place stays."""
    for module, name, original, ours in _put:
        if getattr(module, name, None) is ours:
            setattr(module, name, original)
    _put.clear()
