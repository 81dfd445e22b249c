"""A driver that hangs or crashes: what it takes along, and what goes on."""

import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.nvml.machine import BUSY, EIGHT, H200X8, Machine, library, snapshot, snapshot_of
from processes import agent
from waiting import until

from otel_agent.errors import Unavailable
from otel_agent.sources.gpu.snapshot import GpuReading

SINGLE = H200X8 + "count=1\n"


@pytest.mark.parametrize("call", ["nvmlDeviceGetFieldValues", "nvmlGpmSampleGet", "nvmlDeviceGetSamples", "*"])
def test_a_call_that_hangs_holds_up_its_own_gpu_alone(machine: Machine, call: str) -> None:
    """It is shown as stuck in the very reading that it hangs in, waited for once, and comes back by itself."""
    hung = f"{H200X8}gpu.5.hang.{call}=1\n"

    outcomes = machine.read(H200X8, hung, hung, hung, H200X8, H200X8, deadline_s=0.5, pause_s=0.2)

    readings = [snapshot_of(outcome).gpus for outcome in outcomes]
    assert [[gpu.answer for gpu in gpus].count("stuck") for gpus in readings] == [
        0,
        1,
        1,
        1,
        *[readings[4][5].stuck],
        0,
    ]
    for gpus in readings:
        assert (*gpus[:5], *gpus[6:]) == (*EIGHT[:5], *EIGHT[6:])
    stuck = readings[1][5]
    assert stuck == GpuReading(EIGHT[5].identity, failure=stuck.failure, stuck=True)
    assert re.fullmatch(r"a call of the driver has not come back for \d+ s", stuck.failure or "")
    assert readings[5] == EIGHT
    assert machine.lifecycle() == ["nvmlInitWithFlags"]


def test_a_slow_gpu_does_not_slow_the_others(machine: Machine) -> None:
    """Nine tenths of a second in one call, with the others read beside it."""
    slow = "".join(f"gpu.{index}.sleep_ms.nvmlDeviceGetFieldValues=900\n" for index in range(8))

    began = time.monotonic()
    [outcome] = machine.read(H200X8 + slow, deadline_s=4)

    assert snapshot_of(outcome).gpus == EIGHT
    assert time.monotonic() - began < 0.9 * 8


def test_an_agent_goes_on_beside_a_hung_gpu_and_stops_in_time(tmp_path: Path) -> None:
    """Through the agent as it runs: the GPU fails, the source and every other one keep their pace, and a stop is not held up."""
    script = tmp_path / "script"
    script.write_text(f"{H200X8}gpu.2.hang.*=0 @3 1\n")
    environment = {
        "LD_LIBRARY_PATH": str(library().parent),
        "FAKE_NVML_SCRIPT": str(script),
        "OTEL_LLM_SOURCES": "host,gpu",
        "METRICS_INTERVAL_LIVE": "1",
        "OTEL_LLM_DATA_DIR": str(tmp_path),
    }
    with agent("run", **environment) as running:
        running.until(lambda: running.source("gpu") == "ok")

        def stuck() -> bool:
            _, lines = running.get("/metrics", {"Accept": "text/plain"})
            return bool(re.search(r'otel_llm_gpu_answer_status\{[^}]*0002[^}]*state="stuck"[^}]*\} 1', lines))

        running.until(stuck)
        sources = running.get("/health")[1]["sources"]
        assert {name: (one["state"], one["age_s"] < 3) for name, one in sources.items()} == {
            "host": ("ok", True),
            "gpu": ("ok", True),
        }
        status, took_s = running.stop(signal.SIGTERM)
    assert (status, took_s < 5) == (0, True)
    assert "Traceback" not in running.output


def test_reading_apart_tells_the_same(machine: Machine) -> None:
    outcomes = machine.read(H200X8, f"{H200X8}gpu.3.error.*=15\n", H200X8, apart=True)

    assert [replace(snapshot_of(outcome), time_s=0) for outcome in outcomes] == [
        snapshot(0, *EIGHT),
        snapshot(0, *EIGHT[:3], GpuReading(EIGHT[3].identity, failure="GPU is lost"), *EIGHT[4:]),
        snapshot(0, *EIGHT),
    ]
    assert [line for line in machine.log if "GPU-" in line] == [
        f"WARNING GPU {EIGHT[3].identity.uuid} (NVIDIA H200) gives no facts: GPU is lost; see 'nvidia-smi' and 'dmesg | grep NVRM'",
        f"INFO GPU {EIGHT[3].identity.uuid} answers again",
    ]


