"""From bare machines to a picture out of a container, by REST: onboarded into a swarm; the agent's own Dockerfile built, pushed,
deployed with a GPU each, scaled, broken and rolled back; the machines' own agents in containers of it, and back, by playbooks and by REST;
removed, until the engines are as they were."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.conftest import MakeLab
from tests.support import jetpack_base
from tests.support.lab import Node
from tests.support.manager import gateway, managing, ok
from tests.support.on_nodes import Fleet
from tests.support.plays import ROOT, Plays
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PASSWORD = "shelf"
BASE = "lab-jetpack:r36.4"
TEMPLATES = ROOT / "gpu_inference"
PICTURE = {"prompt": "a red circle on a blue background", "width": 256, "height": 256, "steps": 4}


@pytest.fixture(scope="module")
def fleet(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three bare Jetsons; on the third the registry, by its playbook, and the base image."""
    nodes = [replace(node, password=PASSWORD) for node in make_lab("chain", 3, "--jetson", "r36.4.3", "--docker")]
    for node in nodes:
        node.set_password(PASSWORD)
    folder = tmp_path_factory.mktemp("chain")
    (folder / "roots").mkdir()
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "fleet.toml").write_text(f'build_roots = ["{TEMPLATES}", "{folder / "roots"}"]\n')
    jetpack_base.make(nodes[2], BASE, folder)
    with managing(folder / "home", gateway(nodes[0])) as manager, manager.client() as api:
        api.timeout = httpx.Timeout(200)
        plays = Plays(
            folder, [], managers=nodes[2:], fleet_registry=f"{nodes[2].ip}:5000", fleet_control_plane_url=manager.url
        )  # fmt: skip
        plays.environment = {"FLEET_HOME": str(manager.home)}
        assert plays.play("registry").changed(nodes[2]) > 0
        found = {"roots": folder / "roots", "image": f"{nodes[2].ip}:5000/fleet-agent:jetpack6", "plays": plays}
        yield Fleet(manager, nodes, api, found=found)


