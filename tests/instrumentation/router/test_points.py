"""What is counted of Routers says no more than servers said, and stays bounded."""

from types import ModuleType

from instrumentation.openai_server import OpenAIServer
from instrumentation.recording import Recording
from instrumentation.router.routes import HELLO, Asker, deployment
from instrumentation.router.trees import points, routed

from otel_llm.litellm.router import metrics as router_metrics
from otel_llm.litellm.router import requests as routing


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
