"""What widely used exporters carry by default is here, or the reference says why not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from fixtures.nvml.machine import H200X8, Machine, snapshot_of

from otel_agent.catalogue import values
from otel_agent.sources.gpu.coverage import DCGM_EXPORTER, NVIDIA_GPU_EXPORTER, Absent, Ours, table
from otel_agent.sources.gpu.metrics import METRICS

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "nvml"
LISTS: Mapping[str, Mapping[str, Ours | Absent]] = {
    "dcgm-exporter-default-counters": DCGM_EXPORTER,
    "nvidia_gpu_exporter-default": NVIDIA_GPU_EXPORTER,
}


def names(file: str) -> set[str]:
    lines = (FIXTURES / f"{file}.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("file", LISTS)
def test_the_table_has_every_name_of_their_lists_and_no_other(file: str) -> None:
    assert set(LISTS[file]) == names(file)


def test_every_absence_has_a_reason() -> None:
    reasons = [entry.reason for rows in LISTS.values() for entry in rows.values() if isinstance(entry, Absent)]
    assert all(len(reason) > 20 for reason in reasons)


def test_what_the_table_says_is_ours_is_told_of_the_same_machine(machine: Machine) -> None:
    """All in one run: every series that the table names has a point, on a machine that had an XID and is asked for a reset."""
    struck = f"{H200X8}gpu.*.field.230=0\nevent.1=0:8:31\n"

    outcomes = machine.read(H200X8, struck, struck, times=[0, 700, 705], pause_s=0.6, whole=True)

    told = snapshot_of(outcomes[2])
    points = {row.name: [attributes for _, attributes in values(row, told)] for row in METRICS}
    wanted = [entry for rows in LISTS.values() for entry in rows.values() if isinstance(entry, Ours)]
    missing = [
        entry
        for entry in wanted
        if not any(entry.attributes.items() <= attributes.items() for attributes in points.get(entry.metric, ()))
    ]
    assert missing == []


def test_the_table_is_in_the_reference(root: Path) -> None:
    assert table() in (root / "docs" / "gpu.md").read_text()
