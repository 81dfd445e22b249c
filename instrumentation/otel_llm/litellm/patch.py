"""Putting wrappers on LiteLLM's entry points and on its stream class, and taking them off again.

Not covered here: names bound before the instrumentation (`from litellm import completion` in an earlier import).
"""

import logging
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from otel_llm import leftovers
from otel_llm.invocation import Telemetry
from otel_llm.semconv import StreamEnd

from . import stream
from .calls import Active, Arguments, Function, State, by_position, wrapper_of
from .entries import ENTRIES
from .entry import Entry
from .names import Names

_LOG = logging.getLogger(__name__)
_ORIGINAL: Final = "__otel_llm_original__"  # on a wrapper of ours: what it wraps
_patched: Final[list[tuple[Any, str, Function]]] = []  # owner, attribute, our wrapper


def apply(litellm: ModuleType, telemetry: Telemetry) -> None:
    """Wrap LiteLLM's entry points, except those already wrapped, and record with `telemetry` from now on."""
    put_methods(litellm.CustomStreamWrapper, stream.METHODS)
    by_name = {entry.name: entry for entry in ENTRIES}
    for entry in ENTRIES:
        _wrap(litellm, entry.name, entry, by_position)
    # The client object calls a global of `litellm.main` that text completion uses as well; hence its own methods.
    _wrap(litellm.main.Completions, "create", by_name["completion"], _of_client)
    _wrap(litellm.main.AsyncCompletions, "create", by_name["acompletion"], _of_client)
    State.active = Active(telemetry, _names(litellm))


def remove() -> None:
    """Take the wrappers off and end the spans of open streams; a wrapper that somebody else wrapped stays and is idle."""
    State.active = None
    leftovers.end_all(StreamEnd.UNINSTRUMENTED)
    for owner, name, wrapper in reversed(_patched):
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, getattr(wrapper, _ORIGINAL))
    _patched.clear()


def put_methods(owner: type, methods: Mapping[str, Callable[[Function], Function]]) -> None:
    """Wrap methods of a class, by name, each by what makes its wrapper; one that the class lacks is passed over."""
    for name, make in methods.items():
        original: Any = getattr(owner, name, None)
        if original is not None and not hasattr(original, _ORIGINAL):
            _put(owner, name, make(original), original)


def _names(litellm: ModuleType) -> Names:
    providers = frozenset(str(getattr(provider, "value", provider)) for provider in litellm.provider_list)

    def is_provider(name: str) -> bool:
        return name in providers or any(row.get("provider") == name for row in litellm.custom_provider_map)

    def provider_of_model(model: str) -> str | None:
        row = litellm.model_cost.get(model)
        provider = row.get("litellm_provider") if isinstance(row, dict) else None
        return provider if isinstance(provider, str) else None

    return Names(is_provider, provider_of_model)


def _put(owner: Any, name: str, wrapper: Function, original: Function) -> None:
    setattr(wrapper, _ORIGINAL, original)
    setattr(owner, name, wrapper)
    _patched.append((owner, name, wrapper))


def _wrap(owner: Any, name: str, entry: Entry, arguments_of: Callable[[Function], Arguments]) -> None:
    original: Any = getattr(owner, name, None)
    if original is None or hasattr(original, _ORIGINAL):  # this LiteLLM has no such function, or it is wrapped
        return
    # A copied name says nothing; the globals of a plain function tell whose code it is.
    if type(original) is not FunctionType or not str(original.__globals__.get("__name__")).startswith("litellm"):
        _LOG.warning("otel_llm: %s.%s is already wrapped by other code and is left alone", owner.__name__, name)
        return
    wrapped: Function = original
    wrapper = wrapper_of(wrapped, entry, arguments_of(wrapped))
    _put(owner, name, wrapper, wrapped)
    # Where the function was defined elsewhere, its home gets the same wrapper: pickle looks for it there, by name.
    home = sys.modules.get(original.__module__)
    if isinstance(owner, ModuleType) and home is not owner and home is not None and vars(home).get(name) is original:
        _put(home, name, wrapper, wrapped)


def _of_client(original: Function) -> Arguments:
    named = by_position(original)

    def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        client, given = args[0], named(args, kwargs)
        if client.router_obj is not None:  # each attempt of the router is a call of the module's function
            return None
        return {**client.params, **given, "model": given.get("model") or client.params.get("model")}

    return arguments
