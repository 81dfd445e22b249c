"""The live stream: what a page is told, in which order, and what happens when it goes, comes back or cannot keep up."""

import json
import re
import socket
import time
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import pytest
from agent.api.line import TOKEN, read_host, start, worker
from waiting import until

from otel_agent.api import live
from otel_agent.sources.host.metrics import METRICS as HOST_METRICS


@pytest.fixture
def own_line(tmp_path):
    """A line of one test's own."""
    with ExitStack() as ending:
        running = start(ending, tmp_path, {"host": worker("host", read_host, HOST_METRICS)})
        until(lambda: running.get("/api/v1/system").json())
        yield running


@contextmanager
def stream(line, last_id=None):
    headers = {"authorization": f"Bearer {TOKEN}", **({"last-event-id": last_id} if last_id else {})}
    with line.client() as client, client.stream("GET", "/api/live", headers=headers) as answer:
        yield answer


def events(answer):
    """Yield (id, event, data) of a stream; comments come as (None, "comment", text)."""
    block = {}
    for text in answer.iter_lines():
        if text.startswith(":"):
            yield None, "comment", text
        elif text:
            name, _, value = text.partition(": ")
            block[name] = value
        elif "event" in block:
            yield block["id"], block["event"], json.loads(block["data"])
            block = {}


def first(found, name, deadline_s=15):
    give_up = time.monotonic() + deadline_s
    for event in found:
        assert time.monotonic() < give_up, f"no event {name}"
        if event[1] == name:
            return event
    raise AssertionError(f"the stream ended before an event {name}")


def call(line, name="chat a"):
    provider = line.tracer()
    span = provider.get_tracer("tests").start_span(
        name, attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    )
    span.end()
    provider.shutdown()
    return f"{span.get_span_context().trace_id:032x}"


def test_the_points_are_those_of_the_api(own_line):
    with stream(own_line) as answer:
        number, _, told = first(events(answer), "points")

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{8}-\d+", number)
    asked = own_line.get("/api/v1/now").json()
    assert set(told) == set(asked)
    assert told["system"]["cpu_usage_percent"] == asked["system"]["cpu_usage_percent"] == 25.0
    assert told["sources"][0]["state"] == "ok"


def test_a_request_is_told_once_it_is_stored(own_line):
    with stream(own_line) as answer:
        found = events(answer)
        first(found, "points")
        trace = call(own_line)
        rows = first(found, "requests")[2]

    assert [(row["trace_id"], row["model_name"], row["prompt_tokens"]) for row in rows] == [(trace, "m", None)]


def test_a_page_that_comes_back_is_told_what_it_missed(own_line):
    with stream(own_line) as watching:
        watched = events(watching)
        number = first(watched, "points")[0]
        trace = call(own_line)
        first(watched, "requests")
        with stream(own_line, last_id=number) as back:
            missed = next(events(back))

    assert missed[1] == "requests"
    assert [row["trace_id"] for row in missed[2]] == [trace]


@pytest.mark.parametrize("last_id", ["deadbeef-5", "nonsense", "-", "\u00e9"])
def test_an_id_that_means_nothing_here_makes_the_page_ask_anew(own_line, last_id):
    with stream(own_line, last_id=last_id.encode()) as answer:
        assert next(events(answer))[1] == "reset"


def test_a_page_that_was_the_last_to_watch_asks_anew(own_line):
    """While nobody watches nothing is remembered."""
    with stream(own_line) as answer:
        number = first(events(answer), "points")[0]
    until(lambda: own_line.app.state.live.counts()["clients"] == 0)
    call(own_line)
    with stream(own_line, last_id=number) as answer:
        assert next(events(answer))[1] == "reset"


def test_silence_is_broken_by_heartbeats(tmp_path):
    with patch.object(live, "HEARTBEAT_S", 0.1), ExitStack() as ending:
        running = start(ending, tmp_path, {"host": worker("host", read_host, HOST_METRICS)})
        running.app.state.live._heartbeat_s = 0.1
        with stream(running) as answer:
            assert first(events(answer), "comment")[2] == ": still here"


def test_more_pages_than_allowed_are_refused_with_a_reason(own_line):
    with patch.object(live, "CLIENTS", 1), stream(own_line) as answer:
        found = events(answer)
        first(found, "points")
        refused = own_line.get("/api/live")

        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert "open already" in refused.json()["error"]
    until(lambda: own_line.get("/api/v1/live").json() == {"clients": 0, "refused": 1, "dropped": 0})


def test_a_page_that_does_not_read_is_let_go_and_counted(own_line):
    """Nothing it holds up may grow: neither its queue nor the others' stream."""
    address = own_line.base.removeprefix("http://").split(":")
    with (
        patch.object(live, "QUEUE", 2),
        patch.object(live, "SEND_S", 1.0),
        patch.object(live, "PAUSE_S", 0.01),
        socket.socket() as silent,
    ):
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect((address[0], int(address[1])))
        silent.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: {':'.join(address)}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        until(lambda: own_line.app.state.live.counts()["clients"] == 1)
        big = b": " + b"x" * 200_000 + b"\n\n"
        with patch.object(live, "encode", lambda _: big):
            until(lambda: own_line.app.state.live.counts()["dropped"] >= 1, 30)
    until(lambda: own_line.app.state.live.counts()["clients"] == 0)
    with stream(own_line) as answer:
        assert first(events(answer), "points")


def test_the_loop_ends_with_the_last_page(own_line):
    with stream(own_line) as answer:
        found = events(answer)
        first(found, "points")
        assert own_line.app.state.live._rounds is not None
    until(lambda: own_line.app.state.live._rounds is None)
