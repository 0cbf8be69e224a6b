"""From the request to the running task: POST /api/swarm/services beside ``docker service create`` on the manager itself, in turns.

When a task runs is what the swarm noted; node and control plane share one clock. Wants a Docker Engine for a lab node.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from typing import Any

from benchmarks.lab_fleet import LabFleet, NoEngine, lab_fleet

ROUNDS = 8
IMAGE = "bench:1"
ROOT = """
set -e
d=$(mktemp -d); mkdir -p $d/bin
for b in sh sleep; do cp -L /bin/$b $d/bin/; done
for f in $(ldd /bin/sh /bin/sleep | grep -o '/lib[^ ]*' | sort -u); do mkdir -p $d$(dirname $f); cp -L $f $d$f; done
tar -C $d -c . | docker import --change 'CMD ["/bin/sleep","600"]' - bench:1
rm -rf $d
"""


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where no engine answers."""
    try:
        with lab_fleet(1, "--docker") as fleet:
            found = _measure(fleet)
    except NoEngine as error:
        print(f"deploy to running: left out: {error}")
        return {}
    print(f"{'deploy to running, s':24} {'docker':>8} {'API':>8} {'ratio':>6}")
    docker, api = found["docker_s"], found["api_s"]
    print(f"{'median of ' + str(ROUNDS):24} {docker:8.2f} {api:8.2f} {api / docker:6.2f}")
    return found


def _measure(fleet: LabFleet) -> dict[str, float]:
    [node] = fleet.nodes
    fleet.until_ended(fleet.join(node))
    body = {"name": "bench", "node_ids": [node["name"]], "manager_node_id": node["name"]}
    fleet.api.post("/api/clusters", json=body).raise_for_status()
    _on(node, "sh", "-c", ROOT)
    times: dict[str, list[float]] = {"docker_s": [], "api_s": []}
    for number in range(ROUNDS):
        for side in times:
            name = f"{side[:3]}{number}"
            started = time.time()
            if side == "docker_s":
                _on(node, "docker", "service", "create", "--detach", "--no-resolve-image", "--name", name, IMAGE)
            else:
                fleet.api.post("/api/swarm/services", json={"name": name, "image": IMAGE}).raise_for_status()
            times[side].append(_running_since(node, name) - started)
            _on(node, "docker", "service", "rm", name)
    return {side: statistics.median(each) for side, each in times.items()}


def _running_since(node: dict[str, Any], name: str) -> float:
    """Return when the service's task came to run, in epoch seconds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ids = _on(node, "docker", "service", "ps", "-q", "--no-trunc", name).split()
        tasks = json.loads(_on(node, "docker", "inspect", *ids)) if ids else []
        for task in tasks:
            if task["Status"]["State"] == "running":
                whole, _, part = task["Status"]["Timestamp"].rstrip("Z").partition(".")
                return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(f"0.{part or 0}")
        time.sleep(0.1)
    raise RuntimeError(f"the service {name} does not run")


def _on(node: dict[str, Any], *words: str) -> str:
    return subprocess.run(["docker", "exec", node["name"], *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    report()
