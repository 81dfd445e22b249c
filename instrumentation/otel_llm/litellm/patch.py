"""Putting wrappers on LiteLLM's entry points and on its stream class, and taking them off again.

Names bound before the instrumentation (`from litellm import completion` in an earlier import) keep what they hold: `early`.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from otel_llm import fault, leftovers
from otel_llm.invocation import Telemetry
from otel_llm.litellm import LiteLLMInstrumentor, early, outgoing, own_callback, proxy, threads
from otel_llm.litellm.calls import Active, Arguments, Function, State, by_position, wrapper_of
from otel_llm.litellm.entries import ENTRIES
from otel_llm.litellm.entry import Entry
from otel_llm.litellm.read import engine, text
from otel_llm.litellm.read.names import Names
from otel_llm.litellm.router import methods as router
from otel_llm.litellm.streams import chat as stream
from otel_llm.litellm.wrappers import WRAPPERS
from otel_llm.semconv import StreamEnd
from otel_llm.streams import StreamRecorder
from otel_llm.wrapping import is_wrapped

_LOG = logging.getLogger(__name__)


def apply(litellm: ModuleType, telemetry: Telemetry) -> None:
    """Wrap what LiteLLM offers, except what is wrapped already, and record with `telemetry` from now on.

    Each part stands alone: where this LiteLLM differs from those known, the parts that do not find their place are left
    out, and the fault is reported.
    """
    State.active = Active(telemetry, _names(litellm))
    parts: tuple[tuple[str, Callable[[], None]], ...] = (
        ("functions", lambda: _wrap_entries(litellm)),
        ("the inside of text streams", lambda: WRAPPERS.put_methods(litellm.CustomStreamWrapper, text.INSIDE_METHODS)),
        ("the engine's times in streams", lambda: stream.put(engine.methods(litellm))),
        ("Router", lambda: router.apply(telemetry, telemetry.meter, WRAPPERS.put_methods)),
        ("outgoing requests", lambda: outgoing.apply(telemetry, WRAPPERS.put_methods)),
        ("proxy", lambda: proxy.apply(telemetry)),
        ("LiteLLM's own callback", lambda: own_callback.apply(telemetry, LiteLLMInstrumentor.scope)),
        ("threads", threads.apply),
        ("callback net", lambda: early.apply(litellm, telemetry)),
    )
    for place, put_on in parts:
        try:
            put_on()
        except Exception as own:
            fault.report(f"wrapping LiteLLM: {place}", own)


def _wrap_entries(litellm: ModuleType) -> None:
    by_name = {entry.name: entry for entry in ENTRIES}
    for entry in ENTRIES:
        path, _, name = entry.name.rpartition(".")
        owner: Any = litellm
        for step in filter(None, path.split(".")):
            owner = getattr(owner, step, None)  # this LiteLLM may have no such part
        _wrap(owner, name, entry, _by_position_of(litellm, entry))
    # The client object calls a global of `litellm.main` that text completion uses as well; hence its own methods.
    _wrap(litellm.main.Completions, "create", by_name["completion"], _of_client)
    _wrap(litellm.main.AsyncCompletions, "create", by_name["acompletion"], _of_client)


def remove() -> None:
    """Take the wrappers off and end the spans of open streams; a wrapper that somebody else wrapped stays and is idle."""
    State.active = None
    for part in (early, threads, own_callback, proxy, outgoing, router):
        part.remove()
    leftovers.end_all(StreamEnd.UNINSTRUMENTED, StreamRecorder)
    WRAPPERS.take_off()


def _names(litellm: ModuleType) -> Names:
    providers = frozenset(str(getattr(provider, "value", provider)) for provider in litellm.provider_list)

    def is_provider(name: str) -> bool:
        return name in providers or any(row.get("provider") == name for row in litellm.custom_provider_map)

    def provider_of_model(model: str) -> str | None:
        row = litellm.model_cost.get(model)
        provider = row.get("litellm_provider") if isinstance(row, dict) else None
        return provider if isinstance(provider, str) else None

    return Names(is_provider, provider_of_model)


def _by_position_of(litellm: ModuleType, entry: Entry) -> Callable[[Function], Arguments]:
    twin: Any = getattr(litellm, entry.positions, None) if entry.positions is not None else None
    return by_position if twin is None else lambda _: by_position(twin)


def _wrap(owner: Any, name: str, entry: Entry, arguments_of: Callable[[Function], Arguments]) -> None:
    original: Any = getattr(owner, name, None)
    if original is None or is_wrapped(original):  # this LiteLLM has no such function, or it is wrapped
        return
    # A copied name says nothing; the globals of a plain function tell whose code it is.
    if type(original) is not FunctionType or not str(original.__globals__.get("__name__")).startswith("litellm"):
        _LOG.warning("otel_llm: %s.%s is already wrapped by other code and is left alone", owner.__name__, name)
        return
    wrapped: Function = original
    wrapper = wrapper_of(wrapped, entry, arguments_of(wrapped))
    WRAPPERS.put(owner, name, wrapper, wrapped)
    # Where the function was defined elsewhere, its home gets the same wrapper: pickle looks for it there, by name.
    home = sys.modules.get(original.__module__)
    if isinstance(owner, ModuleType) and home is not owner and home is not None and vars(home).get(name) is original:
        WRAPPERS.put(home, name, wrapper, wrapped)


def _of_client(original: Function) -> Arguments:
    named = by_position(original)

    def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        client, given = args[0], named(args, kwargs)
        if client.router_obj is not None:  # each attempt of the router is a call of the module's function
            return None
        return {**client.params, **given, "model": given.get("model") or client.params.get("model")}

    return arguments
