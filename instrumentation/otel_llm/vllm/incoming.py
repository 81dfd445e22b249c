"""The HTTP request on whose behalf this place in the program works, where vLLM's server is the one that serves it."""

from contextvars import ContextVar
from typing import Final


class Incoming:
    """One request of a client, from its arrival to its answer; `is_gone` once the client has left before the answer."""

    __slots__ = ("is_answered", "is_gone")

    def __init__(self) -> None:
        self.is_answered = False
        self.is_gone = False

    def left(self) -> None:
        """Note that the connection was closed; after the answer that is how every one ends."""
        if not self.is_answered:
            self.is_gone = True


INCOMING: Final[ContextVar[Incoming | None]] = ContextVar("otel_llm.vllm.incoming", default=None)
