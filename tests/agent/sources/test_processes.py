"""Processes: the busiest, the largest and all on a GPU, from a tree made here, and beside psutil on this machine."""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from agent.sources.scripted_engine import Clock

from otel_agent.catalogue import problems, values
from otel_agent.errors import ReadError, Unavailable
from otel_agent.sources.processes.metrics import METRICS
from otel_agent.sources.processes.read import ProcessReader, container_of, open_processes

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
BOOT_S = 1_795_000_000


class Machine:
    """A /proc that can be written."""

    def __init__(self, root: Path) -> None:
        self.root, self.proc = root, root / "proc"
        self.proc.mkdir()
        (self.proc / "stat").write_text(f"cpu  1 2 3 4\nbtime {BOOT_S}\n")

    def process(
        self,
        pid: int,
        *,
        name: str = "python3",
        state: str = "S",
        parent: int = 1,
        ticks: int = 0,
        pages: int = 1,
        start: int = 100,
        cgroup: str = "0::/\n",
        command: str = "",
    ) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        numbers = [str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 4, "3", "0", str(start), "4096", str(pages)]
        (folder / "stat").write_text(f"{pid} ({name}) {state} {' '.join(numbers)} 18446744073709551615 0 0\n")
        (folder / "cgroup").write_text(cgroup)
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode())

    def reader(self, top: int = 2, gpu: Iterable[int] = (), clock: Clock | None = None) -> ProcessReader:
        return open_processes(self.root, top, lambda: gpu, clock=clock or Clock(), wall=lambda: BOOT_S + 1000.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_rows_are_sound() -> None:
    assert problems(METRICS) == []


def test_the_largest_and_the_busiest_are_told_and_all_on_a_gpu(machine: Machine) -> None:
    clock = Clock()
    for pid in range(10, 20):
        machine.process(pid, pages=pid, ticks=0)
    reader = machine.reader(gpu=(12, 77), clock=clock)
    assert list(reader().processes) == [12, 18, 19], "nobody is busy yet"

    clock.now += 10
    machine.process(11, ticks=5 * TICKS)
    machine.process(13, ticks=9 * TICKS)
    machine.process(14, ticks=1 * TICKS)
    snapshot = reader()
    assert list(snapshot.processes) == [11, 12, 13, 18, 19]
    assert [snapshot.processes[pid].cpus for pid in (11, 13, 18)] == [0.5, 0.9, 0.0]
    assert snapshot.gpu_pids == {12, 77}, "77 was looked for and is not there"


def test_a_pid_that_was_given_again_is_another_process(machine: Machine) -> None:
    clock = Clock()
    machine.process(10, ticks=500)
    reader = machine.reader(clock=clock)
    reader()
    clock.now += 10
    machine.process(10, ticks=600, start=999)
    found = reader().processes[10]
    assert (found.cpus, found.started_s) == (None, BOOT_S + 999 / TICKS)


def test_the_points_of_one_process(machine: Machine) -> None:
    machine.process(10, name="VLLM::Worker (0)", ticks=TICKS, pages=7, cgroup=f"0::/docker/{ID}\n", parent=3)
    snapshot = machine.reader(gpu=(10,))()
    who = {"process.pid": 10, "otel_llm.process.name": "VLLM::Worker (0)"}
    assert {row.name: values(row, snapshot) for row in METRICS} == {
        "process.cpu.time": [(1.0, {**who, "cpu.mode": "user"}), (0.0, {**who, "cpu.mode": "system"})],
        "otel_llm.process.cpu.usage": [],
        "process.memory.usage": [(7 * PAGE, who)],
        "process.memory.virtual": [(4096, who)],
        "process.disk.io": [],
        "process.thread.count": [(3, who)],
        "process.unix.file_descriptor.count": [],
        "process.uptime": [(1000.0 - 100 / TICKS, who)],
        "otel_llm.process.info": [
            (1, {**who, "otel_llm.process.on_gpu": True, "process.parent_pid": 3, "container.id": ID})
        ],
    }


def test_a_process_on_a_gpu_comes_with_the_commands_that_started_it(machine: Machine) -> None:
    machine.process(1, command="/sbin/init")
    machine.process(5, command="vllm serve m/n")
    machine.process(6, parent=5, command="VLLM::EngineCore")
    machine.process(7, parent=6, command="VLLM::Worker")
    found = machine.reader(top=0, gpu=(7,))().processes
    assert [found[7].command, *found[7].parents] == [("VLLM::Worker",), ("VLLM::EngineCore",), ("vllm", "serve", "m/n")]


def test_what_ends_in_between_or_makes_no_sense_is_left_out(machine: Machine) -> None:
    machine.process(10)
    for pid, text in ((11, ""), (12, "12 (x"), (13, "13 (x) S a b c\n"), (14, "\xff")):
        machine.process(pid)
        (machine.proc / str(pid) / "stat").write_text(text)
    (machine.proc / "15").mkdir()
    (machine.proc / "self").mkdir()
    assert list(machine.reader()().processes) == [10]


def test_nothing_is_kept_of_processes_that_are_gone(machine: Machine) -> None:
    reader = machine.reader()
    for pid in range(1000, 1200):
        machine.process(pid)
        reader()
        (machine.proc / str(pid) / "stat").unlink()
    assert len(vars(reader)["_before"]) <= 1


def test_minor_numbers_come_from_the_driver(machine: Machine) -> None:
    folder = machine.proc / "driver/nvidia/gpus/0000:05:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H200\nDevice Minor: \t 3\n")
    machine.process(10)
    assert machine.reader(gpu=(10,))().gpu_minors == {"0000:05:00.0": 3}
    assert machine.reader()().gpu_minors == {}, "nobody needs them"


@pytest.mark.parametrize(
    "path",
    [
        f"0::/docker/{ID}",
        f"0::/docker/{ID}/init.scope",
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/../{ID}",
        f"0::/../docker-{ID}.scope",
        f"0::/../../docker/{ID}",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        f"12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n",
        f"0::/docker/{OTHER}/docker/{ID}",
        f"1:name=systemd:/kubepods.slice:cri-containerd:{ID}",
    ],
)
def test_the_container_is_found_in_every_shape_of_path(path: str) -> None:
    assert container_of(path.encode()) == ID


@pytest.mark.parametrize(
    "path", ["0::/", "0::/system.slice/ssh.service", f"0::/x{ID}", f"0::/{ID}0", f"0::/{ID[:63]}", ""]
)
def test_a_path_without_a_container_names_none(path: str) -> None:
    assert container_of(path.encode()) is None


def test_a_machine_without_proc_is_unavailable_and_one_that_loses_it_fails(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no .*/proc/stat"):
        open_processes(tmp_path)
    machine = Machine(tmp_path)
    reader = machine.reader()
    (machine.proc / "stat").unlink()
    machine.proc.rmdir()
    with pytest.raises(ReadError, match="cannot be listed"):
        reader()


def test_this_process_is_told_as_psutil_tells_it() -> None:
    mine = psutil.Process()
    found = open_processes(top=0, gpu_pids=lambda: (mine.pid,))().processes[mine.pid]
    assert (found.name, found.parent, found.threads) == (mine.name()[:15], mine.ppid(), mine.num_threads())
    assert found.started_s == pytest.approx(mine.create_time(), abs=1.5)
    assert found.memory_bytes == pytest.approx(mine.memory_info().rss, rel=0.05)
    assert found.user_s == pytest.approx(mine.cpu_times().user, abs=0.5)
    assert found.descriptors == pytest.approx(mine.num_fds(), abs=3)
    assert found.command == tuple(word[:512] for word in mine.cmdline() if word)
