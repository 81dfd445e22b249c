"""The node's agent: reads host, GPU and containers, sends OTLP, and stands in for a whole backend where there is none."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("otel-llm")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
