"""What the engine behind LiteLLM, and LiteLLM itself, say of their own times; nothing is measured here.

vLLM answers with a `metrics` object where it is started with `--enable-per-request-metrics`: beside a plain reply, and on
the usage chunk of a stream. LiteLLM keeps it on replies and drops it from streams, so there it is heard where LiteLLM reads
what the server sent.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from otel_llm import fault
from otel_llm.invocation import Invocation, current
from otel_llm.records import EngineTimes

Function = Callable[..., Any]

_LOG: Final = logging.getLogger(__name__)
_MOST_MS: Final = 10**10  # four months; more than this is no time of one call
_heard: Final[WeakKeyDictionary[Invocation, EngineTimes]] = WeakKeyDictionary()  # by open call, until its stream ends


def engine_times(metrics: object) -> EngineTimes | None:
    """Read vLLM's `metrics` object; figures that cannot be times are left out, None where none is left."""
    if not isinstance(metrics, dict):
        return None
    times = EngineTimes(
        seconds(metrics.get("queue_time_ms")),
        seconds(metrics.get("time_to_first_token_ms")),
        seconds(metrics.get("generation_time_ms")),
    )
    return None if times.queue_s is times.first_token_s is times.generation_s is None else times


def seconds(milliseconds: object) -> float | None:
    """Return a time in seconds, None for what is no time."""
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return None
    return milliseconds / 1000 if 0 <= milliseconds <= _MOST_MS else None


def heard(invocation: Invocation) -> EngineTimes | None:
    """Return what the engine said of its times in the stream of this call, if it has by now."""
    return _heard.get(invocation)


def _parse(original: Function) -> Function:
    """Wrap the parser of streamed chunks of servers that LiteLLM asks itself, `hosted_vllm` for one."""

    @functools.wraps(original)
    def chunk_parser(self: Any, chunk: Any) -> Any:
        if isinstance(chunk, dict) and "metrics" in chunk:
            _hear(chunk["metrics"])
        return original(self, chunk)

    return chunk_parser


def _create(original: Function) -> Function:
    """Wrap what makes LiteLLM's chunk from the one of the `openai` package, which keeps fields it does not know."""

    @functools.wraps(original)
    def chunk_creator(self: Any, chunk: Any) -> Any:
        # Where Pydantic keeps what it does not know: to ask for `metrics` itself costs microseconds where there is none.
        extra = getattr(chunk, "__pydantic_extra__", None)
        if extra and "metrics" in extra:
            _hear(extra["metrics"])
        return original(self, chunk)

    return chunk_creator


def _hear(metrics: object) -> None:
    try:
        times = engine_times(metrics)
        invocation = current() if times is not None else None
        if times is not None and invocation is not None:
            _heard[invocation] = times
    except Exception as own:
        fault.report("times of the engine", own)


def methods(litellm: ModuleType) -> Mapping[type, Mapping[str, Callable[[Function], Function]]]:
    """Return what to wrap in order to hear an engine in streams: by class and name of the method, what makes its wrapper."""
    found: dict[type, Mapping[str, Callable[[Function], Function]]] = {
        litellm.CustomStreamWrapper: {"chunk_creator": _create}
    }
    try:
        from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler
    except ImportError:  # moved by a LiteLLM newer than tested: these servers' times are unknown then
        _LOG.info("otel_llm: the engine's times in streams are not read with this LiteLLM", exc_info=True)
    else:
        found[OpenAIChatCompletionStreamingHandler] = {"chunk_parser": _parse}
    return found
