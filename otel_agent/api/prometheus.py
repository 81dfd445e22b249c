"""The last published points in Prometheus' text format, under the very names that Prometheus itself gives the same metrics over OTLP.

The names follow the compatibility chapter of the OpenTelemetry specification (opentelemetry.io/docs/specs/otel/compatibility), the
format prometheus.io/docs/instrumenting/exposition_formats and the OpenMetrics 1.0 text. Which points there are is left to the sources.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from otel_agent.catalogue import Attributes, Metric
from otel_agent.telemetry.naming import UNITS, prometheus_label, prometheus_name

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Format = Literal["text", "openmetrics"]
Points = Sequence[tuple[float, Attributes]]


def render(readings: Iterable[tuple[Metric[Any], Points]], form: Format) -> str:
    """Return the exposition of these rows and their points. A metric that several sources give stands together, once."""
    families: dict[str, tuple[Metric[Any], list[tuple[float, Attributes]]]] = {}
    for row, points in readings:
        if points:
            families.setdefault(prometheus_name(row), (row, []))[1].extend(points)
    lines: list[str] = []
    for name, (row, points) in sorted(families.items()):
        family = name.removesuffix("_total") if form == "openmetrics" and row.kind == "counter" else name
        lines.append(f"# HELP {family} {_help(row.help, form)}")
        lines.append(f"# TYPE {family} {'counter' if row.kind == 'counter' else 'gauge'}")
        if form == "openmetrics" and (unit := UNITS.get(row.unit)) and family.endswith(f"_{unit}"):
            lines.append(f"# UNIT {family} {unit}")
        lines.extend(f"{name}{_labels(attributes)} {_number(value)}" for value, attributes in points)
    if form == "openmetrics":
        lines.append("# EOF")
    return "\n".join(lines) + "\n" if lines else ""


def wanted_format(accept: str) -> Format | None:
    """Return the text format that an Accept header asks for by name, None where JSON will do."""
    best: tuple[float, Format] | None = None
    for entry in accept.lower().split(","):
        media, *options = (part.strip() for part in entry.split(";"))
        form: Format | None = (
            "openmetrics" if media == "application/openmetrics-text" else "text" if media == "text/plain" else None
        )
        if form is None:
            continue
        quality = next((_quality(option[2:]) for option in options if option.startswith("q=")), 1.0)
        if quality > 0 and (best is None or quality > best[0]):
            best = quality, form
    return best[1] if best else None


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _help(text: str, form: Format) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if form == "openmetrics" else escaped


def _labels(attributes: Attributes) -> str:
    """Two attributes that fall on one label are joined by a semicolon, as the specification has it."""
    labels: dict[str, str] = {}
    for name, value in sorted(attributes.items()):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        label = prometheus_label(name)
        labels[label] = f"{labels[label]};{text}" if label in labels else text
    if not labels:
        return ""
    return "{" + ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items()) + "}"


def _escape(text: str) -> str:
    # A lone surrogate, which a file name may carry, has no place in UTF-8.
    clean = text.encode("utf-8", "replace").decode()
    return clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
