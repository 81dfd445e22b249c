"""GPUs and drivers that answer no more, or never did: what is said, and what comes back by itself."""

from dataclasses import replace

import pytest
from fixtures.nvml.machine import BUSY, EIGHT, H200X8, MIG, Machine, Outcome, snapshot, snapshot_of

from otel_agent.errors import Unavailable
from otel_agent.sources.gpu.read import GpuIdentity, GpuReading, GpuSnapshot

SINGLE = H200X8 + "count=1\n"


def gpus(outcome: Outcome) -> tuple[GpuReading, ...]:
    return snapshot_of(outcome).gpus


def failed(reading: GpuReading, why: str) -> GpuReading:
    return GpuReading(reading.identity, failure=why)


@pytest.mark.parametrize("code", [15, 16])
@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetComputeRunningProcesses_v3", "*"]
)
def test_a_lost_gpu_shows_as_failed_and_the_others_go_on(machine: Machine, call: str, code: int) -> None:
    """It keeps its identity while lost, and tells its facts again when it is back."""
    lost = f"{H200X8}gpu.3.error.{call}={code}\n"

    outcomes = machine.read(H200X8, lost, lost, H200X8)

    why = {15: "GPU is lost", 16: "GPU requires restart"}[code]
    without = (*EIGHT[:3], failed(EIGHT[3], why), *EIGHT[4:])
    assert outcomes == [
        snapshot(1000, *EIGHT),
        snapshot(1001, *without),
        snapshot(1002, *without),
        snapshot(1003, *EIGHT),
    ]
    assert machine.lifecycle() == ["nvmlInitWithFlags"]
    assert machine.log == [  # once each, however long it lasts
        f"WARNING GPU {EIGHT[3].identity.uuid} (NVIDIA H200) gives no facts: {why}; see 'nvidia-smi' and 'dmesg | grep NVRM'",
        f"INFO GPU {EIGHT[3].identity.uuid} answers again",
    ]


def test_a_gpu_that_answers_nothing_is_failed_whatever_the_code(machine: Machine) -> None:
    """A container that lost its device files hears 'Unknown Error' from every call."""
    outcomes = machine.read(H200X8, f"{H200X8}gpu.6.error.*=999\n")

    without = (*EIGHT[:6], failed(EIGHT[6], "every question is answered with: Unknown Error"), EIGHT[7])
    assert outcomes[1] == snapshot(1001, *without)


def test_a_gpu_lost_from_the_start_is_known_by_its_index_until_it_is_back(machine: Machine) -> None:
    outcomes = machine.read(f"{H200X8}gpu.2.error.*=15\n", H200X8)

    unnamed = GpuReading(GpuIdentity(2), failure="GPU is lost")
    assert outcomes == [
        snapshot(1000, *(*EIGHT[:2], unnamed, *EIGHT[3:])),
        snapshot(1001, *EIGHT),
    ]
    assert unnamed.identity.id == "index-2"


def test_an_identity_that_could_not_be_asked_is_asked_again(machine: Machine) -> None:
    """Until then the board's slot stands for its UUID."""
    outcomes = machine.read(f"{SINGLE}gpu.0.error.nvmlDeviceGetUUID=999\n", SINGLE)

    assert [[gpu.identity for gpu in snapshot_of(outcome).gpus] for outcome in outcomes] == [
        [replace(BUSY.identity, uuid=None)],
        [BUSY.identity],
    ]
    assert [snapshot_of(outcome).gpus[0].identity.id for outcome in outcomes] == ["0000:19:00.0", BUSY.identity.uuid]


def test_a_driver_that_is_reloaded_is_opened_anew(machine: Machine) -> None:
    """While it is gone, every GPU is failed rather than silent, and why is said; one library handle at a time."""
    outcomes = machine.read(
        H200X8,
        f"{H200X8}gpu.1.error.nvmlDeviceGetMemoryInfo_v2=1\n",
        f"{H200X8}error.nvmlInitWithFlags=9\n",
        f"{H200X8}error.nvmlInitWithFlags=18\n",
        H200X8,
    )

    whys = [
        "the NVIDIA driver answers no more: Uninitialized",
        "the NVIDIA driver cannot be opened again: the NVIDIA driver is installed but not loaded",
        "the NVIDIA driver cannot be opened again: libnvidia-ml.so.1 and the loaded NVIDIA kernel module differ in version",
    ]
    assert outcomes == [
        snapshot(1000, *EIGHT),
        *(
            snapshot(time_s, *(failed(gpu, why) for gpu in EIGHT), failure=why)
            for time_s, why in zip((1001, 1002, 1003), whys, strict=True)
        ),
        snapshot(1004, *EIGHT),
    ]
    assert machine.lifecycle() == ["nvmlInitWithFlags", "nvmlShutdown", *["nvmlInitWithFlags"] * 3]
    assert machine.log == [*(f"WARNING GPUs: {why}" for why in whys), "INFO GPUs: the NVIDIA driver answers again"]


