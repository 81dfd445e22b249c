"""Install the Debian packages that the end-to-end tests use, where that can be done; say what stays missing and why.

Chromium drives the console, docker.io runs real containers, busybox-static goes into their images.
"""

import os
import shutil
import subprocess

PACKAGES = {"chromium": "chromium", "dockerd": "docker.io", "busybox": "busybox-static", "ip": "iproute2"}
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/bin"


def main() -> None:
    """Install what is missing; never fails, since each test says itself what it left out."""
    missing = sorted({package for command, package in PACKAGES.items() if not shutil.which(command, path=PATH)})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"left out: {', '.join(missing)} (needs root and apt-get); the tests that use them say so")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            print(f"left out: {' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
            return
    print(f"installed {', '.join(missing)}")


main()
