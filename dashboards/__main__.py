"""Write the boards to dashboards/json and the recording and alerting rules to dashboards/rules, or compare what lies there."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dashboards import cadvisor, engine, engine_alerts, llm, node, router
from dashboards.board import Board, render

HERE = Path(__file__).resolve().parent


def boards() -> tuple[Board, ...]:
    """Return every board."""
    return node.BOARD, llm.BOARD, router.BOARD, engine.BOARD


def files(folder: Path = HERE) -> dict[Path, str]:
    """Return what has to lie below the folder: the text of each file by its path."""
    found = {folder / "json" / f"{board.file}.json": render(board) for board in boards()}
    rules = {"cadvisor": cadvisor.render_rules(), "engine_alerts": engine_alerts.render_rules()}
    return found | {folder / "rules" / f"{name}.yaml": text for name, text in rules.items()}


def differences(folder: Path = HERE) -> list[str]:
    """Return, in words, what below the folder is not what would be written; an empty list is a folder up to date."""
    wanted = files(folder)
    lying = sorted([*folder.glob("json/*.json"), *folder.glob("rules/*.yaml")])
    found = [f"{path.name}: nothing builds it" for path in lying if path not in wanted]
    for path, text in wanted.items():
        if not path.is_file():
            found.append(f"{path.name}: missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{path.name}: differs from what dashboards/{path.stem}.py says")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare the boards; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Build the Grafana boards and the rules.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the folder differs")
    if parser.parse_args(arguments).check:
        for line in (wrong := differences()):
            print(line, file=sys.stderr)
        if wrong:
            print("run: python -m dashboards", file=sys.stderr)
        return 1 if wrong else 0
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
