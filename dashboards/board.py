"""A board as data: its rows of panels, its variables, and the JSON file that Grafana provisions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.names import fill
from dashboards.panels import SOURCES, Json, Panel, data_source, render_panel

SCHEMA = 41  # of classic boards, as Grafana 12 writes it; 10.4 to 13 read it
TAG = "otel-llm"
WIDTH = 24  # columns of Grafana's grid
STEPS = ("10s", "30s", "1m")  # the agent's export interval, one between, and the default of OpenTelemetry's SDKs


@dataclass(frozen=True)
class Variable:
    """One choice the reader has: the values of an attribute that a series carries. `every` is the pattern that stands for all of them."""

    name: str
    label: str
    attribute: str
    series: str
    every: str = ".*"


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One board; `scope` is the matchers, as a template, by which its variables narrow every series."""

    file: str
    uid: str
    title: str
    description: str
    scope: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    steps: tuple[str, ...] = STEPS


def render(board: Board) -> str:
    """Return the text of the board's file; the same board always gives the same text."""
    found: Json = {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [_links()],
        "templating": {
            "list": [
                *map(_source_variable, _used(board)),
                *(map(_variable, board.variables)),
                _step_variable(board.steps),
            ]
        },
        "panels": list(_placed(board)),
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _placed(board: Board) -> Iterator[Json]:
    number, x, y, tallest = 0, 0, 0, 0
    for row in board.rows:
        x, y, tallest, number = 0, y + tallest, 0, number + 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            "panels": [],
        }
        y += 1
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number} | render_panel(panel, board.scope) | {"gridPos": place}
            x, tallest = x + panel.width, max(tallest, panel.height)


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "otel-llm",
        "tags": [TAG],
        "asDropdown": False,
        "keepTime": True,
        "includeVars": True,
        "targetBlank": False,
    }


def _used(board: Board) -> list[str]:
    used = {panel.source for row in board.rows for panel in row.panels}
    used |= {"tempo" for row in board.rows for panel in row.panels if panel.traces}
    return [kind for kind in SOURCES if kind in used]


def _source_variable(kind: str) -> Json:
    return {
        "name": f"{kind}_datasource",
        "label": kind.capitalize(),
        "type": "datasource",
        "query": kind,
        "current": {"text": kind.capitalize(), "value": kind},  # the uid that provisioning gives it
        "regex": "",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "hide": 0,
    }


def _variable(variable: Variable) -> Json:
    query = fill(f"label_values(<{variable.series}>, <{variable.attribute}>)")
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": data_source("prometheus"),
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "current": {"text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "allValue": variable.every,
        "multi": True,
        "regex": "",
        "refresh": 2,  # with the time range
        "sort": 1,
        "options": [],
        "hide": 0,
    }


def _step_variable(steps: tuple[str, ...]) -> Json:
    return {
        "name": "step",
        "label": "Export interval",
        "description": "How often what is shown is exported; rates look back over four times that.",
        "type": "custom",
        "query": ",".join(steps),
        "current": {"text": steps[0], "value": steps[0]},
        "options": [{"text": step, "value": step, "selected": step == steps[0]} for step in steps],
        "includeAll": False,
        "multi": False,
        "hide": 0,
    }
