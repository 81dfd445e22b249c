"""One LiteLLM, one OpenAI-style server, a recording SDK for each test; a fault of our own fails the test that has it."""

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from instrumentation.openai_server import OpenAIServer, serve
from instrumentation.recording import Recording, record

from otel_llm import fault

HERE = Path(__file__).parent
NOT_IN_THE_OLDEST = {
    # Part of a test's id: what is otherwise in the oldest LiteLLM supported.
    "sync-closed": "its streams have no close",
    "async-closed": "its streams have no aclose that ends them",
    "with_block": "its streams are no context managers",
    "[sync-exhausted_and_closed": "its streams have no close",
    "test_every_ending_ends_one_span_once[async-dropped": "it hides what arrived of a stream that broke",
    "test_a_coroutine_asked_for_by_a_flag": "its sync functions do not take the flag from outside",
    "test_the_sync_function_s_coroutine": "its sync functions do not take the flag from outside",
    "test_every_retry_of_a_call_names_the_call": "it makes no further attempt there",
    "async httpx stream-openai": "its cache is not filled by such a stream",
    "test_no_part_of_ours_can_break_a_call": "the parts are the same, and it takes minutes more",
}
_LEFT_OPEN = (
    "Exception ignored in. <(socket|function (_SelectorTransport|BaseEventLoop|ClientSession|BaseConnector|StreamWriter)"
    "|coroutine object (?!_follow|_async_wrapper))"  # these two are ours
)

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or LiteLLM asks the internet for prices when imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from importlib.metadata import version

    is_oldest = version("litellm").startswith("1.106.")
    for item in items:
        for part, reason in NOT_IN_THE_OLDEST.items() if is_oldest else ():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=f"LiteLLM 1.106: {reason}"))
    # LiteLLM does what its version of Pydantic warns about, at any time; raised inside it, a warning fails the call.
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:::(pydantic|litellm)"))
            # It leaves connections and event loops to the collector, which comes by in whichever test it likes.
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{_LEFT_OPEN}:pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="session")
def litellm() -> Iterator[ModuleType]:
    """The real LiteLLM, imported once: it takes seconds."""
    import litellm

    litellm.suppress_debug_info = True
    yield litellm
    gc.unfreeze()
    for thing in gc.get_objects():  # LiteLLM's synchronous fallbacks leave the event loop open that they ran on
        if isinstance(thing, asyncio.BaseEventLoop) and not thing.is_running():
            thing.close()
    with warnings.catch_warnings(action="ignore"):
        for _ in range(5):  # what is finalised may come back once
            gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _leave_litellm_as_it_was_to_other_modules(litellm: ModuleType) -> Iterator[None]:
    """LiteLLM keeps clients, and files what its Router is given in its list of prices."""
    listed = set(litellm.model_cost)
    gc.collect()
    gc.freeze()  # LiteLLM and all that is there by now stays: collecting after every test is quick without it
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    for model in set(litellm.model_cost) - listed:
        del litellm.model_cost[model]


@pytest.fixture(scope="session")
def server() -> Iterator[OpenAIServer]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def _collect_between_calls() -> Iterator[None]:
    """Collect after a test, not inside one of its requests.

    LiteLLM's sync streams are part of cycles. One that was left and is collected while httpcore holds the lock of its
    pool closes its connection there, and waits for that lock for ever.
    """
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture(autouse=True)
def _no_fault_of_ours() -> Iterator[None]:
    faults: list[tuple[str, Exception]] = []
    before = fault.set_on_fault(lambda place, error: faults.append((place, error)))
    yield
    fault.set_on_fault(before)
    assert faults == []


@pytest.fixture
def recording(litellm: ModuleType) -> Iterator[Recording]:  # noqa: ARG001 - imported first, as most applications do
    """Instrument LiteLLM with an SDK of this test's own."""
    with record() as recording:
        yield recording
