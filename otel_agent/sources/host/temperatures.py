"""Temperature sensors, from hwmon, and from thermal zones where the machine has no hwmon sensor.

Sensors of single cores are left out: the package's own tells their highest. A sensor may sit behind a slow bus, so all are read beside
the reader.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otel_agent.sources.host.aside import Aside
from otel_agent.sources.host.files import entries, link_target, read_number, read_text
from otel_agent.sources.host.snapshot import Temperature

MOST = 32  # sensors read
_FIND_AGAIN_S = 60.0
_INPUT = re.compile(r"(temp\d+)_input\Z")
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "x86_pkg_temp"), "cpu"),
    **dict.fromkeys(("nvme", "drivetemp"), "physical_disk"),
    **dict.fromkeys(("jc42", "spd5118"), "memory"),
}
_ABSOLUTE_ZERO = -273_150  # the kernel's mark for "no value" lies below


@dataclass(frozen=True)
class Sensor:
    """Where one sensor is read, and who it is."""

    path: str
    id: str
    chip: str
    location: str


def find_sensors(sys: str) -> tuple[Sensor, ...]:
    """Return the sensors that this machine has."""
    return (_hwmon(sys) or _zones(sys))[:MOST]


def _hwmon(sys: str) -> tuple[Sensor, ...]:
    found = []
    for name in entries(f"{sys}/class/hwmon"):
        folder = f"{sys}/class/hwmon/{name}"
        chip = read_text(f"{folder}/name") or name
        parent = _parent(link_target(folder) or name)
        for match in filter(None, map(_INPUT.match, entries(folder))):
            label = read_text(f"{folder}/{match[1]}_label") or match[1]
            if not (chip == "coretemp" and label.startswith("Core ")):
                found.append(Sensor(f"{folder}/{match[0]}", f"{parent}/{match[1]}", chip, label))
    return tuple(found)


def _parent(target: str) -> str:
    """Return the device a hwmon folder belongs to: its own number changes from boot to boot."""
    parts = [part for part in target.split("/") if part != "hwmon"]
    return parts[-2] if len(parts) > 1 else parts[-1]


def _zones(sys: str) -> tuple[Sensor, ...]:
    folder = f"{sys}/class/thermal"
    zones = [name for name in entries(folder) if name.startswith("thermal_zone")]
    return tuple(
        Sensor(f"{folder}/{name}/temp", name, kind := read_text(f"{folder}/{name}/type") or name, kind)
        for name in zones
    )


class Temperatures:
    """Reads the sensors, and looks for new ones once a minute."""

    def __init__(self, sys: str, clock: Callable[[], float], deadline_s: float = 0.5) -> None:
        self._sys = sys
        self._clock = clock
        self._aside: Aside[tuple[Temperature, ...]] = Aside(deadline_s)
        self._sensors: tuple[Sensor, ...] = ()
        self._find_at: float | None = None

    def read(self) -> tuple[Temperature, ...]:
        """Return the temperatures; none of a sensor that cannot be read, and none at all while one is stuck."""
        if self._find_at is None or self._clock() >= self._find_at:
            self._sensors = find_sensors(self._sys)
            self._find_at = self._clock() + _FIND_AGAIN_S
        if not self._sensors:
            return ()
        return self._aside.ask({"temperatures": lambda: _read(self._sensors)}).get("temperatures", ())


def _read(sensors: tuple[Sensor, ...]) -> tuple[Temperature, ...]:
    values = ((sensor, read_number(sensor.path)) for sensor in sensors)
    return tuple(
        Temperature(sensor.id, sensor.chip, sensor.location, _TYPES.get(sensor.chip, "temperature"), value / 1000)
        for sensor, value in values
        if value is not None and value > _ABSOLUTE_ZERO
    )
