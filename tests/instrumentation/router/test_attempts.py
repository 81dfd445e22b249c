"""Routed requests: one span over one span an attempt, each naming the deployment that was asked."""

import pytest
from instrumentation.recording import Recording
from instrumentation.router.routes import Asker, deployment
from instrumentation.router.trees import REFUSED, attempt, points, request_of, tree
from instrumentation.router_server import RouterServer


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


def test_a_request_that_takes_too_long(ask: Asker, limited: RouterServer, recording: Recording) -> None:
    routes = ask.litellm.Router([deployment(limited, "g", "slow", "a")], num_retries=0, timeout=0.05)

    with pytest.raises(ask.litellm.Timeout):
        ask(routes, "g")

    ((name, status, request, attempts),) = tree(recording)
    assert (name, status, request["error.type"]) == ("route g", "Timeout (HTTP 408)", "Timeout")
    assert [child[2] for child in attempts] == [attempt(1, "g", "a", "Timeout")]


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
