"""What a row of the table of entry points holds, and what its readers are given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_llm.invocation import Invocation, Telemetry
from otel_llm.litellm.read.names import Names
from otel_llm.records import Reply, Request
from otel_llm.settings import Settings


@dataclass(slots=True)  # one a call: a frozen one takes three times as long to make
class Asked:
    """What the reader of a reply may need of the call."""

    arguments: Mapping[str, Any]  # by name
    is_server: bool  # false where LiteLLM makes the reply up
    request: Request  # what was read of the arguments
    telemetry: Telemetry

    @property
    def settings(self) -> Settings:
        """What is set for the instrumentation."""
        return self.telemetry.settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. Readers run in the application's call: they take nothing apart, consume nothing and change nothing."""

    name: str  # the attribute of the module `litellm`
    read_request: Callable[[Mapping[str, Any], Names], Request]
    read_reply: Callable[[Any, Asked], Reply]
    follow: Callable[[Any, Invocation, Asked], bool] | None = None
    """Takes a result over that is a stream, and says whether it did."""
    coroutine_flag: str | None = None
    """The argument by which LiteLLM itself gets a coroutine from the sync function."""
    positions: str | None = None
    """The function whose signature names the positional arguments, where this one's is `(*args, **kwargs)`."""
