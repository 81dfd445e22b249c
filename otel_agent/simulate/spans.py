"""The `llm_request` span that vLLM writes of every request its engine ended, attribute by attribute as version 0.32 does.

Its provider stands for itself: where the stand-in runs inside something that is instrumented, nothing of that is touched. Only
requests that ended by themselves have a span; vLLM writes none for those whose client went away, and neither does this.
"""

import os
from typing import Any

from otel_agent.simulate.live import Call
from otel_agent.simulate.sequence import Sequence

SCOPE = "vllm.tracing.otel"
NAME = "llm_request"


class Spans:
    """Where the spans go; nothing is imported and nothing sent before this is made."""

    def __init__(self, endpoint: str, protocol: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        said = {"vllm.instrumenting_module_name": "vllm.llm_engine", "vllm.process_id": str(os.getpid())}
        self._provider = TracerProvider(resource=Resource.create(said), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(endpoint, protocol)))
        self._tracer = self._provider.get_tracer(SCOPE)

    def ended(self, call: Call, sequence: Sequence, now_s: float) -> None:
        """Write the span of one sequence; `now_s` is on the wall clock, as vLLM's end-to-end time is."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(call.headers, context=Context())
        span = self._tracer.start_span(NAME, parent, SpanKind.SERVER, start_time=int(call.arrived_s * 1e9))
        span.set_attributes(attributes(call, sequence, now_s))
        span.end()

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def attributes(call: Call, sequence: Sequence, now_s: float) -> dict[str, Any]:
    """Return the attributes of a sequence's span; a parameter that is 0 is left out, and n is always 1, both as in vLLM."""
    # Phases that a sequence never came to, because the server put it to sleep before, took no time.
    queued = sequence.queued_s or 0.0
    scheduled = sequence.scheduled_s or queued
    first = sequence.first_s or scheduled
    last = sequence.last_s or first
    said: dict[str, Any] = {
        "gen_ai.latency.time_to_first_token": first - queued,
        "gen_ai.latency.e2e": now_s - call.arrived_s,
        "gen_ai.latency.time_in_queue": scheduled - queued,
        "gen_ai.usage.prompt_tokens": len(sequence.prompt),
        "gen_ai.usage.completion_tokens": sequence.generated,
        "gen_ai.latency.time_in_model_prefill": first - scheduled,
        "gen_ai.latency.time_in_model_decode": last - first,
        "gen_ai.latency.time_in_model_inference": last - scheduled,
        "gen_ai.request.id": sequence.id,
        "gen_ai.request.top_p": call.top_p,
        "gen_ai.request.max_tokens": sequence.limit,
        "gen_ai.request.temperature": call.temperature,
        "gen_ai.request.n": 1 if sequence.answer else None,
    }
    return {name: value for name, value in said.items() if value or name.startswith(("gen_ai.latency", "gen_ai.usage"))}


def _exporter(endpoint: str, protocol: str) -> Any:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(endpoint=endpoint, insecure=True)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=endpoint)
