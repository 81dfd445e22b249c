"""Builds are found again by what decides their bytes, and a build that cannot be made says what to do."""

from pathlib import Path

import pytest

from compose.native import build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "otel-llm"


def test_a_build_lies_in_a_folder_named_after_program_version_and_digest(cache: Path) -> None:
    folder = build.build_folder(build.BY_NAME["loki"])
    assert folder.parent == cache
    assert folder.name.startswith("loki-3.7.8-")
    assert len({build.build_folder(program) for program in build.PROGRAMS}) == len(build.PROGRAMS)


def test_what_is_built_is_found_and_what_is_not_is_not() -> None:
    assert build.find("promtool") is None
    folder = build.build_folder(build.BY_NAME["prometheus"])
    folder.mkdir(parents=True)
    for name in ("prometheus", "promtool"):
        (folder / name).write_text("")
    assert build.find("promtool") == folder / "promtool"
    assert build.ensure(["prometheus"]) == {name: folder / name for name in ("prometheus", "promtool")}


def test_without_go_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert build.main(["alertmanager"]) == 1
    target = build.build_folder(build.BY_NAME["alertmanager"])
    assert (
        capsys.readouterr().err
        == f"alertmanager 0.34.1 is not built and there is no Go here: install Go, or copy a build to {target}\n"
    )


def test_a_build_that_fails_leaves_nothing_behind_and_shows_what_was_said(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "go"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho cannot find the module >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(build.BuildError, match="ended with status 1:\ncannot find the module"):
        build.ensure(["loki"])
    assert [path.name for path in cache.iterdir()] == [f"{build.build_folder(build.BY_NAME['loki']).name}.lock"]


def test_an_unknown_program_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["tempo"]) == 1
    assert (
        capsys.readouterr().err
        == "no program is called tempo; choose from otelcol-llm, prometheus, alertmanager, loki, docker-compose\n"
    )


def test_every_program_pins_its_module_and_has_its_sums() -> None:
    for program in build.PROGRAMS:
        assert build.version(program)
        if program is not build.COLLECTOR:
            assert f"{program.module} v{build.version(program)} h1:" in (program.folder / "go.sum").read_text()
