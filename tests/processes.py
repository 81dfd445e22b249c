"""Starts the real agent as a process, as a user does, and an OTLP backend that can be told how to behave."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SSL_CERT_FILE") if name in os.environ}


class Backend:
    """An OTLP/HTTP backend on a free port: keeps what it was sent as (path, body); `silent` lets it accept and never answer."""

    def __init__(self):
        self.sent = []
        self.silent = threading.Event()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                while backend.silent.is_set() and not backend.closed:
                    time.sleep(0.01)
                backend.sent.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # an agent that was killed in the middle of a request is what some tests are about

        self.closed = False
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def metrics(self):
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        return [ExportMetricsServiceRequest.FromString(body) for path, body in self.sent if path == "/v1/metrics"]


class Agent:
    """A running `otel-agent`: its process, what it printed, its page and port once it has said them."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otel_agent", command],
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self._reader.start()

    @property
    def output(self):
        return "".join(self.lines)

    def until(self, condition, deadline_s=30.0):
        give_up = time.monotonic() + deadline_s
        while not (found := condition()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < give_up, f"did not happen in {deadline_s} s:\n{self.output}"
            time.sleep(0.02)
        return found

    def page(self):
        """The printed link: (port, token)."""
        found = self.until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", self.output))
        return int(found[1]), found[2]

    def ports(self):
        """The receiver's ports: (gRPC, HTTP)."""
        found = self.until(lambda: re.search(r"gRPC port (\d+) and HTTP port (\d+)", self.output))
        return int(found[1]), int(found[2])

    def get(self, path, headers=None):
        """GET from the API: (status, parsed JSON or text)."""
        port, token = self.page()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **(headers or {})})
            answer = connection.getresponse()
            body = answer.read().decode()
            return answer.status, json.loads(body) if "json" in answer.getheader("content-type", "") else body
        finally:
            connection.close()

    def source(self, name):
        """The state of one source as /health tells it."""
        return self.get("/health")[1]["sources"][name]["state"]

    def stop(self, number):
        """Send a signal and return (exit status, seconds it took to end)."""
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(15)
        self._reader.join(5)
        return status, time.monotonic() - began

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        self.process.stdout.close()


@contextmanager
def agent(command, **environment):
    """Run `otel-agent COMMAND` on free ports until the block ends."""
    free = {"OTEL_LLM_PORT": "0", "OTEL_LLM_OTLP_GRPC_PORT": "0", "OTEL_LLM_OTLP_HTTP_PORT": "0"}
    running = Agent(command, {**free, **{name: str(value) for name, value in environment.items()}})
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def backend():
    """An OTLP/HTTP backend until the block ends."""
    sink = Backend()
    try:
        yield sink
    finally:
        sink.close()
