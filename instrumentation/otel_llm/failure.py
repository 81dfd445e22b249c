"""How an exception is written on a span: its type and frames always, its message only where the application asked."""

import traceback
from collections.abc import Callable
from typing import Final

from opentelemetry.trace import Span, Status, StatusCode

from . import semconv

_MAX_STACKTRACE_CHARACTERS: Final = 8192


def describe_failure(
    span: Span, error: BaseException, mask: Callable[[str], str] | None, at_ns: int | None = None
) -> None:
    """Set the exception event and the status; `mask` is what the message goes through, None leaves it out."""
    kind = type(error)
    status = getattr(error, "status_code", None)
    summary = f"{kind.__qualname__} (HTTP {status})" if isinstance(status, int) else kind.__qualname__
    event = {
        semconv.EXCEPTION_TYPE: f"{kind.__module__}.{kind.__qualname__}",
        # Frames only: the usual last line of a traceback repeats the message, and that may quote a prompt.
        semconv.EXCEPTION_STACKTRACE: "".join(traceback.format_tb(error.__traceback__))[-_MAX_STACKTRACE_CHARACTERS:],
    }
    if mask is not None:
        message = event[semconv.EXCEPTION_MESSAGE] = mask(str(error))
        summary = f"{summary}: {message}"
    span.add_event(semconv.EXCEPTION_EVENT, event, at_ns)
    span.set_status(Status(StatusCode.ERROR, summary))