def scanned(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Return what a scan of the lab's bridge finds, by address."""
    scan = fleet.get("/api/network/scan", subnet=f"{fleet.nodes[0].ip.rsplit('.', 1)[0]}.0/24", refresh=True)
    return {each["ip"]: each for each in scan["devices"] if each["ip"] != gateway(fleet.nodes[0])}


def queue(fleet: Fleet, node: Node, **more: Any) -> str:
    """Put a machine into the install queue; return its entry's id."""
    return str(fleet.post("/api/install-queue/queue", {"host": node.ip, "credential_id": fleet.credential, **more})["job_id"])


def through(fleet: Fleet, job_id: str) -> dict[str, Any]:
    """Return an entry of the install queue once it is through."""
    found: dict[str, Any] = fleet.get(f"/api/install-queue/queue/{job_id}")
    fleet.manager.succeeded(found["operation_id"])
    return dict(fleet.get(f"/api/install-queue/queue/{job_id}"))


def image_of_agent(fleet: Fleet) -> str:
    """Return the image of the service as Swarm has it."""
    return fleet.nodes[0].run("docker", "service", "inspect", "agent", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}").strip()


def agents(fleet: Fleet) -> list[str]:
    """Return the machines on which an agent in a container is at work."""
    known = fleet.manager.nodes()
    return [node.name for node in fleet.nodes if known.get(f"in-{node.name}", {}).get("status") == "online"]


def ended(fleet: Fleet, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for a build or a deploy; return its operation once that has ended."""
    return fleet.manager.ended(fleet.post(path, body)["operation_id"])


def test_bare_machines_end_in_the_swarm(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    found = scanned(fleet)
    assert {ip: (22 in each["ports"], each["in_swarm"], each["node_id"]) for ip, each in found.items()} == {
        node.ip: (True, False, None) for node in fleet.nodes
    }
    fleet.credential = fleet.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": PASSWORD})["id"]
    assert through(fleet, queue(fleet, first))["status"] == "succeeded"
    assert fleet.get("/api/swarm/nodes") == [], "there is no swarm yet"
    fleet.post("/api/clusters", {"name": "vision", "node_ids": [first.name]})

    job_id = queue(fleet, second, cluster="vision")
    scanned(fleet)
    joining = fleet.post("/api/network/auto-join-all", {})["operation_id"]
    entry = through(fleet, job_id)
    assert (entry["status"], entry["node_id"], entry["cluster"], entry["error"]) == ("succeeded", second.name, "vision", None)
    row = fleet.manager.succeeded(joining)
    assert (row["node_ids"], row["result"]["machines"]) == ([third.name], {third.ip: "succeeded"}), "the second was on its way already"

    members = {each["node_id"]: each for each in fleet.get("/api/swarm/nodes")}
    assert {name: (each["status"], each["gpus"], each["labels"].get("cluster")) for name, each in members.items()} == {
        first.name: ("ready", 1, "vision"), second.name: ("ready", 1, "vision"), third.name: ("ready", 1, None),
    }  # fmt: skip
    found = scanned(fleet)
    assert {ip: (each["in_swarm"], each["node_id"]) for ip, each in found.items()} == {node.ip: (True, node.name) for node in fleet.nodes}
    fleet.until(lambda: fleet.get("/api/clusters/vision/status")["cluster"]["status"] == "active")


def test_the_agents_dockerfile_is_built_pushed_and_listed(fleet: Fleet) -> None:
    body = {
        "image_name": "fleet-agent", "tag": "jetpack6", "dockerfile_path": "images/jetpack6.Dockerfile", "context_path": str(TEMPLATES),
        "build_args": {"BASE_IMAGE": BASE}, "node_id": fleet.nodes[2].name,
    }  # fmt: skip
    row = ended(fleet, "/api/build/build", body)
    assert row["state"] == "succeeded", (row["reason"], [each["text"] for each in fleet.manager.events(row["id"])][-20:])
    assert (row["result"]["image"], row["result"]["pushed"]) == (fleet.found["image"], True)
    fleet.found["build"] = body
    told = [each["text"] for each in fleet.manager.events(row["id"])]
    assert any(text.startswith("Successfully installed") and "onnxruntime" in text for text in told), told[-40:]
    assert any("fleet-worker" in text and text.startswith("Successfully installed") for text in told), told[-40:]
    for other in ("cuda", "jetpack7"):
        more = {"tag": other, "dockerfile_path": f"images/{other}.Dockerfile", "push": False}
        row = ended(fleet, "/api/build/build", {**body, **more})
        assert (row["state"], row["result"].get("pushed")) == ("succeeded", False), row
    sign_in = ["--cacert", str(fleet.manager.home / "tls" / "ca.crt"), "-H", f"Authorization: Bearer {fleet.manager.key}"]
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *sign_in, f"{fleet.manager.url}/api/build/registry/images"], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    name = fleet.found["image"].removesuffix(":jetpack6")
    assert json.loads(done.stdout)["images"] == [{"name": "fleet-agent", "tags": ["jetpack6"], "full_image": name}]


def test_the_catalogues_agent_runs_from_it(fleet: Fleet) -> None:
    """As docs/operations.md has it: a token into each machine's volume, then the deploy."""
    for node in fleet.nodes[:2]:
        token = fleet.post("/api/agents/tokens", {"node_id": f"in-{node.name}"})["token"]
        volume = ["--user", "0", "--entrypoint", "tee", "-v", "fleet-agent:/var/lib/fleet-agent"]
        run = ["docker", "run", "--rm", "-i", *volume, fleet.found["image"], "/var/lib/fleet-agent/token"]
        subprocess.run(["docker", "exec", "-i", node.name, *run], input=token, check=True, capture_output=True, text=True)
    fleet.manager.fleet("deploy", "agent", "--cluster", "vision", "--env", f"FLEET_AGENT_URL={fleet.manager.url}")
    [task] = fleet.until(lambda: fleet.running("agent"))
    assert task["node_id"] in {node.name for node in fleet.nodes[:2]}
    fleet.until(lambda: agents(fleet) == [task["node_id"]])
    assert "The agent is up." in fleet.until(lambda: fleet.get("/api/swarm/services/agent/logs")["logs"])
    node = next(node for node in fleet.nodes if node.name == task["node_id"])
    door = f"http://{node.ip}:8080"
    fleet.until(lambda: httpx.get(f"{door}/health").json()["engine"]["alive"])
    assert httpx.get(f"{door}/models").status_code == 401
    assert "fleet-worker run" in node.run("docker", "top", node.run("docker", "ps", "-q").strip(), "-o", "pid,args")


def test_built_again_and_deployed_with_a_gpu_each_it_makes_a_picture(fleet: Fleet) -> None:
    placed = {"service_name": "agent", "cluster": "vision", "replicas": 2, "gpus": 1}
    row = ended(fleet, "/api/build/build-and-deploy", {**fleet.found["build"], **placed})
    assert (row["state"], row["result"].get("status")) == ("succeeded", "completed"), row
    fleet.found["running"] = f"{fleet.found['image']}@{row['result']['digest']}"
    assert image_of_agent(fleet) == fleet.found["running"], "what was built, not what has its tag"
    names = [node.name for node in fleet.nodes[:2]]
    assert sorted(task["node_id"] for task in fleet.running("agent")) == names
    assert fleet.get("/api/swarm/services/agent")["resources"]["gpu"] == 1
    fleet.until(lambda: agents(fleet) == names)
    row = ended(fleet, "/api/build/deploy", {**placed, "image": fleet.found["image"], "service_name": "other", "gpus": 2})
    assert "offers 1 NVIDIA-GPU" in row["reason"], row

    job = fleet.post("/api/vision/generate", PICTURE)["job_id"]
    made = fleet.until(lambda: (found := fleet.get(f"/api/vision/jobs/{job}"))["status"] in ("completed", "failed") and found, 120)
    assert made["status"] == "completed", made
    assert made["node_id"] in {f"in-{name}" for name in names}, "the machines' own agents have no engine"
    assert fleet.api.get(made["result"]["image_url"]).content.startswith(b"\x89PNG")


def test_it_is_scaled_by_rest(fleet: Fleet) -> None:
    for replicas in (1, 2, 0, 1):
        fleet.post("/api/swarm/services/agent/scale", {"replicas": replicas}, 200)
        fleet.until(lambda replicas=replicas: len(fleet.running("agent")) == replicas)  # type: ignore[misc]
    [task] = fleet.running("agent")
    fleet.until(lambda: agents(fleet) == [task["node_id"]])


def test_a_broken_build_is_rolled_back_and_told_so(fleet: Fleet) -> None:
    folder: Path = fleet.found["roots"] / "broken"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {fleet.found['image']}\nENV FLEET_AGENT_LOG=loud\n")
    body = {"image_name": "fleet-agent", "tag": "broken", "dockerfile_path": "broken", "node_id": fleet.nodes[2].name}
    row = ended(fleet, "/api/build/build-and-deploy", {**body, "service_name": "agent", "cluster": "vision"})
    assert (row["state"], row["result"]["pushed"], row["result"]["status"]) == ("failed", True, "rolled_back"), row
    assert row["reason"] == "The deploy of agent was rolled back: task: non-zero exit (2) (exit code 2)."
    fleet.until(lambda: len(fleet.running("agent")) == 1)
    assert image_of_agent(fleet) == fleet.found["running"]


def contained(node: Node) -> dict[str, Any]:
    """Return what there is of the machine's own agent in a container, and of its unit."""
    label = "com.docker.swarm.service.name"
    lines = node.run("docker", "ps", "-a", "--no-trunc", "--format", f'{{{{.Label "{label}"}}}} {{{{.Status}}}}').splitlines()
    return {
        "containers": [line.split()[:2] for line in lines if line.startswith("fleet-agent-")],
        "unit": node.run("systemctl", "is-active", "fleet-agent", check=False).strip(),
        "enabled": node.run("systemctl", "is-enabled", "fleet-agent", check=False).strip(),
        "images": sorted(node.run("docker", "images", "--digests", "--format", "{{.Digest}}").split()),
    }


NATIVE = {"containers": [], "unit": "active", "enabled": "enabled"}


def test_the_machines_own_agents_move_into_containers(fleet: Fleet) -> None:
    assert ok(fleet.api.delete("/api/swarm/services/agent"))["name"] == "agent"
    first, second, third = fleet.nodes
    plays: Plays = fleet.found["plays"]
    plays.inventory([first, second], [third])
    plays.variables |= {"gpu_inference_mode": "container", "gpu_inference_swarm_manager": first.name, "gpu_inference_threads": 1}
    plays.variables |= {"gpu_inference_waves": ["100%"], "gpu_inference_check_size": "128x128", "gpu_inference_check_steps": 2}
    for node in (first, second):
        fleet.until(lambda node=node: node.run("docker", "ps", "-aq") == "")  # type: ignore[misc]
    known, fleet.found["native"] = set(fleet.manager.nodes()), {node.name: (contained(node), snapshot(node)) for node in (first, second)}

    missing = " ".join(plays.play("gpu_inference", "-e", f"gpu_inference_image={fleet.found['image']}-no").text.split())
    assert f"The registry has no {fleet.found['image']}-no; build it with ansible-playbook playbooks/build_image.yml" in missing
    played = plays.play("gpu_inference")
    assert min(played.changed(first), played.changed(second)) > 3
    assert plays.play("gpu_inference", "--limit", first.name).changed(first) == 0
    assert plays.play("doctor", "-e", '{"doctor_roles": ["node_agent", "gpu_inference"]}').changed(first) == 0
    [service] = [name for name in first.run("docker", "service", "ls", "--format", "{{.Name}}").split() if name.startswith("fleet-agent-")]
    for node in (first, second):
        assert contained(node) | {"images": []} == {
            "containers": [[service, "Up"]], "unit": "inactive", "enabled": "disabled", "images": [],
        }  # fmt: skip
        assert node.run("sh", "-c", "ss -ltn | grep ':8080 '").split()[3] == "127.0.0.1:8080"
    told = fleet.manager.nodes()
    assert set(told) == known, "each is the node that it was"
    assert all(told[node.name]["status"] == "online" and told[node.name]["models"][0] == "fleet-shapes" for node in (first, second))

    job = fleet.post("/api/vision/generate", PICTURE)["job_id"]
    made = fleet.until(lambda: (found := fleet.get(f"/api/vision/jobs/{job}"))["status"] in ("completed", "failed") and found, 120)
    assert made["status"] == "completed", made
    assert made["node_id"] in {first.name, second.name}


def test_one_that_fails_has_its_native_agent_again_and_others_stay(fleet: Fleet) -> None:
    first, second, _ = fleet.nodes
    plays, stays = fleet.found["plays"], contained(second)
    plays.variables["gpu_inference_waves"] = ["1", "100%"]
    failed = plays.play("gpu_inference", "-e", '{"gpu_inference_environment": {"FLEET_AGENT_LOG": "loud"}}')
    said = " ".join(failed.text.split())
    assert failed.code != 0
    why = "The agent's container does not run: task: non-zero exit (2). The agent said: FLEET_AGENT_LOG must be one of"
    assert why in said.replace("''", "'")
    assert "The node has its native agent again." in said
    assert list(failed.counts) == [first.name], "the waves after it were called off"
    assert contained(first) | {"images": []} == NATIVE | {"images": []}
    assert contained(second) == stays
    fleet.until(lambda: fleet.manager.nodes()[first.name]["status"] == "online")
    assert fleet.manager.nodes()[first.name]["labels"]["maintenance"] == "drained"


def test_another_image_comes_node_by_node_and_all_of_it_goes(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    plays, image = fleet.found["plays"], fleet.found["image"]
    third.shell(f"printf 'FROM {image}\nLABEL again=1\n' | docker build -q -t {image} - && docker push -q {image}")
    digest = third.run("docker", "inspect", image, "--format", "{{index .RepoDigests 0}}").strip().partition("@")[2]
    played = plays.play("gpu_inference")
    assert min(played.changed(first), played.changed(second)) > 3
    services = first.run("docker", "service", "ls", "--format", "{{.Name}}").split()
    assert len([name for name in services if name.startswith("fleet-agent-")]) == 1, "the one of before went with its last node"
    for node in (first, second):
        assert digest in contained(node)["images"]
        assert [status for _, status in contained(node)["containers"]] == ["Up"]
        assert "maintenance" not in fleet.manager.nodes()[node.name]["labels"]

    plays.variables["gpu_inference_waves"] = ["100%"]
    played = plays.play("gpu_inference_remove")
    assert min(played.changed(first), played.changed(second)) > 3
    for node in (first, second):
        before, files = fleet.found["native"][node.name]
        assert contained(node) == before
        assert [line for line in differences(files, snapshot(node)) if "/var/lib/containerd/" not in line] == []
    fleet.until(lambda: not any(fleet.manager.nodes()[node.name]["models"] for node in (first, second)))
    assert "fleet.inference" not in first.run("docker", "node", "inspect", first.name, second.name)
    assert "fleet-agent-" not in first.run("docker", "service", "ls")


def test_by_rest_a_worker_moves_into_a_container_and_back(fleet: Fleet) -> None:
    """The manager is not one of the operation's nodes, and is asked all the same."""
    first, second, _ = fleet.nodes
    before = {node.name: contained(node) for node in (first, second)}
    fleet.manager.fleet("vision", "install", second.name, "--mode", "container")
    assert contained(first) == before[first.name], "nothing was done on it"
    moved = contained(second)
    assert ([status for _, status in moved["containers"]], moved["unit"], moved["enabled"]) == (["Up"], "inactive", "disabled")
    fleet.until(lambda: fleet.manager.nodes()[second.name]["models"])

    answer = fleet.api.delete("/api/clusters/vision", params={"cleanup_swarm": True})
    assert (answer.status_code, f"fleet vision install {second.name}" in answer.json()["detail"]) == (409, True)
    said = " ".join(fleet.found["plays"].play("leave_swarm", "--limit", second.name).text.split())
    assert "The agent of this node runs in a container of the swarm and would end with its membership" in said
    assert contained(second) == moved

    fleet.manager.fleet("vision", "uninstall", second.name)
    assert {node.name: contained(node) for node in (first, second)} == before
    assert "fleet.inference" not in first.run("docker", "node", "inspect", first.name, second.name)


def test_all_is_removed_and_the_engines_are_clean(fleet: Fleet) -> None:
    first, second, third = fleet.nodes
    row = fleet.manager.succeeded(fleet.post(f"/api/nodes/{third.name}/retire")["operation_id"])
    assert any("has left the swarm" in each["text"] for each in fleet.manager.events(row["id"]))
    assert {each["node_id"] for each in fleet.get("/api/swarm/nodes")} == {first.name, second.name}
    assert ok(fleet.api.delete("/api/clusters/vision", params={"cleanup_swarm": True}))["name"] == "vision"
    assert fleet.get("/api/swarm/status")["nodes_count"] == 0
    for node in fleet.nodes:
        assert node.run("docker", "info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
        assert node.run("docker", "ps", "-aq") == ""
        assert node.run("docker", "volume", "ls", "-q").split() == (["fleet-agent"] if node is not third else []), "no nameless one is left"
    found = scanned(fleet)
    assert [found[node.ip]["node_id"] for node in fleet.nodes] == [first.name, second.name, None], "not the agents that ran there"
    assert not any(each["in_swarm"] for each in found.values())
