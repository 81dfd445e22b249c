"""Recording rules that give container metrics cAdvisor's names and labels, for boards and alerts that were written for it.

Not here: `container_start_time_seconds`, since a start computed from an uptime moves a little with every reading, and what watches it
takes each move for a restart.
"""

import json
from dataclasses import dataclass

from dashboards.names import fill, listed

HEAD = "# Built by `python -m dashboards` from dashboards/cadvisor.py; change that, not this file.\n"
JOB = "cadvisor"  # tells these series from the ones they are made of, where both have the same name
WHO = ("host.name", "container.id", "container.name")
IMAGE, TAG = "container.image.name", "otel_llm.container.image.tag"
OURS = '{container.name!=""}'  # and not what a rule has recorded under the same name


@dataclass(frozen=True)
class Rule:
    """One series under cAdvisor's name; `parts` are attributes that become labels, by the label's name."""

    record: str
    template: str
    parts: tuple[tuple[str, str], ...] = ()
    aggregate: str = "sum"


_INTERFACE = (("network.interface.name", "interface"),)
_DEVICE = (("system.device", "device"),)


def _cpu(matcher: str = "") -> str:
    return f'<container.cpu.time{{container.name!=""{matcher}}}>'


def _directed(metric: str, direction: str, value: str) -> str:
    return f'<{metric}{{container.name!="", {direction}="{value}"}}>'


RULES: tuple[Rule, ...] = (
    Rule("container_cpu_usage_seconds_total", _cpu()),
    Rule("container_cpu_user_seconds_total", _cpu(', cpu.mode="user"')),
    Rule("container_cpu_system_seconds_total", _cpu(', cpu.mode="system"')),
    Rule("container_memory_usage_bytes", f"<container.memory.usage{OURS}>"),
    Rule("container_memory_working_set_bytes", f"<container.memory.working_set{OURS}>"),
    Rule("container_spec_memory_limit_bytes", f"<otel_llm.container.memory.limit{OURS}>"),
    Rule(
        "container_network_receive_bytes_total",
        _directed("container.network.io", "network.io.direction", "receive"),
        _INTERFACE,
    ),
    Rule(
        "container_network_transmit_bytes_total",
        _directed("container.network.io", "network.io.direction", "transmit"),
        _INTERFACE,
    ),
    Rule("container_fs_reads_bytes_total", _directed("container.disk.io", "disk.io.direction", "read"), _DEVICE),
    Rule("container_fs_writes_bytes_total", _directed("container.disk.io", "disk.io.direction", "write"), _DEVICE),
    Rule("container_last_seen", f"timestamp(<container.memory.usage{OURS}>)", aggregate="max"),
)


def expression(rule: Rule) -> str:
    """Return the query of a rule, with the labels that cAdvisor has: id, name, image, instance, and the parts'."""
    kept = [attribute for attribute, _ in rule.parts]
    image = f"topk by ({listed(WHO)}) (1, <otel_llm.container.info>)"
    found = f"{rule.aggregate} by ({listed((*WHO, *kept))}) ({rule.template}) * on ({listed(WHO)}) group_left (<{IMAGE}>, <{TAG}>) {image}"
    found = f'label_join({found}, "image", ":", "<{IMAGE}>", "<{TAG}>")'
    found = _label(found, "image", "image", "(.*):")  # no tag: no colon at the end
    found = _label(found, "name", "<container.name>")
    found = _label(found, "id", "<container.id>", "(.*)", "/docker/$1")
    found = _label(found, "instance", "<host.name>")
    for attribute, label in rule.parts:
        found = _label(found, label, f"<{attribute}>")
    return fill(f"sum by (instance, id, name, image{''.join(f', {label}' for _, label in rule.parts)}) ({found})")


def _label(vector: str, label: str, source: str, pattern: str = "(.*)", text: str = "$1") -> str:
    return f'label_replace({vector}, "{label}", "{text}", "{source}", "{pattern}")'


def render_rules() -> str:
    """Return the text of the rules file."""
    lines = [f"{HEAD}groups:\n  - name: {JOB}\n    rules:\n"]
    # A JSON string is a YAML string, whatever it holds.
    lines += [
        f"      - record: {rule.record}\n        expr: {json.dumps(expression(rule))}\n        labels: {{ job: {JOB} }}\n"
        for rule in RULES
    ]
    return "".join(lines)
