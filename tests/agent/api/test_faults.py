"""When history or the code behind a route fails: the right status, one clear message, and the traceback in the log alone."""

import logging
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from agent.api.line import TOKEN
from waiting import until

from otel_agent.api import create_app
from otel_agent.history.model import HistoryError
from otel_agent.serve import Listener
from otel_agent.settings import Settings


class Broken:
    """A history whose every answer is this error."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        def fail(*_, **__):
            raise self._error

        return fail


@contextmanager
def api(history):
    app = create_app(settings=replace(Settings(), interval_s=1.0), token=TOKEN, workers={}, history=history, news=None)
    server = Listener(app, "127.0.0.1", 0, "OTEL_LLM_PORT")
    server.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}", headers={"authorization": f"Bearer {TOKEN}"}
        ) as client:
            yield client
    finally:
        server.stop()


def test_a_store_that_cannot_answer_in_time_says_so():
    with api(Broken(HistoryError("the query took longer than 5 s"))) as client:
        answer = client.get("/api/v1/requests")
        health = client.get("/health").json()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {
        "error": "history has no answer: the query took longer than 5 s",
        "remedy": "ask for a shorter time, or again in a moment",
    }
    assert (health["status"], health["store"]) == ("degraded", "failing")


def test_a_fault_of_ours_shows_no_traceback(caplog):
    with api(Broken(RuntimeError("a secret detail"))) as client:
        answer = client.get("/api/v1/requests")

    assert (answer.status_code, answer.json()["error"]) == (500, "this request failed inside the agent")
    assert "secret" not in answer.text
    assert [record.message for record in caplog.records if record.name == "otel_agent.api.access"] == [
        "GET /api/v1/requests failed"
    ]


@pytest.mark.parametrize("error", [HistoryError("locked"), RuntimeError("a fault")])
def test_the_live_stream_survives_or_ends_cleanly(caplog, error):
    """Locked: the stream goes on and asks again. A fault: it ends, and a page that comes back begins a new one."""
    with caplog.at_level(logging.WARNING), api(Broken(error)) as client:
        for _ in range(2):
            with client.stream("GET", "/api/live", timeout=5) as answer:
                assert answer.status_code == 200
                lines = answer.iter_lines()  # held: a reader that is collected closes the connection
                assert next(lines) == "retry: 2000"
                until(lambda: [record for record in caplog.records if record.name == "otel_agent.api.live"])
        assert client.get("/ready").status_code == 503  # no sources here; the server lives
