"""What does not fit between declaration and use: told once it lasted, as a series and as events, and told to be over."""

from pathlib import Path

from agent.derived.machines import GB, NOW, container, containers, device_request, gpus, process, processes, using

from otel_agent.catalogue import values
from otel_agent.derived.metrics import METRICS, MISMATCH, MISMATCH_OVER, events
from otel_agent.derived.mismatch import KINDS, LOST_S, SETTLE_S, Remembered, Verdict, judge
from otel_agent.derived.placement import place
from otel_agent.derived.read import PlacementSnapshot
from otel_agent.sources.containers.events import NAMES
from otel_agent.sources.containers.identity import GpuClaim
from otel_agent.sources.containers.snapshot import Container, Usage
from otel_agent.sources.gpu.snapshot import GpuProcess
from otel_agent.sources.processes.snapshot import Process

IDLE_S = 600.0


class Watched:
    """The fold over one machine as time passes."""

    def __init__(self) -> None:
        self.remembered = Remembered()
        self.at_s = NOW

    def after(
        self,
        seconds: float,
        on_gpus: dict[int, tuple[GpuProcess, ...]],
        running: tuple[Container, ...] = (),
        seen: tuple[Process, ...] = (),
        *,
        failed: tuple[int, ...] = (),
        asked: tuple[int, ...] = (),
        host_view: bool = True,
    ) -> Verdict:
        self.at_s += seconds
        snapshot = gpus(on_gpus, at_s=self.at_s, failed=failed)
        places = place(snapshot, containers(*running), processes(*seen, asked=asked, host_view=host_view))
        verdict, self.remembered = judge(self.remembered, places, IDLE_S)
        self.last = PlacementSnapshot(places, verdict.now, verdict.begun, verdict.over)
        return verdict


def test_declared_gpus_that_nobody_uses_are_told_after_a_while_and_until_somebody_does() -> None:
    watched, vllm = Watched(), container("vllm", device_request("0"))
    assert watched.after(0, {}, (vllm,)).now == ()
    assert watched.after(IDLE_S - 1, {}, (vllm,)).now == ()
    verdict = watched.after(1, {}, (vllm,))
    assert [(one.kind, one.said) for one in verdict.begun] == [
        ("declared_idle", "container vllm was given GPUs and uses none")
    ]
    assert watched.after(5, {}, (vllm,)).begun == (), "told once"
    over = watched.after(5, {0: using(501)}, (vllm,), (process(501, "vllm"),))
    assert ([one.kind for one in over.over], over.now) == (["declared_idle"], ())


def test_who_is_paused_or_was_given_all_by_its_image_or_cannot_be_seen_is_not_called_idle() -> None:
    for idle in (
        container("paused", device_request("0"), state="paused"),
        container("base", claim=GpuClaim(True, every=True, weak=True)),
        container("none"),
    ):
        watched = Watched()
        watched.after(0, {}, (idle,))
        assert watched.after(2 * IDLE_S, {}, (idle,)).now == ()
    watched, vllm = Watched(), container("vllm", device_request("0"))
    watched.after(0, {}, (vllm,), host_view=False)
    assert watched.after(2 * IDLE_S, {}, (vllm,), host_view=False).now == ()


def test_a_container_on_a_gpu_it_was_not_given() -> None:
    watched, web = Watched(), container("web")
    other = container("vllm", device_request("1"))
    seen = (process(501, "web"), process(502, "vllm"))
    watched.after(0, {0: using(501), 2: using(502)}, (web, other), seen)
    verdict = watched.after(SETTLE_S, {0: using(501), 2: using(502)}, (web, other), seen)
    assert [one.said for one in verdict.begun if one.kind == "undeclared"] == [
        "container web uses GPU 0, which it was not given",
        "container vllm uses GPU 2, which it was not given",
    ]


def test_a_privileged_container_has_no_declaration_to_break() -> None:
    watched, free = Watched(), container("free", {"Privileged": True})
    watched.after(0, {0: using(501)}, (free,), (process(501, "free"),))
    assert watched.after(SETTLE_S, {0: using(501)}, (free,), (process(501, "free"),)).now == ()


