"""The driver's own samples, in whatever order it hands them out."""

import pytest
from pynvml import NVML_VALUE_TYPE_UNSIGNED_INT

from otel_agent.sources.gpu.samples import Sampled


class Driver:
    """Answers for power alone, with the samples it is given: (microseconds, milliwatts)."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int]] = []

    def call(self, name, handle, number, since, kind, count, room, *, key) -> bool:
        if number != 0:
            return False
        kind._obj.value, count._obj.value = NVML_VALUE_TYPE_UNSIGNED_INT, len(self.samples)
        said = b"".join(part.to_bytes(8, "little") for sample in self.samples for part in sample)
        room[: len(said)] = said
        return True

    handle = None


def test_a_sample_counts_once_though_it_comes_out_of_order():
    driver, sampled = Driver(), Sampled()
    driver.samples = [(30, 700_000), (10, 100_000), (20, 200_000)]
    assert sampled.read(driver) is None  # what was before the first reading is not its own

    driver.samples = [(40, 400_000), (30, 700_000), (50, 300_000), (20, 200_000)]
    power = sampled.read(driver)["power"]

    assert (power.min, power.max) == pytest.approx((300, 400))
    assert power.mean == pytest.approx(350)
