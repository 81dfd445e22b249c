"""What is wrong gets one clear answer in the form that OTLP asks for, and harms nothing that was taken before."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import grpc
import httpx
import pytest
from agent.receiver.doors import Doors, doors, standing
from agent.store import otlp
from agent.store.opened import DEADLINE_S, Opened, opened
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from waiting import until

from otel_agent.errors import Unavailable
from otel_agent.receiver import grpc_server, http_app, intake
from otel_agent.receiver.grpc_server import start_grpc
from otel_agent.store.sink import NotStored, QueueFull

PROTOBUF, JSON = "application/x-protobuf", "application/json"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TOO_LARGE = b"\n" + b"\0" * (16 * 1024 * 1024)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Opened, Doors]]:
    """Both doors, and a check that what was taken before the bad input is there after it, and more is taken."""
    with standing(tmp_path) as (it, to):
        now_s = time.time()
        assert to.post("/v1/traces", otlp.one_span(now_s).SerializeToString()).status_code == 200
        yield it, to
        assert to.post("/v1/traces", otlp.one_span(now_s).SerializeToString()).status_code == 200
        assert call(to, otlp.one_span(now_s).SerializeToString()) == b""
        assert it.history.stats().signals["traces"].rows == 3


def call(to: Doors, body: bytes, compression: grpc.Compression | None = None) -> bytes:
    with grpc.insecure_channel(to.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        answer: bytes = channel.unary_unary(EXPORT)(body, timeout=DEADLINE_S, compression=compression)
    return answer


def refused(to: Doors, body: bytes, compression: grpc.Compression | None = None) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call(to, body, compression)
    return error.value


VALID = otlp.one_span(1_700_000_000.0).SerializeToString()
HTTP_TABLE = [
    pytest.param(b"\xff\xff garbage", {}, 400, "malformed", id="garbage"),
    pytest.param(VALID[:-3], {}, 400, "malformed", id="truncated"),
    pytest.param(b"{", {"content_type": JSON}, 400, "malformed", id="broken JSON"),
    pytest.param(b"[" * 100_000, {"content_type": JSON}, 400, "malformed", id="deep JSON"),
    pytest.param(b"[]", {"content_type": JSON}, 400, "malformed", id="JSON of another shape"),
    pytest.param(b'{"resourceSpans": 5}', {"content_type": JSON}, 400, "malformed", id="JSON of another type"),
    pytest.param(b"\xff\xfe", {"content_type": JSON}, 400, "malformed", id="JSON in no encoding"),
    pytest.param(
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
        {"content_type": JSON},
        400,
        "malformed",
        id="id that is no hexadecimal",
    ),
    pytest.param(VALID, {"content_type": "text/plain"}, 415, "content type", id="text"),
    pytest.param(VALID, {"content_type": ""}, 415, "content type", id="no type"),
    pytest.param(VALID, {"content_encoding": "br"}, 415, "content encoding", id="another encoding"),
    pytest.param(VALID, {"content_encoding": "gzip"}, 400, "malformed", id="no gzip"),
    pytest.param(gzip.compress(VALID)[:-6], {"content_encoding": "gzip"}, 400, "malformed", id="truncated gzip"),
    pytest.param(TOO_LARGE, {}, 413, "too large", id="too large"),
    pytest.param(gzip.compress(TOO_LARGE), {"content_encoding": "gzip"}, 413, "too large", id="gzip bomb"),
    pytest.param(VALID, {"origin": "https://evil.example"}, 403, "foreign origin", id="foreign page"),
    pytest.param(VALID, {"origin": "null"}, 403, "foreign origin", id="page without an origin"),
    pytest.param(VALID, {"host": "evil.example"}, 403, "unknown host", id="rebound name"),
    pytest.param(VALID, {"host": "127.0.0.1.evil.example:4318"}, 403, "unknown host", id="name like an address"),
    pytest.param(VALID, {"host": ""}, 403, "unknown host", id="no name"),
    pytest.param(VALID, {"host": "[::1"}, 403, "unknown host", id="broken name"),
]


@pytest.mark.parametrize(("body", "headers", "status", "reason"), HTTP_TABLE)
def test_http_refuses(
    both: tuple[Opened, Doors], body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    _, to = both
    answer = to.post("/v1/traces", body, **headers)

    assert answer.status_code == status
    assert to.counts.requests()["traces", reason] == 1
    told = status_pb2.Status()
    if headers.get("content_type") == JSON:
        assert answer.headers["content-type"] == JSON
        json_format.Parse(answer.content, told)
    else:
        assert answer.headers["content-type"] == PROTOBUF
        told.ParseFromString(answer.content)
    assert told.message
    assert "Traceback" not in told.message


@pytest.mark.parametrize(
    ("body", "compression", "code", "reason"),
    [
        (b"\xff\xff garbage", None, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
        (VALID[:-3], None, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
        (TOO_LARGE, None, grpc.StatusCode.RESOURCE_EXHAUSTED, None),
        (TOO_LARGE, grpc.Compression.Gzip, grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    ],
    ids=["garbage", "truncated", "too large", "gzip bomb"],
)
def test_grpc_refuses(
    both: tuple[Opened, Doors],
    body: bytes,
    compression: grpc.Compression | None,
    code: grpc.StatusCode,
    reason: str | None,
) -> None:
    _, to = both
    error = refused(to, body, compression)

    assert error.code() == code
    if reason is not None:  # what is too large is refused by gRPC itself, before we see it
        assert to.counts.requests()["traces", reason] == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_other_methods_are_told_which_one_is_served(both: tuple[Opened, Doors], method: str) -> None:
    answer = httpx.request(method, both[1].http + "/v1/traces")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_other_paths_are_told_where_otlp_goes(both: tuple[Opened, Doors]) -> None:
    answer = both[1].post("/v1/profiles", b"")
    assert (answer.status_code, answer.json()) == (
        404,
        {"code": 5, "message": "nothing is here; OTLP goes to /v1/traces, /v1/metrics, /v1/logs"},
    )


def test_a_body_that_does_not_come_is_given_up(both: tuple[Opened, Doors], monkeypatch: pytest.MonkeyPatch) -> None:
    _, to = both
    monkeypatch.setattr(http_app, "BODY_S", 0.2)
    host, port = to.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as slow:
        slow.sendall(
            f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\nx".encode()
        )
        assert slow.recv(12) == b"HTTP/1.1 408"
    assert to.counts.requests()["traces", "too slow"] == 1


def test_a_large_body_without_a_length_is_refused_before_it_is_held(both: tuple[Opened, Doors]) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield bytes(1024 * 1024)

    _, to = both
    try:
        answer = httpx.post(to.http + "/v1/traces", content=chunks(), headers={"content-type": PROTOBUF}, timeout=10)
    except httpx.WriteError:
        pass  # the connection was closed on the rest of the body
    else:
        assert answer.status_code == 413
    assert to.counts.requests()["traces", "too large"] == 1


@pytest.mark.parametrize(
    "host", ["localhost:4318", "127.0.0.1", "[::1]:4318", "10.0.0.7:24318", "app.localhost", "LOCALHOST."]
)
def test_addresses_and_names_of_this_machine_are_welcome(both: tuple[Opened, Doors], host: str) -> None:
    answer = both[1].post("/v1/logs", b"", host=host)
    assert answer.status_code == 200


def test_the_page_of_the_same_host_and_an_allowed_name_are_welcome(tmp_path: Path) -> None:
    with opened(tmp_path) as it, doors(it.store, allowed_hosts=["Otlp.Example"]) as to:
        named = to.post("/v1/logs", b"", host="otlp.example:4318", origin="http://otlp.example:4318")
    assert named.status_code == 200


def test_json_has_hexadecimal_ids_and_answers_in_json(tmp_path: Path) -> None:
    """The example of the OpenTelemetry protocol's repository, in short."""
    now_ns = time.time_ns()
    body = {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
                "scopeSpans": [
                    {
                        "scope": {"name": "my.library"},
                        "spans": [
                            {
                                "traceId": "5B8EFFF798038103D269B633813FC60C",
                                "spanId": "EEE19B7EC3C1B174",
                                "parentSpanId": "EEE19B7EC3C1B173",
                                "name": "I'm a server span",
                                "startTimeUnixNano": str(now_ns),
                                "endTimeUnixNano": now_ns + 1_000_000,
                                "kind": 2,
                                "aFieldOfTheFuture": {"x": 1},
                                "attributes": [
                                    {
                                        "key": "list",
                                        "value": {"arrayValue": {"values": [{"intValue": "1"}, {"boolValue": True}]}},
                                    },
                                    {"key": "traceId", "value": {"stringValue": "not an id, 100 %"}},
                                ],
                                "links": [
                                    {"traceId": "5b8efff798038103d269b633813fc60d", "spanId": "eee19b7ec3c1b175"}
                                ],
                            },
                            {"traceId": "", "spanId": "", "name": "without ids"},
                        ],
                    }
                ],
            }
        ]
    }
    with standing(tmp_path) as (it, to):
        answer = to.post("/v1/traces", json.dumps(body).encode(), content_type="application/json; charset=utf-8")
        (span,) = it.history.trace("5b8efff798038103d269b633813fc60c")

    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == {
        "partialSuccess": {
            "rejectedSpans": "1",
            "errorMessage": "some rows had invalid ids or times and were left out",
        }
    }
    assert (span.span_id, span.parent_id, span.kind) == ("eee19b7ec3c1b174", "eee19b7ec3c1b173", "server")
    assert (span.service, span.duration_ns) == ("my.service", 1_000_000)
    assert span.attributes == {"list": [1, True], "traceId": "not an id, 100 %"}
    assert [(link.trace_id, link.span_id) for link in span.links] == [
        ("5b8efff798038103d269b633813fc60d", "eee19b7ec3c1b175")
    ]


