"""Which span a finished request belongs to, where the caller has said so by its id.

vLLM's server makes the id of its route's prefix and the caller's `X-Request-Id`: `chatcmpl-<it>`, `cmpl-<it>-<index>`. A
caller that gives it the form of a traceparent, as `otel_llm.propagation` does, has named its span by it.
"""

import re
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

_TRACEPARENT: Final = re.compile(r"(?:^|[-_])00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?![^-_])")
# An empty context would mean the current one, which is that of whatever request happened to start vLLM's reading task.
NO_SPAN: Final = otel_context.set_value("otel_llm.no_span", True, Context())


def context_of(request_id: str | None) -> Context:
    """Return a context with the span that the id names, if its trace is sampled; else one without a span."""
    named = _TRACEPARENT.search(request_id) if request_id else None
    if named is None:
        return NO_SPAN
    flags = TraceFlags(int(named[3], 16))
    span = SpanContext(int(named[1], 16), int(named[2], 16), is_remote=True, trace_flags=flags)
    if not flags.sampled or not span.is_valid:
        return NO_SPAN  # an exemplar would lead nowhere
    return set_span_in_context(NonRecordingSpan(span), NO_SPAN)
