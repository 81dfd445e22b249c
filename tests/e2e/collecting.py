"""What tests of the Collector share: who sends, one sink in place of every store, and a bare POST."""

import urllib.error
import urllib.request

from e2e.sink import Sink

APP = {
    "service.name": "shop",
    "service.namespace": "e2e",
    "service.instance.id": "shop-1",
    "host.name": "told-by-the-sdk",
    "team.cost_center": "42",
}


def backend(sink: Sink) -> dict[str, str]:
    """The environment that makes one sink stand for Prometheus, Tempo and Loki."""
    http = f"http://127.0.0.1:{sink.http_port}"
    return {
        "TEMPO_OTLP": f"http://127.0.0.1:{sink.grpc_port}",
        "PROMETHEUS_URL": http,
        "LOKI_URL": http,
        "BACKEND_OTLP_ENDPOINT": "",
        "BACKEND_OTLP_HEADERS": "",
    }


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
