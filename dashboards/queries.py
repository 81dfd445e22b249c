"""The queries of a built board, with its variables filled in the way Grafana fills them: to run them where there is no Grafana."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dashboards.panels import Json

VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{")
BUILT_IN = {"__rate_interval": "1m", "__range": "30m"}


@dataclass(frozen=True)
class PanelQuery:
    """One query of one panel, as it stands in the JSON; `kind` is of the data source, `instant` false for a range of time.

    `low` and `high` are the ends of the panel's axis, None where it has none.
    """

    board: str
    panel: str
    ref: str
    kind: str
    text: str
    legend: str
    instant: bool
    exemplars: bool
    low: float | None
    high: float | None

    @property
    def series(self) -> frozenset[str]:
        """The series that a PromQL query asks for, by their names in Prometheus."""
        return frozenset(SERIES.findall(self.text))

    def __str__(self) -> str:
        return f"{self.board} / {self.panel} / {self.ref}"


def queries(board: Json) -> Iterator[PanelQuery]:
    """Yield every query of a board."""
    for panel in board["panels"]:
        axis = panel.get("fieldConfig", {}).get("defaults", {})
        for target in panel.get("targets", ()):
            yield PanelQuery(
                board=board["title"],
                panel=panel["title"],
                ref=target["refId"],
                kind=target["datasource"]["type"],
                text=target.get("expr", target.get("query", "")),
                legend=target.get("legendFormat", ""),
                instant=target.get("instant", False),
                exemplars=target.get("exemplar", False),
                low=axis.get("min"),
                high=axis.get("max"),
            )


def choices(board: Json) -> dict[str, str]:
    """Return what a board's variables stand for when it is opened: all of everything."""
    listed = board["templating"]["list"]
    return BUILT_IN | {variable["name"]: variable.get("allValue", variable["current"]["value"]) for variable in listed}


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Return the text with `$name`, `${name}` and `${name:format}` replaced; raises KeyError for a variable that has no value."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], text)
