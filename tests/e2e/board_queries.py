"""Asking the queries of boards without a Grafana: of the real Prometheus and Tempo, with the variables filled in."""

import base64
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pytest
from e2e.stack import promql
from waiting import until

from compose.native.stack import Stack
from dashboards.__main__ import HERE as DASHBOARDS
from dashboards.queries import PanelQuery, choices, queries, substitute

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("json/*.json"))}
DEADLINE_S = 60.0


def board_queries(board: str, kind: str = "prometheus") -> list[PanelQuery]:
    return [query for query in queries(BOARDS[board]) if query.kind == kind]


def ask_all(
    stack: Stack,
    asked: Iterable[PanelQuery],
    board: str,
    chosen: Mapping[str, str],
    meanwhile: Callable[[], object] = lambda: None,
    deadline_s: float = DEADLINE_S,
) -> list[str]:
    """Ask every query until it has an answer; return, after the deadline, what is wrong: no answer, or one beside the panel's axis."""
    given = choices(BOARDS[board]) | dict(chosen)
    left, wrong = list(asked), []
    give_up = time.monotonic() + deadline_s
    while left and time.monotonic() < give_up:
        meanwhile()
        unanswered = []
        for query in left:
            answer = promql(stack, substitute(query.text, given))
            if all(math.isnan(value) for _, value in answer):  # a quantile of a histogram that did not grow yet
                unanswered.append(query)
            wrong += [
                f"{query}: {value} of {labels} is off the axis" for labels, value in answer if not on_axis(query, value)
            ]
        left = unanswered
        time.sleep(0.5)
    return [f"{query}: no answer" for query in left] + wrong


def on_axis(query: PanelQuery, value: float) -> bool:
    """Whether a panel can show this; a share may be a little too large, as the clocks of kernel and exporter differ."""
    return (query.low is None or not value < query.low) and (query.high is None or not value > query.high * 1.05)


def query_of(board: str, panel: str, chosen: Mapping[str, str]) -> str:
    """Return the one query of a panel that has one, with the variables filled in."""
    [query] = [query for query in board_queries(board) if query.panel == panel]
    return substitute(query.text, chosen)


def answers_of(stack: Stack, board: str, chosen: Mapping[str, str], panel: str) -> list[tuple[dict[str, str], float]]:
    return promql(stack, query_of(board, panel, chosen))


def find_traces(stack: Stack, board: str, chosen: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run the searches of a board where there is a Tempo, and tell that they are left out where there is none."""
    searches = board_queries(board, "tempo")
    if stack.plan.tempo_bin is None:
        with capsys.disabled():
            print(f"\n{len(searches)} searches of traces left out: TEMPO_BIN names no binary of Tempo")
        return
    for search in searches:
        url = f"{stack.ports.url('tempo')}/api/search?" + urllib.parse.urlencode(
            {"q": substitute(search.text, chosen), "limit": 20}
        )
        until(partial(traces_of, url), str(search), DEADLINE_S)


def traces_of(url: str) -> Any:
    return fetch(url)["traces"]


def fetch(url: str, body: object = None) -> Any:
    """GET, or POST where there is a body, with the name and password that the address holds."""
    parts = urllib.parse.urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(
        plain, data=None if body is None else json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)
