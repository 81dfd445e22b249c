"""The boards keep to what is declared: names, labels, links, and JSON that is up to date."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from compose.native import build
from dashboards import engine, engine_alerts, llm, node
from dashboards.__main__ import HERE, boards, differences, files
from dashboards.cadvisor import RULES, expression
from dashboards.gpu import named
from dashboards.names import RESOURCE, agent_rows, application_rows, fill, series_of, vocabulary
from dashboards.queries import BUILT_IN, PanelQuery, choices, queries, substitute
from otel_agent.telemetry.naming import prometheus_label
from otel_llm import semconv
from otel_llm.metrics import ClientMetric

ROOT = Path(__file__).resolve().parents[2]
BUILT = {path.stem: json.loads(path.read_text()) for path in sorted(HERE.glob("json/*.json"))}
PROVISIONED = sorted((ROOT / "compose" / "grafana" / "provisioning" / "datasources").glob("*.yaml"))
SELECTED = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\{[^}]*\}")
GROUPED = re.compile(r"(?:by|on|group_left) \(([^)]*)\)")


def every_query(kind: str = "prometheus") -> list[PanelQuery]:
    return [query for board in BUILT.values() for query in queries(board) if query.kind == kind]


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def asked_for(found: Iterable[PanelQuery]) -> set[str]:
    return {name for query in found for name in query.series}


@pytest.fixture(scope="module")
def promtool() -> Path:
    found = build.find("promtool") or shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here: python -m compose.native.build prometheus")
    return Path(found)


def test_the_committed_boards_are_the_ones_that_would_be_built() -> None:
    assert differences() == []


def test_a_board_that_was_edited_by_hand_or_left_behind_is_named(tmp_path: Path) -> None:
    for path, text in files(tmp_path).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("percentunit", "percent") if path.stem == "node" else text)
    (tmp_path / "json" / "old.json").write_text("{}")
    (tmp_path / "rules" / "cadvisor.yaml").unlink()

    assert differences(tmp_path) == [
        "old.json: nothing builds it",
        "node.json: differs from what dashboards/node.py says",
        "cadvisor.yaml: missing",
    ]


def test_building_twice_gives_the_same_text() -> None:
    assert files() == files()


def test_every_series_on_a_board_is_declared() -> None:
    declared = {series.name for series in vocabulary().values()}

    assert asked_for(every_query()) - declared == set()


def test_queries_consist_of_declared_series_and_nothing_else_that_could_be_one() -> None:
    """The check above sees `name{...}` alone; this one sees that there is no other way in which a series is named."""
    words = {word for query in every_query() for word in re.findall(r"[a-zA-Z_]\w*(?!\w|\s*\()", _bare(query.text))}

    assert words - {"and", "or", "le"} == set()


def _bare(text: str) -> str:
    return re.sub(r"\[[^]]*\]", "", GROUPED.sub("", SELECTED.sub("", text)))


def test_every_declared_metric_is_on_a_board_or_off_it_with_a_reason() -> None:
    shown = asked_for(every_query())
    off = {**node.OFF, **llm.OFF, **engine.OFF}
    absent = {row.name for row in agent_rows() if vocabulary()[row.name].name not in shown}
    absent |= {
        row.name for row in application_rows() if shown.isdisjoint(series.name for series in series_of(row).values())
    }

    assert absent == set(off)
    assert all(len(reason) > 10 for reason in off.values())


def test_a_row_of_an_application_becomes_the_series_that_prometheus_makes_of_its_kind() -> None:
    """After the compatibility chapter of the specification: counters end in `_total`, a unit in braces adds nothing."""

    def named_series(kind: Any, unit: str) -> list[str]:
        return [series.name for series in series_of(ClientMetric("a.b", kind, unit, "Help.", ())).values()]

    assert named_series("counter", "{USD}") == ["a_b_total"]
    assert named_series("gauge", "{request}") == ["a_b"]
    assert named_series("gauge", "1") == ["a_b_ratio"]
    assert named_series("histogram", "s") == ["a_b_seconds_bucket", "a_b_seconds_count", "a_b_seconds_sum"]


def test_labels_that_legends_show_are_labels_that_the_query_keeps() -> None:
    for query in every_query():
        kept = {label.strip() for group in GROUPED.findall(query.text) for label in group.split(",")}
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= kept, str(query)


def test_columns_of_tables_are_labels_that_a_query_of_theirs_keeps() -> None:
    for board in BUILT.values():
        for panel in panels(board):
            for step in panel.get("transformations", ()):
                if step["id"] == "organize":
                    texts = " ".join(target["expr"] for target in panel["targets"])
                    kept = {label.strip() for group in GROUPED.findall(texts) for label in group.split(",")}
                    columns = {name for name in step["options"]["renameByName"] if not name.startswith("Value")}
                    assert columns <= kept, panel["title"]


@pytest.mark.parametrize("name", [board.file for board in boards()])
def test_every_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    for panel in panels(BUILT[name]):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert re.fullmatch(r"[A-Z0-9].{15,}\.", panel["description"]), panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", [board.file for board in boards()])
def test_panels_have_numbers_titles_and_places_of_their_own(name: str) -> None:
    everything = BUILT[name]["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    assert len({(panel["type"] == "row", panel["title"]) for panel in everything}) == len(everything)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


@pytest.mark.parametrize("name", [board.file for board in boards()])
def test_every_variable_in_use_is_a_variable_of_the_board(name: str) -> None:
    built_in = {"__rate_interval", "__range", "__from", "__to"}
    text = unquote(json.dumps(BUILT[name]))
    used = {one or other for one, other in re.findall(r"\$\{(\w+)[:}]|\$(\w+)", text)} - built_in - {"__all"}

    assert used == {variable["name"] for variable in BUILT[name]["templating"]["list"]}


@pytest.mark.parametrize("name", [board.file for board in boards()])
def test_every_data_source_is_the_readers_choice(name: str) -> None:
    found = re.findall(r'"datasource": \{"type": "(\w+)", "uid": "([^"]*)"', json.dumps(BUILT[name]))

    assert found
    assert {(kind, uid) for kind, uid in found if uid != f"${{{kind}_datasource}}"} == set()


def test_the_boards_lead_to_each_other_and_have_uids_of_their_own() -> None:
    assert len({board["uid"] for board in BUILT.values()}) == len(BUILT)
    for board in BUILT.values():
        (link,) = board["links"]
        assert (link["type"], link["keepTime"], link["includeVars"]) == ("dashboards", True, True)
        assert all(link["tags"] == other["tags"] for other in BUILT.values())


def test_every_latency_line_has_its_exemplars() -> None:
    lines = [query for query in every_query() if "histogram_quantile" in query.text and not query.instant]

    assert len(lines) >= 4
    assert all(query.exemplars for query in lines)


def test_traceql_speaks_of_attributes_that_spans_have() -> None:
    emitted = {value for name, value in vars(semconv).items() if name.isupper()}
    links = [
        unquote(link["url"])
        for board in BUILT.values()
        for panel in panels(board)
        for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    texts = [query.text for query in every_query("tempo")] + links

    assert links
    assert len(texts) > len(links)
    assert {name for text in texts for name in re.findall(r"span\.([\w.]+)", text)} <= emitted


def test_promql_parses(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"board:query:{number}", "expr": substitute(query.text, choices(BUILT[stem]))}
        for number, (stem, query) in enumerate(
            (stem, query) for stem, board in BUILT.items() for query in queries(board) if query.kind == "prometheus"
        )
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))

    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_a_gpu_seen_by_two_agents_and_shared_by_two_containers_is_one_line(promtool: Path, tmp_path: Path) -> None:
    """An agent started anew leaves its old series for a moment; the join must neither fail nor count twice."""
    gpu = 'host_name="node", hw_id="GPU-1"'
    series = [
        *(
            f'otel_llm_gpu_info{{{gpu}, otel_llm_gpu_index="0", hw_name="H200", service_instance_id="{one}"}}'
            for one in "ab"
        ),
        *(
            f'otel_llm_gpu_process_memory_usage_bytes{{{gpu}, process_pid="{pid}", otel_llm_process_name="vllm", service_instance_id="a"}}'
            for pid in (7, 8)
        ),
        *(f'hw_power_watts{{{gpu}, hw_type="gpu", service_instance_id="{one}"}}' for one in "ab"),
    ]
    power = fill(named("<hw.power>"))
    memory = fill(named("<otel_llm.gpu.process.memory.usage>", "process.pid"))
    index = f'{gpu}, otel_llm_gpu_index="0"'
    cases = {
        power: [{"labels": f"{{{index}}}", "value": 1}],
        memory: [{"labels": f'{{{index}, process_pid="{pid}"}}', "value": 1} for pid in (7, 8)],
    }
    promtool_test(promtool, tmp_path, series, cases)


def promtool_test(
    promtool: Path, folder: Path, series: Iterable[str], cases: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Evaluate queries with promtool, one minute in, over series that are 1 all the time."""
    test = {
        "input_series": [{"series": one, "values": "1 1 1"} for one in series],
        "promql_expr_test": [
            {"expr": expr, "eval_time": "1m", "exp_samples": samples} for expr, samples in cases.items()
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))

    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_containers_have_cadvisors_names_and_labels(promtool: Path, tmp_path: Path) -> None:
    """Two containers, one of them from an image without a tag, and one series that was recorded before under a name both have."""
    tagged = 'host_name="node", container_id="c1", container_name="vllm"'
    untagged = 'host_name="node", container_id="c2", container_name="proxy"'
    series = [
        f'otel_llm_container_info{{{tagged}, container_image_name="vllm/vllm-openai", otel_llm_container_image_tag="v0.33.0"}}',
        f'otel_llm_container_info{{{untagged}, container_image_name="litellm"}}',
        *(f'container_cpu_time_seconds_total{{{tagged}, cpu_mode="{mode}"}}' for mode in ("user", "system")),
        f"container_memory_usage_bytes{{{tagged}}}",
        f"container_memory_usage_bytes{{{untagged}}}",
        'container_memory_usage_bytes{instance="node", id="/docker/c1", name="vllm", image="vllm/vllm-openai:v0.33.0", job="cadvisor"}',
        *(
            f'container_network_io_bytes_total{{{tagged}, network_interface_name="eth0", network_io_direction="{one}"}}'
            for one in ("receive", "transmit")
        ),
    ]
    first = 'instance="node", id="/docker/c1", name="vllm", image="vllm/vllm-openai:v0.33.0"'
    second = 'instance="node", id="/docker/c2", name="proxy", image="litellm"'
    rules = {rule.record: expression(rule) for rule in RULES}

    promtool_test(
        promtool,
        tmp_path,
        series,
        {
            rules["container_cpu_usage_seconds_total"]: [{"labels": f"{{{first}}}", "value": 2}],
            rules["container_cpu_user_seconds_total"]: [{"labels": f"{{{first}}}", "value": 1}],
            rules["container_memory_usage_bytes"]: [{"labels": f"{{{one}}}", "value": 1} for one in (first, second)],
            rules["container_network_receive_bytes_total"]: [{"labels": f'{{{first}, interface="eth0"}}', "value": 1}],
            rules["container_last_seen"]: [{"labels": f"{{{one}}}", "value": 60} for one in (first, second)],
            rules["container_fs_reads_bytes_total"]: [],
        },
    )


