"""Routed requests: one span over one span an attempt, each naming the deployment that was asked, and what is counted."""

import asyncio
import gc
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from instrumentation.router_server import RouterServer, serve_router
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from waiting import until

from otel_llm import fault
from otel_llm.litellm import LiteLLMInstrumentor, router, router_metrics, routing

HELLO = [{"role": "user", "content": "hi"}]
Tree = tuple[str, str, dict[str, Any], list[Any]]

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def limited() -> Iterator[RouterServer]:
    """The server of these tests; its replies say what is left of a rate limit."""
    with serve_router() as running:
        yield running


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "LiteLLM Router")  # it logs tracebacks of failures that these tests make


async def _within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


class Asker:
    """Asks a Router in one of its two ways; async ones on one loop, as an application would."""

    def __init__(self, litellm: ModuleType, *, is_async: bool) -> None:
        self.litellm, self.is_async = litellm, is_async
        self._runner = asyncio.Runner() if is_async else None

    def run(self, awaitable: Any) -> Any:
        assert self._runner is not None
        return self._runner.run(_within(awaitable))

    def __call__(self, routes: Any, model: str, **arguments: Any) -> Any:
        if self.is_async:
            return self.run(routes.acompletion(model, HELLO, **arguments))
        return routes.completion(model, HELLO, **arguments)

    def text(self, stream: Any) -> str:
        async def collect() -> list[Any]:
            return [chunk async for chunk in stream]

        chunks = self.run(collect()) if self.is_async else list(stream)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def finish(self) -> None:
        if self._runner is not None:
            self.run(self.litellm.close_litellm_async_clients())
            self._runner.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType) -> Iterator[Asker]:
    asker = Asker(litellm, is_async=request.param == "async")
    yield asker
    asker.finish()


def deployment(server: OpenAIServer, group: str, model: str, identity: str, **parameters: Any) -> dict[str, Any]:
    return {
        "model_name": group,
        "litellm_params": {
            "model": f"hosted_vllm/{model}",
            "api_base": server.url,
            "api_key": "sk-test",
            "max_retries": 0,
            **parameters,
        },
        "model_info": {"id": identity},
    }


def tree(recording: Recording) -> list[Tree]:
    """All spans by parent: name, status, what the Router's part in it is, and the children; the oldest first."""
    spans = sorted(recording.spans(), key=lambda span: span.start_time or 0)

    def below(parent: int | None) -> list[Tree]:
        return [
            (span.name, span.status.description or span.status.status_code.name, routed(span), below(identity(span)))
            for span in spans
            if (span.parent.span_id if span.parent is not None else None) == parent
        ]

    return below(None)


def identity(span: ReadableSpan) -> int:
    return span.get_span_context().span_id  # type: ignore[no-any-return,union-attr]  # SDK's type is optional


def routed(span: ReadableSpan) -> dict[str, Any]:
    assert span.kind.name == ("CLIENT" if "gen_ai.operation.name" in (span.attributes or {}) else "INTERNAL")
    return {
        name.removeprefix("otel_llm.router."): value
        for name, value in (span.attributes or {}).items()
        if name.startswith("otel_llm.router.") or name == "error.type"
    }


def request_of(group: str, *, attempts: int = 1, retries: int = 0, fallbacks: tuple[str, ...] = (), **more: Any) -> Any:
    """What the span over the attempts says."""
    counts = {"attempt.count": attempts, "retry.count": retries, "fallback.count": len(fallbacks)}
    groups = {"fallback.model_groups": fallbacks} if fallbacks else {}
    more = {name.replace("__", "."): value for name, value in more.items()}
    return {"model_group": group, "strategy": "simple-shuffle", **counts, **groups, **more}


def attempt(number: int, group: str, identity: str, error: str | None = None) -> dict[str, Any]:
    failed = {"error.type": error} if error is not None else {}
    return {"attempt.number": number, "model_group": group, "deployment.id": identity, **failed}


def points(recording: Recording) -> dict[str, list[tuple[dict[str, Any], float]]]:
    """The Router's points by name of the metric: attributes, and the value or, of a histogram, the count."""
    data = recording.reader.get_metrics_data()
    return {
        metric.name.removeprefix("otel_llm.router."): [
            (
                {name.removeprefix("otel_llm.router."): value for name, value in (point.attributes or {}).items()},
                point.count if isinstance(point, HistogramDataPoint) else point.value,
            )
            for point in metric.data.data_points
        ]
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("otel_llm.router.")
    }


REFUSED = "InternalServerError (HTTP 500)"


