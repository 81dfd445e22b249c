"""LiteLLM's own cache: with us and without us a call has the same key, so the one is answered from the other's reply."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from instrumentation.asking import ask, every_way, without_identity
from instrumentation.picky_server import PickyServer, serve
from opentelemetry.sdk.trace import TracerProvider
from waiting import until

from otel_llm.litellm import LiteLLMInstrumentor


@pytest.fixture
def server() -> Iterator[PickyServer]:
    with serve() as running:
        yield running


# LiteLLM 1.109 looks at a type of its Anthropic replies on every hit, and with it imports the proxy's web framework.
_NEEDS_FASTAPI = "litellm.llms.anthropic.messages.native.response_cache"
_CALLBACKS = ("input_callback", "success_callback", "_async_success_callback")


@pytest.fixture
def cache(litellm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """LiteLLM's cache in memory, switched on; what it holds, by key."""
    if find_spec("fastapi") is None:
        stand_in = ModuleType(_NEEDS_FASTAPI)
        stand_in.CachedAnthropicMessagesStreamIterator = type("Never", (), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, _NEEDS_FASTAPI, stand_in)
    callbacks = {name: list(getattr(litellm, name)) for name in _CALLBACKS}
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    yield litellm.cache.cache.cache_dict
    for name, before in callbacks.items():
        getattr(litellm, name)[:] = before


@every_way
@pytest.mark.parametrize("first", ["with us", "without us"])
def test_a_reply_is_found_again_on_the_other_side(
    litellm: ModuleType, cache: dict[str, Any], server: PickyServer, way: str, provider: str, first: str
) -> None:
    instrumentor = LiteLLMInstrumentor()

    def turn(to: str) -> None:
        if to == "with us":
            instrumentor.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
        elif instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()

    def call() -> list[dict[str, Any]]:
        return ask(litellm, way, f"{provider}/plain", server.url, extra_headers={"X-Own": "1"}, metadata={"a": "b"})

    turn(first)
    call()
    until(lambda: bool(cache))  # the synchronous stream is kept by another thread
    keys = set(cache)
    kept = call()
    turn("without us" if first == "with us" else "with us")
    found = call()
    turn("without us")

    assert set(cache) == keys
    assert len(server.received) == 1
    assert without_identity(found) == without_identity(kept)
