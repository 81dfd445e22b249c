"""The wheel, as a stranger gets it: built, installed into an empty environment, loaded by the launcher."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

UV = Path(sys.executable).with_name("uv")
TOY = '''
"""A toy with LiteLLM's face: enough of its names for the instrumentation to take hold."""

import sys


class Message:
    content, role, tool_calls = "Paris.", "assistant", None


class Choice:
    index, finish_reason, message = 0, "stop", Message()


class Reply:
    id, model, choices, usage = "reply-1", "toy-1", [Choice()], None


def completion(model, messages=(), **options):
    return Reply()


async def acompletion(model, messages=(), **options):
    return Reply()


class Completions:
    def create(self, *args, **options):
        return completion(*args, **options)


class AsyncCompletions:
    async def create(self, *args, **options):
        return await acompletion(*args, **options)


class CustomStreamWrapper:
    def __next__(self):
        raise StopIteration

    async def __anext__(self):
        raise StopAsyncIteration

    def close(self):
        pass

    async def aclose(self):
        pass


provider_list, custom_provider_map, model_cost, main = ["openai"], [], {}, sys.modules[__name__]
'''
PROGRAM = "import litellm; print(litellm.completion(model='openai/toy', messages=[{'role': 'user', 'content': 'Capital?'}]).id)"


def run(*command, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    done = subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def built(root, tmp_path_factory):
    """The wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", folder, root)
    [wheel] = folder.glob("*.whl")
    [archive] = folder.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    """An environment with nothing but the wheel, its extra `auto` and the toy."""
    folder = tmp_path_factory.mktemp("environment")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, f"{built[0]}[auto]")
    [site] = folder.glob("lib/python*/site-packages")
    (site / "litellm").mkdir()
    (site / "litellm" / "__init__.py").write_text(TOY)
    (site / "litellm-1.109.1.dist-info").mkdir()
    (site / "litellm-1.109.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: litellm\nVersion: 1.109.1\n"
    )
    return folder / "bin"


def test_the_wheel_carries_both_packages_the_page_and_no_sources_of_it(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())

    assert {"otel_agent/py.typed", "otel_llm/py.typed", "otel_agent/console/dist/index.html"} <= names
    assert not [name for name in names if "node_modules" in name or "/web/" in name or name.startswith("tests/")]


def test_the_source_archive_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "again", folder)
    [again] = (tmp_path / "again").glob("*.whl")

    with zipfile.ZipFile(again) as second, zipfile.ZipFile(built[0]) as first:
        assert sorted(second.namelist()) == sorted(first.namelist())


def test_the_launcher_loads_the_instrumentation_and_a_call_is_one_span(installed):
    done = run(
        installed / "opentelemetry-instrument",
        installed / "python",
        "-c",
        PROGRAM,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert done.stdout.startswith("reply-1\n")
    assert done.stdout.count('"trace_id"') == 1
    assert '"name": "chat toy"' in done.stdout
    assert "Traceback" not in done.stderr


def test_a_process_without_litellm_pays_nothing(installed):
    code = "import sys; print([name for name in ('litellm', 'vllm', 'psutil', 'otel_agent') if name in sys.modules])"
    done = run(
        installed / "opentelemetry-instrument",
        installed / "python",
        "-c",
        code,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert done.stdout.strip() == "[]"


def test_the_agent_without_its_extra_says_what_to_install(installed):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    done = subprocess.run(
        [installed / "otel-agent", "up"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "pip install 'otel-llm[local]'" in done.stderr
    assert "Traceback" not in done.stderr
