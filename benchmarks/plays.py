"""Plays: the way from launch to the first event, what running under the control plane costs over bare ``ansible-playbook``, and what
our ``ansible.cfg`` saves beside Ansible's defaults. Ten hosts are addresses of loopback with SSH servers of this user's own.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ssh_exec import ADDRESSES, SSHD, _servers
from fleet_api import collection
from fleet_api.adapters.ansible.play import Play
from fleet_api.adapters.ansible.runner import AnsiblePlays

HOSTS = ADDRESSES[:10]
ROUNDS = 3
TASKS = """
    - ansible.builtin.command: "true"
      changed_when: false
    - ansible.builtin.stat: {path: /etc/hostname}
    - ansible.builtin.file: {path: "{{ where }}/{{ inventory_hostname }}", state: directory}
    - ansible.builtin.lineinfile: {path: "{{ where }}/{{ inventory_hostname }}.txt", line: one, create: true, mode: "0600"}
"""


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where no SSH server is installed."""
    if not Path(SSHD).exists():
        print("plays: left out, as OpenSSH's server is not installed")
        return {}
    with tempfile.TemporaryDirectory() as name, _servers(Path(name)) as port:
        found = _measure(Path(name), port)
    print(f"{'20 tasks on 10 hosts':44} {'seconds':>8} {'beside':>8}")
    default = found["ansible-playbook, defaults"]
    for what in ("ansible-playbook, defaults", "ansible-playbook, our ansible.cfg", "an operation of the control plane"):
        print(f"{what:44} {found[what]:8.1f} {found[what] / default:8.2f}")
    over = found["an operation of the control plane"] / found["ansible-playbook, our ansible.cfg"]
    print(f"{'an operation over bare ansible-playbook':44} {(over - 1) * 100:7.0f} %")
    print(f"{'launch to first event':44} {found['first_event']:8.2f}")
    return found


def _measure(folder: Path, port: int) -> dict[str, Any]:
    root = folder / "root"
    for each in ("playbooks", "inventory"):
        (root / each).mkdir(parents=True)
    head = "- name: Twenty tasks\n  hosts: nodes\n  gather_facts: false\n  tasks:" + TASKS * 5
    (root / "playbooks" / "twenty.yml").write_text(head)
    shutil.copy(collection.root() / "ansible.cfg", root / "ansible.cfg")
    shutil.copy(collection.root() / "inventory" / "fleet.yml", root / "inventory" / "fleet.yml")
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    known = "".join(f"[{address}]:{port} {public}\n" for address in HOSTS)
    (folder / "known_hosts").write_text(known)
    (folder / "where").mkdir()
    (folder / "empty.cfg").write_text("[defaults]\n")
    listed = "[nodes]\n" + "".join(f"{address}\n" for address in HOSTS)
    listed += f"[nodes:vars]\nansible_port={port}\nansible_ssh_private_key_file={folder}/client\nwhere={folder}/where\n"
    listed += f"ansible_python_interpreter=/usr/bin/python3\nansible_ssh_common_args=-o UserKnownHostsFile={folder}/known_hosts\n"
    (folder / "hosts.ini").write_text(listed)
    times: dict[str, list[float]] = {}
    firsts: list[float] = []
    for number in range(ROUNDS):  # they take turns, so that all meet the same machine
        for name, config in (("defaults", folder / "empty.cfg"), ("our ansible.cfg", root / "ansible.cfg")):
            times.setdefault(f"ansible-playbook, {name}", []).append(_bare(folder, root, config, number))
        took, first = asyncio.run(_operation(folder, root, port, known))
        times.setdefault("an operation of the control plane", []).append(took)
        firsts.append(first)
    return {**{name: statistics.median(each) for name, each in times.items()}, "first_event": statistics.median(firsts)}


def _bare(folder: Path, root: Path, config: Path, number: int) -> float:
    """Run the playbook by itself, with connections of its own; return the seconds it took."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_CONFIG": str(config), "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{folder}/c{number}{config.stem[0]}"}
    program = Path(sys.executable).with_name("ansible-playbook")
    started = time.perf_counter()
    words = [str(program), "-i", str(folder / "hosts.ini"), str(root / "playbooks" / "twenty.yml")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-1000:])
    return took


async def _operation(folder: Path, root: Path, port: int, known: str) -> tuple[float, float]:
    """Run it as the control plane does; return the seconds to its end and to its first event."""
    common = {"ansible_port": port, "ansible_user": getpass.getuser(), "ansible_python_interpreter": "/usr/bin/python3"}
    hosts = {address: {**common, "ansible_ssh_private_key": (folder / "client").read_text()} for address in HOSTS}
    play = Play("twenty", hosts, variables={"where": str(folder / "where")}, known_hosts=known, forks=10)
    first = 0.0
    started = time.perf_counter()

    def told(_event: dict[str, Any]) -> None:
        nonlocal first
        first = first or time.perf_counter() - started

    outcome = await AnsiblePlays(root, folder / "locks").run("benchmark", play, False, told)
    if not outcome.good:
        raise RuntimeError(str(outcome.reasons or outcome.error))
    return time.perf_counter() - started, first


if __name__ == "__main__":
    report()
