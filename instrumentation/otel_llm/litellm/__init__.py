"""Spans and metrics for calls through LiteLLM, sync and async, plain and streamed.

    from otel_llm.litellm import LiteLLMInstrumentor
    LiteLLMInstrumentor().instrument()

or, with no line changed, `opentelemetry-instrument python app.py`. LiteLLM itself is imported by the application or not
at all: the wrappers are put on when the application imports it. Each call is one span of kind client, current while
LiteLLM sends its request, and its points of the client metrics. Prompts and replies are recorded only on request.
"""

from types import ModuleType
from typing import Final

from otel_llm.instrumentor import Instrumentor, Library
from otel_llm.invocation import Telemetry

__all__ = ["LiteLLMInstrumentor"]

TESTED: Final = (1, 109)
"""The newest LiteLLM tested."""


class LiteLLMInstrumentor(Instrumentor):
    """Puts the instrumentation on and takes it off; one per process."""

    library = Library("LiteLLM", "litellm", ("litellm",), ">= 1.106, < 2", TESTED)
    scope = "otel_llm.litellm"

    def _put_on(self, module: ModuleType, telemetry: Telemetry) -> None:
        from . import patch

        patch.apply(module, telemetry)

    def _take_off(self) -> None:
        from . import patch

        patch.remove()
