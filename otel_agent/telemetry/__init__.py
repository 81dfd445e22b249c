"""Providers, exporters and instruments: how points become OTLP and leave this process."""
