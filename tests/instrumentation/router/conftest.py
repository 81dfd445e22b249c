"""One server that says what is left of a rate limit, and a Router asked in both of its ways."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from instrumentation.router.routes import Asker
from instrumentation.router_server import RouterServer, serve_router


@pytest.fixture(scope="module")
def limited() -> Iterator[RouterServer]:
    """The server of these tests; its replies say what is left of a rate limit."""
    with serve_router() as running:
        yield running


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "LiteLLM Router")  # it logs tracebacks of failures that these tests make


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType) -> Iterator[Asker]:
    asker = Asker(litellm, is_async=request.param == "async")
    yield asker
    asker.finish()
