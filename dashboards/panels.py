"""A panel as data, and the JSON that Grafana's classic schema has for it.

Templates of queries are filled here (see `names`); where a panel stands and what its number is, the board decides.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

from dashboards.names import fill

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "table", "logs"]
Source = Literal["prometheus", "tempo", "loki"]
Unit = Literal[
    "none",
    "short",
    "percentunit",
    "s",
    "bytes",
    "Bps",
    "ops",
    "iops",
    "pps",
    "reqps",
    "celsius",
    "watt",
    "hertz",
    "currencyUSD",
    "dateTimeFromNow",
]

SOURCES = (
    "prometheus",
    "tempo",
    "loki",
)  # kinds of data source; each has a variable on the board, so that a reader can choose another
STEP = "$step"  # how often what is shown is exported: rates look back over four times that


@dataclass(frozen=True)
class Query:
    """One query of a panel; `legend` names the series, or the column of a table (none: the value is not shown, its labels are)."""

    template: str
    legend: str = ""
    unit: Unit | None = None  # of a table's column
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `columns` are the attributes a table shows first, by title; `limits` are lines at which to worry, by colour."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    source: Source = "prometheus"
    width: int = 8
    height: int = 8
    stacked: bool = False
    low: float | None = None
    high: float | None = None
    limits: tuple[tuple[float, str], ...] = ()
    columns: Mapping[str, str] | None = None
    traces: str = ""  # TraceQL behind the panel's "traces" link


def data_source(kind: str) -> Json:
    """Return the reference to the data source that the reader chose."""
    return {"type": kind, "uid": f"${{{kind}_datasource}}"}


def render_panel(panel: Panel, scope: str) -> Json:
    """Return the panel without number and place; `scope` narrows every series to what the board's variables chose."""
    shape = {"timeseries": _timeseries, "stat": _stat, "table": _table, "logs": _logs}[panel.kind](panel)
    targets = [_target(panel, query, chr(ord("A") + at), scope) for at, query in enumerate(panel.queries)]
    head: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": data_source(panel.source),
    }
    return head | {"targets": targets} | shape


def _target(panel: Panel, query: Query, ref: str, scope: str) -> Json:
    source = data_source(panel.source)
    if panel.source == "tempo":
        return {
            "refId": ref,
            "datasource": source,
            "queryType": "traceql",
            "query": query.template,
            "limit": 20,
            "tableType": "spans",
        }
    if panel.source == "loki":
        return {"refId": ref, "datasource": source, "queryType": "range", "expr": query.template, "maxLines": 200}
    instant = panel.kind != "timeseries"
    target: Json = {
        "refId": ref,
        "datasource": source,
        "expr": fill(query.template, scope),
        "legendFormat": fill(query.legend) or "__auto",
        "interval": STEP,
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }
    return target | ({"exemplar": True} if query.exemplars else {})


def _timeseries(panel: Panel) -> Json:
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stacked else 8,
        "showPoints": "auto",  # a single reading between two gaps is still seen
        "spanNulls": False,  # what is not known is a gap
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
    }
    return {
        "fieldConfig": {"defaults": _defaults(panel, custom), "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _stat(panel: Panel) -> Json:
    return {
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value" if panel.limits else "none",
            "graphMode": "none",
            "textMode": "auto",
            "orientation": "auto",
        },
    }


def _table(panel: Panel) -> Json:
    options: Json = {"showHeader": True, "cellHeight": "sm"}
    if panel.source != "prometheus":
        return {"fieldConfig": {"defaults": _defaults(panel), "overrides": []}, "options": options}
    values = (
        ["Value"] if len(panel.queries) == 1 else [f"Value #{chr(ord('A') + at)}" for at in range(len(panel.queries))]
    )
    columns = {fill(f"<{attribute}>"): title for attribute, title in (panel.columns or {}).items()}
    titles = columns | {value: query.legend for value, query in zip(values, panel.queries, strict=True) if query.legend}
    hidden = ["Time", *(value for value in values if value not in titles)]
    organize: Json = {
        "excludeByName": dict.fromkeys(hidden, True),
        "renameByName": titles,
        "indexByName": {name: at for at, name in enumerate(titles)},
    }
    overrides = [
        {"matcher": {"id": "byName", "options": query.legend}, "properties": [{"id": "unit", "value": query.unit}]}
        for query in panel.queries
        if query.legend and query.unit
    ]
    return {
        "fieldConfig": {"defaults": _defaults(panel), "overrides": overrides},
        "options": options,
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
    }


def _logs(panel: Panel) -> Json:
    return {
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": {
            "showTime": True,
            "wrapLogMessage": True,
            "enableLogDetails": True,
            "sortOrder": "Descending",
            "dedupStrategy": "none",
        },
    }


def _defaults(panel: Panel, custom: Json | None = None) -> Json:
    steps: list[Json] = [
        {"color": "green", "value": None},
        *({"color": colour, "value": value} for value, colour in panel.limits),
    ]
    found: Json = {
        "unit": panel.unit,
        "min": panel.low,
        "max": panel.high,
        "thresholds": {"mode": "absolute", "steps": steps},
        "links": [{"title": "Traces behind this", "url": explore_url(panel.traces), "targetBlank": True}]
        if panel.traces
        else [],
        "custom": custom,
    }
    return {key: value for key, value in found.items() if value is not None}


def explore_url(traceql: str) -> str:
    """Return the link to a search of traces over the board's time range; Grafana fills in the variables."""
    source = data_source("tempo")
    query = {
        "refId": "A",
        "datasource": source,
        "queryType": "traceql",
        "query": traceql,
        "limit": 20,
        "tableType": "spans",
    }
    panes = {
        "traces": {"datasource": source["uid"], "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}
    }
    quoted = quote(json.dumps(panes, separators=(",", ":")), safe="")
    return "/explore?schemaVersion=1&panes=" + re.sub(r"%24%7B.*?%7D", lambda variable: unquote(variable[0]), quoted)
