"""The metrics of LiteLLM's Router: what is counted, with which attributes; rows, and their instruments.

How long the calls themselves took is in the client metrics; here is what the Router did around them.
"""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from otel_llm import semconv
from otel_llm.cap import OTHER, Cap
from otel_llm.metrics import SECONDS, ClientMetric, counter, histogram
from otel_llm.records import Value

REQUEST_DURATION: Final = ClientMetric(
    semconv.ROUTER_REQUEST_DURATION,
    "histogram",
    "s",
    "Time the Router took to answer a request with all its attempts and waits, failed requests included; for a stream until "
    "it is handed out.",
    (semconv.ROUTER_MODEL_GROUP, semconv.ERROR_TYPE),
    SECONDS,
)
RETRIES: Final = ClientMetric(
    semconv.ROUTER_RETRIED,
    "counter",
    "{retry}",
    "Attempts made again in the same model group; error.type is what made the attempt before fail.",
    (semconv.ROUTER_MODEL_GROUP, semconv.ERROR_TYPE),
)
FALLBACKS: Final = ClientMetric(
    semconv.ROUTER_FELL_BACK,
    "counter",
    "{fallback}",
    "Requests passed on from one model group to another, or to the next order of the same; error.type is the reason.",
    (semconv.ROUTER_MODEL_GROUP, semconv.ROUTER_FALLBACK_GROUP, semconv.ERROR_TYPE),
)
COOLDOWNS: Final = ClientMetric(
    semconv.ROUTER_COOLDOWNS,
    "counter",
    "{cooldown}",
    "Deployments put into cooldown by this process; error.type is the failure that did it.",
    (semconv.ROUTER_DEPLOYMENT_ID, semconv.ERROR_TYPE),
)
REMAINING_REQUESTS: Final = ClientMetric(
    semconv.ROUTER_REMAINING_REQUESTS,
    "gauge",
    "{request}",
    "Requests left before the provider's rate limit, as its last reply said.",
    (semconv.ROUTER_MODEL_GROUP, semconv.ROUTER_DEPLOYMENT_ID),
)
REMAINING_TOKENS: Final = ClientMetric(
    semconv.ROUTER_REMAINING_TOKENS,
    "gauge",
    "{token}",
    "Tokens left before the provider's rate limit, as its last reply said.",
    (semconv.ROUTER_MODEL_GROUP, semconv.ROUTER_DEPLOYMENT_ID),
)

METRICS: Final[tuple[ClientMetric, ...]] = (
    REQUEST_DURATION,
    RETRIES,
    FALLBACKS,
    COOLDOWNS,
    REMAINING_REQUESTS,
    REMAINING_TOKENS,
)


class RouterInstruments:
    """The instruments of one meter, one a row; model groups and deployments take a limited number of values."""

    def __init__(self, meter: Meter, max_values: int) -> None:
        self._group = Cap(max_values)
        self._deployment = Cap(max_values)
        self._duration = histogram(meter, REQUEST_DURATION)
        self._retries, self._fallbacks, self._cooldowns = (
            counter(meter, row) for row in (RETRIES, FALLBACKS, COOLDOWNS)
        )
        self._remaining_requests, self._remaining_tokens = (
            meter.create_gauge(row.name, unit=row.unit, description=row.help)
            for row in (REMAINING_REQUESTS, REMAINING_TOKENS)
        )

    def request_ended(self, group: str | None, error_type: str | None, elapsed_s: float, context: Context) -> None:
        """Record how long a request took, and what it failed with."""
        self._duration.record(elapsed_s, self._of_group(group, error_type), context)

    def retried(self, group: str | None, error_type: str | None, context: Context) -> None:
        """Count an attempt made again in the same group."""
        self._retries.add(1, self._of_group(group, error_type), context)

    def fell_back(self, group: str | None, to: str | None, error_type: str | None, context: Context) -> None:
        """Count a request passed on to another group."""
        point = self._of_group(group, error_type)
        if to is not None:
            point[semconv.ROUTER_FALLBACK_GROUP] = self._group.of(to)
        self._fallbacks.add(1, point, context)

    def cooled_down(self, deployment: str, error_type: str) -> None:
        """Count a deployment put into cooldown."""
        self._cooldowns.add(
            1, {semconv.ROUTER_DEPLOYMENT_ID: self._deployment.of(deployment), semconv.ERROR_TYPE: error_type}
        )

    def remaining(
        self, group: str | None, deployment: str, requests: int | None, tokens: int | None, context: Context
    ) -> None:
        """Set what a provider said is left; nothing for what it did not say."""
        point = self._of_group(group, None)
        point[semconv.ROUTER_DEPLOYMENT_ID] = self._deployment.of(deployment)
        if point[semconv.ROUTER_DEPLOYMENT_ID] == OTHER:  # the last of several deployments would stand for all
            return
        if requests is not None:
            self._remaining_requests.set(requests, point, context)
        if tokens is not None:
            self._remaining_tokens.set(tokens, point, context)

    def _of_group(self, group: str | None, error_type: str | None) -> dict[str, Value]:
        point: dict[str, Value] = {}
        if group is not None:
            point[semconv.ROUTER_MODEL_GROUP] = self._group.of(group)
        if error_type is not None:
            point[semconv.ERROR_TYPE] = error_type
        return point
