"""GPUs through the agent as a user runs it: once, doctor, and the events that reach an OTLP backend."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.nvml.machine import BUSY, H200X8, L40S, MIG, library
from processes import ENVIRONMENT, agent, backend

from otel_agent.sources.gpu.findings import Finding, findings
from otel_agent.sources.gpu.snapshot import GpuIdentity, GpuProcess, GpuReading, GpuSnapshot

SINGLE = H200X8 + "count=1\n"


def surroundings(folder: Path, script: str, **more: str) -> dict[str, str]:
    (folder / "script").write_text(script)
    return {
        "LD_LIBRARY_PATH": str(library().parent),
        "FAKE_NVML_SCRIPT": str(folder / "script"),
        "OTEL_LLM_SOURCES": "gpu",
        "OTEL_LLM_DATA_DIR": str(folder),
        **more,
    }


def command(folder: Path, script: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_agent", *words],
        env={**ENVIRONMENT, **surroundings(folder, script, **more)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("apart", ["0", "1"])
def test_once_shows_what_two_readings_tell(tmp_path: Path, apart: str) -> None:
    done = command(tmp_path, SINGLE, "once", "--json", OTEL_LLM_GPU_PROCESS=apart)

    points = json.loads(done.stdout)["gpu"]["points"]
    found = {(point["name"], point["attributes"].get("otel_llm.gpu.part")): point["value"] for point in points}
    assert (done.returncode, done.stderr) == (0, "")
    assert (found["hw.power", None], found["otel_llm.gpu.activity", "tensor"]) == (627.4, 0.625)


def test_doctor_names_what_is_amiss_with_the_remedy(tmp_path: Path) -> None:
    done = command(tmp_path, f"{L40S}gpu.0.error.nvmlDeviceGetProcessUtilization=4\n", "doctor")

    assert done.returncode == 1
    said = [line.strip() for line in done.stdout.splitlines()]
    assert "ok      gpu: 1 x NVIDIA L40S; driver 595.80, CUDA 13.2" in said
    assert any("may not ask for: nvmlDeviceGetProcessUtilization" in line for line in said)
    assert any("persistence mode is off: GPU 0" in line for line in said)
    assert any("2 of 2 processes on the GPUs cannot be seen from here" in line for line in said)
    assert any("no performance monitor (GPM): GPU 0" in line for line in said)


def test_an_xid_reaches_the_backend_as_a_log_record(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    script = f"{SINGLE}event.1= @2 0:8:79\n"
    with backend() as sink:
        settings = surroundings(tmp_path, script, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, METRICS_INTERVAL_LIVE="1")
        with agent("run", **settings) as running:
            running.until(lambda: [body for path, body in sink.sent if path == "/v1/logs"])
        requests = [ExportLogsServiceRequest.FromString(body) for path, body in sink.sent if path == "/v1/logs"]

    records = [
        record
        for request in requests
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    [xid] = [record for record in records if record.event_name == "otel_llm.gpu.xid"]
    attributes = {one.key: one.value.string_value or one.value.int_value for one in xid.attributes}
    assert (xid.severity_text, xid.body.string_value) == ("FATAL", "GPU 0: XID 79: the GPU has fallen off the bus")
    assert (attributes["hw.id"], attributes["otel_llm.gpu.xid"], attributes["otel_llm.gpu.remedy"]) == (
        BUSY.identity.uuid,
        79,
        "restart_host",
    )


def told(*gpus: GpuReading, **more: object) -> list[Finding]:
    return list(findings(GpuSnapshot(0, "590.1", gpus, **more)))  # type: ignore[arg-type]


def test_a_sound_gpu_has_nothing_to_be_said_but_what_it_is() -> None:
    sound = GpuReading(
        GpuIdentity(0, "GPU-a", "NVIDIA H200"),
        persistence_enabled=True,
        activity={"sm": 0.5},
        processes=(GpuProcess(1, "vllm", 5),),
    )

    assert told(sound, sound, cuda_version="13.1", events_watched=True) == [
        Finding("ok", "2 x NVIDIA H200; driver 590.1, CUDA 13.1")
    ]


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (GpuReading(GpuIdentity(3), failure="GPU is lost"), "GPU 3: GPU is lost"),
        (GpuReading(GpuIdentity(3), failure="a call has not come back", stuck=True), "GPU 3: a call has not come back"),
        (GpuReading(GpuIdentity(3), row_remap_failed=True), "GPU 3: a row of memory could not be replaced"),
        (GpuReading(GpuIdentity(3), row_remap_pending=True), "GPU 3: faulty memory waits for a reset"),
        (GpuReading(GpuIdentity(3), recovery_action="gpu_reset"), "GPU 3: the driver asks for gpu reset"),
    ],
)
def test_a_gpu_that_needs_a_hand_is_a_problem_with_a_remedy(gpu: GpuReading, said: str) -> None:
    [problem] = [finding for finding in told(gpu) if finding.verdict == "problem"]

    assert problem.said == said
    assert problem.remedy


def test_a_driver_that_is_gone_is_the_problem() -> None:
    lost = GpuReading(GpuIdentity(0), failure="gone")

    assert told(lost, failure="the NVIDIA driver answers no more: Uninitialized")[0] == Finding(
        "problem", "the NVIDIA driver answers no more: Uninitialized", "see 'nvidia-smi' and 'dmesg | grep NVRM'"
    )


def test_partitions_are_told(tmp_path: Path) -> None:
    done = command(tmp_path, MIG, "doctor")

    assert "ok      gpu: partitioned: GPU 0, 3 MIG devices" in done.stdout
