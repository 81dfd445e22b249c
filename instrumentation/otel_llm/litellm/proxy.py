"""The trace id, handed back by the LiteLLM proxy in a response header of its own (OTEL_LLM_TRACE_RESPONSE_HEADER).

It is set where OpenTelemetry has a place for it, the response propagator of the HTTP server's instrumentation, hence on
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

from otel_llm import fault
from otel_llm.invocation import Telemetry

_get: Callable[[], Any] = propagators.get_global_response_propagator
_set: Callable[[Any], None] = propagators.set_global_response_propagator
_LOG = logging.getLogger(__name__)
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
            span = get_current_span(context).get_span_context()
            if span.is_valid and span.trace_flags.sampled:
                # A list of its own: the setter appends, and an application may use its list for the next response too.
                carrier["headers"] = list(carrier.get("headers") or ())
                setter.set(carrier, self._header, format_trace_id(span.trace_id))
        except Exception as own:
            fault.report("trace id in a response header", own)


class _State:
    header: str | None = None
    ours: _TraceId | None = None


def apply(telemetry: Telemetry) -> None:
    """Hand the trace id back from now on, if that is set; a process that never imports the proxy notices nothing of it."""
    header = telemetry.settings.trace_response_header
    if header is None:
        return
    if not _HEADER_NAME.fullmatch(header):
        _LOG.warning(
            "OTEL_LLM_TRACE_RESPONSE_HEADER=%r is not the name of a header; the trace id is not handed back", header
        )
        return
    _State.header = header
    wrapt.register_post_import_hook(_imported, "litellm.proxy.proxy_server")


def remove() -> None:
    """Hand it back no longer."""
    _State.header = None
    ours, _State.ours = _State.ours, None
    if ours is not None and _get() is ours:
        _set(ours.before)


def _imported(_: ModuleType) -> None:
    # Runs inside the proxy's import, perhaps after `remove`, and once for each `apply` before it.
    try:
        if _State.header is not None and _State.ours is None:
            _State.ours = _TraceId(_State.header, _get())
            _set(_State.ours)
    except Exception as own:
        fault.report("response header of the LiteLLM proxy", own)
