"""What the engine says about one container: its answers to list and inspect, turned into one frozen record. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Status = Literal["running", "stopped", "restarting"]
Health = Literal["starting", "healthy", "unhealthy"]
HEALTHS: tuple[Health, ...] = ("starting", "healthy", "unhealthy")
MODEL_LABEL = "otel-llm.model"  # names the model that a container serves, where its command line does not
COMMAND_WORDS, WORD_LENGTH = 128, 512  # of a command line, what is kept
_LABEL_LENGTH = 256
_GPU_DRIVERS = ("", "nvidia", "nvidia.cdi", "nvidia.runtime-hook", "cdi")


@dataclass(frozen=True)
class GpuClaim:
    """The GPUs a container was declared to get; what it uses in fact, only the driver can tell.

    `enabled` is None where the declaration leaves it open. `indices` is None where the declaration does not tell them: `every` GPU
    was asked for, or `ids` name them by UUID or in another way, or `minors` by the number of their device node.
    """

    enabled: bool | None = None
    every: bool = False
    indices: tuple[int, ...] | None = None
    ids: tuple[str, ...] = ()
    minors: tuple[int, ...] = ()
    weak: bool = False  # an environment that the image may have brought along


@dataclass(frozen=True)
class Identity:
    """Who a container is. Times are seconds since the epoch; None is what the engine did not tell."""

    id: str
    name: str
    image: str  # with its tag, or as the engine names an image without one
    state: str  # the engine's word: created, running, paused, restarting, removing, exited, dead
    created_s: float | None = None
    started_s: float | None = None  # of the present run; None while it does not run
    restart_count: int | None = None  # restarts by the restart policy
    exit_code: int | None = None  # None while it runs, and before its first run
    pid: int | None = None  # as the host counts
    own_network: bool | None = None  # False: it shares the host's or another container's
    gpu: GpuClaim = GpuClaim()
    health: Health | None = None  # None without a health check
    oom_killed: bool | None = None  # of its last run: whether the kernel ended a process of it for want of memory
    finished_s: float | None = None  # when the last run that is over ended; None before its first run
    labels: tuple[tuple[str, str], ...] = ()  # those on the allow-list
    memory_limit_bytes: int | None = None  # as declared; None also where no limit is
    model_label: str | None = None
    cuda_visible: str | None = None  # CUDA_VISIBLE_DEVICES as the container was given it
    command: tuple[str, ...] = field(default=(), repr=False)  # may hold secrets: looked through, never published
    # The attributes of its series by what tells them apart, made once and never changed; they go when it changes or goes.
    series: dict[tuple[str, ...], Mapping[str, str | int | bool]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def status(self) -> Status:
        """Return the state in three words; a paused container counts as running, as it does in the engine's own `State.Running`."""
        if self.state == "restarting":
            return "restarting"
        return "running" if self.state in ("running", "paused") else "stopped"


def from_list(entry: object, labels: Sequence[str] = ()) -> Identity | None:
    """Return what one entry of the list tells; None where it has no id. `labels` are patterns of those to keep."""
    told = _Told(entry)
    if not (found := told.get("Id", str)):
        return None
    # A linked container is listed under its aliases too, like /web/db.
    names = [name.lstrip("/") for name in told.get("Names", list) or () if isinstance(name, str)]
    name = next((name for name in names if "/" not in name), found[:12])
    return Identity(
        found,
        name,
        with_tag(told.get("Image", str) or ""),
        told.get("State", str) or "",
        created_s=told.get("Created", int),
        health=_health(told.part("Health").get("Status", str)) or _health_in(told.get("Status", str) or ""),
        labels=_chosen(told.part("Labels").facts, labels),
        model_label=told.part("Labels").get(MODEL_LABEL, str),
    )


def from_inspect(answer: object, listed: Identity, labels: Sequence[str] = ()) -> Identity:
    """Return what an inspection tells; `listed` stands in for what is missing in it."""
    told = _Told(answer)
    state, host, config = told.part("State"), told.part("HostConfig"), told.part("Config")
    status = state.get("Status", str) or listed.state
    alive = status in ("running", "paused")
    mode = host.get("NetworkMode", str)
    return replace(
        listed,
        name=(told.get("Name", str) or listed.name).lstrip("/"),
        image=with_tag(config.get("Image", str) or listed.image),
        state=status,
        created_s=_epoch(told.get("Created", str)) or listed.created_s,
        started_s=_epoch(state.get("StartedAt", str)) if alive else None,
        restart_count=told.get("RestartCount", int),
        exit_code=None if alive or status == "created" else state.get("ExitCode", int),
        pid=(state.get("Pid", int) or None) if alive else None,
        own_network=None if mode is None else mode != "host" and not mode.startswith("container:"),
        gpu=gpu_claim(host.facts, config.facts),
        health=_health(state.part("Health").get("Status", str)) if alive else None,
        oom_killed=state.get("OOMKilled", bool),
        finished_s=_epoch(state.get("FinishedAt", str)),
        labels=_chosen(config.part("Labels").facts, labels) or listed.labels,
        model_label=config.part("Labels").get(MODEL_LABEL, str) or listed.model_label,
        memory_limit_bytes=host.get("Memory", int) or None,
        cuda_visible=_environ(config).get("CUDA_VISIBLE_DEVICES"),
        command=_command(told, config),
    )


def _command(told: "_Told", config: "_Told") -> tuple[str, ...]:
    """Return what was started: path and arguments as the engine resolved them, else entry point and command."""
    if path := told.get("Path", str):
        words = [path, *(told.get("Args", list) or ())]
    else:
        words = [*(config.get("Entrypoint", list) or ()), *(config.get("Cmd", list) or ())]
    return tuple(word[:WORD_LENGTH] for word in words[:COMMAND_WORDS] if isinstance(word, str))


