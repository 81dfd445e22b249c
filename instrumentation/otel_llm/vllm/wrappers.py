"""What has been put on vLLM, so that all of it comes off together; and whether the instrumentation is on, for all wrappers."""

from typing import Final

from otel_llm.invocation import Telemetry
from otel_llm.wrapping import Wrappers

WRAPPERS: Final = Wrappers()


class State:
    """A wrapper of which other code holds a reference asks here, and calls straight through while this is None."""

    active: Telemetry | None = None
