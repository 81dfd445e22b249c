"""One span per call beside LiteLLM's own OpenTelemetry callback (`callbacks: ["otel"]`), which makes one after the fact.

Ours stays: it is current while the request is sent, and so it is the one on the way from the server's span to the
engine's. Theirs is not made for a call that ours is made for, and what belongs below it (guardrails, the raw request, log
events) is put below ours. Their other spans (the proxy's request, auth, routing, database) and their metrics, which are
off by default, are theirs alone and stay as they are.

Only where both would end up in one place: a callback that sends to another backend, as LiteLLM's presets and the
destinations of single teams and keys do, goes on as before. So it does in a LiteLLM whose callback looks otherwise than
the one this was made for.
"""

import functools
import logging
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry.trace import NonRecordingSpan, Span, Tracer, get_current_span, set_span_in_context

from otel_llm import fault
from otel_llm.invocation import Telemetry

_LOG = logging.getLogger(__name__)
_CALLBACK: Final = "litellm.integrations.opentelemetry"  # the older one, and the default
_CALLBACK_V2: Final = "litellm.integrations.otel.emitter"  # LITELLM_OTEL_V2=true
_MAX_SPANS: Final = 4096
_LLM_CALL: Final = "LLM_CALL"  # the role of a span of theirs

Function = Callable[..., Any]


class _State:
    tracer: Tracer | None = None  # ours, while the instrumentation is on
    scope: str | None = None
    has_told = False


_spans: Final[dict[str, Span]] = {}  # what stands for ours, by LiteLLM's id of the call; the newest
_patched: Final[list[tuple[Any, str, Function, Function]]] = []  # class, method, our wrapper, the original


def apply(telemetry: Telemetry, scope: str) -> None:
    """Leave their spans out from now on; `scope` is the name that `telemetry` was opened with."""
    _State.tracer, _State.scope = telemetry.tracer, scope
    for module, owner, method, make in (
        (_CALLBACK, "OpenTelemetry", "log_pre_api_call", _before),
        (_CALLBACK, "OpenTelemetry", "_get_span_context", _parent_of),
        (_CALLBACK_V2, "SpanEmitter", "start_span", _start_span),
    ):
        wrapt.register_post_import_hook(functools.partial(_imported, owner=owner, method=method, make=make), module)


def remove() -> None:
    """Let them make all their spans again; a wrapper that somebody else wrapped stays and is idle."""
    _State.tracer = None
    for owner, method, wrapper, original in reversed(_patched):
        if vars(owner).get(method) is wrapper:
            setattr(owner, method, original)
    _patched.clear()
    _spans.clear()


def _imported(module: ModuleType, owner: str, method: str, make: Callable[[Function], Function]) -> None:
    # Runs inside an import of LiteLLM's, perhaps after `remove`, and once for each `apply` before it.
    try:
        place = getattr(module, owner, None)
        original = getattr(place, method, None)
        if _State.tracer is None or original is None or any(row[2] is original for row in _patched):
            return
        wrapper = functools.wraps(original)(make(original))
        setattr(place, method, wrapper)
        _patched.append((place, method, wrapper, original))
    except Exception as own:
        fault.report("LiteLLM's own OpenTelemetry callback", own)


def _before(original: Function) -> Function:
    # Runs in the call. The proxy puts the rest off to where the call is over, and its context with it.
    def log_pre_api_call(self: Any, model: Any, messages: Any, kwargs: Any) -> Any:
        try:
            span, call = _our_span(), kwargs.get("litellm_call_id")
            if span is not None and isinstance(call, str):
                _spans[call] = span
                while len(_spans) > _MAX_SPANS:
                    _spans.pop(next(iter(_spans)), None)
        except Exception as own:
            fault.report("LiteLLM's own OpenTelemetry callback", own)
        return original(self, model, messages, kwargs)

    return log_pre_api_call


def _parent_of(original: Function) -> Function:
    # For a call with a parent of the application's own LiteLLM makes no span: it writes on the parent, and puts below it
    # what it has besides. USE_OTEL_LITELLM_REQUEST_SPAN, LiteLLM's own switch, makes it insist on one.
    def parent_of(self: Any, kwargs: Any, *args: Any, **named: Any) -> Any:
        try:
            span = None if _State.tracer is None else _spans.get(kwargs.get("litellm_call_id")) or _our_span()
            if span is not None and _processor(self.get_tracer_to_use_for_request(kwargs)) is _processor(_State.tracer):
                _tell()
                return set_span_in_context(span), span
        except Exception as own:
            fault.report("LiteLLM's own OpenTelemetry callback", own)
        return original(self, kwargs, *args, **named)

    return parent_of


def _start_span(original: Function) -> Function:
    def start_span(self: Any, role: Any, *args: Any, **named: Any) -> Any:
        try:
            span = _our_span() if getattr(role, "name", None) == _LLM_CALL else None
            is_tenants = named.get("tracer") not in (None, self._tracer)
            if span is not None and not is_tenants and _goes_where_ours_go(self._config):
                _tell()
                return span
        except Exception as own:
            fault.report("LiteLLM's own OpenTelemetry callback", own)
        return original(self, role, *args, **named)

    return start_span


def _our_span() -> Span | None:
    """Return what stands for our span, of which nothing can be changed, where the call at hand has one; ended or not.

    LiteLLM runs its callbacks in the context of the call, in which our span is the current one.
    """
    if _State.tracer is None:
        return None
    span = get_current_span()
    if getattr(getattr(span, "instrumentation_scope", None), "name", None) != _State.scope:
        return None
    return NonRecordingSpan(span.get_span_context())


def _processor(tracer: Tracer | None) -> object:
    """Tell the SDK's tracers apart by where their spans go; one of another make is like no other."""
    tracer = getattr(tracer, "_tracer", tracer)  # the API's tracer of before the provider was set
    return getattr(tracer, "span_processor", tracer)


def _goes_where_ours_go(config: Any) -> bool:
    # The newer callback has a provider of its own, for the same standard variables unless a preset or its own say else.
    from litellm.integrations.otel.plumbing.context import request_destinations  # it is imported: it is running

    return not request_destinations() and all(
        spec.owner is None
        and spec.endpoint == os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        and spec.traces_endpoint == os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        for spec in config.exporters
    )


def _tell() -> None:
    if not _State.has_told:
        _State.has_told = True
        _LOG.warning(
            "otel_llm: LiteLLM's own OpenTelemetry callback is on as well; its span of an LLM call is left out in favour "
            "of this package's, all else it records stays"
        )
