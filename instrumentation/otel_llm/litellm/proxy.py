"""What is done in the LiteLLM proxy alone: no span for each chunk it sends (`otel_llm.asgi`), and the trace id handed back.

The trace id goes into a response header of its own (OTEL_LLM_TRACE_RESPONSE_HEADER). It is set where OpenTelemetry has a place for it, the response propagator of the HTTP server's instrumentation, hence on
replies, streams and errors alike, and on those of LiteLLM's middlewares. A trace that is not sampled is not named: nobody
could look it up. Everything else of a proxied call, the trace from the client's `traceparent` to the engine's, comes of
the HTTP server's instrumentation around and LiteLLM's wrapped functions within.
"""

import logging
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry.context import Context
from opentelemetry.instrumentation import propagators
from opentelemetry.trace import format_trace_id, get_current_span

from otel_llm import asgi, fault
from otel_llm.invocation import Telemetry
from otel_llm.litellm.wrappers import WRAPPERS

_get: Callable[[], Any] = propagators.get_global_response_propagator
_set: Callable[[Any], None] = propagators.set_global_response_propagator
_LOG = logging.getLogger(__name__)
_START: Final = "http.response.start"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110


class _TraceId(propagators.ResponsePropagator):
    """Sets the header, after what another propagator does."""

    def __init__(self, header: str, before: Any) -> None:
        self._header = header
        self.before = before

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = propagators.default_setter) -> None:
        """Add the header to a response that is about to start."""
        if self.before is not None:
            self.before.inject(carrier, context, setter)
        try:
            if carrier.get("type", _START) != _START:  # it is called for every chunk; headers go with the first message
                return
            span = get_current_span(context).get_span_context()
            if span.is_valid and span.trace_flags.sampled:
                # A list of its own: the setter appends, and an application may use its list for the next response too.
                carrier["headers"] = list(carrier.get("headers") or ())
                setter.set(carrier, self._header, format_trace_id(span.trace_id))
        except Exception as own:
            fault.report("trace id in a response header", own)


class _State:
    telemetry: Telemetry | None = None
    header: str | None = None
    ours: _TraceId | None = None


def apply(telemetry: Telemetry) -> None:
    """Do both where the proxy is imported from now on; a process that never imports it notices nothing of it."""
    _State.telemetry = telemetry
    _State.header = _header(telemetry.settings.trace_response_header)
    wrapt.register_post_import_hook(_imported, "litellm.proxy.proxy_server")


def remove() -> None:
    """Hand the trace id back no longer; the wrapper comes off with the others."""
    _State.telemetry = _State.header = None
    ours, _State.ours = _State.ours, None
    if ours is not None and _get() is ours:
        _set(ours.before)


def _header(name: str | None) -> str | None:
    if name is None or _HEADER_NAME.fullmatch(name):
        return name
    _LOG.warning("OTEL_LLM_TRACE_RESPONSE_HEADER=%r is not the name of a header; the trace id is not handed back", name)
    return None


def _imported(_: ModuleType) -> None:
    # Runs inside the proxy's import, perhaps after `remove`, and once for each `apply` before it.
    if _State.telemetry is None:
        return
    try:
        asgi.put(_State.telemetry, WRAPPERS)
    except Exception as own:
        fault.report("spans of HTTP messages in the LiteLLM proxy", own)
    try:
        if _State.header is not None and _State.ours is None:
            _State.ours = _TraceId(_State.header, _get())
            _set(_State.ours)
    except Exception as own:
        fault.report("response header of the LiteLLM proxy", own)
