"""What happens to GPUs: what the driver reports and what two readings tell, each once, with what it means and what to do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures.nvml.machine import BUSY, H200X8, MIG, Machine, snapshot_of

from otel_agent.sources.gpu.account import Account, Seen
from otel_agent.sources.gpu.changes import KINDS, QUIET_S
from otel_agent.sources.gpu.events import events
from otel_agent.sources.gpu.read import GpuReading, GpuSnapshot
from otel_agent.sources.gpu.snapshot import REMEDIES
from otel_agent.sources.gpu.watch import Raw
from otel_agent.sources.gpu.xids import XIDS, explained

SINGLE = H200X8 + "count=1\n"


def story(*seen: GpuReading | Seen, every_s: float = 5.0) -> list[GpuSnapshot]:
    """Return the snapshots that these readings of one GPU lead to."""
    account = Account()
    return [
        account.told(one if isinstance(one, Seen) else Seen(1000 + every_s * step, None, None, None, (one,)))
        for step, one in enumerate(seen)
    ]


def told(snapshots: Sequence[GpuSnapshot]) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.severity, one.remedy, one.said) for snapshot in snapshots for one in snapshot.happened]


def test_an_xid_is_an_event_with_its_meaning_the_processes_and_their_containers(machine: Machine) -> None:
    """From the driver's own report to the attributes of the log record; the process that it ended is named all the same."""
    container = "cd" * 32
    machine.process(41003, b"VLLM::Worker_TP", f"0::/system.slice/docker-{container}.scope\n")
    struck = f"{H200X8}event.1=3:8:94\ngpu.3.processes.compute=\n"

    outcomes = machine.read(H200X8, struck, struck, times=[1000, 1005, 1010], pause_s=0.7, whole=True)

    first, second, third = (snapshot_of(outcome) for outcome in outcomes)
    happened = [event for one in (first, second, third) for event in events(one)]
    [event] = happened
    assert (event.name, event.severity, event.said) == (
        "otel_llm.gpu.xid",
        "error",
        "GPU 3: XID 94: a memory error that ECC cannot correct, contained in one application",
    )
    assert event.attributes == {
        "hw.id": "GPU-00000003-5a1d-4e0b-9c7e-0f0e0d0c0b03",
        "hw.type": "gpu",
        "hw.name": "NVIDIA H200",
        "otel_llm.gpu.index": 3,
        "otel_llm.gpu.event": "xid",
        "otel_llm.gpu.xid": 94,
        "otel_llm.gpu.remedy": "restart_application",
        "otel_llm.gpu.process.pids": "41003",
        "otel_llm.gpu.process.names": "VLLM::Worker_TP",
        "otel_llm.gpu.container.ids": container,
    }
    counts = third.counts["GPU-00000003-5a1d-4e0b-9c7e-0f0e0d0c0b03"]
    assert (counts.kinds, counts.xids) == (dict.fromkeys(KINDS, 0) | {"xid": 1}, {94: 1})
    assert first.counts["GPU-00000003-5a1d-4e0b-9c7e-0f0e0d0c0b03"].kinds == dict.fromkeys(KINDS, 0)
    assert (first.events_watched or second.events_watched, third.events_lost) == (True, 0)


def test_the_wait_for_events_survives_errors_of_the_driver(machine: Machine) -> None:
    """It is said once, and taken up again."""
    broken = f"{SINGLE}error.nvmlEventSetWait=999\n"
    struck = f"{SINGLE}event.1=0:8:31\n"

    outcomes = machine.read(SINGLE, broken, struck, struck, pause_s=2.0, whole=True)

    assert [one.said for outcome in outcomes for one in snapshot_of(outcome).happened] == [
        "XID 31: an illegal address was accessed (MMU fault)"
    ]
    assert [line for line in machine.log if "events" in line] == [
        "WARNING GPU events: the driver ends the wait with: Unknown Error; it is tried again"
    ]


def test_events_of_a_gpu_that_has_none_are_not_waited_for(machine: Machine) -> None:
    without = SINGLE.replace("gpu.*.event_types=", "gpu.*.was=")

    outcomes = machine.read(without, without, pause_s=0.3, whole=True)

    assert snapshot_of(outcomes[1]).events_watched is False


def test_an_event_of_an_instance_names_it(machine: Machine) -> None:
    struck = f"{MIG}event.1=0:8:13:1:1\n"

    outcomes = machine.read(MIG, struck, struck, pause_s=0.5, whole=True)

    [event] = [one for outcome in outcomes for one in snapshot_of(outcome).happened]
    assert (event.instance, event.code) == ("MIG-00000001-1111-5a1d-9c7e-0f0e0d0c0b00", 13)


