"""Calling LiteLLM in each way there is: sync and async, plain and streamed, over either of its async transports."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import ModuleType
from typing import Any

import httpx
import pytest

WAYS = ("sync", "sync stream", "async", "async stream", "async httpx", "async httpx stream")
STREAMS = tuple(way for way in WAYS if "stream" in way)
PROVIDERS = ("openai", "hosted_vllm")
every_way = pytest.mark.parametrize(("way", "provider"), list(product(WAYS, PROVIDERS)))
every_stream = pytest.mark.parametrize(("way", "provider"), list(product(STREAMS, PROVIDERS)))


@contextmanager
def own_loop() -> Iterator[None]:
    """Close the event loop that LiteLLM makes for the thread of a synchronous call, and forgets."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def forget_clients(litellm: ModuleType) -> None:
    """Make LiteLLM open new clients, which look at the settings and the environment of this moment."""
    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        close = getattr(client, "close", None)
        if close is not None and not inspect.iscoroutinefunction(close):
            close()
    litellm.in_memory_llm_clients_cache.flush_cache()


def ask(litellm: ModuleType, way: str, model: str, url: str, **arguments: Any) -> list[dict[str, Any]]:
    """Return the reply, or all chunks of it, as plain values; with a `prompt` it is a text completion."""
    name = "text_completion" if "prompt" in arguments else "completion"
    arguments = {
        **({} if "prompt" in arguments else {"messages": [{"role": "user", "content": "hi"}]}),
        "api_base": url,
        "api_key": "sk-test",
        "max_retries": 0,
        **({"stream": True} if "stream" in way else {}),
        **arguments,
    }
    with pytest.MonkeyPatch.context() as patch:
        if way.startswith("sync"):
            # For texts LiteLLM opens a client of its own each time and leaves it open, unless it is given one.
            with own_loop(), httpx.Client() as client:
                if "prompt" in arguments:
                    patch.setattr(litellm, "client_session", client)
                reply = getattr(litellm, name)(model=model, **arguments)
                return [part.model_dump() for part in (reply if "stream" in way else [reply])]
        return asyncio.run(_ask(litellm, patch, way, name, model, arguments))


async def _ask(
    litellm: ModuleType, patch: pytest.MonkeyPatch, way: str, name: str, model: str, arguments: dict[str, Any]
) -> list[dict[str, Any]]:
    patch.setattr(litellm, "disable_aiohttp_transport", "httpx" in way)
    forget_clients(litellm)
    async with httpx.AsyncClient() as client:
        if "prompt" in arguments:
            patch.setattr(litellm, "aclient_session", client)
        try:
            reply = await getattr(litellm, f"a{name}")(model=model, **arguments)
            return [part.model_dump() async for part in reply] if "stream" in way else [reply.model_dump()]
        finally:
            await litellm.close_litellm_async_clients()
            forget_clients(litellm)


def without_identity(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what LiteLLM makes up anew for each call."""
    return [{name: value for name, value in part.items() if name not in ("id", "created")} for part in parts]
