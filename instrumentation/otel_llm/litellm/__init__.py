"""Spans and metrics for calls through LiteLLM, sync and async, plain and streamed.

    from otel_llm.litellm import LiteLLMInstrumentor
    LiteLLMInstrumentor().instrument()

or, with no line changed, `opentelemetry-instrument python app.py`. LiteLLM itself is imported by the application or not
at all: the wrappers are put on when the application imports it. Each call is one span of kind client, current while
LiteLLM sends its request, and its points of the client metrics. Prompts and replies are recorded only on request.
"""

import logging
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from otel_llm import fault
from otel_llm.invocation import Telemetry, open_telemetry
from otel_llm.settings import read_settings

__all__ = ["LiteLLMInstrumentor"]

_LOG = logging.getLogger(__name__)
TESTED = (1, 109)
"""The newest LiteLLM tested; the oldest stands in `instrumentation_dependencies`."""


class LiteLLMInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package ships no types
    """Puts the instrumentation on and takes it off; one per process, as the base class makes it."""

    _telemetry: Telemetry | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the range of LiteLLM this is for."""
        return ("litellm >= 1.106, < 2",)

    def _instrument(self, **kwargs: Any) -> None:
        """Take `tracer_provider`, `meter_provider` and `logger_provider`, or the process-wide ones."""
        try:
            self._telemetry = open_telemetry(
                "otel_llm.litellm",
                _own_version(),
                read_settings(),
                tracer_provider=kwargs.get("tracer_provider"),
                meter_provider=kwargs.get("meter_provider"),
                logger_provider=kwargs.get("logger_provider"),
            )
        except Exception as own:  # a provider that raises: the application goes on without our telemetry
            fault.report("opening telemetry for LiteLLM", own)
            return
        wrapt.register_post_import_hook(self._imported, "litellm")

    def _imported(self, litellm: ModuleType) -> None:
        # Runs inside the application's import statement, perhaps after `uninstrument`.
        if self._telemetry is None:
            return
        try:
            _warn_if_untested()
        except Exception as own:
            fault.report("version of LiteLLM", own)
        try:
            from . import patch

            patch.apply(litellm, self._telemetry)
        except Exception as own:
            fault.report("wrapping LiteLLM", own)

    def _uninstrument(self, **kwargs: Any) -> None:
        from . import patch

        self._telemetry = None
        try:
            patch.remove()
        except Exception as own:
            fault.report("taking the instrumentation off", own)


def _warn_if_untested() -> None:
    found = _release("litellm")
    if found > TESTED:
        _LOG.warning(
            "otel_llm: LiteLLM %s is newer than the newest one tested, %s; what is not as it was there is not recorded",
            ".".join(map(str, found)),
            ".".join(map(str, TESTED)),
        )


def _release(package: str) -> tuple[int, ...]:
    """Return the first two numbers of a package's version; nothing where it cannot be told."""
    try:
        return tuple(int(number) for number in version(package).split(".")[:2])
    except (PackageNotFoundError, ValueError):  # a source tree, or a stand-in
        return ()


def _own_version() -> str:
    try:
        return version("otel-llm")
    except PackageNotFoundError:  # run from a source tree
        return "0"