def _environ(config: "_Told") -> dict[str, str]:
    texts = (text for text in config.get("Env", list) or () if isinstance(text, str))
    return dict(text.split("=", 1) for text in texts if "=" in text)


def _health(told: str | None) -> Health | None:
    return next((health for health in HEALTHS if health == told), None)


def _health_in(status: str) -> Health | None:
    """Read `Up 5 minutes (healthy)` and `Up 2 seconds (health: starting)`: before API 1.52 the list tells health in no other way."""
    found = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)\Z", status)
    return _health(found[1]) if found else None


def _chosen(labels: Mapping[str, Any], patterns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value[:_LABEL_LENGTH])
        for name, value in sorted(labels.items())
        if isinstance(value, str) and any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def gpu_claim(host: Mapping[str, Any], config: Mapping[str, Any]) -> GpuClaim:
    """Return the GPUs declared by HostConfig and Config of an inspection.

    Device requests first (`--gpus`, compose, CDI). Else the nvidia runtime with NVIDIA_VISIBLE_DEVICES, which means nothing
    without that runtime: every CUDA image carries `all`. Else device nodes, whose minor numbers are not GPU indices.
    """
    host_told, config_told = _Told(host), _Told(config)
    requests = [
        r for r in (_Told(request) for request in host_told.get("DeviceRequests", list) or ()) if _asks_for_gpus(r)
    ]
    if requests:
        return _requested(requests)
    if mounted := _mounted(host_told):
        return _named(mounted)
    if host_told.get("Runtime", str) == "nvidia":
        visible = _environ(config_told).get("NVIDIA_VISIBLE_DEVICES", "")
        if visible in ("", "none", "void"):
            return GpuClaim(enabled=False, indices=())
        return replace(_named(visible.split(",")), weak=visible == "all")
    nodes = [_Told(device).get("PathOnHost", str) or "" for device in host_told.get("Devices", list) or ()]
    if any(re.fullmatch(r"/dev/(nvidia\d+|dri|dri/renderD\d+|kfd)", node) for node in nodes):
        minors = (re.fullmatch(r"/dev/nvidia(\d+)", node) for node in nodes)
        return GpuClaim(enabled=True, minors=tuple(int(found[1]) for found in minors if found))
    if not host or host_told.get("Privileged", bool):
        return (
            GpuClaim()
        )  # a privileged container sees every device node of the host; whether it uses one is not declared
    return GpuClaim(enabled=False, indices=())


def _mounted(host: "_Told") -> list[str]:
    """Return the GPUs named by the files that are mounted below the folder which NVIDIA's toolkit reads as a list of them."""
    mounts = [text.split(":") for text in host.get("Binds", list) or () if isinstance(text, str)]
    targets = [parts[1] for parts in mounts if len(parts) > 1]
    targets += [_Told(mount).get("Target", str) or "" for mount in host.get("Mounts", list) or ()]
    found = (re.fullmatch(r"/var/run/nvidia-container-devices/([^/]+)", target) for target in targets)
    return [match[1] for match in found if match]


def _asks_for_gpus(request: "_Told") -> bool:
    driver = request.get("Driver", str) or ""
    if driver == "cdi":
        return any("/gpu=" in str(name) for name in request.get("DeviceIDs", list) or ())
    return driver in _GPU_DRIVERS and any(
        "gpu" in group for group in request.get("Capabilities", list) or () if isinstance(group, list)
    )


def _requested(requests: "list[_Told]") -> GpuClaim:
    names: list[str] = []
    for request in requests:
        count = request.get("Count", int) or 0
        if chosen := [str(name) for name in request.get("DeviceIDs", list) or ()]:
            names += chosen
        else:  # a count takes the first ones, not any
            names += ["all"] if count < 0 else [str(index) for index in range(min(count, 64))]
    return _named(names) if names else GpuClaim(enabled=True)


def _named(names: list[str]) -> GpuClaim:
    bare = tuple(dict.fromkeys(name.strip().rpartition("/gpu=")[2] for name in names if name.strip()))
    if "all" in bare:
        return GpuClaim(enabled=True, every=True)
    if all(name.isdecimal() for name in bare):
        return GpuClaim(enabled=True, indices=tuple(int(name) for name in bare))
    return GpuClaim(enabled=True, ids=bare)


def with_tag(image: str) -> str:
    """Return an image reference with the tag that stands for none; ids and digests stay as they are."""
    if not image or "@" in image or image.startswith("sha256:") or re.fullmatch("[0-9a-f]{12,64}", image):
        return image
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def split_image(image: str) -> tuple[str, str | None]:
    """Return name and tag of an image reference; the tag is None where it has none."""
    if image.startswith("sha256:"):
        return image, None
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    return f"{head}{slash}{base}", tag if colon else None


def _epoch(text: str | None) -> float | None:
    """Return seconds since the epoch; None for Go's zero time, which stands for never."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.timestamp() if moment and moment.tzinfo and moment.year > 1 else None


class _Told:
    """A JSON object of unknown shape: members of the wrong type count as not told."""

    def __init__(self, facts: object) -> None:
        self.facts: dict[str, Any] = facts if isinstance(facts, dict) else {}

    def part(self, key: str) -> "_Told":
        return _Told(self.facts.get(key))

    def get(self, key: str, kind: type[T]) -> T | None:
        value = self.facts.get(key)
        return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else None
