"""OpenTelemetry instrumentation for LLM clients and engines, for applications to install.

Everything here needs the OpenTelemetry API only; which SDK, exporter and sampler are used is the application's choice.
The instrumentors live in `otel_llm.litellm` and are found by `opentelemetry-instrument` through their entry points.
Importing this package imports nothing else.
"""
