"""The HTTP API: open routes about this node from its last readings, token routes about the past from history, the live stream, the page."""

from otel_agent.api.app import create_app

__all__ = ["create_app"]
