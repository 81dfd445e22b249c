"""The kinds of streams LiteLLM hands out, and how each is opened, read and closed; for tests that hold of all of them."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer

DEADLINE_S = 20.0
NATIVE = (
    "native"  # a word in the names of models whose Responses LiteLLM streams itself; others it cuts from a whole reply
)
_MESSAGES = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True)
class Kind:
    """One kind of stream; `call` is made with the arguments of every call and `model`."""

    name: str
    model: str  # before the words that script the server
    sync: Callable[[ModuleType], Callable[..., Any]] | None
    asynchronous: Callable[[ModuleType], Callable[..., Any]]
    arguments: dict[str, Any]
    types: tuple[str | None, str]  # of the objects handed out, sync and async
    can_close: tuple[bool, bool]
    chunks: int  # of a whole reply
    is_native: bool = False  # to Anthropic itself, in chunks as the network makes them
    needs_proxy: bool = False  # LiteLLM imports its proxy on the way

    def __str__(self) -> str:
        return self.name


KINDS = (
    Kind(
        "chat",
        "hosted_vllm/",
        lambda litellm: litellm.completion,
        lambda litellm: litellm.acompletion,
        {"messages": _MESSAGES},
        ("CustomStreamWrapper", "CustomStreamWrapper"),
        (True, True),
        5,
    ),
    Kind(
        "text",
        "hosted_vllm/",
        lambda litellm: litellm.text_completion,
        lambda litellm: litellm.atext_completion,
        {"prompt": "hi"},
        ("TextCompletionStreamWrapper", "TextCompletionStreamWrapper"),
        (False, False),
        5,
    ),
    Kind(
        "responses",
        f"openai/{NATIVE}-",
        lambda litellm: litellm.responses,
        lambda litellm: litellm.aresponses,
        {"input": "hi"},
        ("SyncResponsesAPIStreamingIterator", "ResponsesAPIStreamingIterator"),
        (True, True),
        10,
    ),
    Kind(
        "responses over chat",
        "lm_studio/",
        lambda litellm: litellm.responses,
        lambda litellm: litellm.aresponses,
        {"input": "hi"},
        ("LiteLLMCompletionStreamingIterator", "LiteLLMCompletionStreamingIterator"),
        (False, True),
        12,
    ),
    Kind(
        "messages over chat",
        "hosted_vllm/",
        lambda litellm: litellm.anthropic.messages.create,
        lambda litellm: litellm.anthropic.messages.acreate,
        {"messages": _MESSAGES, "max_tokens": 100},
        ("generator", "AnthropicSSEStream"),
        (True, True),
        9,
    ),
    Kind(
        "messages over responses",
        f"openai/{NATIVE}-",
        None,  # LiteLLM hands out the asynchronous one
        lambda litellm: litellm.anthropic_messages,
        {"messages": _MESSAGES, "max_tokens": 100},
        (None, "AnthropicResponsesSSEByteStream"),
        (True, True),
        9,
        needs_proxy=True,
    ),
    Kind(
        "messages",
        "anthropic/",
        None,  # LiteLLM has none
        lambda litellm: litellm.anthropic_messages,
        {"messages": _MESSAGES, "max_tokens": 100},
        (None, "AnthropicMessagesStreamingResponse"),
        (True, True),
        9,
        is_native=True,
        needs_proxy=True,
    ),
)


def need_proxy() -> None:
    """Skip the test where the packages are missing that LiteLLM's proxy has besides."""
    pytest.importorskip(
        "litellm.proxy.pass_through_endpoints.success_handler",
        reason="LiteLLM imports its proxy for this, and the proxy's packages are not installed",
        exc_type=ImportError,
    )


class Driver:
    """Opens and reads streams of one kind; asynchronous ones on one event loop, as an application would."""

    def __init__(self, litellm: ModuleType, server: OpenAIServer, kind: Kind, *, is_async: bool) -> None:
        self.litellm, self.kind, self.is_async = litellm, kind, is_async
        base = server.root if kind.is_native else server.url
        self._arguments = {**kind.arguments, "api_base": base, "api_key": "sk-test", "max_retries": 0, "stream": True}
        self._loop = asyncio.new_event_loop() if is_async else None

    @property
    def type_name(self) -> str | None:
        return self.kind.types[self.is_async]

    @property
    def can_close(self) -> bool:
        return self.kind.can_close[self.is_async]

    def run(self, awaitable: Awaitable[Any]) -> Any:
        assert self._loop is not None
        return self._loop.run_until_complete(asyncio.wait_for(awaitable, DEADLINE_S))

    def open(self, words: str, **arguments: Any) -> Any:
        call = (self.kind.asynchronous if self.is_async else self.kind.sync)(self.litellm)  # type: ignore[misc]
        stream = call(model=self.kind.model + words, **{**self._arguments, **arguments})
        return self.run(stream) if self.is_async else stream

    def next(self, stream: Any) -> Any:
        return self.run(stream.__anext__()) if self.is_async else next(stream)

    def all(self, stream: Any) -> list[Any]:
        if not self.is_async:
            return list(stream)

        async def collect() -> list[Any]:
            return [chunk async for chunk in stream]

        return list(self.run(collect()))

    def close(self, stream: Any) -> None:
        if self.is_async:
            self.run(stream.aclose())
        else:
            stream.close()

    def finish(self) -> None:
        if self._loop is None:
            return

        async def stop() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:  # LiteLLM reads to the end of streams that were left, in the background
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.litellm.close_litellm_async_clients()
            await asyncio.sleep(0)

        self._loop.run_until_complete(stop())
        self._loop.close()


@contextmanager
def native_models(litellm: ModuleType) -> Iterator[None]:
    """Have LiteLLM know the models of `NATIVE` as such that stream Responses."""
    words = ("plain", "silent", "tools", "incomplete", "failed", "drop", "short", "slow", "many")
    models = {
        f"openai/{NATIVE}-{word}": {"litellm_provider": "openai", "mode": "chat", "supports_native_streaming": True}
        for word in words
    }
    before = copy.deepcopy(litellm.model_cost)  # it files rows under the bare names as well
    litellm.register_model(models)
    try:
        yield
    finally:
        litellm.model_cost.clear()
        litellm.model_cost.update(before)
