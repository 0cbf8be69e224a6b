"""Services and containers over REST, with engines in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_api.services.containers import deploying as containers
from fleet_api.services.containers import service as container_service
from fleet_api.services.running import deploying
from fleet_api.settings import Settings
from tests.support.swarm import FakeFleet, fake_fleet

SERVICE = {
    "name": "vision-sdxl", "image": "192.0.2.10:5000/sdxl-trt:r36.4", "replicas": 1, "mode": "replicated",
    "ports": [{"target_port": 8080, "published_port": 8080}], "env": ["CUDA_VISIBLE_DEVICES=0"],
    "mounts": [{"source": "/mnt/s3-models", "target": "/models"}],
    "constraints": ["node.labels.cluster==vision", "node.labels.nvidia==true"], "resources": {"gpu": 1},
}  # fmt: skip
PLAIN = {"name": "web", "image": "web:1"}
CONTAINER = {"node_id": "agx0", "image": "web:1", "name": "myapp", "port": 8080, "mounts": ["/mnt/s3-models:/models"]}


@pytest.fixture
def fleet(settings: Settings, _empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFleet]:
    monkeypatch.setattr(deploying, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deploying, "STEADY_SECONDS", 0.02)
    monkeypatch.setattr(containers, "WATCHED_SECONDS", 0.01)
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with fake_fleet(settings) as found:
        found.cluster()
        yield found


def test_the_documents_service(fleet: FakeFleet) -> None:
    made = fleet.post("/api/swarm/services", SERVICE)
    assert (made["name"], made["replicas"], made["running"], made["mode"]) == ("vision-sdxl", 1, 1, "replicated")
    assert made["ports"] == [{"target_port": 8080, "published_port": 8080, "protocol": "tcp", "mode": "ingress"}]
    assert made["mounts"] == [{"source": "/mnt/s3-models", "target": "/models", "read_only": False, "type": "bind"}]
    assert made["resources"]["gpu"] == 1
    assert made["tasks"][0]["node_id"] == "agx0"
    [listed] = fleet.get("/api/swarm/services")
    assert listed == {key: made[key] for key in ("id", "name", "image", "replicas", "running", "mode")}
    assert fleet.get(f"/api/swarm/services/{made['id']}") == fleet.get("/api/swarm/services/vision-sdxl") == made
    assert "already exists" in fleet.post("/api/swarm/services", SERVICE, 409)["detail"]
    assert fleet.delete("/api/swarm/services/vision-sdxl") == {"status": "removed", "id": made["id"], "name": "vision-sdxl"}
    assert "no service" in fleet.delete("/api/swarm/services/vision-sdxl", 404)["detail"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"constraints": ["node.labels.cluster==kitchen"]}, "does not meet node.labels.cluster==kitchen"),
        ({"resources": {"gpu": 2}}, "offers 1 NVIDIA-GPU"),
        ({"replicas": 3}, "room for 2"),
        ({"image": "192.0.2.10:5000/sdxl-trt:r35.3.1"}, "has L4T r36.4.3, which does not run images for r35.3.1"),
        ({"image": "192.0.2.10:5000/sdxl-trt:r36.2.0"}, "does not run images for r36.2.0"),
        ({"resources": {"memory_mib": 100_000}}, "of memory"),
    ],
)
def test_what_no_node_can_hold(fleet: FakeFleet, change: dict[str, Any], word: str) -> None:
    detail = fleet.post("/api/swarm/services", {**SERVICE, **change}, 409)["detail"]
    assert word in detail
    assert "?force=true" in detail
    assert fleet.get("/api/swarm/services") == []
    fleet.post("/api/swarm/services", {**SERVICE, **change}, force=True)


def test_a_node_shows_what_runs_on_it(fleet: FakeFleet) -> None:
    assert fleet.get("/api/nodes/agx0")["services"] == []
    fleet.post("/api/swarm/services", PLAIN)
    assert [fleet.get(f"/api/nodes/{name}")["services"] for name in ("agx0", "agx1")] == [["web"], []]
    fleet.world.quorum = False
    assert fleet.get("/api/nodes/agx0")["services"] == ["web"], "as it was known last"


def test_ingress_wants_ip_vs(fleet: FakeFleet) -> None:
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    facts = {**state.nodes.get("agx1").row.facts, "ip_vs": False}
    fleet.api.portal.call(lambda: state.nodes.change("agx1", facts=facts))  # type: ignore[union-attr]
    assert "IP_VS" in fleet.post("/api/swarm/services", SERVICE, 409)["detail"]
    host = {**SERVICE, "ports": [{"target_port": 8080, "published_port": 8080, "mode": "host"}]}
    assert fleet.post("/api/swarm/services", host)["ports"][0]["mode"] == "host"


def test_scaled_by_body_or_by_query(fleet: FakeFleet) -> None:
    fleet.post("/api/swarm/services", PLAIN)
    assert fleet.post("/api/swarm/services/web/scale", {"replicas": 3}, 200)["replicas"] == 3
    assert fleet.post("/api/swarm/services/web/scale", None, 200, replicas=0)["running"] == 0
    for body, params, word in (
        (None, {}, "required"),
        ({"replicas": 1}, {"replicas": 2}, "contradict"),
        ({"replicas": 10_000}, {}, "from 0 to 1000"),
        (None, {"replicas": -1}, "from 0 to 1000"),
    ):
        detail = fleet.post("/api/swarm/services/web/scale", body, 400, **params)["detail"]
        assert "replicas" in detail
        assert word in detail
    fleet.post("/api/swarm/services", {"name": "everywhere", "image": "web:1", "mode": "global"})
    assert "global" in fleet.post("/api/swarm/services/everywhere/scale", {"replicas": 2}, 400)["detail"]


def test_a_deploy_tells_the_truth(fleet: FakeFleet) -> None:
    made = fleet.post("/api/swarm/services", PLAIN, wait=True)
    assert made["running"] == 1
    told = fleet.post("/api/swarm/services/web/update", {"image": "web:2"}, 200)
    assert (told["status"], told["error"], told["exit_code"]) == ("completed", None, None)
    assert fleet.get("/api/swarm/services/web")["image"] == "web:2"
    told = fleet.post("/api/swarm/services/web/update", {"image": "web:broken"}, 200)
    assert (told["status"], told["error"], told["exit_code"]) == ("rolled_back", "task: non-zero exit (3)", 3)
    row = fleet.get(f"/api/operations/{told['operation_id']}")
    assert row["state"] == "failed"
    assert "was rolled back: task: non-zero exit (3) (exit code 3)" in row["reason"]
    assert fleet.get("/api/swarm/services/web")["image"] == "web:2"
    assert "no earlier version" in fleet.post("/api/swarm/services/web/rollback", None, 409)["detail"]
    fleet.post("/api/swarm/services/web/update", {"env": ["COLOUR=red"]}, 200)
    told = fleet.post("/api/swarm/services/web/rollback", None, 200)
    assert told["status"] == "completed"
    assert fleet.get("/api/swarm/services/web")["env"] == []


def test_a_deploy_asks_for_gpus(fleet: FakeFleet) -> None:
    def deployed(**more: Any) -> tuple[str, Any]:
        body = {"image": "web:1", "service_name": "web", "cluster": "vision", **more}
        row = fleet.ended(fleet.post("/api/build/deploy", body)["operation_id"])
        return row["reason"] or "", fleet.get("/api/swarm/services/web")["resources"]["gpu"]

    assert deployed(gpus=1) == ("", 1)
    assert deployed(image="web:2") == ("", 1), "what is not said stays"
    reason, gpus = deployed(gpus=2)
    assert ("offers 1 NVIDIA-GPU" in reason, gpus) == (True, 1)
    assert deployed(gpus=0) == ("", 0)
    assert fleet.post("/api/swarm/services/web/update", {"resources": {"gpu": 1}}, 200)["status"] == "completed"
    assert fleet.get("/api/swarm/services/web")["resources"]["gpu"] == 1
    assert "offers 1" in fleet.post("/api/swarm/services/web/update", {"resources": {"gpu": 2}}, 409)["detail"]


def test_what_never_ran_is_not_left_behind(fleet: FakeFleet) -> None:
    detail = fleet.post("/api/swarm/services", {"name": "web", "image": "web:broken"}, 409, wait=True)["detail"]
    assert "exit code 3" in detail
    assert fleet.get("/api/swarm/services") == []
    fleet.post("/api/swarm/services", PLAIN)
    assert "no earlier version" in fleet.post("/api/swarm/services/web/rollback", None, 409)["detail"]


def test_a_service_update_is_told_on_the_socket(fleet: FakeFleet) -> None:
    with fleet.api.websocket_connect("/ws?types=service_update") as socket:
        state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
        watch = next(each for each in state.services if each.name == "service_watch")
        fleet.api.portal.call(watch.run_once)  # type: ignore[union-attr]
        fleet.post("/api/swarm/services", PLAIN)
        fleet.api.portal.call(watch.run_once)  # type: ignore[union-attr]
        told = json.loads(socket.receive_text())
    assert told["type"] == "service_update"
    assert (told["data"]["name"], told["data"]["action"], told["data"]["running"]) == ("web", "created", 1)


def test_values_of_variables_are_in_no_operation(fleet: FakeFleet) -> None:
    env = ["DB_PASSWORD=correct horse", "COLOUR=red"]
    made = fleet.post("/api/swarm/services", {**PLAIN, "env": env}, wait=True)
    assert made["env"] == ["DB_PASSWORD=[secret]", "COLOUR=red"]
    told = fleet.post("/api/swarm/services/web/update", {"env": [*env, "SHAPE=round"]}, 200)
    assert told["status"] == "completed"
    container = fleet.post("/api/fleet/deploy", {**CONTAINER, "env": env})
    assert fleet.dockers["agx0"].containers_here["myapp"]["Config"]["Env"] == env
    [service] = fleet.world.services.values()
    assert service["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == [*env, "SHAPE=round"]
    assert "correct horse" not in fleet.api.get("/api/operations").text
    assert "DB_PASSWORD=[not kept]" in fleet.api.get(f"/api/operations/{container['operation_id']}").text
    failed = fleet.post("/api/fleet/deploy", {**CONTAINER, "env": env}, 409)["detail"]
    retried = fleet.post(f"/api/operations/{failed.split('operation ')[1].split(')')[0]}/retry")["id"]
    assert "are not kept" in fleet.ended(retried)["reason"]


def test_commands_are_shown_in_no_operation(fleet: FakeFleet) -> None:
    command, health = ["redis-server", "--requirepass", "correct-horse"], {"test": ["CMD", "redis-cli", "-a", "correct-horse"]}
    fleet.post("/api/swarm/services", {**PLAIN, "command": command, "health": health}, wait=True)
    fleet.post("/api/swarm/services/web/update", {"command": [*command, "--port", "1"]}, 200)
    assert "correct-horse" not in fleet.api.get("/api/operations").text
    [service] = fleet.world.services.values()
    assert service["Spec"]["TaskTemplate"]["ContainerSpec"]["Command"] == [*command, "--port", "1"]


def test_logs_are_read_and_followed(fleet: FakeFleet) -> None:
    made = fleet.post("/api/swarm/services", PLAIN)
    told = fleet.get("/api/swarm/services/web/logs", tail=5)
    assert told == {"service_id": made["id"], "logs": f"tick of {made['tasks'][0]['id']}\n"}
    answer = fleet.api.get("/api/swarm/services/web/logs?follow=true")
    assert (answer.headers["content-type"], answer.text) == ("text/plain; charset=utf-8", told["logs"])
    assert "no service" in fleet.get("/api/swarm/services/nope/logs", 404)["detail"]


def test_containers_of_the_manager(fleet: FakeFleet) -> None:
    fleet.dockers["agx0"].containers_here["comfyui"] = {
        "Id": "a" * 64, "Name": "/comfyui", "Config": {"Image": "comfyui:latest"}, "State": {"Status": "running", "Running": True},
    }  # fmt: skip
    assert fleet.get("/api/swarm/containers") == {
        "containers": [
            {"id": "a" * 12, "name": "comfyui", "image": "comfyui:latest", "status": "running", "ports": {"8188/tcp": 8188}}
        ],
        "total": 1, "server": "agx0",
    }  # fmt: skip
    for action, state in (("stop", "exited"), ("start", "running"), ("restart", "running")):
        assert fleet.post(f"/api/swarm/containers/comfyui/{action}", None, 200)["status"] == state
        assert "No such container" in fleet.post(f"/api/swarm/containers/nope/{action}", None, 404)["detail"]
    assert fleet.get("/api/swarm/containers/comfyui/logs", tail=2) == {"container_id": "a" * 12, "logs": "line 8\nline 9\n"}
    assert "tail" in fleet.get("/api/swarm/containers/comfyui/logs", 400, tail=0)["detail"]


def test_logs_of_containers_have_a_bound(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.post("/api/fleet/deploy", CONTAINER)
    monkeypatch.setattr(container_service, "LARGEST", 7)
    assert fleet.get("/api/fleet/logs/agx0/myapp", tail=5)["logs"] == "line 9\n"


def test_a_container_on_a_node(fleet: FakeFleet) -> None:
    made = fleet.post("/api/fleet/deploy", CONTAINER)
    assert (made["status"], made["node_id"], made["name"]) == ("running", "agx0", "myapp")
    host = fleet.dockers["agx0"].containers_here["myapp"]["Config"]["HostConfig"]
    assert host["PortBindings"] == {"8080/tcp": [{"HostPort": "8080"}]}
    assert host["Mounts"] == [{"Type": "bind", "Source": "/mnt/s3-models", "Target": "/models", "ReadOnly": False}]
    assert "already in use" in fleet.post("/api/fleet/deploy", CONTAINER, 409)["detail"]
    assert fleet.get("/api/fleet/logs/agx0/myapp", tail=1) == {"node_id": "agx0", "container": "myapp", "logs": "line 9\n"}
    assert fleet.delete("/api/fleet/deploy/agx0/myapp") == {"status": "removed", "node_id": "agx0", "name": "myapp"}
    assert "No such container" in fleet.delete("/api/fleet/deploy/agx0/myapp", 404)["detail"]


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"node_id": "nope"}, 404, "no node 'nope'"),
        ({"image": "nowhere/at-all:1"}, 404, "nowhere/at-all"),
        ({"image": "web:broken"}, 409, "exit code 3"),
        ({"gpus": True}, 409, "no NVIDIA runtime"),
        ({"image": "sdxl:r35.3.1"}, 409, "does not run images for r35.3.1"),
        ({"mounts": ["/etc:/etc"]}, 400, "FLEET_MOUNT_ROOTS"),
        ({"mounts": ["/var/run/docker.sock:/s"]}, 400, "Docker socket"),
        ({"mounts": ["/mnt/../etc:/etc"]}, 400, ".."),
        ({"mounts": ["/mnt"]}, 400, "source:target"),
        ({"port": None, "host_port": 80}, 400, "host_port"),
    ],
)
def test_a_container_that_cannot_be(fleet: FakeFleet, change: dict[str, Any], status: int, word: str) -> None:
    fleet.dockers["agx0"].images.add("web:broken")
    assert word in fleet.post("/api/fleet/deploy", {**CONTAINER, **change}, status)["detail"]
    assert fleet.dockers["agx0"].containers_here == {}


def test_a_task_is_not_removed_as_a_container(fleet: FakeFleet) -> None:
    labels = {"com.docker.swarm.service.name": "web"}
    fleet.dockers["agx0"].containers_here["web.1"] = {
        "Id": "b" * 64, "Name": "/web.1", "Config": {"Image": "web:1", "Labels": labels}, "State": {"Status": "running"},
    }  # fmt: skip
    assert "task of service web" in fleet.delete("/api/fleet/deploy/agx0/web.1", 409)["detail"]


def test_an_engine_that_is_away(fleet: FakeFleet) -> None:
    fleet.engines.engines["agx1"].client = None
    assert "No Docker Engine answers" in fleet.post("/api/fleet/deploy", {**CONTAINER, "node_id": "agx1"}, 503)["detail"]
