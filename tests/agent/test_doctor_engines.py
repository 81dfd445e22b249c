"""What `otel-agent doctor` says of vLLM servers and LiteLLM proxies: told by how they were started, with nothing secret shown."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import ENVIRONMENT
from waiting import until

from otel_agent.checks.servers import Server, read_servers, recognise
from otel_agent.checks.serving import findings

RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "servers"


def test_a_recorded_machine_is_told_server_by_server():
    """The engine of a server, a forked worker, Python's own helpers and other programs are none."""
    told = [(one.subject, one.verdict, one.said, one.remedy) for one in findings(RECORDED)]

    assert told == [
        (
            "vLLM, pid 410",
            "problem",
            "speaks grpc to http://collector:4318, by convention the port of http/protobuf",
            "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or the other port (4317 gRPC, 4318 HTTP)",
        ),
        (
            "vLLM, pid 410",
            "problem",
            "vLLM's own tracing speaks grpc to http://collector:4318, by convention the port of http/protobuf",
            "set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf, the only variable it reads for this (over HTTP the address ends in /v1/traces), or the other port",
        ),
        (
            "vLLM, pid 410",
            "note",
            "4 API servers: each has a part of the statistics; totals add up over them, gauges come from the first and may lag",
            "--api-server-count 1 where one keeps up",
        ),
        (
            "vLLM, pid 410",
            "note",
            "the last metrics are lost: vLLM kills its API servers at its end",
            "--shutdown-timeout 5",
        ),
        (
            "vLLM, pid 410",
            "note",
            "its replies carry no times: spans of LiteLLM's calls lack the engine's share",
            "--enable-per-request-metrics (not together with --disable-log-stats)",
        ),
        (
            "vLLM, pid 410",
            "note",
            "its telemetry does not lead to its GPUs, container and node",
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=otel_llm",
        ),
        (
            "LiteLLM proxy, pid 420",
            "problem",
            "no telemetry of this package, whose settings it has: not started under the launcher",
            "opentelemetry-instrument -- litellm --config ...",
        ),
    ]


def test_what_a_process_was_started_with_is_dropped_but_for_what_is_listed():
    first, second = read_servers(RECORDED / "proc")

    assert first == Server(
        "vllm",
        410,
        {"--data-parallel-size": "4", "--otlp-traces-endpoint": "http://collector:4318"},
        {
            "PYTHONPATH": "/opt/vllm/lib/python3.11/site-packages/opentelemetry/instrumentation/auto_instrumentation:/srv",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        },
        {
            "vllm": "0.32.0",
            "otel_llm": "0.1.0",
            "opentelemetry_api": "1.45.1",
            "opentelemetry_sdk": "1.45.1",
            "opentelemetry_distro": "0.66b1",
            "opentelemetry_exporter_otlp_proto_grpc": "1.45.1",
            "opentelemetry_exporter_otlp_proto_http": "1.45.1",
            "opentelemetry_instrumentation_fastapi": "0.66b1",
        },
    )
    assert second == Server(
        "litellm",
        420,
        {},
        {"OTEL_LLM_HMAC_KEY": "set", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel_llm"},
        {"litellm": "1.109.1", "opentelemetry_api": "1.45.1"},
    )
    assert "collector" not in repr(first)


@pytest.fixture
def machine(tmp_path):
    shutil.copytree(RECORDED / "proc", tmp_path / "proc")
    return tmp_path


def test_an_environment_that_may_not_be_read_is_a_finding_with_its_remedy(machine):
    (machine / "proc/410/environ").unlink()
    (machine / "proc/410/stat").write_bytes(b"410 (py) S")
    (machine / "proc/420/cmdline").write_bytes(b"")

    told = list(findings(machine))

    assert [(one.subject, one.verdict, one.said) for one in told if "410" in one.subject] == [
        ("vLLM, pid 410", "note", "its environment may not be read: what it sends cannot be told")
    ]
    assert told[0].remedy == "run `otel-agent doctor` as the server's user, or as root"
    # The proxy's first process ended meanwhile: its worker stands for it.
    assert [one.subject for one in told[1:]] == ["LiteLLM proxy, pid 421"]


def test_hidden_processes_and_a_missing_proc_are_said(machine):
    shutil.rmtree(machine / "proc/1")
    assert next(findings(machine)).said == "processes of other users cannot be seen (hidepid)"

    shutil.rmtree(machine / "proc")
    assert [(one.subject, one.verdict, one.said) for one in findings(machine)] == [
        ("servers", "note", f"{machine}/proc cannot be listed: No such file or directory")
    ]


def test_packages_below_a_root_that_may_not_be_read_are_unknown(machine):
    shutil.rmtree(machine / "proc/410/root")

    assert [one.packages for one in read_servers(machine / "proc") if one.pid == 410] == [None]


def test_packages_are_found_where_pth_files_point_and_beside_a_relative_interpreter(machine):
    place = machine / "proc/420"
    (place / "cmdline").write_bytes(b"python3\0-m\0litellm.proxy.proxy_cli\0")
    (place / "exe").symlink_to("/usr/bin/python3.12")
    packages = place / "root/usr/local/lib/python3.12/dist-packages"
    (packages / "LiteLLM-1.110.0.dist-info").mkdir(parents=True)
    (packages / "overlay.pth").write_text("import os\n/opt/more\nrelative\n")
    (place / "root/opt/more/otel_llm-0.2.0.dist-info").mkdir(parents=True)
    (place / "root/opt/more/requests-2.0.dist-info").mkdir()
    os.mkfifo(packages / "pipe.pth")

    (server,) = (one for one in read_servers(machine / "proc") if one.pid == 420)

    assert server.packages == {"litellm": "1.110.0", "otel_llm": "0.2.0"}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("/usr/bin/python3 /usr/local/bin/vllm serve m --port 1", "vllm"),
        ("/usr/bin/python3.13t -X dev -u -W ignore /usr/local/bin/vllm serve m", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server --model m", "vllm"),
        ("python /src/vllm/entrypoints/openai/api_server.py", "vllm"),
        ("python -m vllm.entrypoints.cli.main serve m", "vllm"),
        ("vllm serve m", "vllm"),
        ("python -m vllm.entrypoints.cli.main bench serve", None),
        ("/usr/bin/python3 /usr/local/bin/vllm bench serve", None),
        ("VLLM::EngineCore", None),
        ("VLLM::APIServer_0", None),
        ("sh -c vllm serve m", None),
        ("tini -- vllm serve m", None),
        ("grep vllm serve", None),
        ("python -c import vllm serve", None),
        ("python batch.py vllm serve", None),
        ("python", None),
        ("", None),
        ("/opt/bin/python /opt/bin/litellm --config c.yaml", "litellm"),
        ("python -m litellm.proxy.proxy_cli", "litellm"),
        ("python /app/litellm/proxy/proxy_cli.py", "litellm"),
        ("/opt/bin/python /opt/bin/uvicorn litellm.proxy.proxy_server:app --port 4000", "litellm"),
        ("/opt/bin/python /opt/bin/gunicorn -w 4 litellm.proxy.proxy_server:app", "litellm"),
        ("/opt/bin/python /opt/bin/litellm-proxy models list", None),
        ("uvicorn app:app", None),
    ],
)
def test_servers_are_told_by_their_command_lines(command, kind):
    assert recognise(tuple(command.split()))[0] == kind


