"""A program that leaves a stream of each kind open when it ends, and prints what is recorded of them, a line each.

python tests/instrumentation/left_open.py http://127.0.0.1:8000/v1 http://127.0.0.1:8000
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from instrumentation.streaming import KINDS, Driver, native_models
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_llm.litellm import LiteLLMInstrumentor


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


class AtExit(TracerProvider):
    """Prints in the SDK's own handler of the end, after which nothing is exported any more."""

    kept: Kept
    reader: InMemoryMetricReader
    cases: dict[str, list[Any]]

    def shutdown(self) -> None:
        data: Any = self.reader.get_metrics_data()
        durations: Counter[str] = Counter()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            if metric.name == "gen_ai.client.operation.duration":
                for point in metric.data.data_points:
                    for exemplar in point.exemplars:
                        durations[f"{exemplar.span_id:x}"] += 1
        for span in self.kept.spans:
            number = f"{span.context.span_id:x}" if span.context else ""
            line = {
                "case": self.cases[str((span.attributes or {})["gen_ai.request.model"])],
                "status": span.status.status_code.name,
                "end": (span.attributes or {}).get("otel_llm.stream.end"),
                "durations": durations[number],
            }
            print(json.dumps(line), flush=True)
        super().shutdown()


def main(url: str, root: str) -> list[Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    kept, reader = Kept(), InMemoryMetricReader()
    provider = AtExit()
    provider.kept, provider.reader, provider.cases = kept, reader, {}
    provider.add_span_processor(SimpleSpanProcessor(kept))
    LiteLLMInstrumentor().instrument(
        tracer_provider=provider, meter_provider=MeterProvider([reader], shutdown_on_exit=False)
    )
    import litellm

    server: Any = SimpleNamespace(url=url, root=root)
    opened = []
    with native_models(litellm):
        for kind in (kind for kind in KINDS if not kind.needs_proxy):
            for is_async in (False, True) if kind.sync is not None else (True,):
                driver = Driver(litellm, server, kind, is_async=is_async)
                words = f"plain-{len(opened)}"
                model = (kind.model + words).partition("/")[2]
                provider.cases[model] = [kind.name, is_async]
                litellm.register_model(
                    {kind.model + words: {"litellm_provider": "openai", "supports_native_streaming": True}}
                ) if kind.model.startswith("openai/") else None
                stream = driver.open(words)
                driver.next(stream)
                driver.next(stream)
                opened.append((driver, stream))
    return opened


if __name__ == "__main__":
    OPEN = main(*sys.argv[1:])
