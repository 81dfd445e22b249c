"""The shapes that boards of requests share: totals, shares, quantiles and means as templates (see `names`), and the numbers on top."""

from dashboards.names import listed, rate
from dashboards.panels import Panel, Query, Unit

QUANTILES = (0.5, 0.95, 0.99)


def shown(*attributes: str) -> str:
    """Return a legend that names a series by these attributes."""
    return " · ".join(f"{{{{<{attribute}>}}}}" for attribute in attributes)


def total(series: str, *by: str) -> str:
    """Return how much counters grow in a second, all together or by attributes."""
    return f"sum by ({listed(by)}) ({rate(series)})" if by else f"sum({rate(series)})"


def share(part: str, whole: str, *by: str) -> str:
    """Return how much of the part there is for each of the whole: 0, not absent, where there is none, and absent where there is no whole."""
    return f"({total(part, *by)} or 0 * {total(whole, *by)}) / ({total(whole, *by)} > 0)"


def mean(histogram: str, matcher: str, *by: str) -> str:
    """Return the mean of a histogram's readings."""
    part, whole = f"<{histogram}_sum{{{matcher}}}>", f"<{histogram}_count{{{matcher}}}>"
    return f"{total(part, *by)} / ({total(whole, *by)} > 0)"


def quantile(value: float, histogram: str, *by: str, matcher: str = "") -> str:
    """Return what this share of a histogram's readings does not exceed."""
    return f"histogram_quantile({value}, sum by ({listed(('le', *by))}) ({rate(f'<{histogram}_bucket{{{matcher}}}>')}))"


def quantiles(histogram: str, matcher: str = "") -> tuple[Query, ...]:
    """Return a line for the half, for 95 and for 99 of 100 readings, each with its exemplars."""
    return tuple(
        Query(quantile(value, histogram, matcher=matcher), f"p{value * 100:.0f}", exemplars=True) for value in QUANTILES
    )


def p95_by(histogram: str, attribute: str) -> tuple[Query, ...]:
    """Return a line for 95 of 100 readings by each value of an attribute, with its exemplars."""
    return (Query(quantile(0.95, histogram, attribute), shown(attribute), exemplars=True),)


def number(title: str, description: str, unit: Unit, template: str, *, width: int, low: float | None = None) -> Panel:
    """Return one number of the row on top of a board."""
    return Panel(title, description, unit, (Query(template),), kind="stat", width=width, height=4, low=low)


def failed_share(description: str, failed: str, requests: str, *, width: int) -> Panel:
    """Return the share of requests that failed as a number on top of a board: orange from one in 100, red from five."""
    return Panel(
        "Failed",
        description,
        "percentunit",
        (Query(share(failed, requests)),),
        kind="stat",
        width=width,
        height=4,
        low=0,
        high=1,
        limits=((0.01, "orange"), (0.05, "red")),
    )