def test_options_are_read_as_vllm_reads_them(machine):
    words = "/opt/bin/python /opt/bin/vllm serve m --api_server_count=3 -dp 2 --shutdown-timeout 5 --disable-log-stats --headless"
    (machine / "proc/410/cmdline").write_bytes(b"\0".join(word.encode() for word in words.split()))

    options = next(one.options for one in read_servers(machine / "proc") if one.pid == 410)

    assert options == {
        "--api-server-count": "3",
        "--data-parallel-size": "2",
        "--shutdown-timeout": "5",
        "--disable-log-stats": "",
        "--headless": "",
    }


@contextmanager
def running(folder, name, *words, **environment):
    """Run a program of that name that does nothing, as pip would have installed it."""
    script = folder / "bin" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text("input()\n")
    with subprocess.Popen(
        [sys.executable, script, *words], env={**ENVIRONMENT, **environment}, stdin=subprocess.PIPE
    ) as process:
        try:
            until(lambda: name.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "the program is there")
            yield process.pid
        finally:
            process.kill()


def test_doctor_shows_the_servers_that_run_and_no_secret(tmp_path):
    secrets = {
        "HF_TOKEN": "canary",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary",
        "OTEL_LLM_HMAC_KEY": "canary",
    }
    address = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://canary:canary@collector:4318/canary"}
    told = {
        "OTEL_LLM_SOURCES": "host",
        "OTEL_LLM_PORT": "0",
        "OTEL_LLM_OTLP_GRPC_PORT": "0",
        "OTEL_LLM_OTLP_HTTP_PORT": "0",
    }
    with (
        running(tmp_path, "vllm", "serve", "m", "--api-key", "canary", **secrets, **address) as engine,
        running(tmp_path, "litellm", "--model", "canary", **secrets) as proxy,
    ):
        done = subprocess.run(
            [sys.executable, "-m", "otel_agent", "doctor"],
            env={**ENVIRONMENT, **told},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    lines = done.stdout.splitlines()
    assert (
        f"ok      vLLM, pid {engine}: vLLM is set to send metrics to http://collector:4318 over http/protobuf" in lines
    )
    assert f"-       vLLM, pid {engine}: no spans of requests: not started under the launcher" in lines
    assert (
        f"PROBLEM LiteLLM proxy, pid {proxy}: no telemetry of this package, whose settings it has: not started under the launcher"
        in lines
    )
    assert "        -> opentelemetry-instrument -- litellm --config ..." in lines
    assert "canary" not in done.stdout + done.stderr
    assert done.returncode == 1
