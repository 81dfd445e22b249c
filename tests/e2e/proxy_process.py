"""The LiteLLM proxy as users start it, `opentelemetry-instrument -- litellm --config …`, in an environment of its own.

The environment is installed by tests/e2e/proxy/uv.lock, this checkout in it, and kept where the other real servers are
(${XDG_CACHE_HOME:-~/.cache}/otel-llm).
"""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from processes import ENVIRONMENT
from waiting import until

HERE = Path(__file__).parent / "proxy"
ROOT = Path(__file__).resolve().parents[2]
INSTALL_S = 900.0
START_S = 180.0  # a cold start of the proxy imports for half a minute on two cores
STOP_S = 30.0


def environment() -> Path:
    """Return the folder of the environment's programs, brought to the state of the lock: a second where it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-llm"
    name = f"litellm-proxy-{hashlib.sha256(f'{ROOT}|{sys.version}'.encode()).hexdigest()[:12]}"  # it points to this checkout
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be at it
        subprocess.run(
            [
                Path(sys.executable).with_name("uv"),
                "sync",
                "--quiet",
                "--frozen",
                "--project",
                HERE,
                "--python",
                sys.executable,
            ],
            env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(cache / name)},
            check=True,
            timeout=INSTALL_S,
        )
    return cache / name / "bin"


def _configuration(upstream: str, litellm_settings: Mapping[str, Any]) -> dict[str, Any]:
    def deployment(name: str, model: str) -> dict[str, Any]:
        target = {"model": f"hosted_vllm/{model}", "api_base": upstream, "api_key": "none", "max_retries": 0}
        return {"model_name": name, "litellm_params": target}

    return {
        "model_list": [deployment("tiny", "plain"), deployment("broken", "error500")],
        "general_settings": {"master_key": "sk-master", "custom_auth": "auth.check"},
        "router_settings": {"num_retries": 0},
        "litellm_settings": dict(litellm_settings),
    }


@contextmanager
def proxy(folder: Path, upstream: str, litellm_settings: Mapping[str, Any], **environ: str) -> Iterator[str]:
    """Run the proxy in front of one engine for the length of a `with` block; gives its base URL."""
    programs = environment()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "auth.py", folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(upstream, litellm_settings)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base, log = f"http://127.0.0.1:{port}", folder / "proxy.log"
    command = [programs / "opentelemetry-instrument", "--", programs / "litellm"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", port],
            cwd=folder,
            env={**ENVIRONMENT, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONUNBUFFERED": "1", **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def is_ready() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()[-4000:]}"
        try:
            with urllib.request.urlopen(f"{base}/health/liveliness", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    try:
        until(is_ready, "the proxy", START_S)
        yield base
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