def test_memory_of_a_process_that_has_ended() -> None:
    """Gone, or a zombie whose parent does not look; one that ends between two readings is ordinary."""
    watched, zombie = Watched(), process(502, state="Z")
    held = {0: using(501, memory=3 * GB), 1: using(502)}
    assert watched.after(0, held, (), (zombie,), asked=(501,)).now == ()
    verdict = watched.after(SETTLE_S, held, (), (zombie,), asked=(501,))
    assert [(one.kind, one.index, one.pid, one.memory_bytes) for one in verdict.begun] == [
        ("ended_process", 0, 501, 3 * GB),
        ("ended_process", 1, 502, GB),
    ]
    [row] = [row for row in METRICS if row.name == "otel_llm.placement.mismatch"]
    assert [value for value, _ in values(row, watched.last)] == [1, 1]
    assert [(one.name, one.severity, one.said) for one in events(watched.last)] == [
        (row.name, "warn", "process 501 has ended and still holds memory of GPU 0"),
        (row.name, "warn", "process 502 has ended and still holds memory of GPU 1"),
    ]
    watched.after(5, {}, ())
    assert [(one.name, one.said) for one in events(watched.last)] == [
        ("otel_llm.placement.mismatch_over", "no longer: process 501 has ended and still holds memory of GPU 0"),
        ("otel_llm.placement.mismatch_over", "no longer: process 502 has ended and still holds memory of GPU 1"),
    ]


def test_a_pid_that_was_not_looked_for_yet_has_not_ended() -> None:
    """The GPUs are read a moment before or after the processes."""
    watched = Watched()
    watched.after(0, {0: using(501)})
    assert watched.after(SETTLE_S, {0: using(501)}).now == ()


def test_two_on_one_gpu_but_not_the_server_of_mps_nor_two_workers_of_one() -> None:
    watched = Watched()
    one, two = container("one", device_request("0")), container("two", device_request("0"))
    server = process(400, name="nvidia-cuda-mps")
    seen = (process(501, "one"), process(502, "one"), process(503, "two"), server)
    for seconds in (0, SETTLE_S):
        verdict = watched.after(seconds, {0: using(501, 502, 400)}, (one,), seen)
    assert verdict.now == ()
    for seconds in (0, SETTLE_S):
        verdict = watched.after(seconds, {0: using(501, 502, 503)}, (one, two), seen)
    assert [(found.kind, found.said) for found in verdict.now] == [
        ("shared", "GPU 0 is used by 2 at once: container one, container two")
    ]


def test_a_container_that_lost_its_gpus() -> None:
    """Kept from the devices (cgroup v1 tells), on a GPU that failed, or without the processes that it had in this run."""
    denied = container("denied", device_request("0"), usage=Usage(devices_denied=True))
    failed = container("failed", device_request("1"))
    left = container("left", device_request("2"))
    running, watched = (denied, failed, left), Watched()
    watched.after(0, {2: using(501)}, running, (process(501, "left"),), failed=(1,))
    watched.after(SETTLE_S, {}, running, failed=(1,))
    verdict = watched.after(LOST_S, {}, running, failed=(1,))
    assert sorted(one.said for one in verdict.now if one.kind == "lost_gpus") == [
        "container denied was given GPUs and is kept from their devices: systemctl daemon-reload does that; restart it",
        "container failed was given GPU 1, which has failed",
        "container left has no process on its GPUs any more",
    ]
    fresh = container("left", device_request("2"), started_s=NOW + 1)
    verdict = watched.after(LOST_S, {}, (fresh,))
    assert [one.kind for one in verdict.now] == [], "a new run begins anew"


def test_nothing_is_kept_of_what_is_gone() -> None:
    watched = Watched()
    for number in range(2000):
        name = f"c{number}"
        watched.after(1, {0: using(number)}, (container(name, device_request("0")),), (process(number, name),))
    assert (len(watched.remembered.since), len(watched.remembered.used)) <= (2, 1)


def test_the_page_says_what_every_kind_and_every_event_means() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "containers.md").read_text()
    said = [*KINDS, MISMATCH, MISMATCH_OVER, *NAMES.values()]
    assert [name for name in said if f"`{name}`" not in page] == []
