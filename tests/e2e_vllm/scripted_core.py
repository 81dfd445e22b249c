"""The real `AsyncLLM` over a scripted engine core: everything of vLLM's front end, no model, and every step a test's own.

The core stands where vLLM talks to the process that runs the model (`EngineCoreClient`). Its clock moves only when told.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.metrics.stats import PrefillStats

TOKEN = 70  # of the tiny model: printable text
PROMPT = [5, 6, 7, 8]
DEADLINE_S = 30.0


class ScriptedCore:
    """Takes requests in, and hands out the outputs a test asks for; `now` is the engine's monotonic clock."""

    def __init__(self) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self.engine_ranks_managed = [0]
        self.now = 1000.0
        self.added: list[Any] = []
        self.aborted: list[str] = []
        self._came = asyncio.Event()
        self._started: set[str] = set()
        self._queued: dict[str, float] = {}
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()

    async def get_output_async(self) -> Any:
        output = await self._outputs.get()
        if isinstance(output, Exception):
            raise output
        return output

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return ("generate", "embed", "token_embed")

    async def add_request_async(self, request: Any) -> None:
        if self.resources.engine_dead:
            raise RuntimeError("the scripted engine is dead")
        self.added.append(request)
        self._queued[request.request_id] = self.now
        self._came.set()

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self.aborted.extend(request_ids)

    def shutdown(self, timeout: float | None = None) -> None:
        """Nothing to stop."""

    @property
    def waiting(self) -> int:
        """How many steps the front end has not taken in yet."""
        return self._outputs.qsize()

    async def arrived(self, count: int = 1) -> list[Any]:
        """Wait until so many requests have come, and return them."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.added) < count:
                self._came.clear()
                await self._came.wait()
        return self.added

    def step(self, *request_ids: str, tokens: int = 1, finish: FinishReason | None = None, cached: int = 0) -> None:
        """Let one step of the engine give tokens to these requests; the first one schedules them half a second before."""
        outputs = []
        for request_id in request_ids:
            first = request_id not in self._started
            self._started.add(request_id)
            request = next(one for one in self.added if one.request_id == request_id)
            outputs.append(
                EngineCoreOutput(
                    request_id=request_id,
                    new_token_ids=[TOKEN] * tokens,
                    pooling_output=_vector() if request.pooling_params is not None else None,
                    finish_reason=finish,
                    events=self._events(request_id) if first else None,
                    prefill_stats=_prefill(len(request.prompt_token_ids), cached) if first else None,
                    trace_headers=request.trace_headers,
                )
            )
        self._outputs.put_nowait(EngineCoreOutputs(outputs=outputs, timestamp=self.now))

    def die(self, error: Exception) -> None:
        """End as the process of an engine does that crashes."""
        self.resources.engine_dead = True
        self._outputs.put_nowait(error)

    def _events(self, request_id: str) -> list[EngineCoreEvent]:
        return [
            EngineCoreEvent(EngineCoreEventType.QUEUED, self._queued[request_id]),
            EngineCoreEvent(EngineCoreEventType.SCHEDULED, self.now - 0.5),
        ]


@contextmanager
def scripted(
    model: Path, *, log_stats: bool = True, stat_loggers: Any = None, **arguments: Any
) -> Iterator[tuple[AsyncLLM, ScriptedCore]]:
    """Make the engine inside a running loop, as the server does."""
    core = ScriptedCore()
    given = AsyncEngineArgs(
        model=str(model), served_model_name="tiny", dtype="float32", enforce_eager=True, max_model_len=256,
        disable_log_stats=not log_stats, **arguments,
    )  # fmt: skip
    with mock.patch.object(EngineCoreClient, "make_async_mp_client", return_value=core):
        engine = AsyncLLM.from_engine_args(given, stat_loggers=stat_loggers)
    try:
        yield engine, core
    finally:
        engine.shutdown()


async def when(condition: Callable[[], Any]) -> None:
    """Let the loop run until something of vLLM's own, which tells nobody, is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0)


def delta(**given: Any) -> SamplingParams:
    """Parameters of a stream: each output holds what is new."""
    return SamplingParams(output_kind=RequestOutputKind.DELTA, **{"max_tokens": 8, **given})


def whole_reply(**given: Any) -> SamplingParams:
    """Parameters of a plain call: one output."""
    return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **{"max_tokens": 8, **given})


def prompt() -> Any:
    """A prompt of four token ids."""
    return {"prompt_token_ids": list(PROMPT)}


def _prefill(prompt_tokens: int, cached: int) -> PrefillStats:
    stats = PrefillStats()
    stats.set(prompt_tokens, cached, 0)
    return stats


def _vector() -> Any:
    import torch

    return torch.zeros(3)
