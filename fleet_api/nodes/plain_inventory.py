"""Reads a plain Ansible inventory, by Ansible's own yaml and ini plugins and nothing else: no script is run, no template is evaluated.

Ansible works in a process of its own. What is taken over of a host: its address, port, user, passwords and key file, its groups, and
``fleet_cluster`` and ``fleet_labels``; every other ``ansible_*`` variable is named as left out.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_api.nodes.naming import slug

PARSER_SECONDS = 60
TAKEN = {
    "ansible_host", "ansible_port", "ansible_user", "ansible_password", "ansible_ssh_pass", "ansible_become_password",
    "ansible_become_pass", "ansible_ssh_private_key_file", "ansible_private_key_file",
}  # fmt: skip
HARMLESS = {"ansible_become", "ansible_become_method", "ansible_python_interpreter", "ansible_connection"}


class InventoryUnreadable(Exception):
    """The file is no inventory; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One host of an inventory."""

    name: str
    address: str
    port: int = 22
    user: str = ""
    password: str = field(default="", repr=False)
    become_password: str = field(default="", repr=False)
    key_file: str = ""
    cluster: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read(path: Path) -> list[Listed]:
    """Return the hosts of an inventory file by name. Raises InventoryUnreadable."""
    if not path.is_file():
        raise InventoryUnreadable(f"{path} is not a file.")
    if os.access(path, os.X_OK) and path.read_bytes()[:2] == b"#!":
        raise InventoryUnreadable(f"{path} is a program; only plain YAML and INI inventories are read.")
    found = _parsed(path)
    groups = {name: set(each.get("hosts", [])) for name, each in found.items() if name not in ("_meta", "all", "ungrouped")}
    variables = found.get("_meta", {}).get("hostvars", {})
    names = sorted({*variables, *(host for each in found.values() for host in each.get("hosts", []))})
    if not names:
        raise InventoryUnreadable(f"{path} lists no hosts.")
    return [_listed(name, variables.get(name, {}), sorted(group for group, hosts in groups.items() if name in hosts)) for name in names]


def _parsed(path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        config = Path(folder) / "ansible.cfg"
        config.write_text("[defaults]\n[inventory]\nenable_plugins = ansible.builtin.yaml, ansible.builtin.ini\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_CONFIG": str(config), "ANSIBLE_LOCAL_TEMP": folder, "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True"}
        environment["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "True"
        program = [sys.executable, "-m", "ansible", "inventory", "-i", str(path.absolute()), "--list"]
        try:
            done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=PARSER_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise InventoryUnreadable(f"{path} could not be read within {PARSER_SECONDS} s.") from None
    try:
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
    except ValueError:
        pass
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = next((line for line in said if "ERROR" in line), said[-1] if said else "no reason was given")
    raise InventoryUnreadable(f"{path} is not an inventory that Ansible's yaml or ini plugin can read: {reason[:300]}")


def _listed(name: str, variables: dict[str, Any], groups: list[str]) -> Listed:
    def text(*keys: str) -> str:
        value = next((variables[key] for key in keys if variables.get(key) not in (None, "")), "")
        if isinstance(value, dict):
            raise InventoryUnreadable(f"{name}: {keys[0]} is encrypted; decrypt it with ansible-vault, or name a credential instead.")
        return str(value)

    port = text("ansible_port") or "22"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InventoryUnreadable(f"{name}: ansible_port must be a number from 1 to 65535; it is {port[:60]!r}.")
    labels = variables.get("fleet_labels") or {}
    if not isinstance(labels, dict):
        raise InventoryUnreadable(f"{name}: fleet_labels must be a mapping of names to texts.")
    clusters = [group.removeprefix("cluster_") for group in groups if group.startswith("cluster_")]
    left_out = sorted(key for key in variables if key.startswith("ansible_") and key not in TAKEN | HARMLESS)
    return Listed(
        name=name, address=text("ansible_host") or name, port=int(port), user=text("ansible_user"),
        password=text("ansible_password", "ansible_ssh_pass"), become_password=text("ansible_become_password", "ansible_become_pass"),
        key_file=text("ansible_ssh_private_key_file", "ansible_private_key_file"),
        cluster=text("fleet_cluster") or (clusters[0] if clusters else None),
        labels={str(key): str(value) for key, value in labels.items()}, left_out=tuple(left_out),
    )  # fmt: skip


def node_names(hosts: list[Listed]) -> dict[str, str | None]:
    """Return a node's name for each host: its first label, its whole name where that is not enough, None for one called by an address.

    Raises InventoryUnreadable where two hosts would still have one name. Pure.
    """
    found: dict[str, str | None] = {host.name: None if _is_address(host.name) else slug(host.name) for host in hosts}
    twice = {name for name in found.values() if name is not None and list(found.values()).count(name) > 1}
    for host, name in found.items():
        if name in twice:
            found[host] = slug(host.replace(".", "-"))
    named = [name for name in found.values() if name is not None]
    again = next((name for name in named if named.count(name) > 1), None)
    if again is not None:
        both = ", ".join(host for host, name in found.items() if name == again)
        raise InventoryUnreadable(f"{both} would all be node {again!r}; give them other names.")
    return found


def check_addresses(hosts: list[Listed], addresses: dict[str, str]) -> None:
    """Raise InventoryUnreadable where two hosts are at one address and port. Pure."""
    seen: dict[tuple[str, int], str] = {}
    for host in hosts:
        place = addresses[host.name], host.port
        if place in seen:
            raise InventoryUnreadable(f"{seen[place]} and {host.name} are both at {place[0]} port {place[1]}; leave one of them out.")
        seen[place] = host.name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolved(host: Listed) -> str:
    """Return the host's IP address. Raises InventoryUnreadable for a name that is not known."""
    try:
        found = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise InventoryUnreadable(f"{host.name}: {host.address[:100]!r} is neither an IP address nor a name that is known here.") from None
    return str(found[0][4][0])
