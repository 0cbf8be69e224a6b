"""Tasks of a role, played on this machine with stand-ins for the collection's modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/usr/bin/python
# WANT_JSON
import json, sys
given = json.load(open(sys.argv[1]))
words = ["{name}"] + [str(given[word]) for word in ("state", "renew", "product") if word in given]
words += ["check"] * given["_ansible_check_mode"]
with open("{folder}/asked", "a") as file:
    file.write(" ".join(words) + "\\n")
answers = json.load(open("{folder}/answers.json"))
print(json.dumps(answers.get(" ".join(words), {{"changed": False}})))
"""
UP = {"up": True, "models": ["sdxl"], "problems": [], "reason": "", "container": ""}
NODE = {
    "gpu_groups": [], "gpus": [], "docker": {"gpu_resources": 0}, "is_jetson": False, "machine": "x86_64", "python_version": "3.11.2",
    "nvidia_driver": None, "nvidia_cards": 0,
}  # fmt: skip


class Role:
    """Tasks of a role, and what they asked of the modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = "node\n"
        place = folder / "ansible_collections" / "fleet" / "commander"
        (place / "plugins" / "modules").mkdir(parents=True)
        (place / "roles").symlink_to(ROOT / "roles")
        for path in (ROOT / "plugins" / "modules").glob("fleet_*.py"):
            (place / "plugins" / "modules" / path.name).write_text(STAND_IN.format(name=path.stem, folder=folder))

    def play(self, tasks: str, answers: dict[str, Any], *, of: str = "gpu_inference", **variables: Any) -> tuple[int, str, list[str]]:
        """Return how a file of tasks ended, what was told, and what was asked."""
        role = {"ansible.builtin.include_role": {"name": f"fleet.commander.{of}", "tasks_from": tasks}}
        (self.folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [role]}]))
        return self._run(str(self.folder / "play.json"), answers, variables)

    def playbook(self, name: str, answers: dict[str, Any], **variables: Any) -> tuple[int, str, list[str]]:
        """Return the same of a playbook."""
        return self._run(str(ROOT / "playbooks" / f"{name}.yml"), answers, {"ansible_become": False, **variables})

    def _run(self, play: str, answers: dict[str, Any], variables: dict[str, Any]) -> tuple[int, str, list[str]]:
        (self.folder / "asked").write_text("")
        (self.folder / "answers.json").write_text(json.dumps({"fleet_engine_info": {"changed": False, "engine": UP}, **answers}))
        (self.folder / "hosts").write_text(self.hosts)
        group = self.folder / "group_vars"
        group.mkdir(exist_ok=True)
        given = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        (group / "all.json").write_text(json.dumps(given))
        environment = {"ANSIBLE_COLLECTIONS_PATH": str(self.folder), "ANSIBLE_HOME": str(self.folder / "home"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", "hosts", play],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split()), (self.folder / "asked").read_text().splitlines()
