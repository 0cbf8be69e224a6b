"""Labs for tests: made by the command in a process of its own, known to the tests' allow-list, taken down at the end."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.support.network import LABS

FLEET = (sys.executable, "-c", "from fleet_api.cli.main import main; main()")


class NoLabHere(Exception):
    """No engine can be reached."""


@dataclass(frozen=True)
class Node:
    """A node of a lab; ``password`` is for SSH and for sudo."""

    name: str
    ip: str
    user: str
    password: str
    jetson: str

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command on the node as root, by the engine and not by SSH, and return what it printed."""
        return subprocess.run(["docker", "exec", self.name, *words], check=check, capture_output=True, text=True).stdout

    def set_password(self, password: str) -> None:
        """Give the node's user another password."""
        subprocess.run(["docker", "exec", "-i", self.name, "chpasswd"], input=f"{self.user}:{password}", check=True, text=True)

    def shell(self, script: str, check: bool = True) -> str:
        """Run a shell script on the node as root."""
        return self.run("sh", "-c", script, check=check)


def fleet(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the ``fleet`` command."""
    return subprocess.run([*FLEET, *words], capture_output=True, text=True)


def lab_up(name: str, nodes: int, *options: str) -> list[Node]:
    """Bring a lab up and allow tests to reach it. Raises NoLabHere where there is no engine."""
    done = fleet("lab", "up", "--name", name, "--nodes", str(nodes), "--json", *options)
    if "No Docker Engine answers" in done.stderr:
        raise NoLabHere(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    LABS.add(ipaddress.IPv4Network(f"{found[0]['ip']}/24", strict=False))
    return [Node(one["name"], one["ip"], one["user"], one["password"], one["jetson"]) for one in found]


def lab_name(of: str) -> str:
    """Return a name that no other run of the tests uses."""
    return f"t{os.getpid()}-{of}"