def test_a_gpu_that_falls_off_the_bus_is_an_event_and_so_is_its_return(machine: Machine) -> None:
    lost = f"{SINGLE}gpu.0.error.*=15\n"

    outcomes = machine.read(SINGLE, lost, lost, SINGLE, whole=True)

    assert told([snapshot_of(outcome) for outcome in outcomes]) == [
        ("failed", "error", "none", "the GPU gives no facts: GPU is lost"),
        ("recovered", "info", "none", "the GPU answers again"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            {"ecc_uncorrected": 0},
            {"ecc_uncorrected": 1},
            ("ecc_double_bit", "fatal", "reset_gpu", "memory met an error that ECC cannot correct"),
        ),
        (
            {"row_remap_pending": False},
            {"row_remap_pending": True},
            ("row_remap", "warn", "reset_gpu", "a row of memory waits for a reset to be replaced"),
        ),
        (
            {"row_remap_failed": False},
            {"row_remap_failed": True},
            (
                "row_remap_failure",
                "fatal",
                "contact_vendor",
                "a row of memory could not be replaced: the board is due for exchange",
            ),
        ),
        (
            {"recovery_action": "none"},
            {"recovery_action": "node_reboot"},
            ("recovery_action", "fatal", "restart_host", "what the driver asks for has changed: node_reboot"),
        ),
        ({"ecc_uncorrected": None}, {"ecc_uncorrected": 5}, None),
        ({"ecc_uncorrected": 5}, {"ecc_uncorrected": 0}, None),  # the driver was loaded anew
        ({"row_remap_pending": None}, {"row_remap_pending": True}, None),
        ({"recovery_action": None}, {"recovery_action": "gpu_reset"}, None),
    ],
)
def test_what_changes_between_two_readings_is_an_event(
    before: dict[str, Any], after: dict[str, Any], expected: tuple[str, ...] | None
) -> None:
    """What was so from the start, or was not known, is no change."""
    first, second = replace(BUSY, throttle=None, **before), replace(BUSY, throttle=None, **after)

    assert told(story(first, second, second)) == ([expected] if expected else [])


def test_what_the_driver_reported_is_not_told_again_from_the_next_reading() -> None:
    quiet = replace(BUSY, throttle=None, row_remap_pending=False)
    reported = Seen(1005, None, None, None, (quiet,), {quiet.identity.id: [Raw(1004.5, 0, "row_remap", 0)]})

    snapshots = story(quiet, reported, replace(quiet, row_remap_pending=True))

    assert [(one.kind, one.time_s) for snapshot in snapshots for one in snapshot.happened] == [("row_remap", 1004.5)]


def test_lowered_clocks_begin_once_and_end_when_they_have_been_away_for_a_while() -> None:
    """A power limit switches many times a minute; that is one episode."""

    def at(**reasons: bool) -> GpuReading:
        return replace(BUSY, throttle={"gpu_idle": True, "sw_power_cap": False, "hw_thermal_slowdown": False} | reasons)

    on, off = at(sw_power_cap=True), at()
    hot = at(hw_thermal_slowdown=True)
    quiet = [off] * int(QUIET_S / 5)

    snapshots = story(off, on, off, on, *quiet, hot, *quiet, off)

    assert told(snapshots) == [
        ("throttle_start", "info", "none", "the clocks are held down: sw_power_cap"),
        ("throttle_end", "info", "none", "the clocks are held down no more after 10 s: sw_power_cap"),
        ("throttle_start", "warn", "none", "the clocks are held down: hw_thermal_slowdown"),
        ("throttle_end", "info", "none", "the clocks are held down no more after 0 s: hw_thermal_slowdown"),
    ]
    assert told(story(on, on)) == []  # so it was when the agent started


def test_a_gpu_that_does_not_tell_its_reasons_ends_no_episode() -> None:
    on = replace(BUSY, throttle={"sw_power_cap": True})

    snapshots = story(replace(BUSY, throttle={}), on, *[replace(BUSY, throttle=None)] * 20, on)

    assert [kind for kind, *_ in told(snapshots)] == ["throttle_start"]


def test_every_xid_says_what_to_do_and_one_that_is_not_known_is_for_the_vendor() -> None:
    assert {one.remedy for one in XIDS.values()} <= set(REMEDIES)
    assert all(one.said and one.severity in ("info", "warn", "error", "fatal") for one in XIDS.values())
    assert (explained(79).severity, explained(79).remedy) == ("fatal", "restart_host")
    assert (explained(31).remedy, explained(95).remedy) == ("restart_application", "reset_gpu")
    assert (explained(9999).severity, explained(9999).remedy) == ("error", "contact_vendor")


def test_a_gpu_that_reports_without_end_is_told_of_as_often_as_there_is_room(machine: Machine) -> None:
    """What does not fit is counted."""
    flood = SINGLE + "".join(f"event.{number}=0:8:31\n" for number in range(1, 401))

    outcomes = machine.read(SINGLE, SINGLE, flood, flood, pause_s=1.0, whole=True)

    snapshots = [snapshot_of(outcome) for outcome in outcomes]
    assert sum(len(one.happened) for one in snapshots) + snapshots[-1].events_lost == 400
    assert snapshots[-1].events_lost >= 400 - 2 * 256
