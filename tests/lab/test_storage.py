"""An object store on one node and its buckets as folders of three, by the playbook and beside a control plane that runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.types import S3Access
from fleet_api.adapters.object_store.verified import digests, verify
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.storage.buckets import BUCKETS
from tests.lab.conftest import MakeLab
from tests.support.agents_on_nodes import agents_on
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.plays import Plays
from tests.support.s3 import RCLONE
from tests.support.snapshot import differences, snapshot
from tests.support.store_agents import model_folder, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

PICTURES = 30
NAMES = [each.removeprefix("fleet-") for each in BUCKETS]
STAND_IN = """#!/bin/sh
# Takes MinIO's words and variables; what answers by S3 is rclone.
(cd /usr/share/doc && exec python3 -m http.server "${5#:}") &
export RCLONE_AUTH_KEY="\\"$MINIO_ROOT_USER,$MINIO_ROOT_PASSWORD\\""
exec /usr/local/bin/s3-stand-in serve s3 --addr "$3" --config /dev/null "$6"
"""


@dataclass
class Stored:
    nodes: list[Node]
    manager: Manager
    plays: Plays
    before: dict[str, Any]
    texts: list[str]

    @property
    def server(self) -> Node:
        return self.nodes[2]

    def play(self, playbook: Any = "storage") -> dict[str, int]:
        played = self.plays.play(playbook)
        self.texts.append(played.text)
        return {node.name: played.changed(node) for node in self.nodes if node.name in played.counts}

    def store(self, home: Path | None = None) -> S3Store:
        return S3Store(opened(home or self.manager.home), AllowedNetworks(["10.214.0.0/16"]))


def opened(home: Path) -> S3Access:
    done = subprocess.run(
        [sys.executable, "-m", "fleet_api.storage.handing", "--home", str(home)], check=True, capture_output=True, text=True
    )
    return S3Access(**json.loads(done.stdout))


@pytest.fixture(scope="module")
def stored(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    nodes, folder = make_lab("storage", 3), tmp_path_factory.mktemp("storage")
    if "No such" in nodes[0].shell("ls /dev/fuse 2>&1", check=False):
        assert not os.environ.get("FLEET_REQUIRE_LAB"), "the nodes have no /dev/fuse"
        pytest.skip("mounts want a kernel with FUSE")
    before = snapshot(nodes[2])
    with managing(folder / "home", gateway(nodes[0])) as manager:
        plays = Plays(
            folder, nodes, managers=nodes[2:], object_storage_server="rclone", object_storage_binary=RCLONE, s3_mounts_cache_gib=1
        )
        plays.environment = {"FLEET_HOME": str(manager.home)}
        yield Stored(nodes, manager, plays, before, [])


def test_the_playbook_makes_store_and_mounts_once(stored: Stored) -> None:
    first = stored.play()
    assert all(first[node.name] > 4 for node in stored.nodes)
    assert stored.play() == dict.fromkeys(first, 0), stored.texts[-1][-4000:]
    with stored.manager.client() as api:
        [credential] = [each for each in api.get("/api/vault").json() if each["name"] == "object-storage"]
    assert credential["kinds"] == ["password"]
    assert stored.store().buckets() == sorted(BUCKETS)
    assert "has no bucket policies" in " ".join(stored.texts[0].split())


def test_an_object_is_read_through_every_mount(stored: Stored, tmp_path: Path) -> None:
    content = os.urandom(20_000_000)
    (tmp_path / "one.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    stored.store().put("fleet-models", "sdxl/one.safetensors", tmp_path / "one.safetensors", sha256)
    for node in stored.nodes:
        node.shell("systemctl kill -s HUP fleet-s3@models")  # listings are forgotten
        assert node.run("sha256sum", "/mnt/s3-models/sdxl/one.safetensors").split()[0] == sha256
        assert node.shell("touch /mnt/s3-models/x 2>&1 || true").strip().endswith("Read-only file system")
    stored.nodes[0].shell("echo made > /mnt/s3-outputs/made.txt")
    deadline = time.monotonic() + 30
    while stored.store().head("fleet-outputs", "made.txt") is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_model_in_the_bucket_is_used_by_all_three_and_their_pictures_go_to_the_bucket(stored: Stored, tmp_path: Path) -> None:
    store, made = stored.store(), model_folder(tmp_path / "made", "lab-model", megabytes=20)
    files = {path.name: digests(path)[1] for path in made.iterdir()}
    for name, sha256 in files.items():
        store.put("fleet-models", f"lab-model/{name}", made / name, sha256)
    pictures = [{"prompt": "x", "model": "lab-model", "steps": 2, "width": 64, "height": 64, "seed": seed} for seed in range(PICTURES)]
    with agents_on(stored.manager, stored.nodes, tmp_path) as agents, stored.manager.client() as api:
        until(lambda: "lab-model" in ok(api.post("/api/vision/models/scan"))["found"], 60, "the model in the bucket")
        for agent in agents:
            until(lambda one=agent: ok(api.get(f"/api/nodes/{one.node_id}"))["status"] == "online", 60, agent.node_id)
            ok(api.post(f"/api/vision/models/switch/{agent.node_id}", json={"model": "lab-model"}))
        until(lambda: len(ok(api.get("/api/vision/models/loaded"))["models"].get("lab-model", [])) == 3, 120, "the model on every node")
        jobs = [ok(api.post("/api/vision/generate", json=body))["job_id"] for body in pictures]
        until(lambda: ok(api.get("/api/vision/gallery", params={"limit": 1}))["total"] == PICTURES, 120, "the pictures")
        images = ok(api.get("/api/vision/gallery"))["images"]
        assert {image["filename"] for image in images} == {f"image_{job}.png" for job in jobs}
        assert {image["node_id"] for image in images} == {agent.node_id for agent in agents}
        fetched = Counter((each["name"], each["source"] == "the store") for agent in agents for each in agent.log if each.get("source"))
        print(f"fetches of three nodes by file and whether from the store: {dict(fetched)}")
        for name in files:
            assert fetched[name, True] + fetched[name, False] == 3
            assert fetched[name, True] in (1, 2), "once or twice, not three times"

        assert ok(api.post("/api/outputs/sync"))["uploaded"] == PICTURES
        cleaned = ok(api.post("/api/outputs/cleanup", params={"max_age_hours": 0}))
        assert (cleaned["deleted"], cleaned["kept_unsynced"]) == (PICTURES, 0)
        assert not list((stored.manager.home / "outputs").glob("*.png"))
        listed = ok(api.get("/api/outputs/list", params={"source": "s3"}))
        for each in listed["outputs"]:
            verify(store, "fleet-outputs", each["filename"], each["bytes"], each["sha256"])
            assert each["public_url"] == f"{store.access.endpoint}/fleet-outputs/{each['filename']}"
        assert ok(api.get("/api/vision/gallery"))["total"] == PICTURES, "the gallery still shows them"
        assert api.get(images[0]["url"]).content.startswith(b"\x89PNG")
    for node in stored.nodes:
        node.shell("systemctl kill -s HUP fleet-s3@outputs fleet-s3@models")
        assert node.run("sha256sum", f"/mnt/s3-outputs/{listed['outputs'][0]['filename']}").split()[0] == listed["outputs"][0]["sha256"]
        assert {name: node.run("sha256sum", f"/mnt/s3-models/lab-model/{name}").split()[0] for name in files} == files


def test_a_killed_mount_comes_back(stored: Stored) -> None:
    node = stored.nodes[1]
    before = node.run("systemctl", "show", "-p", "MainPID", "--value", "fleet-s3@models").strip()
    node.run("kill", "-9", before)
    deadline = time.monotonic() + 30
    while node.shell("cat /mnt/s3-models/sdxl/one.safetensors | wc -c", check=False).strip() != "20000000":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert node.run("systemctl", "show", "-p", "MainPID", "--value", "fleet-s3@models").strip() != before


def test_the_secret_is_nowhere_else(stored: Stored) -> None:
    access = opened(stored.manager.home)
    assert not [text for text in stored.texts if access.secret_key in text]
    for node in stored.nodes:
        assert access.secret_key not in node.run("ps", "-eo", "args")
        assert access.secret_key not in node.run("journalctl", "--no-pager")
        found = node.shell(f"grep -rsl {access.secret_key} /etc /var /usr/local /home /root || true").split()
        assert set(found) <= {"/etc/fleet/s3/rclone.conf", "/etc/fleet/object-storage/server.env"}
        assert node.run("stat", "-c", "%a %U", *found).split() == ["600", "root"] * len(found)


def test_what_is_named_no_more_is_unmounted(stored: Stored) -> None:
    stored.plays.variables["s3_mounts_names"] = ["models", "outputs"]
    changed = stored.play()
    assert all(changed[node.name] for node in stored.nodes)
    for node in stored.nodes:
        assert node.shell("ls -d /mnt/s3-*").split() == ["/mnt/s3-models", "/mnt/s3-outputs"]
    assert set(stored.play().values()) == {0}


def test_a_store_by_the_name_of_minio(stored: Stored, tmp_path: Path) -> None:
    node = stored.nodes[0]
    subprocess.run(["docker", "cp", RCLONE, f"{node.name}:/usr/local/bin/s3-stand-in"], check=True, capture_output=True)
    plays = Plays(tmp_path, [], managers=[node], object_storage_program="/usr/local/bin/minio")
    plays.environment = {"FLEET_HOME": str(tmp_path / "home")}
    refused = plays.play("storage", "--tags", "object_storage")
    assert "There is no program /usr/local/bin/minio. Set object_storage_binary" in " ".join(refused.text.split())
    (tmp_path / "minio").write_text(STAND_IN)
    (tmp_path / "minio").chmod(0o755)
    subprocess.run(["docker", "cp", str(tmp_path / "minio"), f"{node.name}:/usr/local/bin/minio"], check=True, capture_output=True)
    assert plays.play("storage", "--tags", "object_storage").changed(node) > 4
    assert plays.play("storage", "--tags", "object_storage").changed(node) == 0
    assert stored.store(tmp_path / "home").buckets() == sorted(BUCKETS)
    assert node.run("systemctl", "show", "-p", "User", "--value", "fleet-object-storage").strip() == "fleet-objects"

    environment = {**os.environ, "FLEET_HOME": str(tmp_path / "known")}
    add = [sys.executable, "-m", "fleet_api", "vault", "add", "object-storage", "-u", "minioadmin"]
    subprocess.run(add, input="minioadmin123\n", env=environment, check=True, capture_output=True, text=True)
    plays.environment = {"FLEET_HOME": str(tmp_path / "known")}
    assert "everybody knows" in plays.play("storage", "--tags", "object_storage").text


def test_uninstalled_it_leaves_nothing(stored: Stored) -> None:
    tasks = stored.plays.tasks(
        *(
            {"ansible.builtin.include_role": {"name": f"fleet.commander.{role}", "tasks_from": "uninstall"}, **only}
            for role, only in (("s3_mounts", {}), ("object_storage", {"when": f"inventory_hostname == '{stored.server.name}'"}))
        )
    )
    stored.plays.variables["object_storage_remove_data"] = True
    stored.play(tasks)
    for node in stored.nodes:
        assert node.shell("ls /mnt").split() == []
        assert "fleet-s3" not in node.run("systemctl", "list-units", "--all", "--no-legend", "fleet-*")
    assert differences(stored.before, snapshot(stored.server)) == []
