"""A table of LiteLLM calls, and what a call gives, as plain values that can be compared: see `test_differential`.

What an outcome is: the result or the exception, down to types, fields and chunks; the requests the server saw; the
environment.
"""

import asyncio
import functools
import gc
import os
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from types import ModuleType
from typing import Any

from instrumentation.openai_server import OpenAIServer

HELLO = [{"role": "user", "content": "hi"}]
Call = Callable[[ModuleType, dict[str, Any]], Any]


class Opaque:
    """What no serialiser takes."""

    def __repr__(self) -> str:
        return "Opaque()"


# -- the table ---------------------------------------------------------------------------------------------------------


def plain(litellm: ModuleType, to: dict[str, Any], model: Any = "openai/plain", **more: Any) -> Any:
    return litellm.completion(model=model, **{"messages": HELLO, **to, **more})


def positional(litellm: ModuleType, to: dict[str, Any]) -> Any:
    return litellm.completion("hosted_vllm/plain", HELLO, **to)


def stream(litellm: ModuleType, to: dict[str, Any], model: str = "openai/plain", **more: Any) -> Any:
    opened = litellm.completion(model=model, messages=HELLO, stream=True, **to, **more)
    return [opened, *opened]


def partly(litellm: ModuleType, to: dict[str, Any], model: str = "openai/plain", close: bool = False) -> Any:
    opened = litellm.completion(model=model, messages=HELLO, stream=True, **to)
    first = next(opened)
    if close and hasattr(opened, "close"):
        opened.close()
    kind = type(opened)
    del opened
    return [kind, first]


class Loop:
    """One event loop for all: LiteLLM keeps its async clients, and their connections, for the next call."""

    running: asyncio.AbstractEventLoop


def in_loop(main: Callable[..., Any]) -> Call:
    return lambda *args, **kwargs: Loop.running.run_until_complete(main(*args, **kwargs))


async def _aplain(litellm: ModuleType, to: dict[str, Any], model: Any = "openai/plain", **more: Any) -> Any:
    return await litellm.acompletion(model=model, messages=HELLO, **to, **more)


async def _astream(litellm: ModuleType, to: dict[str, Any], model: str = "openai/plain", **more: Any) -> Any:
    opened = await litellm.acompletion(model=model, messages=HELLO, stream=True, **to, **more)
    return [opened, *[chunk async for chunk in opened]]


async def _cancelled(litellm: ModuleType, to: dict[str, Any]) -> Any:
    async with asyncio.timeout(0.2):
        await litellm.acompletion(model="openai/hang", messages=HELLO, **to)


aplain, astream, cancelled = in_loop(_aplain), in_loop(_astream), in_loop(_cancelled)


@functools.cache
def routing(litellm: ModuleType, *to: tuple[str, Any]) -> Any:
    deployments = [
        {"model_name": group, "litellm_params": {"model": f"openai/{model}", **dict(to)}}
        for group, model in (("first", "error500"), ("second", "plain"))
    ]
    return litellm.Router(model_list=deployments, fallbacks=[{"first": ["second"]}], num_retries=0)


def router(litellm: ModuleType, to: dict[str, Any], **more: Any) -> Any:
    return routing(litellm, *to.items()).completion(model="first", messages=HELLO, **more)


async def _arouter(litellm: ModuleType, to: dict[str, Any], **more: Any) -> Any:
    return await routing(litellm, *to.items()).acompletion(model="first", messages=HELLO, **more)


arouter = in_loop(_arouter)


def client_object(litellm: ModuleType, to: dict[str, Any]) -> Any:
    client = litellm.LiteLLM(base_url=to["api_base"], api_key=to["api_key"])
    return client.chat.completions.create(model="openai/plain", messages=HELLO)


def other(name: str, **arguments: Any) -> Call:
    return lambda litellm, to: getattr(litellm, name)(**arguments, **to)


