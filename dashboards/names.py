"""From declared names to PromQL: a board speaks of `<system.cpu.time{cpu.mode="user"}>`, and only this module knows the rest.

In a template, `<metric{attribute="value"}>` becomes the series in Prometheus, narrowed to what the board's variables chose, and
`<attribute>` becomes a label. What no declaration knows is an error when the boards are built, not an empty panel later.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from otel_agent.catalogue import Kind, Metric
from otel_agent.derived import DERIVED
from otel_agent.sources import SOURCES
from otel_agent.telemetry import own
from otel_agent.telemetry.naming import prometheus_label, prometheus_name
from otel_llm.litellm.router import metrics as router_metrics
from otel_llm.metrics import METRICS as CLIENT
from otel_llm.metrics import ClientMetric
from otel_llm.vllm import metrics as vllm_metrics
from otel_llm.vllm.stats import metrics as engine_metrics

RESOURCE = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "host.name",
)  # attributes of the resource that Prometheus keeps as labels
HISTOGRAM = {"bucket": ("le",), "count": (), "sum": ()}  # the series that a histogram becomes, and the labels it adds

PLACE = re.compile(r"<([a-z][a-z0-9_.]*)(?:\{([^{}<>]*)\})?>")
MATCHER = re.compile(r'\s*([a-z][a-z0-9_.]*)\s*(=~|!~|!=|=)\s*("[^"]*")\s*(?:,|$)')


@dataclass(frozen=True)
class Series:
    """What a declared name is in Prometheus: the series' name, and the attributes that may be its labels."""

    name: str
    attributes: frozenset[str]


def agent_rows() -> Iterator[Metric[Any]]:
    """Yield every row that the agent can publish."""
    for source in (*SOURCES, *DERIVED):
        yield from source.metrics
    yield from own.METRICS


def application_rows() -> Iterator[ClientMetric]:
    """Yield every row that an instrumented application can publish."""
    yield from CLIENT
    yield from router_metrics.METRICS
    yield from vllm_metrics.METRICS
    yield from engine_metrics.METRICS


@cache
def vocabulary() -> Mapping[str, Series]:
    """Return every series by its declared name; a histogram's have `_bucket`, `_count` and `_sum` after it."""
    found: dict[str, Series] = {}
    for row in agent_rows():
        known = found.get(row.name)  # a temperature can come from two sources, each with attributes of its own
        found[row.name] = Series(
            prometheus_name(row), frozenset(row.attributes) | (known.attributes if known else frozenset())
        )
    for metric in application_rows():
        found |= series_of(metric)
    return found


def series_of(row: ClientMetric) -> dict[str, Series]:
    """Return the series of an application's row by their declared names."""
    # A histogram gets its unit behind its name as any other, and none of the suffixes that tell counters and ratios.
    kind: Kind = "updowncounter" if row.kind == "histogram" else row.kind
    base = prometheus_name(Metric(row.name, kind, row.unit, row.help, lambda _: ()))
    if row.kind != "histogram":
        return {row.name: Series(base, frozenset(row.attributes))}
    return {
        f"{row.name}_{part}": Series(f"{base}_{part}", frozenset((*row.attributes, *labels)))
        for part, labels in HISTOGRAM.items()
    }


def attributes() -> frozenset[str]:
    """Return every attribute that can be a label."""
    return frozenset(RESOURCE).union(*(series.attributes for series in vocabulary().values()))


def fill(template: str, scope: str = "") -> str:
    """Return the template as PromQL, or as a legend; `scope` holds the matchers that every series gets, as a template itself.

    Raises KeyError for a name that is not declared, and ValueError for a matcher that cannot be read.
    """

    def put(place: re.Match[str]) -> str:
        name, matchers = place[1], place[2]
        series = vocabulary().get(name)
        if series is None:
            if matchers is not None or name not in attributes():
                raise KeyError(f"<{name}> is neither a declared metric nor an attribute: {template}")
            return prometheus_label(name)
        chosen = [*_matchers(scope, template), *_matchers(matchers or "", template)]
        for attribute, _ in chosen:
            if attribute not in series.attributes | set(RESOURCE):
                raise KeyError(f"{name} has no attribute {attribute}: {template}")
        return series.name + "{" + ", ".join(f"{prometheus_label(attribute)}{rest}" for attribute, rest in chosen) + "}"

    return PLACE.sub(put, template)


def _matchers(text: str, template: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        matcher = MATCHER.match(text, at)
        if matcher is None:
            raise ValueError(f"{text[at:]!r} is no list of matchers: {template}")
        found.append((matcher[1], matcher[2] + matcher[3]))
        at = matcher.end()
    return found


def listed(names: Iterable[str]) -> str:
    """Return attributes as the list of labels that `by` and `on` take."""
    return ", ".join(f"<{name}>" for name in names)


def rate(place: str) -> str:
    """Return how much a counter grows in a second."""
    return f"rate({place}[$__rate_interval])"
