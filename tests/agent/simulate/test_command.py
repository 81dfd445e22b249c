"""`otel-agent simulate` as a process: it says where it is, answers, ends when asked, and refuses what it cannot do in one line."""

import signal
import socket
import subprocess
import sys

import httpx
from processes import ENVIRONMENT

COMMAND = [sys.executable, "-m", "otel_agent", "simulate"]


def refused(*words):
    done = subprocess.run([*COMMAND, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr.splitlines()


def test_it_answers_where_it_says_and_ends_when_asked():
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--step", "0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as engine:
        try:
            url = engine.stdout.readline().strip()
            reply = httpx.post(
                f"{url}/v1/completions", json={"model": "stand-in", "prompt": "hello", "max_tokens": 3}, timeout=30
            ).json()
            engine.send_signal(signal.SIGTERM)
            engine.wait(timeout=30)
        finally:
            engine.kill()

    assert reply["usage"]["completion_tokens"] == 3
    assert engine.returncode in (0, -signal.SIGTERM)


def test_a_value_that_cannot_be_is_named():
    assert refused("--kv-blocks", "1") == (
        2,
        ["otel-agent cannot start: kv_blocks must hold max_model_len: at least 256"],
    )


def test_a_taken_port_is_named_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = refused("--port", str(port))

    assert status == 1
    assert told[0].startswith(f"otel-agent cannot start: port {port} on 127.0.0.1 cannot be listened on")
    assert told[1] == "  stop what uses it, or choose another port"
