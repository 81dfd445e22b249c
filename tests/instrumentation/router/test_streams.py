"""Routed streams: the request ends when the stream is handed out, and goes on below where the Router does."""

import gc

import pytest
from instrumentation.recording import Recording
from instrumentation.router.routes import Asker, deployment
from instrumentation.router.trees import REFUSED, attempt, points, request_of, tree
from instrumentation.router_server import RouterServer
from waiting import until

from otel_llm.litellm.router import methods as router


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
