"""What happened to containers, as events: one name a kind of happening, the container and its labels as attributes. No I/O."""

from collections.abc import Iterator

from otel_agent.catalogue import Attributes, Event, Severity
from otel_agent.sources.containers.identity import split_image
from otel_agent.sources.containers.snapshot import ContainerEvent, ContainersSnapshot

NAMES = {
    "create": "otel_llm.container.create",
    "start": "otel_llm.container.start",
    "exit": "otel_llm.container.exit",
    "oom": "otel_llm.container.oom",
    "health": "otel_llm.container.health",
    "restart_loop": "otel_llm.container.restart_loop",
    "remove": "otel_llm.container.remove",
}


def events(snapshot: ContainersSnapshot) -> Iterator[Event]:
    """Yield what happened since the snapshot before."""
    for one in snapshot.happened:
        yield Event(NAMES[one.what], one.time_s, _severity(one), _said(one), _attributes(one))


def _severity(one: ContainerEvent) -> Severity:
    if one.what in ("oom", "restart_loop"):
        return "error"
    if one.what == "exit":
        if one.exit_code in (0, None) or one.asked_for:
            return "info"
        return "error"
    return "warn" if one.health == "unhealthy" else "info"


def _said(one: ContainerEvent) -> str:
    name = one.identity.name
    if one.what == "exit":
        code = "" if one.exit_code is None else f" with code {one.exit_code}"
        return f"container {name} exited{code}" + (", as it was told to" if one.asked_for else "")
    if one.what == "oom":
        return f"container {name} ran out of memory"
    if one.what == "health":
        return f"container {name} is {one.health}"
    if one.what == "restart_loop":
        return f"container {name} restarts in a loop: {one.restarts} exits within minutes"
    past = {"create": "was created", "start": "started", "remove": "was removed"}
    return f"container {name} {past[one.what]}"


def _attributes(one: ContainerEvent) -> Attributes:
    image, tag = split_image(one.identity.image)
    found: dict[str, str | int | bool | None] = {
        "container.id": one.identity.id,
        "container.name": one.identity.name,
        "container.image.name": image or None,
        "otel_llm.container.image.tag": tag,
        "otel_llm.container.exit.code": one.exit_code,
        "otel_llm.container.exit.ordered": one.asked_for if one.what == "exit" else None,
        "otel_llm.container.oom_killed": one.identity.oom_killed if one.what == "exit" else None,
        "otel_llm.container.health": one.health,
        "otel_llm.container.restart.count": one.identity.restart_count if one.what == "restart_loop" else None,
        "otel_llm.container.log.tail": one.tail,
        "otel_llm.event.unheard": True if one.unheard else None,
        **{f"container.label.{key}": value for key, value in one.identity.labels},
    }
    return {key: value for key, value in found.items() if value is not None}
