"""Three nodes become vision nodes by the playbook; jobs go where their model is, while a node is killed or all change; models are brought;
the way back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.plays import ROOT, Played, Plays
from tests.support.releases import FOLDER, Release
from tests.support.snapshot import differences, snapshot
from tests.support.store_agents import model_folder, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

KINDS: list[dict[str, Any]] = [{"model": "fleet-shapes"}, {"model": "fleet-shapes-pastel"}, {"model": "fleet-shapes", "lora": "night"}]
EACH = 20
PICTURE = {"prompt": "a red circle on a blue background", "width": 128, "height": 128, "steps": 4}


@dataclass
class Vision:
    """A control plane, its nodes with agents alone, and a person with playbooks."""

    manager: Manager
    nodes: list[Node]
    plays: Plays
    found: dict[str, Any]
    onboarded: dict[str, Any]

    def play(self, playbook: str = "gpu_inference", *words: str) -> dict[str, int]:
        """Run a playbook that succeeds; return how much it changed on each node."""
        played = self.plays.play(playbook, *words)
        return {node.name: played.changed(node) for node in self.nodes}

    def fails(self, **variables: Any) -> Played:
        """Run the playbook with other variables, which fails; the text is on one line."""
        kept = dict(self.plays.variables)
        self.plays.variables |= variables
        try:
            played = self.plays.play("gpu_inference")
        finally:
            self.plays.variables = kept
        assert played.code != 0, played.text[-3000:]
        return Played(played.code, " ".join(played.text.split()), played.counts)

    def submit(self, each: int, **more: object) -> list[str]:
        """Queue so many jobs of each kind, by turns."""
        with self.manager.client() as api:
            bodies = [{**PICTURE, **kind, "seed": seed, **more} for seed in range(each) for kind in KINDS]
            return [str(ok(api.post("/api/vision/generate", json=body))["job_id"]) for body in bodies]

    def jobs(self, ids: list[str]) -> list[dict[str, Any]]:
        with self.manager.client() as api:
            return [ok(api.get(f"/api/queue/jobs/{each}", params={"explain": True})) for each in ids]

    def completed(self, ids: list[str]) -> bool:
        with self.manager.client() as api:
            stats = ok(api.get("/api/queue/stats"))
        assert stats["failed"] == stats["cancelled"] == 0, stats
        return stats["queued"] == stats["processing"] == 0

    def online(self) -> list[str]:
        return sorted(name for name, about in self.manager.nodes().items() if about["status"] in ("online", "busy"))


@pytest.fixture(scope="module")
def vision(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vision]:
    nodes, folder = make_lab("vision", 3), tmp_path_factory.mktemp("vision")
    found = {node.name: snapshot(node) for node in nodes}
    with managing(folder / "home", gateway(nodes[0])) as manager:
        plays = Plays(folder, nodes, managers=[], fleet_control_plane_url=manager.url, gpu_inference_threads=1)
        plays.variables["gpu_inference_waves"] = ["1", "100%"]
        # With both models loaded on every node there would be nothing to stay with.
        plays.variables["gpu_inference_environment"] = {"FLEET_AGENT_SPARE_MODELS": "0"}
        plays.environment = {"FLEET_HOME": str(manager.home)}
        refused = " ".join(plays.play("gpu_inference").text.split())
        assert "There is no enrolled agent on this node" in refused
        onboarded = plays.play("onboard", "--tags", "node_agent")
        assert onboarded.code == 0, onboarded.text[-3000:]
        yield Vision(manager, nodes, plays, found, {node.name: snapshot(node) for node in nodes})


def test_the_playbook_makes_vision_nodes(vision: Vision) -> None:
    assert vision.plays.play("gpu_inference", "--check", "--limit", vision.nodes[0].name).changed(vision.nodes[0]) > 0
    assert {name: about["models"] for name, about in vision.manager.nodes().items()} == {node.name: [] for node in vision.nodes}
    vision.plays.variables["gpu_inference_load"] = "fleet-shapes-pastel"
    assert all(changed > 3 for changed in vision.play().values())
    assert set(vision.play().values()) == {0}
    del vision.plays.variables["gpu_inference_load"]
    with vision.manager.client() as api:
        assert len(ok(api.get("/api/vision/models/loaded"))["models"]["fleet-shapes-pastel"]) == 3
    for about in until(lambda: (known := vision.manager.nodes()) and all(each["models"] for each in known.values()) and known).values():
        assert about["models"] == ["fleet-shapes", "fleet-shapes-pastel"]
        assert "maintenance" not in about["labels"]


def test_onboarded_again_a_node_keeps_its_engine(vision: Vision) -> None:
    assert set(vision.play("onboard", "--tags", "node_agent").values()) == {0}
    assert set(vision.play("doctor", "-e", '{"doctor_roles": ["node_agent", "gpu_inference"]}').values()) == {0}


def test_sixty_jobs_stay_with_their_model_while_a_node_is_killed(vision: Vision) -> None:
    ids = vision.submit(EACH, width=512, height=512)  # for a second each, which is longer than it takes to kill a node
    victim = vision.nodes[2]
    at_work: list[str | None] = [None]

    def midway() -> bool:
        """A quarter is done, and the victim has just begun with another one: it is dead before that ends."""
        with vision.manager.client() as api:
            stats, workers = ok(api.get("/api/queue/stats")), ok(api.get("/api/vision/nodes"))["nodes"]
        assert stats["queued"] > 0, "all of it is done before anything was killed"
        at_work.append(next((each["current_job"] for each in workers if each["node_id"] == victim.name), None))
        return stats["completed"] >= len(ids) // 4 and at_work[-1] not in (None, at_work[-2])

    until(midway, 120, "the middle")
    subprocess.run(["docker", "kill", victim.name], check=True, capture_output=True)
    until(lambda: vision.completed(ids), 180, "the end")
    jobs = vision.jobs(ids)
    assert Counter(job["status"] for job in jobs) == {"completed": 3 * EACH}
    made = Counter(job["node_id"] for job in jobs)
    assert sorted(made) == sorted(node.name for node in vision.nodes), "all three made pictures"
    assert sum(job["attempts"] > 1 for job in jobs) >= 1, "what the killed node held was made elsewhere"

    tries = sorted((each["started_at"], each["node_id"], job["model"]) for job in jobs for each in job["history"])
    changes = {name: models_changed([model for _, node, model in tries if node == name]) for name in made}
    print(f"pictures {dict(made)}, changes of model {changes}; at random some {len(tries) * 4 // 9}")
    assert sum(changes.values()) <= 6, changes
    with vision.manager.client() as api:
        assert ok(api.get("/api/vision/gallery"))["total"] == 3 * EACH

    subprocess.run(["docker", "start", victim.name], check=True, capture_output=True)
    until(lambda: len(vision.online()) == 3, 60, "the killed node")


def models_changed(models: list[str]) -> int:
    """Return how often a node changed its model, the first one aside."""
    return sum(before != after for before, after in pairwise(models))


def test_a_change_waits_for_the_node_s_work(vision: Vision) -> None:
    key = vision.manager.home / "key"
    key.rename(key.with_suffix(".away"))  # on the control plane's own machine none is needed
    ids = vision.submit(10)
    vision.plays.variables["gpu_inference_memory_max_mib"] = 4096
    try:
        assert all(vision.play().values())
    finally:
        key.with_suffix(".away").rename(key)
    until(lambda: vision.completed(ids), 120, "the jobs")
    assert {job["attempts"] for job in vision.jobs(ids)} == {1}, "no job was cut off, nor given back"
    assert not [name for name, about in vision.manager.nodes().items() if "maintenance" in about["labels"]]
    assert [each["name"] for each in json.loads(vision.manager.fleet("keys", "list", "--json"))] == ["tests"]
    for node in vision.nodes:
        assert node.run("systemctl", "show", "-p", "MemoryMax", "--value", "fleet-agent").strip() == str(4096 * 2**20)


def test_a_node_that_fails_calls_the_waves_after_it_off(vision: Vision) -> None:
    first = vision.nodes[0]
    first.shell("echo '# R35 (release), REVISION: 1.0, GCID: 1, BOARD: t186ref, EABI: aarch64, DATE: x' > /etc/nv_tegra_release")
    assert "This Jetson runs L4T 35.1.0 (JetPack 5.0.2), and an engine needs L4T 35.2 (JetPack 5.1) or later" in vision.fails().text
    first.shell("rm /etc/nv_tegra_release")
    said = vision.fails(gpu_inference_models=["/srv/none"])
    assert "gpu_inference_models names /srv/none, and there is no such folder on this node" in said.text
    assert list(said.counts) == [first.name]
    assert (
        "This node is in no swarm, which containers of the agent want; run the playbook"
        in vision.fails(gpu_inference_mode="container").text
    )

    said = vision.fails(gpu_inference_environment={"FLEET_AGENT_LOG": "loud"}, gpu_inference_check_seconds=3)
    assert "The engine is not up: the agent does not run; see journalctl -u fleet-agent on the node." in said.text
    assert list(said.counts) == [first.name]
    assert {name: about["labels"].get("maintenance") for name, about in vision.manager.nodes().items()} == {
        node.name: "drained" if node is first else None for node in vision.nodes
    }
    assert vision.plays.play("gpu_inference", "--limit", first.name).changed(first) > 0
    assert "maintenance" not in vision.manager.nodes()[first.name]["labels"]


def test_from_a_wheelhouse_nothing_is_fetched(vision: Vision, tmp_path: Path) -> None:
    wheelhouse = tmp_path / "wheels"
    shutil.copytree(vision.manager.home / "cache" / "agent" / "wheels", wheelhouse)
    vision.plays.environment["PIP_INDEX_URL"] = "http://127.0.0.1:9/"
    vision.plays.variables |= {"fleet_wheelhouse": str(wheelhouse), "node_agent_bundle_cache": str(tmp_path / "cache")}
    [numpy] = wheelhouse.glob("numpy-*")
    numpy.rename(tmp_path / numpy.name)
    version = numpy.name.split("-")[1]
    assert f"The wheelhouse {wheelhouse} lacks numpy=={version} for Python 3.11" in vision.fails().text
    (tmp_path / numpy.name).rename(numpy)
    assert set(vision.play().values()) == {0}, "the same bundle as by the index"
    assert len(list((tmp_path / "cache").glob("engine-libraries-*.tar"))) == 1
    vision.plays.variables.pop("node_agent_bundle_cache")


def test_a_release_with_the_same_libraries_leaves_them_as_they_are(vision: Vision) -> None:
    node = vision.nodes[0]
    release = Release.of(node)
    release.pretend_another()
    assert vision.plays.play("gpu_inference", "--limit", node.name).changed(node) > 0
    assert Release.of(node) == release
    assert node.shell(f"ls {FOLDER}").split() == release.names()
    assert vision.plays.play("gpu_inference", "--limit", node.name).changed(node) == 0


def test_models_of_the_controller_and_of_the_store_are_brought(vision: Vision, tmp_path: Path) -> None:
    node = vision.nodes[0]
    stored = vision.manager.home / "models" / "fleet-models" / "stored"
    shutil.copytree(model_folder(tmp_path / "stored", "stored"), stored)
    for path in stored.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)
    vision.manager.again({"FLEET_DEFAULT_MODEL": "stored"})
    with vision.manager.client() as api:
        ok(api.post("/api/vision/models/scan"))  # one of its own may have found it before
        assert any(model["name"] == "stored" for model in ok(api.get("/api/vision/models/available"))["models"])
    vision.plays.variables["gpu_inference_bring"] = [
        str(model_folder(tmp_path / "brought", "brought")), str(ROOT / "gpu_inference" / "builtin" / "loras" / "night.safetensors"),
    ]  # fmt: skip
    assert vision.plays.play("gpu_inference", "--limit", node.name).changed(node) > 3
    with vision.manager.client() as api:
        models = {model["name"]: model for model in ok(api.get("/api/vision/models/available"))["models"]}
    assert models["brought"]["on_nodes"] == [node.name]
    assert (models["stored"]["default"], models["stored"]["on_nodes"], models["stored"]["loaded_on"]) == (True, [node.name], [node.name])
    assert node.run("ls", "/opt/fleet/models").split() == ["brought", "loras"]
    assert vision.plays.play("gpu_inference", "--limit", node.name).changed(node) == 0
    stored_nowhere = vision.plays.play(
        "gpu_inference", "--limit", node.name, "-e", "gpu_inference_load=none", "-e", "gpu_inference_load_seconds=1"
    )
    assert f"node '{node.name}' has no model 'none'" in " ".join(stored_nowhere.text.split()).replace("''", "'")
    del vision.plays.variables["gpu_inference_bring"]
    vision.manager.fleet("models", "delete", "stored")
    vision.manager.again({})
    node.shell("systemctl stop fleet-agent && rm -r /var/lib/fleet-agent/cache && systemctl start fleet-agent")


def test_without_its_engine_a_node_is_as_it_was_onboarded(vision: Vision) -> None:
    """By the command, and so by the control plane, which needs no key for itself."""
    with vision.manager.client() as api:
        for node in vision.nodes:
            body = {"ip": node.ip, "credential_id": vision.manager.credential(node)}
            ok(api.patch(f"/api/nodes/{node.name}", json=body))
    vision.manager.fleet("vision", "uninstall", *(node.name for node in vision.nodes))
    for node in vision.nodes:
        assert differences(vision.onboarded[node.name], snapshot(node)) == []
    assert set(vision.play("gpu_inference_remove").values()) == {0}
    known = until(lambda: (known := vision.manager.nodes()) and not any(each["models"] for each in known.values()) and known)
    assert {about["status"] for about in known.values()} == {"online"}


def test_retired_with_an_engine_it_leaves_nothing(vision: Vision) -> None:
    node = vision.nodes[1]
    for playbook in ("gpu_inference", "retire"):
        assert vision.plays.play(playbook, "--limit", node.name).changed(node) > 0
    assert differences(vision.found[node.name], snapshot(node)) == []
