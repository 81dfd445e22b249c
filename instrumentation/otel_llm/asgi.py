"""The spans of single HTTP messages, left out in servers of models: a streamed answer would have one for every chunk.

The ASGI instrumentation, and FastAPI's on top of it, makes a span `… http send` of each message of an answer and has no
variable to leave them out. In the vLLM server and the LiteLLM proxy a thousand tokens are a thousand such spans, each at the
cost of a span in the loop that hands the tokens out. The span of the request itself stays as it is.
"""

import functools
import sys
from typing import Any, Final

from otel_llm import fault
from otel_llm.invocation import Telemetry
from otel_llm.wrapping import Function, Wrappers

_MIDDLEWARE: Final = "opentelemetry.instrumentation.asgi"


def put(telemetry: Telemetry, wrappers: Wrappers) -> None:
    """Wrap the making of the middleware, in a process that is known to be such a server; once built, it stays as it is."""
    module = sys.modules.get(_MIDDLEWARE)
    if module is not None and not telemetry.settings.http_message_spans:
        wrappers.put_methods(module.OpenTelemetryMiddleware, {"__init__": _quiet})


def _quiet(original: Function) -> Function:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - the name of what it wraps
        original(self, *args, **kwargs)
        _leave_out_messages(self)

    return __init__


@fault.guarded("spans of HTTP messages")
def _leave_out_messages(middleware: Any) -> None:
    # A hook of somebody's is called with these spans.
    if middleware.client_request_hook is None and middleware.client_response_hook is None:
        middleware.exclude_receive_span = middleware.exclude_send_span = True
