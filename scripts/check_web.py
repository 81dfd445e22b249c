"""Test the console's sources, and see that the committed assets are what they build to; says so and goes on where npm is missing."""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONSOLE = Path(__file__).resolve().parents[1] / "otel_agent" / "console"


def main() -> int:
    """Return 1 where the assets are not up to date or a test of the sources fails."""
    if not shutil.which("npm"):
        print("left out: the console's assets are not rebuilt here, for there is no npm")
        return 0
    web = CONSOLE / "web"
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            ["npm", "ci", "--no-audit", "--no-fund", "--silent"],
            ["npm", "test", "--silent"],
            ["npm", "run", "build", "--silent", "--", "--outDir", folder, "--emptyOutDir"],
        ):
            done = subprocess.run(command, cwd=web, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                print(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
                return 1
        if differing := _differing(filecmp.dircmp(CONSOLE / "dist", folder)):
            print(
                f"otel_agent/console/dist is not what the sources build to ({', '.join(differing)}): run `make web`",
                file=sys.stderr,
            )
            return 1
    return 0


def _differing(compared: "filecmp.dircmp[str]") -> list[str]:
    # By content: filecmp's own lists compare size and time first.
    found = [*compared.left_only, *compared.right_only]
    found += [
        name
        for name in compared.common_files
        if Path(compared.left, name).read_bytes() != Path(compared.right, name).read_bytes()
    ]
    for below in compared.subdirs.values():
        found += _differing(below)
    return found


sys.exit(main())
