"""Each overlay of the Collector does what it is for: further backends, the embedded store, a token, scraping."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e.collecting import APP, backend, post
from e2e.emit import application
from e2e.sink import Sink
from e2e.stack import lone_collector, started
from waiting import until

from compose.native import services
from compose.native.ports import free

pytestmark = pytest.mark.e2e


def test_one_overlay_and_two_variables_send_everything_to_a_further_backend_too(tmp_path: Path) -> None:
    with Sink() as stores, Sink() as further:
        ports = free()
        environment = backend(stores) | {
            "BACKEND_OTLP_ENDPOINT": f"http://127.0.0.1:{further.http_port}/api/otlp",
            "BACKEND_OTLP_HEADERS": '{"Authorization": "Basic c2VjcmV0", "X-Tenant": "blue"}',
        }
        with (
            started(lone_collector(tmp_path, ports, environment, ["backend"])),
            application(ports.url("otlp_http"), APP) as app,
        ):
            app.meters.get_meter("e2e").create_counter("e2e.orders").add(1)
            with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                app.log("paid")
            app.flush()
            for sink in (stores, further):
                until(lambda sink=sink: all(sink.requests.values()), "all three signals")
    assert {(headers["Authorization"], headers["X-Tenant"]) for headers in further.headers} == {
        ("Basic c2VjcmV0", "blue")
    }
    assert not [headers for headers in stores.headers if "Authorization" in headers]
    assert {signal: [r.SerializeToString() for r in stores.requests[signal]] for signal in stores.requests} == {
        signal: [r.SerializeToString() for r in further.requests[signal]] for signal in further.requests
    }


@pytest.mark.parametrize("overlay", ["store", "store-without-tempo"])
def test_the_embedded_store_gets_everything_beside_the_stores_or_in_place_of_tempo(
    tmp_path: Path, overlay: str
) -> None:
    with Sink() as stores, Sink() as embedded:
        ports = free()
        environment = backend(stores) | {"STORE_OTLP": f"http://127.0.0.1:{embedded.grpc_port}"}
        with (
            started(lone_collector(tmp_path, ports, environment, [overlay])),
            application(ports.url("otlp_http"), APP) as app,
        ):
            app.meters.get_meter("e2e").create_counter("e2e.orders").add(1)
            with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                app.log("paid")
            app.flush()
            until(lambda: all(embedded.requests.values()), "all three signals in the embedded store")
            until(lambda: stores.requests["metrics"] and stores.requests["logs"], "what the other stores get")
            if overlay == "store":
                until(lambda: stores.requests["traces"], "traces in Tempo")
    assert bool(stores.requests["traces"]) == (overlay == "store")


def test_the_auth_overlay_takes_telemetry_from_those_alone_who_bear_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t-s3cr3t-s3cr3t")
    with Sink() as sink:
        ports = free()
        with started(lone_collector(tmp_path, ports, backend(sink) | {"COLLECTOR_TOKEN_FILE": str(token)}, ["auth"])):
            assert post(f"{ports.url('otlp_http')}/v1/traces", b"{}", {"Content-Type": "application/json"}) == 401
            with application(
                ports.url("otlp_http"), APP, headers={"authorization": f"Bearer {token.read_text()}"}
            ) as app:
                with app.tracers.get_tracer("e2e").start_as_current_span("checkout"):
                    pass
                app.flush()
                until(sink.spans, "the span")


def test_the_scrape_overlay_reads_engines_where_no_agent_runs(tmp_path: Path) -> None:
    contrib = os.environ.get("OTELCOL_CONTRIB_BIN", "")
    if not shutil.which(contrib):
        pytest.skip(
            "the lean Collector has no Prometheus receiver; set OTELCOL_CONTRIB_BIN to a contrib Collector to run this"
        )
    with Sink() as sink:
        ports = free()
        environment = backend(sink) | {"ENGINES": json.dumps([f"127.0.0.1:{ports.collector_metrics}"])}
        service = services.collector(ports, Path(contrib), tmp_path, ["scrape-engines"], environment)
        process = lone_collector(tmp_path, ports, environment)
        process.service = service
        with started(process):
            names = until(lambda: _names(sink), "scraped metrics")
    assert "up" in names


def _names(sink: Sink) -> set[Any]:
    return {
        m.name
        for request in list(sink.requests["metrics"])
        for r in request.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }
