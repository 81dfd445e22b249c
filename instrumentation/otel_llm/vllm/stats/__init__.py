"""vLLM's own statistics as OpenTelemetry metrics, pushed: a plug-in of the entry-point group `vllm.stat_logger_plugins`.

    pip install otel-llm                                        into the environment, or the image, that has vLLM
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 OTEL_SERVICE_NAME=vllm vllm serve ...

vLLM loads it by itself and hands it what it counts: nothing is wrapped, no port is opened, nothing is scraped. It records
`gen_ai.server.*` for finished requests, with exemplars that lead to the request's trace, and the engine's state. In a
process that has a meter provider (`opentelemetry-instrument`, or the application's own) it uses that one; else it makes
one for itself from the OTEL_* variables, which nobody else sees. `VLLM_PLUGINS`, vLLM's list of plug-ins to load, keeps it out.

Importing this package imports no vLLM: the class, which derives from vLLM's, is made when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .logger import OtelStatLogger

__all__ = ["OtelStatLogger"]


def __getattr__(name: str) -> Any:
    if name == "OtelStatLogger":
        from .logger import OtelStatLogger

        return OtelStatLogger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
