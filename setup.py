"""Puts the collection ``fleet.commander`` into the wheel, where Ansible looks for it; all else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PLACE = Path("ansible_collections") / "fleet" / "commander"
# As galaxy.yml has it for the tarball.
FILES = (
    "ansible.cfg", "galaxy.yml", "README.md", "LICENSE", "meta/runtime.yml", "playbooks/**/*.yml", "plugins/**/*.py", "roles/**/*.yml",
    "roles/**/*.j2", "roles/**/*.md", "inventory/*.yml", "inventory/sample/**/*.yml", "gpu_inference/*.lock",
    "requirements/runtime.lock", "requirements/vocabulary.lock",
)  # fmt: skip


class BuildWithCollection(build_py):
    """An editable install has a link instead, which ``python -m fleet_api.collection link`` makes."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in FILES:
            for path in sorted(ROOT.glob(pattern)):
                target = Path(self.build_lib) / PLACE / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithCollection})
