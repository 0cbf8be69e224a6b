"""A registry made by the playbook on one node; images built by REST on another's engine, pushed, listed and pulled; the way back."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_api.access import registry_identity
from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.plays import Played, Plays
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

BASE = r"""
set -e
mkdir -p /tmp/base/bin /tmp/base/tmp && cd /tmp/base
cp -L /bin/dash bin/sh && cp -L /bin/sleep /bin/cat bin/
for library in $(ldd bin/* | grep -o '/lib[^ ]*' | sort -u); do mkdir -p ".$(dirname "$library")" && cp -L "$library" ".$library"; done
tar -c . | docker import - lab-base:1
rm -rf /tmp/base
"""
GOOD = 'FROM lab-base:1\nARG WORD=none\nCOPY greeting /greeting\nRUN echo "$WORD" > /word\nCMD ["cat", "/greeting", "/word"]\n'
FAILING = "FROM lab-base:1\nRUN echo about to fail\nRUN exit 3\n"
WAITING = """CMD ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.5; done"]\n"""
HANGING = "FROM lab-base:1\nRUN echo waiting; sleep 600\n"


@dataclass
class Place:
    """A control plane, a node with the registry, a node that builds, and a person with playbooks."""

    manager: Manager
    keeper: Node
    builder: Node
    plays: Plays
    roots: Path

    @property
    def address(self) -> str:
        return f"{self.keeper.ip}:5000"

    @property
    def login(self) -> registry_identity.Login:
        found = registry_identity.login(self.manager.home / "registry")
        assert found is not None
        return found

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Ask the registry from outside, trusting the fleet's authority alone."""
        context = ssl.create_default_context(cafile=str(self.manager.home / "registry" / "ca.crt"))
        return httpx.get(f"https://{self.address}{path}", verify=context, trust_env=False, timeout=5, **more)

    def start(self, name: str, **more: Any) -> str:
        body = {"image_name": name, "tag": "v1", "dockerfile_path": name, "node_id": self.builder.name, **more}
        with self.manager.client() as api:
            answer = api.post("/api/build/build", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["operation_id"])

    def dockerfile(self, name: str, text: str, **files: str) -> None:
        folder = self.roots / name
        folder.mkdir()
        for file, content in {"Dockerfile": text, **files}.items():
            (folder / file).write_text(content)

    def left(self) -> str:
        """Containers on the builder's engine, of any state."""
        return self.builder.shell("docker ps -aq").strip()


@pytest.fixture(scope="module")
def place(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    keeper, builder = make_lab("build", 2, "--docker")
    folder = tmp_path_factory.mktemp("build")
    (folder / "roots").mkdir()
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "fleet.toml").write_text(f'build_roots = ["{folder / "roots"}"]\nswarm_manager = "{keeper.name}"\n')
    with managing(folder / "home", gateway(keeper)) as manager:
        plays = Plays(
            folder, [keeper, builder], managers=[keeper], fleet_registry=f"{keeper.ip}:5000", fleet_control_plane_url=manager.url,
            registry_remove_data=True,
        )  # fmt: skip
        plays.environment = {"FLEET_HOME": str(manager.home)}
        credential = manager.credential(keeper, "lab")
        with manager.client() as api:
            for node in (keeper, builder):
                if node is builder and node.password != keeper.password:
                    credential = manager.credential(builder, "lab-builder")
                about = {"hostname": node.name, "ip": node.ip, "credential_id": credential, "cluster": "vision"}
                assert api.post("/api/nodes", json=about).status_code == 201
        yield Place(manager, keeper, builder, plays, folder / "roots")


@pytest.fixture(scope="module")
def found(place: Place) -> dict[str, dict[str, Any]]:
    """Both nodes as they were found."""
    return {node.name: snapshot(node) for node in (place.keeper, place.builder)}


@pytest.fixture(scope="module")
def registry(place: Place, found: dict[str, dict[str, Any]]) -> Played:
    """The registry, by its playbook."""
    foretold = place.plays.play("registry", "--check")
    assert foretold.changed(place.keeper) > 0
    assert not (place.manager.home / "registry").exists()
    played = place.plays.play("registry")
    assert played.changed(place.keeper) >= foretold.changed(place.keeper)
    return played


def test_the_playbook_again_changes_nothing_and_tells_no_secret(place: Place, registry: Played) -> None:
    again = place.plays.play("registry", "-vvv")
    assert {node.name: again.changed(node) for node in (place.keeper, place.builder)} == {place.keeper.name: 0, place.builder.name: 0}
    folder = place.manager.home / "registry"
    token = (folder / "docker.json").read_text().split('"')[-2]
    for secret in (place.login.password, token, (folder / "htpasswd").read_text().strip()):
        for text in (registry.text, again.text, place.keeper.shell("journalctl --no-pager; ps axww")):
            assert secret not in text
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_it_wants_tls_and_the_password(place: Place, registry: Played) -> None:
    assert place.get("/v2/").status_code == 401
    assert place.get("/v2/", auth=("fleet", "wrong")).status_code == 401
    assert place.get("/v2/", auth=("fleet", place.login.password)).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://{place.address}/v2/", trust_env=False, timeout=5)
    assert httpx.get(f"http://{place.address}/v2/", trust_env=False, timeout=5).status_code == 400
    assert place.keeper.shell("ps -o user= -C docker-registry").split() == ["docker-registry"]
    with place.manager.client() as api:
        assert ok(api.get("/api/build/registry/images")) == {"images": [], "registry": place.address, "total": 0}


def test_built_on_a_node_pushed_listed_and_pulled(place: Place, registry: Played) -> None:
    place.builder.shell(BASE)
    place.dockerfile("team-hello", GOOD, greeting="hello\n", secret="not for the image", **{".dockerignore": "secret\n"})
    operation = place.start("team-hello", build_args={"WORD": "world"}, platform="linux/amd64")
    row = place.manager.succeeded(operation)
    image = f"{place.address}/team-hello:v1"
    assert (row["result"]["image"], row["result"]["pushed"], row["result"]["node_id"]) == (image, True, place.builder.name)
    told = [each["text"] for each in place.manager.events(operation)]
    assert any(text.startswith("Step 3/") for text in told)
    assert any("2 files" in text or "3 files" in text for text in told)
    with place.manager.client() as api:
        images = ok(api.get("/api/build/registry/images"))["images"]
    assert images == [{"name": "team-hello", "tags": ["v1"], "full_image": f"{place.address}/team-hello"}]
    assert f"Digest: {row['result']['digest']}" in place.keeper.shell(f"docker pull {image}")
    assert place.keeper.shell(f"docker run --rm --network none {image}").split() == ["hello", "world"]
    again = place.manager.succeeded(place.start("team-hello", build_args={"WORD": "world"}))
    assert again["result"]["image_id"] == row["result"]["image_id"]


def test_a_failing_dockerfile_is_one_sentence(place: Place, registry: Played) -> None:
    place.dockerfile("failing", FAILING)
    row = place.manager.ended(place.start("failing"))
    assert row["state"] == "failed"
    assert row["reason"] == "Step 3/4 (RUN exit 3) failed: The command '/bin/sh -c exit 3' returned a non-zero code: 3."
    assert place.left() == ""
    assert "failing" not in place.builder.shell("docker images")


def test_a_cancel_ends_the_build_itself(place: Place, registry: Played) -> None:
    place.dockerfile("hanging", HANGING)
    operation = place.start("hanging")
    until(lambda: "sleep 600" in place.builder.shell("ps axww"))
    with place.manager.client() as api:
        asked = time.monotonic()
        ok(api.post(f"/api/operations/{operation}/cancel"))
    row = place.manager.ended(operation)
    assert row["state"] == "cancelled"
    assert time.monotonic() - asked < 1.5  # a second, and the two questions
    until(lambda: place.left() == "", 15)
    assert "sleep 600" not in place.builder.shell("ps axww")
    row = place.manager.ended(place.start("hanging", timeout_seconds=2))
    assert row["reason"] == "The build was ended after 2 s: it hung at step 2/3; mend it, or give it more with timeout_seconds."


def test_a_registry_that_is_away_or_takes_nothing(place: Place, registry: Played) -> None:
    place.keeper.shell("systemctl stop docker-registry")
    with place.manager.client() as api:
        answer = api.get("/api/build/registry/images")
    assert (answer.status_code, answer.json()["detail"]) == (
        503, f"No registry answers at {place.address}; see that it runs there: systemctl status docker-registry.",
    )  # fmt: skip
    row = place.manager.ended(place.start("team-hello"))
    assert row["reason"].startswith(f"The image was built on {place.builder.name}, but not pushed to {place.address}: ")
    assert row["reason"].endswith("see that the registry runs, and that the engine reaches it.")
    place.keeper.shell("systemctl start docker-registry")
    until(lambda: "5000" in place.keeper.shell("ss -Hltn 'sport = 5000'"))
    with place.manager.client() as api:
        again = ok(api.post(f"/api/operations/{row['id']}/retry"))
    place.manager.succeeded(again["id"])


def test_over_its_limit_it_is_read_and_not_written(place: Place, registry: Played) -> None:
    place.keeper.shell("sed 's/-ge [0-9]*/-ge 0/' /usr/local/lib/fleet/registry-tidy > /tmp/tidy && sh /tmp/tidy limit && rm /tmp/tidy")
    until(lambda: "5000" in place.keeper.shell("ss -Hltn 'sport = 5000'"))
    row = place.manager.ended(place.start("team-hello", tag="v2", build_args={"WORD": "more"}))
    assert "not pushed" in row["reason"]
    assert place.get("/v2/team-hello/tags/list", auth=("fleet", place.login.password)).json()["tags"] == ["v1"]
    place.keeper.shell("systemctl start fleet-registry-collect")  # within its limit: it is written again
    until(lambda: "5000" in place.keeper.shell("ss -Hltn 'sport = 5000'"))
    place.manager.succeeded(place.start("team-hello", tag="v2", build_args={"WORD": "more"}))


@pytest.fixture(scope="module")
def swarm(place: Place, registry: Played) -> None:
    """Both engines in a swarm, the builder in the cluster ``vision``."""
    place.keeper.shell(f"docker swarm init --advertise-addr {place.keeper.ip}")
    token = place.keeper.shell("docker swarm join-token -q worker").strip()
    place.builder.shell(f"docker swarm join --token {token} {place.keeper.ip}:2377")
    place.keeper.shell(f"docker node update --label-add cluster=vision {place.builder.name}")
    with place.manager.client() as api:  # until the way to it is open
        until(lambda: api.get("/api/swarm/services").status_code == 200)


def test_built_and_deployed_by_rest(place: Place, swarm: None) -> None:
    place.dockerfile("waiter", 'FROM lab-base:1\nARG WORD=one\nRUN echo "$WORD" > /word\n' + WAITING)
    body = {
        "image_name": "waiter", "tag": "v1", "dockerfile_path": "waiter", "node_id": place.builder.name, "service_name": "waiter",
        "cluster": "vision",
    }  # fmt: skip
    for word in ("one", "two"):  # another image under the same tag is brought too
        with place.manager.client() as api:
            started = ok(api.post("/api/build/build-and-deploy", json={**body, "build_args": {"WORD": word}}))
        row = place.manager.succeeded(started["operation_id"])
        assert (row["result"]["status"], row["result"]["pushed"]) == ("completed", True)
        container = place.builder.shell("docker ps -q --filter label=com.docker.swarm.service.name=waiter").split()[0]
        assert place.builder.shell(f"docker exec {container} cat /word").strip() == word
    with place.manager.client() as api:
        started = ok(api.post("/api/build/deploy", json={"image": row["result"]["image"], "service_name": "again", "cluster": "vision"}))
        place.manager.succeeded(started["operation_id"])
        for name in ("waiter", "again"):
            ok(api.delete(f"/api/swarm/services/{name}"))
    until(lambda: place.left() == "", 40)


def test_the_same_by_playbooks_alone(place: Place, swarm: None) -> None:
    place.keeper.shell(BASE)
    place.dockerfile("by-hand", 'FROM lab-base:1\nARG WORD=one\nRUN echo "$WORD" > /word\n' + WAITING)
    plays, image = place.plays, f"{place.address}/by-hand:latest"
    plays.variables |= {"image_build_name": "by-hand", "image_build_context": str(place.roots / "by-hand"), "deploy_cluster": "vision"}
    plays.variables |= {"deploy_service_name": "by-hand", "deploy_image": image, "deploy_replicas": 2}
    for playbook in ("build_image", "deploy"):
        assert plays.play(playbook, "--check").changed(place.keeper) == 1
        assert plays.play(playbook).changed(place.keeper) == 1
        assert plays.play(playbook).changed(place.keeper) == 0
    assert "by-hand" in place.keeper.shell("docker service ls --filter name=by-hand")
    plays.variables["image_build_args"] = {"WORD": "two"}
    assert [plays.play(playbook).changed(place.keeper) for playbook in ("build_image", "deploy")] == [1, 1]
    container = place.builder.shell("docker ps -q --filter label=com.docker.swarm.service.name=by-hand").split()[0]
    assert place.builder.shell(f"docker exec {container} cat /word").strip() == "two"
    plays.variables["deploy_state"] = "absent"
    assert plays.play("deploy").changed(place.keeper) == 1


def test_one_on_each_node_that_fits(place: Place, swarm: None) -> None:
    options = {
        "name": "everywhere", "image": f"{place.address}/by-hand:latest", "mode": "global", "constraints": ["node.labels.cluster==vision"],
        "mounts": [{"source": "/etc/machine-id", "target": "/of-node", "read_only": True}], "user": "65534:65534", "groups": ["44"],
        "networks": ["host"], "stop_grace": 3, "memory_mib": 64, "labels": {"fleet.test": "yes"},
    }  # fmt: skip
    only, bring = ("--limit", place.keeper.name), place.plays.tasks({"fleet.commander.fleet_service": options})
    assert [place.plays.play(bring, *words).changed(place.keeper) for words in ((*only, "--check"), only, only)] == [1, 1, 0]
    mine = "docker ps -q --filter label=com.docker.swarm.service.name=everywhere"
    assert place.keeper.shell(mine) == "", "it is not in the cluster"
    [container] = place.builder.shell(mine).split()
    assert place.builder.run("docker", "exec", container, "cat", "/of-node") == place.builder.run("cat", "/etc/machine-id")
    said = place.builder.run("docker", "inspect", container, "--format", "{{.Config.User}} {{.HostConfig.Memory}}")
    assert said.split() == ["65534:65534", str(64 * 2**20)]
    options["user"] = "0"
    assert place.plays.play(place.plays.tasks({"fleet.commander.fleet_service": options}), *only).changed(place.keeper) == 1
    gone = place.plays.tasks({"fleet.commander.fleet_service": {"name": "everywhere", "state": "absent"}})
    assert [place.plays.play(gone, *only).changed(place.keeper) for _ in range(2)] == [1, 0]


def test_the_way_back(place: Place, registry: Played, found: dict[str, dict[str, Any]]) -> None:
    for node in (place.builder, place.keeper):
        node.shell("docker swarm leave --force", check=False)
    assert place.plays.play("retire").changed(place.keeper) > 0
    for node in (place.keeper, place.builder):
        changed = differences(found[node.name], snapshot(node))
        assert [line for line in changed if "/var/lib/containerd/" not in line] == []  # of the engine that was there, and has run something


def until(true: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
