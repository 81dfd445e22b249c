"""LiteLLM's Router: one span per request over the spans of its attempts, and its metrics."""