def test_a_fallback_is_one_request_over_its_attempts(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=1,
        retry_after=0,
    )

    assert ask(routes, "first").choices[0].message.content == "Hello there"
    error = "InternalServerError"
    assert tree(recording) == [
        (
            "route first",
            "UNSET",
            request_of("first", attempts=3, retries=1, fallbacks=("second",), deployment__id="b"),
            [
                ("chat error500", REFUSED, attempt(1, "first", "a", error), []),
                ("chat error500", REFUSED, attempt(2, "first", "a", error), []),
                ("chat plain", "UNSET", attempt(3, "second", "b"), []),
            ],
        )
    ]
    left = [{"model_group": "first", "deployment.id": "a"}, {"model_group": "second", "deployment.id": "b"}]
    assert points(recording) == {
        "request.duration": [({"model_group": "first"}, 1)],
        "retries": [({"model_group": "first", "error.type": error}, 1)],
        "fallbacks": [({"model_group": "first", "fallback.model_group": "second", "error.type": error}, 1)],
        "remaining_requests": [(of, 59) for of in left],
        "remaining_tokens": [(of, 149984) for of in left],
    }


def test_a_retry_that_succeeds(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    model = f"flaky-{ask.is_async}"
    routes = ask.litellm.Router([deployment(limited, "group", model, "a")], num_retries=2, retry_after=0)

    ask(routes, "group")

    assert tree(recording) == [
        (
            "route group",
            "UNSET",
            request_of("group", attempts=2, retries=1, deployment__id="a"),
            [
                (f"chat {model}", REFUSED, attempt(1, "group", "a", "InternalServerError"), []),
                (f"chat {model}", "UNSET", attempt(2, "group", "a"), []),
            ],
        )
    ]


def test_a_request_of_which_all_attempts_fail(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "error503", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )

    with pytest.raises(ask.litellm.InternalServerError):  # LiteLLM raises the first error
        ask(routes, "first")

    other = "ServiceUnavailableError"
    assert tree(recording) == [
        (
            "route first",
            REFUSED,
            request_of("first", attempts=2, fallbacks=("second",)) | {"error.type": "InternalServerError"},
            [
                ("chat error500", REFUSED, attempt(1, "first", "a", "InternalServerError"), []),
                ("chat error503", f"{other} (HTTP 503)", attempt(2, "second", "b", other), []),
            ],
        )
    ]
    assert points(recording)["request.duration"] == [({"model_group": "first", "error.type": "InternalServerError"}, 1)]


def test_a_prompt_too_long_goes_to_the_group_for_long_ones(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "small", "error400", "a"), deployment(limited, "large", "plain", "b")],
        context_window_fallbacks=[{"small": ["large"]}],
        num_retries=2,
        retry_after=0,
    )

    ask(routes, "small")

    error = "ContextWindowExceededError"
    assert tree(recording) == [
        (
            "route small",
            "UNSET",
            request_of("small", attempts=2, fallbacks=("large",), deployment__id="b"),
            [
                ("chat error400", f"{error} (HTTP 400)", attempt(1, "small", "a", error), []),
                ("chat plain", "UNSET", attempt(2, "large", "b"), []),
            ],
        )
    ]


def test_the_next_order_of_the_same_group_is_a_fallback(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "g", "error500", "a", order=1), deployment(limited, "g", "plain", "b", order=2)],
        num_retries=0,
    )

    ask(routes, "g")

    ((name, status, request, attempts),) = tree(recording)
    assert (name, status) == ("route g", "UNSET")
    assert request == request_of("g", attempts=2, fallbacks=("g",), deployment__id="b")
    assert [(child[0], child[2]["deployment.id"], child[2]["deployment.order"]) for child in attempts] == [
        ("chat error500", "a", 1),
        ("chat plain", "b", 2),
    ]


