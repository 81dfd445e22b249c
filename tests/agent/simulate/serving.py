"""The stand-in on a free port, in a thread of the test's own process, and the pages and streams that come from it."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from waiting import until

from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.server import create_app

QUICK = {
    "model": "tiny",
    "max_model_len": 256,
    "kv_blocks": 64,
    "step_s": 0.0,
    "sequence_s": 0.0,
    "prefill_tokens_per_s": 0.0,
}
LINE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


@dataclass(frozen=True)
class StandIn:
    url: str
    client: httpx.Client

    def post(self, path: str, /, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """Send a body."""
        return self.client.post(path, json={"model": "tiny", **body}, headers=headers)

    def get(self, path: str) -> httpx.Response:
        """Ask for a page."""
        return self.client.get(path)

    def value(self, name: str, **labels: str) -> float:
        """Return one number of the page of metrics."""
        found = [
            value
            for series, value in series_of(self.get("/metrics").text)
            if series[0] == name and labels.items() <= series[1].items()
        ]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def until_value(self, expected: float, name: str, **labels: str) -> None:
        """Wait until a number of the page is what it should be."""
        until(lambda: self.value(name, **labels) == expected, f"{name} {labels} to be {expected}")


def series_of(page: str) -> Iterator[tuple[tuple[str, dict[str, str]], float]]:
    """Return what a page of metrics says, line by line."""
    for line in page.splitlines():
        if not line.startswith("#"):
            found = LINE.fullmatch(line)
            assert found, line
            yield (found["name"], dict(re.findall(r'(\w+)="([^"]*)"', found["labels"] or ""))), float(found["value"])


def events(answer: httpx.Response) -> list[Any]:
    """Return the events of a stream, which ends as it must."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@contextmanager
def standing_in(**options: Any) -> Iterator[StandIn]:
    """Serve with these options; as fast as it can where they say nothing about speed."""
    app = create_app(EngineOptions(**{**QUICK, **options}))
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, lifespan="on", log_config=None, ws="none", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), "the stand-in")
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield StandIn(url, client)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
