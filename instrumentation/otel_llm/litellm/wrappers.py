"""What has been put on LiteLLM; every part of the instrumentation puts its wrappers here, so that all come off together."""

from typing import Final

from otel_llm.wrapping import Wrappers

WRAPPERS: Final = Wrappers()
