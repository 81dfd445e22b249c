"""What the instrumentors have in common: telemetry is opened, and wrappers are put on when the library is imported, or taken off.

A library is named by its row (`Library`); what is wrapped stands in its own package.
"""

import logging
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from . import fault
from .invocation import Telemetry, open_telemetry
from .settings import read_settings
from .versions import own_version, version_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """A library that is instrumented."""

    name: str  # in words
    module: str  # whose import is waited for
    distributions: tuple[str, ...]  # the module comes from one of these
    versions: str  # supported
    tested: tuple[int, int]  # the newest release


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package ships no types
    """Puts an instrumentation on and takes it off; one per process, as the base class makes it."""

    library: ClassVar[Library]
    scope: ClassVar[str]
    """The name of tracer and meter."""

    _telemetry: Telemetry | None = None

    @abstractmethod
    def _put_on(self, module: ModuleType, telemetry: Telemetry) -> None:
        """Wrap the library, whose import is just ending."""

    @abstractmethod
    def _take_off(self) -> None:
        """Take all wrappers off."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the range this is for, of the distribution that is installed: the base class asks for all it is told."""
        return (f"{_installed(self.library) or self.library.distributions[0]} {self.library.versions}",)

    def _instrument(self, **kwargs: Any) -> None:
        """Take `tracer_provider`, `meter_provider` and `logger_provider`, or the process-wide ones."""
        try:
            self._telemetry = open_telemetry(
                self.scope,
                own_version(),
                read_settings(),
                tracer_provider=kwargs.get("tracer_provider"),
                meter_provider=kwargs.get("meter_provider"),
                logger_provider=kwargs.get("logger_provider"),
            )
        except Exception as own:  # a provider that raises: the application goes on without our telemetry
            fault.report(f"opening telemetry for {self.library.name}", own)
            return
        wrapt.register_post_import_hook(self._imported, self.library.module)

    def _imported(self, module: ModuleType) -> None:
        # Runs inside the application's import statement, perhaps after `uninstrument`.
        if self._telemetry is None:
            return
        try:
            _warn_if_untested(self.library)
        except Exception as own:
            fault.report(f"version of {self.library.name}", own)
        try:
            self._put_on(module, self._telemetry)
        except Exception as own:
            fault.report(f"wrapping {self.library.name}", own)

    def _uninstrument(self, **kwargs: Any) -> None:
        self._telemetry = None
        try:
            self._take_off()
        except Exception as own:
            fault.report("taking the instrumentation off", own)


def _warn_if_untested(library: Library) -> None:
    found = _release(library)
    if found > library.tested:
        _LOG.warning(
            "otel_llm: %s %s is newer than the newest one tested, %s; what is not as it was there is not recorded",
            library.name,
            ".".join(map(str, found)),
            ".".join(map(str, library.tested)),
        )


@fault.guarded("which distribution is installed")
def _installed(library: Library) -> str | None:
    return next((name for name in library.distributions if version_of(name) is not None), None)


def _release(library: Library) -> tuple[int, ...]:
    """Return the first two numbers of a library's version; nothing where it cannot be told: a source tree, or a stand-in."""
    name = _installed(library)
    found = version_of(name) if name is not None else None
    try:
        return tuple(int(number) for number in found.split(".")[:2]) if found is not None else ()
    except ValueError:
        return ()