def test_the_rules_file_is_one_that_prometheus_takes(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", HERE / "rules" / "cadvisor.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_on_an_engine_names_a_setting_and_is_shown_on_both_sides() -> None:
    """That Prometheus takes the file, and that each alert fires where it should, promtool says beside the pipeline's."""
    shown = yaml.safe_load((ROOT / "compose" / "prometheus" / "tests" / "engine_alerts.yaml").read_text())["tests"]
    cases = [case for test in shown for case in test["alert_rule_test"]]

    assert all("--" in alert.remedy for alert in engine_alerts.ALERTS)
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == {
            alert.name for alert in engine_alerts.ALERTS
        }


def test_a_name_that_is_not_declared_fails_the_build() -> None:
    with pytest.raises(KeyError, match=r"system\.cpu\.tine"):
        fill("rate(<system.cpu.tine>[5m])")
    with pytest.raises(KeyError, match=r"cpu\.mod"):
        fill('<system.cpu.time{cpu.mod="user"}>')
    with pytest.raises(ValueError, match="no list of matchers"):
        fill("<system.cpu.time{cpu.mode=user}>")


def test_a_template_becomes_promql_with_the_scope_before_its_own_matchers() -> None:
    filled = fill('sum by (<cpu.mode>) (rate(<system.cpu.time{cpu.mode!="idle"}>[5m]))', 'host.name=~"$host"')

    assert filled == 'sum by (cpu_mode) (rate(system_cpu_time_seconds_total{host_name=~"$host", cpu_mode!="idle"}[5m]))'


def test_variables_are_filled_in_all_spellings_and_none_is_left() -> None:
    values = BUILT_IN | {"host": "a|b"}

    assert substitute('x{h=~"$host"}[$__rate_interval] ${host} ${host:pipe}', values) == 'x{h=~"a|b"}[1m] a|b a|b'
    with pytest.raises(KeyError):
        substitute("$nowhere", values)


def test_provisioning_knows_the_data_sources_that_boards_ask_for() -> None:
    known = {
        (one["type"], one["uid"]) for file in PROVISIONED for one in yaml.safe_load(file.read_text())["datasources"]
    }
    asked = {
        (variable["query"], variable["current"]["value"])
        for board in BUILT.values()
        for variable in board["templating"]["list"]
        if variable["type"] == "datasource"
    }

    assert asked <= known


def test_provisioned_links_from_traces_to_metrics_name_declared_series() -> None:
    text = "".join(file.read_text() for file in PROVISIONED)
    declared = {series.name for series in vocabulary().values()}

    named_there = set(re.findall(r"(\w+)\{\$\$__tags\}", text))
    assert named_there
    assert named_there <= declared


def test_prometheus_keeps_the_resource_attributes_that_boards_use() -> None:
    promoted = yaml.safe_load((ROOT / "compose" / "prometheus" / "prometheus.yaml").read_text())["otlp"][
        "promote_resource_attributes"
    ]

    assert set(RESOURCE) <= set(promoted)
    assert prometheus_label("host.name") == "host_name"
