"""Three machines form a swarm; services, clusters and containers on them, by REST, until all is as it was."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.lab.conftest import MakeLab
from tests.support import documents_swarm
from tests.support.images import BREAKS, TICKS, load
from tests.support.manager import gateway, managing, ok
from tests.support.on_nodes import Fleet
from tests.support.plays import Plays

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PASSWORD = "shelf"
SERVICE = {
    "name": "vision-web", "image": "web:r36.4", "cluster": "vision", "resources": {"gpu": 1}, "env": ["COLOUR=red"],
    "ports": [{"target_port": 8080, "published_port": 18080, "mode": "host"}], "restart": {"delay_seconds": 0},
    "update": {"monitor_seconds": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def fleet(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    nodes = [replace(node, password=PASSWORD) for node in make_lab("swarm", 3, "--jetson", "r36.4.3", "--docker")]
    for node in nodes:
        node.set_password(PASSWORD)
    with managing(tmp_path_factory.mktemp("swarm") / "home", gateway(nodes[0])) as manager, manager.client() as api:
        api.timeout = httpx.Timeout(200)
        yield Fleet(manager, nodes, api)


def test_bare_machines_form_a_swarm(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    assert fleet.get("/api/swarm/status")["is_manager"] is False
    assert fleet.get("/api/swarm/nodes") == fleet.get("/api/swarm/services") == []
    fleet.credential = fleet.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": PASSWORD})["id"]
    fleet.manager.succeeded(fleet.manager.join(first, fleet.credential))
    body = {"name": "vision", "node_ids": [first.name], "manager_node_id": first.name}
    made = fleet.post("/api/clusters", body)
    assert (made["node_ids"], made["manager_node_id"]) == ([first.name], first.name)
    answer = fleet.api.post("/api/clusters", json=body)
    assert answer.status_code == 409, answer.text

    operation = fleet.manager.join(second, fleet.credential, cluster="vision")  # ends in the swarm, now that there is one
    body = {"node_ip": third.ip, "username": "nvidia", "password": PASSWORD}
    joined = fleet.post("/api/swarm/join-remote", body)
    assert joined["status"] == "success"
    fleet.manager.succeeded(operation)
    assert fleet.get("/api/clusters/vision/status")["cluster"]["node_ids"] == [first.name, second.name]
    assert fleet.post("/api/swarm/join-remote", body)["swarm_node_id"] == joined["swarm_node_id"], "a member is left alone"

    status = fleet.get("/api/swarm/status")
    assert (status["is_manager"], status["nodes_count"], status["managers_count"], status["workers_count"]) == (True, 3, 1, 2)
    assert status["manager_addr"] == f"{first.ip}:2377"
    members = {each["node_id"]: each for each in fleet.get("/api/swarm/nodes")}
    for node in fleet.nodes:
        assert (members[node.name]["status"], members[node.name]["gpus"], members[node.name]["labels"]["l4t"]) == ("ready", 1, "36.4.3")
        assert members[node.name]["labels"]["nvidia"] == "true"
        assert members[node.name]["labels"]["gpu_arch"] == "sm_87"
    assert members[second.name]["labels"]["cluster"] == "vision"
    assert "cluster" not in members[third.name]["labels"]
    fleet.until(lambda: fleet.get("/api/clusters/vision/status")["cluster"]["status"] == "active")
    scan = fleet.get("/api/network/scan", subnet=f"{first.ip}/32", refresh=True)
    assert [(each["ip"], each["in_swarm"]) for each in scan["devices"]] == [(first.ip, True)]


def test_the_join_token_is_told_to_admins_and_nowhere_else(fleet: Fleet) -> None:
    token = fleet.get("/api/swarm/join-token", role="manager")["token"]
    assert token.startswith("SWMTKN-1-")
    assert fleet.post("/api/swarm/join-token/rotate", status=200, role="manager")["token"] != token
    home: Path = fleet.manager.home
    for path in (*home.rglob("*"), home.with_suffix(".log")):
        assert not path.is_file() or b"SWMTKN" not in path.read_bytes(), path


def test_a_service_with_a_gpu_each(fleet: Fleet) -> None:
    for node in fleet.nodes:
        load(node, **{"web_r36.4": TICKS, "web_broken": BREAKS})
    refused = [
        ({"ports": [{"target_port": 80, "published_port": 8080}]}, "IP_VS"),
        ({"replicas": 3}, "room for 2"),
        ({"image": "web:r35.3.1"}, "L4T r36.4.3"),
        ({"constraints": ["node.labels.rack==z9"]}, "does not meet node.labels.rack==z9"),
    ]
    for change, word in refused:
        assert word in fleet.post("/api/swarm/services", {**SERVICE, **change}, 409)["detail"]
    made = fleet.post("/api/swarm/services", {**SERVICE, "replicas": 2}, wait=True)
    assert (made["replicas"], made["running"], made["image"]) == (2, 2, "web:r36.4")
    assert sorted(task["node_id"] for task in fleet.running("vision-web")) == sorted(node.name for node in fleet.nodes[:2])
    assert fleet.post("/api/swarm/services", SERVICE, 409)["detail"]
    [listed] = fleet.get("/api/swarm/services")
    assert (listed["name"], listed["replicas"], listed["running"], listed["mode"]) == ("vision-web", 2, 2, "replicated")


def test_it_is_scaled_both_ways(fleet: Fleet) -> None:
    fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 1}, 200)
    fleet.until(lambda: len(fleet.running("vision-web")) == 1)
    fleet.post("/api/swarm/services/vision-web/scale", None, 200, replicas=2)
    fleet.until(lambda: len(fleet.running("vision-web")) == 2)
    assert "room for 2" in fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 4}, 409)["detail"]
    fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 0}, 200)
    fleet.until(lambda: not fleet.running("vision-web"))
    fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 1}, 200)
    fleet.until(lambda: len(fleet.running("vision-web")) == 1)


def test_logs_are_read_and_followed(fleet: Fleet) -> None:
    logs = fleet.until(lambda: fleet.get("/api/swarm/services/vision-web/logs", tail=5)["logs"])
    assert all(line.startswith("tick ") for line in logs.splitlines()), logs
    lines: list[str] = []
    with fleet.api.stream("GET", "/api/swarm/services/vision-web/logs", params={"tail": 1, "follow": True}) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if len(lines) == 8:  # the first are of earlier tasks, one each
                break
    numbers = [int(line.split()[1]) for line in lines][-3:]
    assert numbers == list(range(numbers[0], numbers[0] + 3)), lines


def test_a_broken_update_is_rolled_back_and_told_so(fleet: Fleet) -> None:
    told = fleet.post("/api/swarm/services/vision-web/update", {"image": "web:broken"}, 200, force=True)
    assert (told["status"], told["exit_code"]) == ("rolled_back", 3), told
    assert "non-zero exit (3)" in told["error"]
    fleet.until(lambda: len(fleet.running("vision-web")) == 1)
    assert fleet.get("/api/swarm/services/vision-web")["image"] == "web:r36.4"
    told = fleet.post("/api/swarm/services/vision-web/update", {"env": ["COLOUR=blue"]}, 200)
    assert told["status"] == "completed", told
    assert fleet.post("/api/swarm/services/vision-web/rollback", None, 200)["status"] == "completed"
    assert fleet.get("/api/swarm/services/vision-web")["env"] == ["COLOUR=red"]
    failed = fleet.post("/api/swarm/services", {"name": "broken", "image": "web:broken", "restart": {"delay_seconds": 0}}, 409, wait=True)
    assert "exit code 3" in failed["detail"], failed
    assert [each["name"] for each in fleet.get("/api/swarm/services")] == ["vision-web"], "what never ran is not left behind"


def test_a_container_on_one_node(fleet: Fleet) -> None:
    third = fleet.nodes[2].name
    body = {
        "node_id": third,
        "image": "web:r36.4",
        "name": "single",
        "port": 8080,
        "host_port": 18081,
        "gpus": True,
        "mounts": ["/mnt:/data:ro"],
    }
    made = fleet.post("/api/fleet/deploy", body)
    assert (made["status"], made["node_id"], made["name"]) == ("running", third, "single")
    assert fleet.post("/api/fleet/deploy", body, 409)["detail"]
    assert (
        "exit code 3" in fleet.post("/api/fleet/deploy", {**body, "name": "ends", "image": "web:broken", "host_port": 18082}, 409)["detail"]
    )
    assert fleet.post("/api/fleet/deploy", {**body, "name": "second"}, 409)["detail"], "the port is taken"
    assert "socket" in fleet.post("/api/fleet/deploy", {**body, "mounts": ["/var/run/docker.sock:/s"]}, 400)["detail"]
    assert "tick" in fleet.until(lambda: fleet.get(f"/api/fleet/logs/{third}/single")["logs"])
    assert ok(fleet.api.delete(f"/api/fleet/deploy/{third}/single"))["status"] == "removed"
    assert fleet.nodes[2].run("docker", "ps", "-aq") == ""
    assert fleet.api.delete(f"/api/fleet/deploy/{third}/single").status_code == 404


def test_containers_of_the_manager(fleet: Fleet) -> None:
    first = fleet.nodes[0]
    first.run("docker", "run", "-d", "--name", "comfyui", "web:r36.4")
    listed = fleet.get("/api/swarm/containers")
    assert listed["server"] == first.name
    assert listed["total"] == len(listed["containers"])
    assert "comfyui" in [each["name"] for each in listed["containers"]]
    for action, state in (("stop", "exited"), ("start", "running"), ("restart", "running")):
        assert fleet.post(f"/api/swarm/containers/comfyui/{action}", None, 200)["status"] == state
    assert "tick" in fleet.until(lambda: fleet.get("/api/swarm/containers/comfyui/logs")["logs"])
    first.run("docker", "rm", "-f", "comfyui")


def test_the_documents_examples_run(fleet: Fleet, programs_of_node: Path, tmp_path: Path) -> None:
    """Their JavaScript program and every curl, on what they take for granted: an open LAN."""
    third = fleet.nodes[2]
    for node in fleet.nodes:
        node.shell("mkdir -p /mnt/s3-models /mnt/s3-outputs")
    fleet.post("/api/swarm/services", {"name": "plain", "image": "web:r36.4"}, wait=True)
    with fleet.manager.open_lan():
        words = {"url": fleet.manager.url, "node_id": third.name, "image": "web:r36.4", "service": "plain"}
        program = tmp_path / "deploy.js"
        program.write_text(documents_swarm.DEPLOY_SERVICE.format(**words))
        environment = {**os.environ, "NODE_PATH": str(programs_of_node)}
        done = subprocess.run(["node", str(program)], env=environment, capture_output=True, text=True, timeout=60)
        assert "name: 'vision-sdxl'" in done.stdout, done
        for line in documents_swarm.CURLS.format(**words).strip().splitlines():
            done = subprocess.run(
                ["bash", "-c", line.replace("curl ", "curl -sS --fail-with-body ", 1)], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            json.loads(done.stdout)
        scaled = json.loads(done.stdout)
    assert scaled["replicas"] == 4
    for service in ("plain", "test-service", "vision-sdxl"):
        fleet.until(lambda service=service: fleet.running(service))  # type: ignore[misc]
        assert ok(fleet.api.delete(f"/api/swarm/services/{service}"))["name"] == service


def test_a_killed_nodes_task_moves(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    for node in (second, third):
        assert fleet.post(f"/api/swarm/nodes/{node.name}/role", {"role": "manager"}, 200)["role"] == "manager"
    constraints = [f"node.hostname!={first.name}"]
    made = fleet.post("/api/swarm/services", {"name": "mover", "image": "web:r36.4", "constraints": constraints}, wait=True)
    [task] = [each for each in made["tasks"] if each["state"] == "running"]
    victim = next(node for node in fleet.nodes if node.name == task["node_id"])
    subprocess.run(["docker", "kill", victim.name], check=True, capture_output=True)
    fleet.found["victim"] = victim
    other = second if victim is third else third
    fleet.until(lambda: [each["node_id"] for each in fleet.running("mover") if each["node_id"] != victim.name] == [other.name], 90)
    members = {each["node_id"]: each for each in fleet.get("/api/swarm/nodes")}
    assert members[victim.name]["status"] == "down"


def test_two_of_three_managers_gone(fleet: Fleet) -> None:
    first, other = fleet.nodes[0], next(node for node in fleet.nodes[1:] if node is not fleet.found["victim"])
    stays = {"name": "stays", "image": "web:r36.4", "constraints": [f"node.hostname=={first.name}"]}
    fleet.post("/api/swarm/services", stays, wait=True)
    other.run("systemctl", "stop", "docker.socket", "docker")
    before = fleet.get("/api/swarm/services")

    def refused() -> None:
        started = time.monotonic()
        answer = fleet.api.post("/api/swarm/services/vision-web/scale", json={"replicas": 1})
        assert answer.status_code == 503, answer.text
        assert time.monotonic() - started < 5.0

    refused()  # the leader does not know yet that it is alone
    answer = fleet.until(lambda: (found := fleet.api.get("/api/swarm/services")).headers.get("Age") and found)
    assert answer.json() == before
    refused()
    status = fleet.get("/api/swarm/status")
    assert (status["is_manager"], status["nodes_count"]) == (False, 3)
    assert status["age_seconds"] > 0
    assert status["reason"]
    assert "tick" in first.shell("docker logs --since 3s $(docker ps -q --filter name=stays) 2>&1"), "tasks run on"
    assert fleet.get("/api/clusters/vision/status")["cluster"]["status"] == "degraded"
    other.run("systemctl", "start", "docker")
    subprocess.run(["docker", "start", fleet.found["victim"].name], check=True, capture_output=True)
    fleet.until(lambda: fleet.get("/api/swarm/status")["is_manager"], 90)
    fleet.until(lambda: all(each["status"] == "ready" for each in fleet.get("/api/swarm/nodes")), 90)


def test_all_is_removed_and_nodes_leave(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    for service in ("mover", "stays", "vision-web"):
        assert ok(fleet.api.delete(f"/api/swarm/services/{service}"))["name"] == service
    assert fleet.api.get("/api/swarm/services/mover").status_code == 404
    left = ok(fleet.api.delete(f"/api/clusters/vision/nodes/{second.name}"))
    assert left["node_ids"] == [first.name]
    assert fleet.post(f"/api/clusters/vision/nodes/{second.name}")["node_ids"] == [first.name, second.name]
    assert fleet.post(f"/api/clusters/vision/nodes/{third.name}")["node_ids"] == [node.name for node in fleet.nodes]
    assert ok(fleet.api.delete("/api/clusters/vision", params={"cleanup_swarm": True}))["name"] == "vision"
    assert fleet.get("/api/clusters") == []
    for node in fleet.nodes:
        assert node.run("docker", "info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
        assert node.run("docker", "ps", "-aq") == ""
    assert fleet.get("/api/swarm/status")["nodes_count"] == 0


def test_the_same_by_playbooks_alone(fleet: Fleet, tmp_path: Path) -> None:
    first, second = fleet.nodes[:2]
    plays = Plays(tmp_path, [first, second], swarm_member_cluster="vision")
    inventory = json.loads((tmp_path / "hosts.json").read_text())
    (tmp_path / "hosts.json").write_text(json.dumps({**inventory, "swarm_managers": {"hosts": {first.name: None}}}))
    foretold, done, again = (plays.play("join_swarm", *words) for words in (["--check"], [], []))
    for node in (first, second):
        assert (foretold.changed(node), done.changed(node), again.changed(node)) == (2, 2, 0), done.text[-3000:]
    assert "SWMTKN" not in done.text
    labels = json.loads(first.run("docker", "node", "inspect", second.name, "--format", "{{json .Spec.Labels}}"))
    assert (labels["cluster"], labels["fleet.node"], labels["l4t"]) == ("vision", second.name, "36.4.3")
    left = plays.play("leave_swarm")
    assert (left.changed(first), left.changed(second)) == (1, 2)
    for node in (first, second):
        assert node.run("docker", "info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