def test_a_deployment_that_cools_down_is_passed_over(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    cool = (
        f"cool-{ask.is_async}"  # all Routers of a process hear of a failure; one that knows the deployment acts on it
    )
    routes = ask.litellm.Router(
        [
            deployment(limited, "g", "error429", cool, weight=10**9),
            deployment(limited, "g", "plain", "b", weight=1),
        ],
        num_retries=2,
        retry_after=0,
        allowed_fails=0,
        cooldown_time=60,
    )

    ask(routes, "g")
    ask(routes, "g")

    assert tree(recording) == [
        (
            "route g",
            "UNSET",
            request_of("g", attempts=2, retries=1, deployment__id="b", cooldown__deployment__ids=(cool,)),
            [
                ("chat error429", "RateLimitError (HTTP 429)", attempt(1, "g", cool, "RateLimitError"), []),
                ("chat plain", "UNSET", attempt(2, "g", "b"), []),
            ],
        ),
        (
            "route g",
            "UNSET",
            request_of("g", deployment__id="b", cooldown__deployment__ids=(cool,)),
            [("chat plain", "UNSET", attempt(1, "g", "b"), [])],
        ),
    ]
    assert points(recording)["cooldowns"] == [({"deployment.id": cool, "error.type": "RateLimitError"}, 1)]


def test_an_attempt_the_router_itself_refuses_names_the_refused_deployment(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    """LiteLLM's own failure metric names the deployment of the fallback there; no server is asked, and yet it is an attempt."""
    routes = ask.litellm.Router(
        [deployment(limited, "first", "plain", "a", rpm=1), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
        optional_pre_call_checks=["enforce_model_rate_limits"],
    )
    ask(routes, "first")
    recording.exporter.clear()
    asked = len(limited.requests)

    ask(routes, "first")

    assert len(limited.requests) == asked + 1
    assert tree(recording) == [
        (
            "route first",
            "UNSET",
            request_of("first", attempts=2, fallbacks=("second",), deployment__id="b"),
            [
                ("attempt first", "RateLimitError (HTTP 429)", attempt(1, "first", "a", "RateLimitError"), []),
                ("chat plain", "UNSET", attempt(2, "second", "b"), []),
            ],
        )
    ]


def test_a_group_nobody_serves_is_a_failed_request(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "plain", "a")], num_retries=0)

    with pytest.raises(ask.litellm.BadRequestError):
        ask(routes, "unheard-of")

    ((name, status, request, attempts),) = tree(recording)
    assert (name, status) == ("route unheard-of", "BadRequestError (HTTP 400)")
    assert {"attempt.count": 1, "error.type": "BadRequestError"}.items() <= request.items()
    assert [child[:3] for child in attempts] == [
        (
            "attempt unheard-of",
            "BadRequestError (HTTP 400)",
            {"attempt.number": 1, "model_group": "unheard-of", "error.type": "BadRequestError"},
        )
    ]


def test_a_stream_is_routed_until_it_is_handed_out(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )

    stream = ask(routes, "first", stream=True)
    assert [span.name for span in recording.spans()] == ["chat error500", "route first"]
    assert ask.text(stream) == "Hello there"

    assert tree(recording) == [
        (
            "route first",
            "UNSET",
            request_of("first", attempts=2, fallbacks=("second",), deployment__id="b"),
            [
                ("chat error500", REFUSED, attempt(1, "first", "a", "InternalServerError"), []),
                ("chat plain", "UNSET", attempt(2, "second", "b"), []),
            ],
        )
    ]


def test_a_stream_that_breaks_and_goes_on_elsewhere_is_a_request_below_the_first(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "first", "begin", "a"), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )

    stream = ask(routes, "first", stream=True)
    assert ask.text(stream) == "Hello there"

    error = "MidStreamFallbackError"
    assert tree(recording) == [
        (
            "route first",
            "UNSET",
            request_of("first", deployment__id="a"),
            [
                ("chat begin", f"{error} (HTTP 500)", attempt(1, "first", "a", error), []),
                (
                    "route first",
                    "UNSET",
                    request_of("first", fallbacks=("second",), deployment__id="b", mid_stream=True),
                    [("chat plain", "UNSET", attempt(2, "second", "b"), [])],
                ),
            ],
        )
    ]
    assert [point for point, _ in points(recording)["fallbacks"]] == [
        {"model_group": "first", "fallback.model_group": "second", "error.type": error}
    ]
    del stream
    until(lambda: gc.collect() >= 0 and not router.State.handed_out, "the stream to be forgotten")


def test_a_stream_that_breaks_for_good_is_no_further_request(
    ask: Asker, limited: RouterServer, recording: Recording
) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "begin", "a")], num_retries=0)

    stream = ask(routes, "g", stream=True)
    with pytest.raises(ask.litellm.APIConnectionError):
        ask.text(stream)

    assert sorted(span.name for span in recording.spans()) == ["chat begin", "route g"]


def test_embeddings_are_routed_alike(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "error503", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )

    with pytest.raises(ask.litellm.InternalServerError):
        ask.run(routes.aembedding("first", ["hi"])) if ask.is_async else routes.embedding("first", ["hi"])

    ((name, status, request, attempts),) = tree(recording)
    assert (name, status) == ("route first", REFUSED)
    assert request == request_of("first", attempts=2, fallbacks=("second",)) | {"error.type": "InternalServerError"}
    assert [child[2] for child in attempts] == [
        attempt(1, "first", "a", "InternalServerError"),
        attempt(2, "second", "b", "ServiceUnavailableError"),
    ]