def test_several_gzip_members_are_one_body(tmp_path: Path) -> None:
    with standing(tmp_path) as (it, to):
        body = gzip.compress(VALID[:40]) + gzip.compress(VALID[40:])
        answer = to.post("/v1/traces", body, content_encoding="gzip")
        assert answer.status_code == 200
        assert it.history.stats().signals["traces"].rows == 1


class Refusing:
    """A sink that does as told."""

    def __init__(self, fault: Exception | None) -> None:
        self._fault = fault

    def submit(self, signal: str, message: object, size: int) -> "Future[int]":
        if isinstance(self._fault, QueueFull):
            raise self._fault
        answer: Future[int] = Future()
        if self._fault is not None:
            answer.set_exception(self._fault)
        return answer


@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        (QueueFull("9 of 9 bytes"), 429, grpc.StatusCode.RESOURCE_EXHAUSTED, "too much is waiting: 9 of 9 bytes"),
        (NotStored("disk is full"), 503, grpc.StatusCode.UNAVAILABLE, "it could not be stored: disk is full"),
        (None, 503, grpc.StatusCode.UNAVAILABLE, "it was not stored within 0 s"),
    ],
    ids=["full", "failing", "silent"],
)
def test_a_sink_that_cannot_take_it_makes_senders_come_back(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None, status: int, code: grpc.StatusCode, message: str
) -> None:
    for module in (intake, grpc_server, http_app):
        monkeypatch.setattr(module, "COMMIT_S", 0.1)
    with doors(Refusing(fault)) as to:
        answer = to.post("/v1/traces", VALID)
        error = refused(to, VALID)

    assert (answer.status_code, answer.headers["retry-after"]) == (status, "1")
    assert status_pb2.Status.FromString(answer.content).message == message
    assert (error.code(), error.details()) == (code, message)  # type: ignore[attr-defined]
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]  # type: ignore[attr-defined]
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_partial_success_tells_what_was_left_out_over_grpc(tmp_path: Path) -> None:
    bad = otlp.one_span(time.time(), trace_id=b"short")
    with standing(tmp_path) as (_, to):
        answer = ExportTraceServiceResponse.FromString(call(to, bad.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1


def test_a_taken_grpc_port_is_told_with_the_setting_that_moves_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Also where the other one is a gRPC server, which would by default share the port in silence."""
    with doors(Refusing(None)) as to, pytest.raises(Unavailable) as told:
        start_grpc("127.0.0.1", int(to.grpc.rpartition(":")[2]), Refusing(None))
    assert told.value.reason == f"OTLP/gRPC cannot listen on {to.grpc}: Address already in use"
    assert told.value.remedy == "stop the program that does, or set OTEL_LLM_OTLP_GRPC_PORT to a free port"
    assert capfd.readouterr() == ("", "")


def test_more_requests_at_a_time_than_there_is_room_for_are_asked_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_app, "AT_WORK", 0)
    with standing(tmp_path) as (_, to):
        answer = to.post("/v1/traces", VALID)
        requests = to.counts.requests()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert requests == {("traces", "too many at a time"): 1}


def test_a_sender_that_leaves_in_the_middle_is_counted_and_forgotten(both: tuple[Opened, Doors]) -> None:
    _, to = both
    host, port = to.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as leaving:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\nx"
        leaving.sendall(head.encode())
    until(lambda: to.counts.requests().get(("traces", "sender left")) == 1)
