"""How long until the page has live data: `make run` in a fresh clone, set-up included, and again once it is set up.

The clone is made from this repository's last commit into a temporary folder; package downloads count, so the first figure depends on
the network and on what package caches hold. "Live" is the first answer of /api/v1/system with a memory reading in it.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 300


def live(folder, data):
    """Return the seconds from the command to live data."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "VIRTUAL_ENV"))}
    ports = {
        "OTEL_LLM_PORT": "0",
        "OTEL_LLM_OTLP_GRPC_PORT": "0",
        "OTEL_LLM_OTLP_HTTP_PORT": "0",
        "OTEL_LLM_DATA_DIR": data,
    }
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", "--no-print-directory", "run"],
        cwd=folder,
        env={**environment, **ports},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line):
                return _first_reading(int(found[1]), found[2], began)
        raise SystemExit("`make run` ended before it said where the page is")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


def _first_reading(port, token, began):
    while time.monotonic() - began < DEADLINE_S:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/api/v1/system", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        if answer.status == 200 and body and body["memory_used_bytes"] is not None:  # null before the first reading
            return time.monotonic() - began
        time.sleep(0.05)
    raise SystemExit(f"no live data within {DEADLINE_S} s")


def main():
    """Print one row for each start."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        print("| `make run` | live data after |\n| --- | --- |")
        print(f"| in a fresh clone, set-up included | {live(clone, f'{folder}/first'):.1f} s |", flush=True)
        again = sorted(live(clone, f"{folder}/again{number}") for number in range(3))
        print(f"| once set up, median of 3 | {again[1]:.1f} s |")


if __name__ == "__main__":
    main()