def test_a_driver_that_is_newer_after_a_reload_is_asked_for_what_it_knows(machine: Machine) -> None:
    """And one that is older is not held to what the one before it knew."""
    older = H200X8.replace("driver_version=590.48.01", "driver_version=535.1")
    older += "gpu.*.field_error.186=2\ngpu.*.error.nvmlDeviceGetMarginTemperature=13\ncount=1\n"
    away = f"{H200X8}error.nvmlDeviceGetMemoryInfo_v2=9\n"

    outcomes = machine.read(older, away, SINGLE, away, older)

    def told(outcome: Outcome) -> tuple[str | None, float | None, float | None]:
        [gpu] = gpus(outcome)
        return snapshot_of(outcome).driver_version, gpu.power_instant_watts, gpu.temperature_margin_celsius

    assert [told(outcomes[step]) for step in (0, 2, 4)] == [
        ("535.1", None, None),
        ("590.48.01", 626.26, 33),
        ("535.1", None, None),
    ]


def test_a_reset_kills_every_handle_until_the_library_starts_anew(machine: Machine) -> None:
    """As after `nvidia-smi --gpu-reset`: the GPUs are failed at once, and are back with the next start of NVML."""
    outcomes = machine.read(SINGLE, f"{SINGLE}reset=1\n", f"{SINGLE}reset=1\n", times=[0, 100, 105])

    assert [[gpu.failure for gpu in gpus(outcome)] for outcome in outcomes] == [
        [None],
        ["GPU requires restart"],
        [None],
    ]
    assert machine.lifecycle() == ["nvmlInitWithFlags", "nvmlShutdown", "nvmlInitWithFlags"]


def test_a_gpu_that_is_no_longer_listed_shows_as_failed_without_an_index(machine: Machine) -> None:
    """After the driver came back with seven, the indices behind the missing one have moved; boards are told by their slot."""
    moved = [line for line in H200X8.splitlines() if not line.startswith("gpu.3.")]
    for index in range(4, 8):
        moved = [line.replace(f"gpu.{index}.", f"gpu.{index - 1}.") for line in moved]
    seven = "\n".join([*moved, "count=7", ""])

    outcomes = machine.read(
        H200X8,
        f"{H200X8}error.nvmlDeviceGetMemoryInfo_v2=9\n",
        seven,
        seven,
        f"{H200X8}error.nvmlDeviceGetMemoryInfo_v2=9\n",
        H200X8,
    )

    behind = tuple(
        replace(gpu, identity=replace(gpu.identity, index=index)) for index, gpu in enumerate(EIGHT[4:], start=3)
    )
    missing = GpuReading(replace(EIGHT[3].identity, index=None), failure="the driver no longer lists it")
    assert [snapshot_of(outcome).failure is not None for outcome in outcomes] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert [snapshot_of(outcomes[step]).gpus for step in (2, 3, 5)] == [(*EIGHT[:3], *behind, missing)] * 2 + [EIGHT]


def test_a_board_that_is_exchanged_takes_the_place_of_the_old_one(machine: Machine) -> None:
    """Same slot, another UUID: the old one is no missing GPU."""
    new = f"{SINGLE}gpu.0.uuid=GPU-new\n"

    outcomes = machine.read(SINGLE, f"{SINGLE}error.nvmlDeviceGetMemoryInfo_v2=1\n", new)

    assert [gpu.identity for gpu in snapshot_of(outcomes[2]).gpus] == [replace(BUSY.identity, uuid="GPU-new")]


