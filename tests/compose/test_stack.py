"""What the native stack would start, read from its plan; nothing runs here."""

from pathlib import Path

import pytest

from compose.native import build, services, stack
from compose.native.ports import Ports, StackError


@pytest.fixture(autouse=True)
def _everything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for program in build.PROGRAMS:
        folder = build.build_folder(program)
        folder.mkdir(parents=True)
        for name, _ in program.binaries:
            (folder / name).write_text("")


def overlays(service: services.Service) -> list[str]:
    return [Path(argument.removeprefix("--config=")).stem for argument in service.command[2:]]


def test_without_tempo_the_agents_store_takes_its_place(tmp_path: Path) -> None:
    plan = stack.plan_from({"STACK_DATA_DIR": str(tmp_path)})
    planned = {service.name: service for service in stack.plan_services(plan)}
    assert list(planned) == ["prometheus", "loki", "alertmanager", "collector", "agent"]
    assert overlays(planned["collector"]) == ["store-without-tempo"]
    assert planned["collector"].environment["STORE_OTLP"] == "http://127.0.0.1:24317"
    assert planned["agent"].command[-1] == "up"
    assert planned["agent"].environment["OTEL_LLM_OTLP_GRPC_PORT"] == "24317"
    assert planned["agent"].environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"


def test_tempo_joins_where_its_binary_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "tempo"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    plan = stack.plan_from(
        {"TEMPO_BIN": str(binary), "STACK_OVERLAYS": "content, backend", "STACK_DATA_DIR": str(tmp_path)}
    )
    planned = {service.name: service for service in stack.plan_services(plan)}
    assert list(planned) == ["prometheus", "loki", "alertmanager", "tempo", "collector", "agent"]
    assert overlays(planned["collector"]) == ["content", "backend"]
    assert planned["collector"].environment["TEMPO_OTLP"] == "http://127.0.0.1:25317"
    assert planned["agent"].command[-1] == "run"
    targets = {path.name: text for path, text in planned["prometheus"].files.items()}
    assert targets["tempo.json"] == '[{"targets": ["127.0.0.1:23003"]}]'


def test_the_agent_can_be_left_out(tmp_path: Path) -> None:
    plan = stack.plan_from({"STACK_AGENT": "off", "STACK_DATA_DIR": str(tmp_path)})
    assert [service.name for service in stack.plan_services(plan)] == [
        "prometheus",
        "loki",
        "alertmanager",
        "collector",
    ]


def test_every_port_that_is_listened_on_is_one_of_the_table_and_checked_before() -> None:
    plan = stack.Plan(Ports(), Path("/data"), tempo_bin=Path("tempo"), agent=("agent",))
    listened = frozenset[str]().union(*(service.ports for service in stack.plan_services(plan)))
    assert listened == set(vars(Ports())) - {"store_grpc", "store_http"}, "the agent has no receiver where Tempo is"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TEMPO_BIN": "/nowhere/tempo"}, "TEMPO_BIN=/nowhere/tempo is no program that can be run"),
        ({"STACK_LOKI_PORT": "x"}, "STACK_LOKI_PORT='x' is no port"),
    ],
)
def test_a_setting_that_cannot_be_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(StackError) as failed:
        stack.plan_from(environment)
    assert str(failed.value) == message


def test_an_unknown_overlay_is_named_with_those_there_are(tmp_path: Path) -> None:
    plan = stack.plan_from({"STACK_OVERLAYS": "contents", "STACK_DATA_DIR": str(tmp_path)})
    with pytest.raises(
        StackError,
        match=r"^there is no overlay contents; choose from auth, backend, content, .*, or give the path of a file$",
    ):
        stack.plan_services(plan)
