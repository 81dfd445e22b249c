"""Series that end are closed, in both protocols, once, and only where the backend had them."""

import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_agent.telemetry.ends import SeriesEnds
from otel_agent.telemetry.exporters import metric_exporter
from otel_agent.telemetry.instruments import Stamp

START_NS, TIME_NS = 1_700_000_000 * 10**9, 1_700_000_100 * 10**9


class Sink:
    """What a backend was sent: per request the points as {(metric, container): value, or "closed"}."""

    def __init__(self):
        self.requests = []
        self.refuse = False

    def take(self, body):
        self.requests.append(ExportMetricsServiceRequest.FromString(body))

    def points(self, index):
        found = {}
        for metric in self.metrics(index):
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                assert (point.WhichOneof("value") is None) == bool(point.flags & 1)
                if metric.name == "up":
                    continue
                names = [attribute.value.string_value for attribute in point.attributes]
                found[metric.name, *names] = "closed" if point.flags & 1 else getattr(point, point.WhichOneof("value"))
        return found

    def metrics(self, index):
        return [
            metric
            for resource in self.requests[index].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]


@pytest.fixture
def http_sink():
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if not sink.refuse:
                sink.take(body)
            self.send_response(400 if sink.refuse else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    sink.endpoint = f"http://127.0.0.1:{server.server_port}"
    sink.protocol = "http/protobuf"
    yield sink
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def grpc_sink():
    sink = Sink()

    def export(body, context):
        if sink.refuse:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        sink.take(body)
        return ExportMetricsServiceResponse().SerializeToString()

    method = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("opentelemetry.proto.collector.metrics.v1.MetricsService", method),)
    )
    sink.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    sink.protocol = "grpc"
    server.start()
    yield sink
    server.stop(0).wait()


@pytest.fixture(params=["http_sink", "grpc_sink"])
def sink(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def source(sink):
    """A gauge and a counter over the containers in `source.alive`, exported when the test says so."""
    exporter = metric_exporter(sink.protocol, sink.endpoint, lambda: {"counted": Stamp(TIME_NS, START_NS)})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource=Resource({"service.name": "node"}), shutdown_on_exit=False)

    class Source:
        alive = ("a", "b")
        export = staticmethod(provider.force_flush)
        stop = staticmethod(provider.shutdown)

    def observe(_):
        return [Observation(1.5, {"container.id": one}) for one in Source.alive]

    # A collection without a single point is not exported by the SDK; the agent always has points of its own.
    provider.get_meter("own").create_observable_gauge("up", [lambda _: [Observation(1)]])
    provider.get_meter("plain").create_observable_gauge("memory", [observe])
    provider.get_meter("counted").create_observable_counter("cpu", [observe])
    yield Source
    provider._shutdown or provider.shutdown()


def test_a_series_that_ends_is_closed_once(sink, source):
    source.export()
    source.alive = ("b",)
    source.export()
    source.export()

    b = {("memory", "b"): 1.5, ("cpu", "b"): 1.5}
    assert sink.points(0) == {("memory", "a"): 1.5, ("cpu", "a"): 1.5, **b}
    assert sink.points(1) == {("memory", "a"): "closed", ("cpu", "a"): "closed", **b}
    assert sink.points(2) == b


def test_a_series_that_comes_back_is_open_again(sink, source):
    source.export()
    source.alive = ()
    source.export()
    source.alive = ("a",)
    source.export()

    assert set(sink.points(1).values()) == {"closed"}
    assert sink.points(2) == {("memory", "a"): 1.5, ("cpu", "a"): 1.5}


def test_what_the_backend_did_not_take_is_closed_with_the_next_export(sink, source, caplog):
    source.export()
    source.alive = ("b",)
    sink.refuse = True
    source.export()
    source.export()
    sink.refuse = False
    source.export()

    assert sink.points(1)["memory", "a"] == "closed"
    said = [record.getMessage() for record in caplog.records if record.name.startswith("otel_agent")]
    assert len(said) == 1
    assert "takes no metrics" in said[0]


def test_an_agent_that_stops_closes_everything(sink, source):
    source.export()
    source.stop()

    assert set(sink.points(-1).values()) == {"closed"}
    assert sink.points(-1).keys() == sink.points(0).keys()


def test_counters_carry_the_time_they_began(sink, source):
    source.export()

    starts = {
        metric.name: point.start_time_unix_nano
        for metric in sink.metrics(0)
        if metric.HasField("sum")
        for point in metric.sum.data_points
    }
    assert starts == {"cpu": START_NS}


def test_points_carry_the_time_of_their_reading(sink, source):
    source.export()

    times = {
        metric.name: point.time_unix_nano
        for metric in sink.metrics(0)
        if metric.name == "cpu"
        for point in metric.sum.data_points
    }
    assert times == {"cpu": TIME_NS}


def one_export(*attributes):
    """What the SDK hands over: one metric with a point for each of these objects."""
    points = [NumberDataPoint(told, START_NS, TIME_NS, 1.5) for told in attributes]
    metric = Metric("memory", "", "By", Gauge(points))
    scope = ScopeMetrics(InstrumentationScope("plain"), [metric], "")
    return MetricsData([ResourceMetrics(Resource({}), [scope], "")])


def test_a_series_that_was_forgotten_and_came_back_in_between_is_the_same_series():
    """Its attributes are another object then; closing it beside its new point would end what lives."""
    ends = SeriesEnds(lambda: TIME_NS)
    ends.closing(one_export({"container.id": "a"}, {"container.id": "b"}))
    ends.accepted()

    [closed] = ends.closing(one_export({"container.id": "a"}))
    [point] = closed.scope_metrics[0].metrics[0].gauge.data_points
    assert [attribute.value.string_value for attribute in point.attributes] == ["b"]
    assert (point.flags, point.time_unix_nano, point.WhichOneof("value")) == (1, TIME_NS, None)