def test_a_library_that_crashes_takes_its_own_process_along_and_not_the_agent(machine: Machine) -> None:
    """The GPUs are failed while it is away, a new one is started after a pause, and counts go on."""
    crash = f"{SINGLE}abort.nvmlDeviceGetFieldValues=1\n"

    outcomes = machine.read(SINGLE, crash, SINGLE, SINGLE, times=[0, 5, 7, 15], apart=True, whole=True)

    why = "the process that reads the GPUs ended with signal SIGABRT, most likely inside the driver's library"
    seen = [snapshot_of(outcome) for outcome in outcomes]
    assert [one.failure for one in seen] == [None, why, why, None]
    assert [[gpu.status for gpu in one.gpus] for one in seen] == [["ok"], ["failed"], ["failed"], ["ok"]]
    counts = seen[3].counts[BUSY.identity.id].kinds
    assert (counts["failed"], counts["recovered"]) == (1, 1)


def test_a_process_that_hangs_altogether_is_left_alone_and_answers_later(machine: Machine) -> None:
    """The driver went, and its library does not come back from being started: the GPUs are stuck, and there is no second such process."""
    gone = f"{SINGLE}gpu.0.error.nvmlDeviceGetMemoryInfo_v2=9\n"
    hung = f"{SINGLE}hang.nvmlInitWithFlags=1\n"

    outcomes = machine.read(SINGLE, gone, hung, hung, SINGLE, SINGLE, apart=True, deadline_s=0.8, pause_s=0.4)

    seen = [snapshot_of(outcome) for outcome in outcomes]
    assert [one.gpus[0].answer for one in seen] == ["ok", "failed", "stuck", "stuck", "ok", "ok"]
    assert "the process that reads the GPUs has not answered" in (seen[3].failure or "")
    assert machine.lifecycle().count("nvmlInitWithFlags") == 2


@pytest.mark.parametrize("apart", [False, True])
def test_a_library_that_is_removed_while_the_agent_runs(machine: Machine, apart: bool) -> None:
    """Loaded, it goes on. A new process does not find it: the GPUs are failed, and why is said."""
    folder = machine.folder / "lib"
    folder.mkdir()
    machine.library = Path(shutil.copy(machine.library, folder))
    crash = f"{SINGLE}abort.nvmlDeviceGetFieldValues={int(apart)}\n"

    outcomes = machine.read(SINGLE, crash, SINGLE, times=[0, 5, 15], apart=apart, remove_at=1)

    assert not machine.library.exists()
    after = snapshot_of(outcomes[2])
    why = "the NVIDIA driver cannot be opened again: no NVIDIA driver: libnvidia-ml.so.1 not found"
    assert after.failure == (why if apart else None)
    assert [(gpu.identity, gpu.status) for gpu in after.gpus] == [(BUSY.identity, "failed" if apart else "ok")]


def test_a_machine_without_a_driver_is_unavailable_read_apart_too(machine: Machine) -> None:
    [outcome] = machine.read(f"{SINGLE}error.nvmlInitWithFlags=9\n", apart=True)

    assert isinstance(outcome, Unavailable)
    assert outcome.reason == "the NVIDIA driver is installed but not loaded"


def test_the_process_that_reads_ends_with_the_agent(tmp_path: Path) -> None:
    """However the agent ends."""
    script = tmp_path / "script"
    script.write_text(H200X8)
    environment = {
        "LD_LIBRARY_PATH": str(library().parent),
        "FAKE_NVML_SCRIPT": str(script),
        "OTEL_LLM_SOURCES": "gpu",
        "OTEL_LLM_GPU_PROCESS": "1",
        "METRICS_INTERVAL_LIVE": "1",
        "OTEL_LLM_DATA_DIR": str(tmp_path),
    }
    with agent("run", **environment) as running:
        running.until(lambda: running.source("gpu") == "ok")
        [child] = _children(running.process.pid)
        running.process.kill()
        until(lambda: not Path(f"/proc/{child}").exists() or _state(child) == "Z")
    assert not _children(running.process.pid)


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
