# SPDX-License-Identifier: Apache-2.0
"""Inventory of the fleet, from its control plane."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Nodes of a fleet, from its control plane
description:
  - Reads every node that a Fleet Commander control plane knows, in groups by cluster, role, JetPack release and labels.
  - No secret is in this inventory. Where Ansible signs in as another user than its own, give C(ansible_user) as usual.
  - Within an operation of the control plane, the operation's own inventory is read from its socket instead.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [fleet.commander.fleet]
  url:
    description: Address of the control plane. Without it, what the data folder says, else V(http://127.0.0.1:8765).
    type: str
    env:
      - name: FLEET_URL
  api_key:
    description: A key with the role viewer. On the control plane's own machine none is needed, or the data folder's is taken.
    type: str
    env:
      - name: FLEET_KEY
  ca_file:
    description: File of the certificate authority to trust. Without it, the one in the data folder, else the system's.
    type: path
    env:
      - name: FLEET_CA
  home:
    description: The data folder, where the control plane runs on this machine.
    type: path
    default: ~/.fleet
    env:
      - name: FLEET_HOME
  timeout:
    description: Seconds to wait for the control plane.
    type: float
    default: 10
"""

EXAMPLES = r"""
---
# inventory/fleet.yml
plugin: fleet.commander.fleet
---
# Another machine's control plane, with the key in FLEET_KEY
plugin: fleet.commander.fleet
url: https://manager.example.invalid:8765
ca_file: ca.pem
"""

import json
import os
import re
import socket
import sys
from urllib.error import HTTPError, URLError

from ansible.errors import AnsibleParserError
from ansible.module_utils.urls import open_url
from ansible.plugins.inventory import BaseInventoryPlugin

SOCKET = "FLEET_OPERATION_SOCKET"
RESERVED = ("localhost", "all", "ungrouped", "nodes", "manager")
DEFAULT_URL = "http://127.0.0.1:8765"


class InventoryModule(BaseInventoryPlugin):
    """Values are data: nothing that comes from the control plane is ever a template."""

    NAME = "fleet.commander.fleet"

    def verify_file(self, path: str) -> bool:
        """Return whether the file is meant for this plugin."""
        return super().verify_file(path) and path.endswith(("fleet.yml", "fleet.yaml"))

    def parse(self, inventory, loader, path, cache=False) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        if os.environ.get(SOCKET):
            self._of_operation(os.environ[SOCKET])
        else:
            self._of_fleet()

    def _of_operation(self, path: str) -> None:
        """Take the inventory of the operation that this run belongs to."""
        pieces = []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                connection.connect(path)
                while piece := connection.recv(65536):
                    pieces.append(piece)
            found = json.loads(b"".join(pieces))
        except (OSError, ValueError) as error:
            raise AnsibleParserError(f"The operation's inventory could not be read: {error}") from error
        names = {*found["groups"], *RESERVED}
        for host in found["hosts"]:
            if host in names:  # its variables would be every host's, or the controller's
                raise AnsibleParserError(f"The node's name {host!r} has a meaning of its own to Ansible; rename the node.")
        self._add_controller()
        for group, hosts in found["groups"].items():
            self.inventory.add_group(group)
            for host in hosts:
                self.inventory.add_host(host, group=group)
        for name, value in found["variables"].items():
            self.inventory.groups["nodes"].set_variable(name, value)
        for host, variables in found["hosts"].items():
            self.inventory.add_host(host)
            for name, value in variables.items():
                self.inventory.hosts[host].set_variable(name, value)

    def _add_controller(self) -> None:
        """Say what ``localhost`` is, so that tasks for the controller go nowhere else, whatever nodes are called."""
        self.inventory.add_host("localhost")
        self.inventory.hosts["localhost"].set_variable("ansible_connection", "local")
        self.inventory.hosts["localhost"].set_variable("ansible_python_interpreter", sys.executable)

    def _of_fleet(self) -> None:
        """Ask the control plane for its nodes."""
        self.inventory.add_group("nodes")
        for node in self._get("/api/nodes?details=true")["nodes"]:
            if node["id"] in RESERVED:
                continue
            host = self.inventory.add_host(node["id"], group="nodes")
            for group in groups_of(node):
                self.inventory.add_group(group)
                self.inventory.add_host(host, group=group)
            self.inventory.set_variable(host, "ansible_host", node["ip"] or node["hostname"])
            if node["ssh_port"] != 22:
                self.inventory.set_variable(host, "ansible_port", node["ssh_port"])
            for name in ("status", "cluster", "labels", "facts"):
                self.inventory.set_variable(host, f"fleet_{name}", node[name])

    def _get(self, path: str) -> dict:
        own = self._kept("url").rstrip("/")
        url = (self.get_option("url") or own or DEFAULT_URL).rstrip("/")
        key, ca_file = self.get_option("api_key"), self.get_option("ca_file")
        if url == own:  # the data folder's key goes to its own control plane alone
            key = key or self._kept("key")
            ca_file = ca_file or os.path.join(self._home(), "tls", "ca.crt")
        headers = {"Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            answer = open_url(
                url + path,
                headers=headers,
                timeout=self.get_option("timeout"),
                ca_path=ca_file if ca_file and os.path.exists(ca_file) else None,
                use_proxy=False,
            )
            return json.loads(answer.read())
        except HTTPError as error:
            raise AnsibleParserError(f"The control plane at {url} refused: {_detail(error)}") from error
        except (URLError, OSError, ValueError) as error:
            raise AnsibleParserError(f"The control plane at {url} could not be asked ({error}); start it with 'fleet up'.") from error

    def _home(self) -> str:
        return os.path.expanduser(self.get_option("home"))

    def _kept(self, name: str) -> str:
        try:
            with open(os.path.join(self._home(), name), encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""


def groups_of(node: dict) -> list:
    """Return the groups of a node: by cluster, role, JetPack release, state and labels."""
    facts, labels = node.get("facts") or {}, node.get("labels") or {}
    named = [("cluster", node.get("cluster")), ("jetpack", facts.get("jetpack_version")), ("status", node.get("status"))]
    named += [("role" if name == "role" else f"label_{name}", value) for name, value in labels.items()]
    return [group_name(f"{name}_{value}") for name, value in named if value not in (None, "")]


def group_name(text: str) -> str:
    """Return the text as Ansible wants names of groups: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _detail(error: HTTPError) -> str:
    try:
        return json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
