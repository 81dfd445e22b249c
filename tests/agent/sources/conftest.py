"""What the tests of sources share."""

from pathlib import Path

import pytest
from fixtures.nvml.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose NVIDIA driver is the stand-in."""
    return Machine(tmp_path)
