"""The Router stays as it was: its methods, its arguments, and its answers whatever breaks in our part."""

import inspect
from types import ModuleType
from typing import Any

import pytest
from instrumentation.recording import Recording
from instrumentation.router.routes import Asker, deployment
from instrumentation.router_server import RouterServer

from otel_llm import fault
from otel_llm.litellm import LiteLLMInstrumentor
from otel_llm.litellm.router import methods as router
from otel_llm.litellm.router import metrics as router_metrics
from otel_llm.litellm.router import requests as routing


def methods(litellm: ModuleType) -> dict[str, Any]:
    module = litellm.router
    core = getattr(module, "router_python_core", None)
    owner, cache = (module.Router, module.CooldownCache) if core is None else (core.PythonCore, core.CooldownCache)
    names = [*router._METHODS, *router._COOLDOWN_METHODS]
    return {name: found for name in names if (found := getattr(owner, name, None) or getattr(cache, name, None))}


def test_the_router_s_methods_look_as_they_did_and_are_put_back(litellm: ModuleType) -> None:
    def looks(method: Any) -> tuple[Any, ...]:
        return type(method), method.__qualname__, inspect.signature(method), inspect.iscoroutinefunction(method)

    before = methods(litellm)
    instrumentor = LiteLLMInstrumentor()
    instrumentor.instrument()
    during = methods(litellm)
    instrumentor.uninstrument()

    assert len(before) == len(router._METHODS) + len(router._COOLDOWN_METHODS)
    assert {name: looks(method) for name, method in during.items()} == {n: looks(m) for n, m in before.items()}
    assert [name for name in before if during[name] is before[name]] == []
    assert methods(litellm) == before


def test_arguments_nobody_can_serialise_are_routed_as_without_us(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    """Another instrumentation dumps the arguments as JSON inside the call, which the Router's own objects do not survive."""
    routes = ask.litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )
    metadata = {"callback": lambda: None, "objects": {object()}}

    reply = ask(routes, "first", metadata=metadata)

    assert type(reply) is ask.litellm.ModelResponse
    assert len(recording.spans()) == 3


@pytest.mark.parametrize(
    "broken",
    [
        (routing.Routing, "_start"),
        (routing.Routing, "_describe"),
        (routing.Routing, "_describe_attempt"),
        (routing.Routing, "_record_attempt"),
        (routing.Routing, "_read_remaining"),
        (routing, "text"),
        (routing, "hidden_params"),
        (routing, "_status"),
        (router, "text"),
        (router, "may_start"),
        (router_metrics.RouterInstruments, "_of_group"),
        (router_metrics.RouterInstruments, "cooled_down"),
        (router_metrics.Cap, "of"),
    ],
    ids=lambda owner: f"{owner[0].__name__}.{owner[1]}",
)
def test_a_fault_of_ours_never_reaches_the_application(
    ask: Asker,
    limited: RouterServer,
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[Any, str],
) -> None:
    faults: list[str] = []
    fault.set_on_fault(lambda place, _: faults.append(place))
    monkeypatch.setattr(*broken, _break_down)
    cool = f"cool-{broken[1]}-{ask.is_async}"
    routes = ask.litellm.Router(
        [
            deployment(limited, "cooling", "error429", cool, weight=10**9),
            deployment(limited, "cooling", "plain", "b", weight=1),
            deployment(limited, "failing", "error500", "c"),
        ],
        fallbacks=[{"failing": ["cooling"]}],
        num_retries=1,
        retry_after=0,
        allowed_fails=0,
        cooldown_time=60,
    )

    assert ask(routes, "cooling").choices[0].message.content == "Hello there"
    assert ask.text(ask(routes, "failing", stream=True)) == "Hello there"
    with pytest.raises(ask.litellm.BadRequestError):
        ask(routes, "unheard-of")
    assert faults
    assert recording.spans() != []


def _break_down(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault of ours")
