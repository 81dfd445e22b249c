"""Routed requests keep their parents and their ends, whichever threads and tasks the Router uses."""

import asyncio
from types import ModuleType

import pytest
from instrumentation.recording import Recording
from instrumentation.router.routes import HELLO, Asker, deployment
from instrumentation.router.trees import REFUSED, attempt, points, request_of, tree
from instrumentation.router_server import RouterServer
from opentelemetry.instrumentation.utils import suppress_instrumentation
from waiting import until

from otel_llm.litellm.router import methods as router


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


def test_a_suppressed_request_is_not_recorded(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "plain", "a")], num_retries=0)

    with suppress_instrumentation():
        ask(routes, "g")

    assert (recording.spans(), points(recording)) == ([], {})