def test_a_sync_request_in_a_coroutine_keeps_its_parent(
    litellm: ModuleType, limited: RouterServer, recording: Recording
) -> None:
    """The Router runs its core in another thread there, which inherits no context."""
    routes = litellm.Router(
        [deployment(limited, "first", "error500", "a"), deployment(limited, "second", "plain", "b")],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )

    async def handle() -> None:
        with recording.tracer_provider.get_tracer("application").start_as_current_span("handle"):
            routes.completion("first", HELLO)
        with suppress_instrumentation():
            routes.completion("first", HELLO)

    asyncio.run(handle())

    ((name, _, _, children),) = tree(recording)
    assert (name, [(child[0], [below[0] for below in child[3]]) for child in children]) == (
        "handle",
        [("route first", ["chat error500", "chat plain"])],
    )
    assert router.State.handed_over == {}


def test_a_cancelled_request(litellm: ModuleType, limited: RouterServer, recording: Recording) -> None:
    routes = litellm.Router([deployment(limited, "g", "hang", "a")], num_retries=3)
    before = len(limited.requests)

    async def cancel() -> None:
        task = asyncio.create_task(routes.acompletion("g", HELLO))
        await asyncio.to_thread(until, lambda: len(limited.requests) > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    assert tree(recording) == [
        (
            "route g",
            "CancelledError",
            request_of("g") | {"error.type": "CancelledError"},
            [("chat hang", "CancelledError", attempt(1, "g", "a", "CancelledError"), [])],
        )
    ]


def test_a_request_that_takes_too_long(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "slow", "a")], num_retries=0, timeout=0.05)

    with pytest.raises(ask.litellm.Timeout):
        ask(routes, "g")

    ((name, status, request, attempts),) = tree(recording)
    assert (name, status, request["error.type"]) == ("route g", "Timeout (HTTP 408)", "Timeout")
    assert [child[2] for child in attempts] == [attempt(1, "g", "a", "Timeout")]


def test_concurrent_requests_keep_their_trees_apart(
    litellm: ModuleType, limited: RouterServer, recording: Recording
) -> None:
    groups = [f"group{number}" for number in range(50)]
    routes = litellm.Router(
        [deployment(limited, group, "error500", f"{group}-a") for group in groups]
        + [deployment(limited, f"{group}-next", "plain", f"{group}-b") for group in groups],
        fallbacks=[{group: [f"{group}-next"]} for group in groups],
        num_retries=0,
    )

    async def ask_all() -> None:
        await asyncio.gather(*(routes.acompletion(group, HELLO) for group in groups))
        await litellm.close_litellm_async_clients()

    asyncio.run(ask_all())

    assert sorted(tree(recording), key=lambda one: groups.index(one[2]["model_group"])) == [
        (
            f"route {group}",
            "UNSET",
            request_of(group, attempts=2, fallbacks=(f"{group}-next",), deployment__id=f"{group}-b"),
            [
                ("chat error500", REFUSED, attempt(1, group, f"{group}-a", "InternalServerError"), []),
                ("chat plain", "UNSET", attempt(2, f"{group}-next", f"{group}-b"), []),
            ],
        )
        for group in groups
    ]


def test_calls_that_no_router_makes_have_nothing_of_one(
    litellm: ModuleType, server: OpenAIServer, recording: Recording
) -> None:
    litellm.completion("hosted_vllm/plain", HELLO, api_base=server.url, model_info={"id": "a"})

    assert routed(recording.span()) == {}
    assert points(recording) == {}


def test_a_server_that_says_nothing_of_limits_has_no_gauge(
    ask: Asker, server: OpenAIServer, recording: Recording
) -> None:
    """With limits configured, LiteLLM adds its own reckoning to the reply; the provider did not say it."""
    routes = ask.litellm.Router([deployment(server, "g", "plain", "a", rpm=100, tpm=10_000)], num_retries=0)

    ask(routes, "g")

    assert set(points(recording)) == {"request.duration"}


def test_deployments_beyond_the_cap_have_no_gauge_and_count_under_other(recording: Recording) -> None:
    instruments = router_metrics.RouterInstruments(recording.meter_provider.get_meter("test"), max_values=1)
    context = routing.otel_context.get_current()
    for deployment_id in ("a", "b", "c"):
        instruments.remaining("g", deployment_id, 7, None, context)
        instruments.cooled_down(deployment_id, "Timeout")

    assert points(recording) == {
        "remaining_requests": [({"model_group": "g", "deployment.id": "a"}, 7)],
        "cooldowns": [
            ({"deployment.id": "a", "error.type": "Timeout"}, 1),
            ({"deployment.id": "other", "error.type": "Timeout"}, 2),
        ],
    }


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


def test_a_suppressed_request_is_not_recorded(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "plain", "a")], num_retries=0)

    with suppress_instrumentation():
        ask(routes, "g")

    assert (recording.spans(), points(recording)) == ([], {})
