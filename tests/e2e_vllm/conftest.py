"""The real vLLM for the tests of this folder: one offline engine and at most two servers for the whole run;
three files have engines of their own besides.

Run by `make e2e-vllm`, in the environment of scripts/vllm_environment.py; elsewhere, where no vLLM is installed, the folder
is left out. Every test here carries the marker `e2e_vllm`. What there is, all of it for the session and made at first use:

    model_dir        Path            the tiny random model (tests/e2e_vllm/model.py: 161 tokens, 8,192 tokens of context, each
                                     token a printable piece of text; `ignore_eos=True` makes lengths certain)
    offline          dict[str, Any]  the arguments for a frugal `vllm.LLM(**offline)` or `EngineArgs(**offline)` of one's own
    llm              vllm.LLM        an offline engine in this process with statistics on (its core is a process of its own)
    served           Served          `opentelemetry-instrument -- vllm serve`, per-request metrics on, OTLP to `served.sink`
    served_tracing   Served          the same with vLLM's own tracing (`--otlp-traces-endpoint`) beside it

`Served` (tests/e2e_vllm/serving.py) has `base`, `log`, `sink`, `page()`, `ask(path, **body)`, `spans(trace_id)`, `metrics()`.
Import what is shared as `from tests.e2e_vllm.serving import …`: the bare name `vllm` is the library's.
"""

import gc
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    importlib.metadata.version("vllm")
    collect_ignore_glob = []
except importlib.metadata.PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """What vLLM and torch warn of is theirs; it comes at import already, where a mark on a test is too late."""
    config.addinivalue_line("filterwarnings", "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e_vllm)


def pytest_sessionfinish() -> None:
    """Collect what vLLM left open, whose finalizers warn, before pytest does and takes the warning for a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if collect_ignore_glob:
        terminalreporter.write_line("left out: tests/e2e_vllm, since no vLLM is installed here (make e2e-vllm)")


@pytest.fixture(autouse=True)
def _level_of_the_root_logger() -> Iterator[None]:
    """Building vLLM's server sets it to ERROR for the process (its `model_hosting_container_standards` does)."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="session")
def model_dir() -> Path:
    from tests.e2e_vllm.model import model_folder

    return model_folder()


@pytest.fixture(scope="session")
def offline(model_dir: Path) -> dict[str, Any]:
    from tests.e2e_vllm.serving import FRUGAL, QUIET

    os.environ.update(
        QUIET
    )  # vLLM reads them when it is imported and when an engine starts, in this process and its own
    return {"model": str(model_dir), **FRUGAL}


@pytest.fixture(scope="session")
def llm(offline: dict[str, Any]) -> Iterator[Any]:
    import vllm

    engine = vllm.LLM(**offline, disable_log_stats=False)
    yield engine
    engine.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="session")
def served(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.e2e_vllm.serving import serve_watched

    with serve_watched(tmp_path_factory.mktemp("served"), model_dir, own_tracing=False) as running:
        yield running


@pytest.fixture(scope="session")
def served_tracing(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.e2e_vllm.serving import serve_watched

    with serve_watched(tmp_path_factory.mktemp("served-tracing"), model_dir, own_tracing=True) as running:
        yield running


@pytest.fixture(scope="module")
def config(offline: dict[str, Any]) -> Any:
    """The configuration of an engine that is not started, for the stat logger."""
    from tests.e2e_vllm.watched import configured

    return configured(offline)


@pytest.fixture
def faults() -> Iterator[list[tuple[str, Exception]]]:
    """What our guards catch: nothing, unless the test takes it out again."""
    from tests.e2e_vllm.watched import caught

    with caught() as found:
        yield found


@pytest.fixture
def watched(config: Any) -> Any:
    """A stat logger with that configuration, and what it records."""
    from tests.e2e_vllm.watched import watch

    return watch(config)
