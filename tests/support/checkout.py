"""A copy of the checkout, for what builds from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copied(folder: Path) -> Path:
    """Copy all that wheel and tarball are made of to a new folder, and return it: nothing is left in the checkout, and nothing changes."""
    folder.mkdir()
    names = ("fleet_api", "gpu_inference", "inventory", "meta", "playbooks", "plugins", "requirements", "roles")
    files = ("ansible.cfg", "galaxy.yml", "pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md")
    without = ["--exclude=__pycache__", "--exclude=*.egg-info", "--exclude=build"]
    pack = subprocess.Popen(["tar", "-C", str(ROOT), *without, "-c", *names, *files], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-C", str(folder), "-x"], stdin=pack.stdout, check=True)
    assert pack.wait() == 0
    return folder