def test_gpus_that_have_all_failed_are_sought_anew_now_and_then(machine: Machine) -> None:
    """After a reset NVML finds its GPUs only when it starts afresh; to start it each time would be no help to a driver in trouble."""
    lost = f"{SINGLE}gpu.0.error.*=15\n"

    outcomes = machine.read(SINGLE, lost, lost, lost, lost, SINGLE, times=[0, 5, 29, 30, 35, 40])

    assert [[gpu.failure for gpu in snapshot_of(outcome).gpus] for outcome in outcomes] == [
        [None],
        *[["GPU is lost"]] * 4,
        [None],
    ]
    assert [snapshot_of(outcome).gpus[0].identity for outcome in outcomes] == [BUSY.identity] * 6
    assert machine.lifecycle() == ["nvmlInitWithFlags", "nvmlShutdown", "nvmlInitWithFlags"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("error.nvmlInitWithFlags=12", "no NVIDIA driver: libnvidia-ml.so.1 not found"),
        ("error.nvmlInitWithFlags=9", "the NVIDIA driver is installed but not loaded"),
        ("error.nvmlInitWithFlags=4", "no permission to talk to the NVIDIA driver"),
        ("error.nvmlInitWithFlags=18", "libnvidia-ml.so.1 and the loaded NVIDIA kernel module differ in version"),
        (
            "error.nvmlInitWithFlags=13",
            "libnvidia-ml.so.1 is too old or not NVIDIA's: it lacks the function that starts it",
        ),
        ("error.nvmlInitWithFlags=999", "NVML does not start: Unknown Error"),
        ("error.nvmlInitWithFlags=77", "NVML does not start: error 77"),
        ("error.nvmlDeviceGetCount=999", "the NVIDIA driver does not answer: it does not tell its GPUs: Unknown Error"),
        ("error.nvmlDeviceGetCount=1", "the NVIDIA driver does not answer: Uninitialized"),
        ("count=0", "the NVIDIA driver is loaded but shows no GPU"),
    ],
)
def test_a_machine_without_a_working_driver_says_why_and_what_to_do(machine: Machine, script: str, reason: str) -> None:
    [outcome] = machine.read(f"{H200X8}{script}\n")

    assert isinstance(outcome, Unavailable)
    assert outcome.reason == reason
    assert len(outcome.remedy) > 20
    assert machine.lifecycle() in (["nvmlInitWithFlags"], ["nvmlInitWithFlags", "nvmlShutdown"])
    assert ("nvmlShutdown" in machine.lifecycle()) == (
        "Init" not in script
    )  # what was opened is closed, and nothing else


def test_a_driver_that_appears_later_is_found(machine: Machine) -> None:
    outcomes = machine.read(f"{H200X8}error.nvmlInitWithFlags=9\n", f"{H200X8}count=0\n", H200X8)

    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable, GpuSnapshot]


def test_missing_bindings_are_named(machine: Machine) -> None:
    [outcome] = machine.read(H200X8, hide_bindings=True)

    assert isinstance(outcome, Unavailable)
    assert (outcome.reason, outcome.remedy) == (
        "the package nvidia-ml-py is not installed",
        "pip install 'otel-llm[agent]'",
    )


CODES = [*range(1, 31), 77, 999]
NOT_ABOUT_ONE_GPU = (
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion",
    "nvmlDeviceGetCount",
    "nvmlEventSetCreate",
    "nvmlEventSetWait",
)
OF_A_PARTITIONED_GPU = (
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetAttributes",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetPciInfo",
)


@pytest.mark.parametrize("call", [*NOT_ABOUT_ONE_GPU, *OF_A_PARTITIONED_GPU])
def test_every_documented_code_of_any_call_leaves_a_snapshot_or_says_why(machine: Machine, call: str) -> None:
    """Nothing that is not an answer becomes a number, nothing is raised, and the next good answer is told as it was before."""
    broken = [f"{MIG}error.{call}={code}\n" for code in CODES]
    steps = [MIG, *(script for one in broken for script in (one, MIG))]

    outcomes = machine.read(*steps, times=range(0, 1000 * len(steps), 1000))

    [whole] = gpus(outcomes[0])
    for outcome in outcomes[1::2]:
        for gpu in gpus(outcome):
            assert gpu.failure or (gpu.power_watts, gpu.identity) == (whole.power_watts, whole.identity)
            told = [part.memory_used_bytes for part in gpu.instances]
            assert set(told) <= {30_064_771_072, 0, None}
    assert [gpus(outcome) for outcome in outcomes[2::2]] == [(whole,)] * len(CODES)
    assert not [line for line in machine.log if "Traceback" in line or "Error(" in line]


@pytest.mark.parametrize("code", CODES)
def test_every_documented_code_at_the_start_is_unavailable_with_a_remedy(machine: Machine, code: int) -> None:
    outcomes = machine.read(f"{SINGLE}error.nvmlInitWithFlags={code}\n", SINGLE)

    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[0].remedy
    assert gpus(outcomes[1]) == (BUSY,)
