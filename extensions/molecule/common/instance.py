"""The node of a molecule scenario: ``up`` starts a lab of one and writes molecule's instance file, ``down`` takes it away.

``compare`` says whether the node's files are as they were found. Scenarios with an agent get a control plane on the lab's bridge.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.support.lab import Node
from tests.support.snapshot import differences, snapshot

FLEET = [sys.executable, "-m", "fleet_api"]
WITH_CONTROL_PLANE = ("node_agent", "gpu_inference", "site")
WITH_ENGINE = ("image_build", "swarm_manager")
READY_SECONDS = 60


def up(scenario: str, folder: Path) -> None:
    """Start the node, and the control plane where the scenario wants one."""
    jetson = ["--jetson", "r35.4.1"] if scenario == "jetson" else []
    engine = ["--docker"] if scenario in WITH_ENGINE else []
    words = ["lab", "up", "--name", lab(scenario), "--nodes", "1", "--json", *jetson, *engine]
    made = subprocess.run([*FLEET, *words], capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stderr)
    [found] = json.loads(made.stdout)
    node = Node(found["name"], found["ip"], found["user"], found["password"], found["jetson"])
    known = subprocess.run(["ssh-keyscan", "-t", "ed25519", node.ip], capture_output=True, text=True, check=True).stdout
    (folder / "known_hosts").write_text(known)
    config = {
        "instance": "node", "address": node.ip, "user": node.user, "port": 22, "password": node.password, "become_pass": node.password,
    }  # fmt: skip
    Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).write_text(yaml.safe_dump([config]))
    (folder / "node.json").write_text(json.dumps(found))
    if jetson:  # one that has started once, and so has a power mode
        node.shell("nvpmodel -m $(nvpmodel -q | tail -n 1)")
    (folder / "before.json").write_text(json.dumps(snapshot(node)))
    if scenario in WITH_CONTROL_PLANE:
        serve(folder, f"{node.ip.rsplit('.', 1)[0]}.1")


def serve(folder: Path, address: str) -> None:
    """Start a control plane for the agent; its address and key are where the plays look for them."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "FLEET_HOME": str(folder / "home"), "FLEET_HOST": address, "FLEET_PORT": str(port), "FLEET_TLS": "off"}
    with (folder / "control-plane.log").open("wb") as log:
        server = subprocess.Popen([*FLEET, "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    (folder / "control-plane.pid").write_text(str(server.pid))
    deadline = time.monotonic() + READY_SECONDS
    while not (folder / "home" / "url").exists():
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit((folder / "control-plane.log").read_text())
        time.sleep(0.1)
    subprocess.run([*FLEET, "keys", "create", "molecule", "--role", "admin", "--save"], env=environment, check=True, capture_output=True)


def compare(folder: Path) -> None:
    """Say what is not as it was found; exits with 1 where something is."""
    found: dict[str, Any] = json.loads((folder / "node.json").read_text())
    node = Node(found["name"], found["ip"], found["user"], found["password"], found["jetson"])
    changed = differences(json.loads((folder / "before.json").read_text()), snapshot(node))
    if changed:
        sys.exit("\n".join(changed))


def down(scenario: str, folder: Path) -> None:
    """Take the node away, and the control plane."""
    try:
        os.kill(int((folder / "control-plane.pid").read_text()), signal.SIGTERM)
        (folder / "control-plane.pid").unlink()
    except (OSError, ValueError):
        pass
    subprocess.run([*FLEET, "lab", "down", "--name", lab(scenario)], capture_output=True, check=False)
    Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).unlink(missing_ok=True)


def lab(scenario: str) -> str:
    """Return the name of a scenario's lab."""
    return f"m-{scenario.replace('_', '-')}"


if __name__ == "__main__":
    name, ephemeral = os.environ["MOLECULE_SCENARIO_NAME"], Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    {"up": lambda: up(name, ephemeral), "compare": lambda: compare(ephemeral), "down": lambda: down(name, ephemeral)}[sys.argv[1]]()
