"""What the engine says about one container: its answers to list and inspect, turned into one frozen record. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Status = Literal["running", "stopped", "restarting"]
_GPU_DRIVERS = ("", "nvidia", "nvidia.cdi", "nvidia.runtime-hook", "cdi")


@dataclass(frozen=True)
class GpuClaim:
    """The GPUs a container was declared to get; what it uses in fact, only the driver can tell.

    `enabled` is None where the declaration leaves it open. `indices` is None where the declaration does not tell them: `every` GPU
    was asked for, or `ids` name them by UUID or in another way.
    """

    enabled: bool | None = None
    every: bool = False
    indices: tuple[int, ...] | None = None
    ids: tuple[str, ...] = ()


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

    @property
    def status(self) -> Status:
        """Return the state in three words; a paused container counts as running, as it does in the engine's own `State.Running`."""
        if self.state == "restarting":
            return "restarting"
        return "running" if self.state in ("running", "paused") else "stopped"


def from_list(entry: object) -> Identity | None:
    """Return what one entry of the list tells; None where it has no id."""
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
    )


def from_inspect(answer: object, listed: Identity) -> Identity:
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
    if host_told.get("Runtime", str) == "nvidia":
        texts = [text for text in config_told.get("Env", list) or () if isinstance(text, str)]
        visible = dict(text.split("=", 1) for text in texts if "=" in text).get("NVIDIA_VISIBLE_DEVICES", "")
        return GpuClaim(enabled=False, indices=()) if visible in ("", "none", "void") else _named(visible.split(","))
    nodes = (_Told(device).get("PathOnHost", str) or "" for device in host_told.get("Devices", list) or ())
    if any(re.fullmatch(r"/dev/(nvidia\d+|dri|dri/renderD\d+|kfd)", node) for node in nodes):
        return GpuClaim(enabled=True)
    if not host or host_told.get("Privileged", bool):
        return (
            GpuClaim()
        )  # a privileged container sees every device node of the host; whether it uses one is not declared
    return GpuClaim(enabled=False, indices=())


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
