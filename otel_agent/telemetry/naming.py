"""How a metric of ours is called in Prometheus, after the translation `UnderscoreEscapingWithSuffixes` of its OTLP receiver.

Source: prometheus/otlptranslator, and the compatibility chapter of the OpenTelemetry specification.
"""

import re
from typing import Any

from otel_agent.catalogue import Metric

UNITS = {
    "s": "seconds",
    "By": "bytes",
    "By/s": "bytes_per_second",
    "J": "joules",
    "W": "watts",
    "Cel": "celsius",
    "Hz": "hertz",
    "V": "volts",
    "rpm": "rpm",
}
OTHER = re.compile(r"[^a-zA-Z0-9:_]+")


def prometheus_name(row: Metric[Any]) -> str:
    """Return the name of a row's series in Prometheus."""
    parts = [part for part in OTHER.sub("_", row.name).split("_") if part]
    suffix = UNITS.get(row.unit)
    if suffix and suffix not in parts:
        parts.append(suffix)
    if row.unit == "1" and row.kind == "gauge":
        parts.append("ratio")
    if row.kind == "counter":
        parts = [part for part in parts if part != "total"] + ["total"]
    return "_".join(parts)


def prometheus_label(name: str) -> str:
    """Return the label that an attribute becomes in Prometheus."""
    label = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"key_{label}" if label[:1].isdigit() else label
