"""Runs the collection's playbooks and modules against nodes of a lab, as a person at a shell does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lab import Node

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Played:
    """How a run ended."""

    code: int
    text: str
    counts: dict[str, dict[str, int]]

    def changed(self, node: Node) -> int:
        """Return how many tasks changed a node; fails where one failed."""
        assert self.code == 0, self.text[-6000:]
        return self.counts[node.name]["changed"]


class Plays:
    """Plays against some nodes, with an inventory and known host keys of their own."""

    def __init__(self, folder: Path, nodes: list[Node], root: Path = ROOT, managers: list[Node] | None = None, **variables: Any) -> None:
        self.folder = folder
        self.root = root
        self.variables = variables
        self.environment: dict[str, str] = {}
        self.inventory(nodes, nodes if managers is None else managers)

    def inventory(self, nodes: list[Node], managers: list[Node]) -> None:
        """Write down which machines are nodes and which are managers."""
        groups = {
            name: {
                "hosts": {
                    node.name: {
                        "ansible_host": node.ip,
                        "ansible_user": node.user,
                        "ansible_password": node.password,
                        "ansible_become_password": node.password,
                    }
                    for node in members
                }
            }
            for name, members in (("nodes", nodes), ("manager", managers))
        }
        (self.folder / "hosts.json").write_text(json.dumps(groups))
        (self.folder / "hosts.json").chmod(0o600)

    def play(self, playbook: Path | str, *words: str) -> Played:
        """Run a playbook, one of the collection's by its name."""
        path = self.root / "playbooks" / f"{playbook}.yml" if isinstance(playbook, str) else playbook
        (self.folder / "vars.json").write_text(json.dumps(self.variables))
        program = [
            str(BIN / "ansible-playbook"),
            "-i",
            str(self.folder / "hosts.json"),
            str(path),
            "-e",
            f"@{self.folder}/vars.json",
            "--diff",
        ]
        done = subprocess.run([*program, *words], env=self._environment(), capture_output=True, text=True)
        counts = {
            match[1]: {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", match[2])}
            for match in re.finditer(r"^(\S+)\s+: (ok=.*)$", done.stdout, re.M)
        }
        return Played(done.returncode, done.stdout + done.stderr, counts)

    def tasks(self, *tasks: dict[str, Any]) -> Path:
        """Return a playbook of some tasks, run as root."""
        path = self.folder / "tasks.json"
        path.write_text(json.dumps([{"hosts": "nodes", "gather_facts": False, "become": True, "tasks": list(tasks)}]))
        return path

    def _collections(self) -> Path:
        """Return a folder of collections in which ours is the one of ``root``."""
        place = self.folder / "collections" / "ansible_collections" / "fleet" / "commander"
        if not place.is_symlink():
            place.parent.mkdir(parents=True)
            place.symlink_to(self.root)
        return self.folder / "collections"

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_COMMON_ARGS": f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=accept-new",
            "ANSIBLE_NOCOLOR": "1",
            **({} if self.root == ROOT else {"ANSIBLE_COLLECTIONS_PATH": str(self._collections())}),
            **self.environment,
        }