FALLBACKS = ["openai/plain"]
COMPACT: Mapping[str, Call] = {
    # Every ending and every kind of call there is a guard for, in as few calls as that takes.
    "plain": partial(plain, model="hosted_vllm/plain"),
    "stream": partial(stream, model="hosted_vllm/plain"),
    "left stream": partly,
    "error": partial(plain, model="openai/error429"),
    "async plain": aplain,
    "async stream": astream,
    "stream that breaks": partial(stream, model="openai/drop"),
    "Router": arouter,
    "embedding": other("embedding", model="openai/plain", input=["a"]),
}
TABLE: Mapping[str, Call] = COMPACT | {
    "positional": positional,
    "no usage": partial(plain, model="openai/silent"),
    "two choices": partial(plain, n=2),
    "tools": partial(plain, model="openai/tools"),
    "bad request": partial(plain, model="openai/error400"),
    "retries": partial(plain, model="openai/error500", num_retries=2),
    "timeout": partial(plain, model="openai/hang", timeout=0.2),
    "fallbacks": partial(plain, model="openai/error500", fallbacks=FALLBACKS),
    "mock": partial(plain, mock_response="hello"),
    "mock error": partial(plain, mock_response="litellm.RateLimitError"),
    "mock stream": partial(stream, mock_response="hello"),
    "model is no string": partial(plain, model=7),
    "model is none": partial(plain, model=None),
    "model is unknown": partial(plain, model="nothing/at-all"),
    "messages are none": partial(plain, messages=None),
    "messages are a generator": lambda litellm, to: plain(litellm, to, messages=(one for one in HELLO)),
    "binary content": partial(plain, messages=[{"role": "user", "content": b"\xff\x00"}]),
    "image": partial(plain, messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}, {"type": "text", "text": "?"},
    ]}]),
    "opaque message": partial(plain, messages=[Opaque()]),
    "opaque parameter": partial(plain, temperature=Opaque()),
    "opaque metadata": partial(plain, metadata={"opaque": Opaque(), "function": print}),
    "broken address": lambda litellm, to: plain(litellm, {**to, "api_base": "http://[broken"}),
    "nothing": lambda litellm, _: litellm.completion(),
    "usage asked for": partial(stream, stream_options={"include_usage": True}),
    "usage unasked": partial(stream, model="hosted_vllm/plain-usage"),
    "closed stream": partial(partly, close=True),
    "async error": partial(aplain, model="openai/error429"),
    "async stream that breaks": partial(astream, model="openai/drop"),
    "async fallbacks": partial(aplain, model="openai/error500", fallbacks=FALLBACKS),
    "async stream, usage asked for": partial(astream, stream_options={"include_usage": True}),
    "cancelled": cancelled,
    "sync Router": router,
    "Router with an opaque argument": partial(arouter, metadata={"opaque": Opaque()}),
    "sync Router with an opaque argument": partial(router, metadata={"opaque": Opaque()}),
    "client object": client_object,
    "text completion": other("text_completion", model="openai/plain", prompt="hi"),
    "responses": other("responses", model="openai/plain", input="hi"),
    "rerank": other("rerank", model="hosted_vllm/plain", query="q", documents=["a", "b"]),
    "moderation": other("moderation", model="openai/plain", input="hi"),
    "image generation": other("image_generation", model="openai/plain", prompt="hi"),
    "speech": other("speech", model="openai/plain", input="hi", voice="alloy"),
}  # fmt: skip


# -- outcomes ----------------------------------------------------------------------------------------------------------


CLOCK = frozenset(("created", "created_at"))  # in seconds: two runs may agree and a third may not


def facts(thing: Any) -> Any:
    """Take an object apart into plain values that can be compared."""
    if isinstance(thing, list | tuple):
        return [type(thing), *map(facts, thing)]
    if isinstance(thing, dict):
        return {key: facts(value) for key, value in thing.items() if key not in CLOCK}
    dump = getattr(thing, "model_dump", None)
    if callable(dump) and not isinstance(thing, type):
        return [type(thing), facts(dump(warnings=False)), sorted(getattr(thing, "_hidden_params", None) or ())]
    if isinstance(thing, BaseException):
        cause = facts(thing.__cause__) if thing.__cause__ is not None else None
        return [type(thing), str(thing), facts(list(thing.args)), getattr(thing, "status_code", None), cause]
    return thing if isinstance(thing, str | int | float | bytes | bool | type | None) else type(thing)


def outcome(call: Call, litellm: ModuleType, server: OpenAIServer) -> Any:
    """Make the call in a context of its own, lest one that fails to leave its context tells on the next."""
    server.requests.clear()
    environment = dict(os.environ)
    to = {"api_base": server.url, "api_key": "k", "max_retries": 0}
    try:
        came = facts(copy_context().run(call, litellm, to))
    except BaseException as error:
        came = facts(error)
    gc.collect()  # streams that were left give their connections back
    asked = [
        # What we may add to a request for a server of one's own, and nothing else.
        (seen["path"], {key: value for key, value in seen["body"].items() if key != "stream_options"})
        for seen in server.requests
    ]
    return {"came": came, "asked": asked, "environment": dict(os.environ) == environment}


class _Varies:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "(varies)"


def common(one: Any, two: Any) -> Any:
    """Return what two outcomes have in common, with a joker where they differ."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return {key: common(one[key], two[key]) for key in one}
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        return type(one)(common(a, b) for a, b in zip(one, two, strict=True))
    return one if one == two else _Varies()
