import pytest
from agent.simulate.serving import standing_in


@pytest.fixture(scope="module")
def quick():
    """A stand-in that answers as fast as it can."""
    with standing_in() as server:
        yield server
