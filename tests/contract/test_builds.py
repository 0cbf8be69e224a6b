"""Builds and the registry over REST, with an engine that a test describes."""

from __future__ import annotations

import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from fastapi.testclient import TestClient

from fleet_api.access import registry_identity
from fleet_api.adapters.docker.fake import FakeEngines
from fleet_api.adapters.registry.fake import FakeRegistry
from fleet_api.adapters.registry.types import RegistryAway
from fleet_api.app import create_app
from fleet_api.kit.clock import SystemClock
from fleet_api.migrate import upgrade
from fleet_api.services.running import deploying
from fleet_api.settings import Settings
from tests.support.client import client_of
from tests.support.swarm import fake_fleet

ADDRESS = "192.0.2.10:5000"
STEPS = [
    {"stream": "Step 1/2 : FROM base\n"}, {"stream": "Step 2/2 : RUN make\n"}, {"stream": "making\n"}, {"aux": {"ID": "sha256:abc"}},
    {"stream": "Successfully built abcabcabcabc\n"},
]  # fmt: skip


@dataclass
class Docker:
    """The docker library's client, as far as builds use it."""

    pieces: list[Any] = field(default_factory=lambda: list(STEPS))
    pushes: list[Any] = field(default_factory=lambda: [{"status": "Pushed", "id": "a"}, {"aux": {"Digest": "sha256:d"}}])
    built: list[dict[str, Any]] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    pushed: list[Any] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    architecture: str = "amd64"
    error: Exception | None = None

    def build(self, **given: Any) -> list[Any]:
        if self.error is not None:
            raise self.error
        with tarfile.open(fileobj=given.pop("fileobj")) as tar:
            self.context = tar.getnames()
        self.built.append(given)
        return self.pieces

    def push(self, repository: str, tag: str, **given: Any) -> list[Any]:
        self.pushed.append((repository, tag, given["auth_config"]))
        return self.pushes

    def inspect_image(self, name: str) -> dict[str, Any]:
        return {"Id": "sha256:abc", "Size": 5, "Os": "linux", "Architecture": self.architecture}

    def remove_image(self, name: str) -> None:
        self.removed.append(name)


@dataclass
class Bench:
    """A control plane with one build root."""

    api: TestClient
    docker: Docker
    settings: Settings
    root: Path

    def start(self, **more: Any) -> Any:
        return self.api.post("/api/build/build", json={"image_name": "x", "tag": "v1", "dockerfile_path": "app", **more})

    def ended(self, **more: Any) -> dict[str, Any]:
        answer = self.start(**more)
        assert answer.status_code == 201, answer.text
        return self.row(answer.json()["operation_id"])

    def row(self, operation_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while (row := self.api.get(f"/api/operations/{operation_id}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, row
            time.sleep(0.02)
        return row

    def registry(self) -> registry_identity.Login:
        """Make the fleet's registry known, as the playbook does."""
        wanted = registry_identity.Wanted(ADDRESS, ("192.0.2.10",), "fleet")
        registry_identity.ensure(self.settings.registry_folder, self.settings.tls_folder, wanted, SystemClock().now())
        found = registry_identity.login(self.settings.registry_folder)
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "roots"
    (root / "app").mkdir(parents=True)
    (root / "app" / "Dockerfile").write_text("FROM base\nRUN make\n")
    settings = Settings(home=tmp_path / "home", build_roots=[str(root)])
    settings.home.mkdir()
    upgrade(settings.database)
    fake = Docker()
    with client_of(create_app(settings, engines=FakeEngines(here=fake))) as api:
        yield Bench(api, fake, settings, root)


def test_built_on_this_machine(bench: Bench) -> None:
    row = bench.ended(build_args={"A": "b"})
    assert row["state"] == "succeeded"
    assert row["result"] == {
        "image": "x:v1", "image_id": "sha256:abc", "size": 5, "node_id": None, "platform": "linux/amd64", "pushed": False, "digest": None,
    }  # fmt: skip
    [given] = bench.docker.built
    assert (given["tag"], given["dockerfile"], given["buildargs"], given["rm"], given["forcerm"]) == (
        "x:v1",
        "Dockerfile",
        {"A": "b"},
        True,
        True,
    )
    assert bench.docker.context == ["Dockerfile"]
    assert row["title"] == "Build x:v1"
    assert list(bench.settings.home.glob("build-*")) == []
    events = bench.api.get(f"/api/operations/{row['id']}/events").text
    assert "Step 2/2 : RUN make" in events
    assert "making" in events


def test_pushed_to_the_registry_that_the_playbook_made(bench: Bench) -> None:
    login = bench.registry()
    row = bench.ended()
    assert (row["result"]["image"], row["result"]["digest"], row["result"]["pushed"]) == (f"{ADDRESS}/x:v1", "sha256:d", True)
    assert bench.docker.pushed == [
        (f"{ADDRESS}/x", "v1", {"username": "fleet", "password": login.password, "serveraddress": ADDRESS}),
    ]
    assert login.password not in bench.api.get(f"/api/operations/{row['id']}/events").text + str(row)
    assert bench.ended(push=False)["result"]["pushed"] is False


def test_a_plan_builds_nothing(bench: Bench) -> None:
    started = bench.api.post("/api/build/build?check=true", json={"image_name": "x", "tag": "v1", "dockerfile_path": "app"}).json()
    assert bench.row(started["operation_id"])["state"] == "succeeded"
    assert bench.docker.built == []
    assert "would be built from" in bench.api.get(f"/api/operations/{started['operation_id']}/events").text


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([*STEPS[:2], {"errorDetail": {"message": "it returned 2"}}], "Step 2/2 (RUN make) failed: it returned 2."),
        ([{"error": "no such base"}], "The build failed: no such base."),
        (STEPS[:2], "The engine of this machine broke the build off without a word; see 'journalctl -u docker' there."),
        ([], "The engine of this machine broke the build off without a word; see 'journalctl -u docker' there."),
    ],
)
def test_a_build_that_fails(bench: Bench, pieces: list[Any], reason: str) -> None:
    bench.docker.pieces = pieces
    row = bench.ended()
    assert (row["state"], row["reason"]) == ("failed", reason)
    again = bench.api.post(f"/api/operations/{row['id']}/retry").json()
    bench.docker.pieces = STEPS
    assert bench.row(again["id"])["kind"] == "image_build"


def test_an_engine_that_refuses(bench: Bench) -> None:
    bench.docker.error = docker.errors.APIError("x", explanation="dockerfile parse error line 1: unknown instruction: FORM")
    assert bench.ended()["reason"].endswith("Dockerfile parse error line 1: unknown instruction: FORM.")


@pytest.mark.parametrize(
    ("pushes", "reason"),
    [
        ([{"errorDetail": {"message": "no basic auth credentials"}}], "no basic auth credentials; set FLEET_REGISTRY_CREDENTIAL to"),
        ([{"errorDetail": {"message": "dial tcp: connection refused"}}], "connection refused; see that the registry runs"),
        ([{"status": "Pushed", "id": "a"}], f"The push to {ADDRESS} broke off without a word; try again."),
    ],
)
def test_a_push_that_fails(bench: Bench, pushes: list[Any], reason: str) -> None:
    bench.registry()
    bench.docker.pushes = pushes
    row = bench.ended()
    assert reason in row["reason"]
    assert row["result"]["pushed"] is False


def test_another_platform_than_asked_for_leaves_nothing(bench: Bench) -> None:
    row = bench.ended(platform="linux/arm64")
    assert row["reason"] == (
        "linux/arm64 was asked for, and the base image of this machine is linux/amd64; build on a node of linux/arm64."
    )  # fmt: skip
    assert bench.docker.removed == ["x:v1"]
    bench.docker.architecture = "arm64"
    assert bench.ended(platform="linux/arm64/v8")["state"] == "succeeded"


class Hanging:
    """Pieces of a build that never ends."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        yield STEPS[0]
        self.begun.set()
        while True:
            yield {"stream": ""}


def test_cancelled_and_timed_out(bench: Bench) -> None:
    bench.docker.pieces = hanging = Hanging()  # type: ignore[assignment]
    operation_id = bench.start().json()["operation_id"]
    assert hanging.begun.wait(5)
    assert bench.api.post(f"/api/operations/{operation_id}/cancel").status_code == 200
    assert bench.row(operation_id)["state"] == "cancelled"
    row = bench.ended(timeout_seconds=1)
    assert row["reason"] == "The build was ended after 1 s: it hung at step 1/2; mend it, or give it more with timeout_seconds."


def test_refused_before_anything_is_queued(bench: Bench) -> None:
    for more, status, word in (
        ({"dockerfile_path": "/etc/passwd"}, 400, "must be in one of the build roots"),
        ({"dockerfile_path": "gone"}, 400, "there is no file"),
        ({"node_id": "nope"}, 404, "nope"),
        ({"push": True}, 503, "The fleet has no registry"),
    ):
        answer = bench.start(**more)
        assert (answer.status_code, word in answer.json()["detail"]) == (status, True), answer.text
    assert bench.api.get("/api/operations").json()["total"] == 0


def test_deploys_want_a_cluster_and_a_registry(bench: Bench) -> None:
    body = {"image": "x:v1", "service_name": "x", "cluster": "nope"}
    assert bench.api.post("/api/build/deploy", json=body).status_code == 404
    both = {"image_name": "x", "tag": "v1", "dockerfile_path": "app", "service_name": "x", "cluster": "nope"}
    assert bench.api.post("/api/build/build-and-deploy", json=both).status_code == 404
    bench.api.post("/api/nodes", json={"hostname": "n", "ip": "192.0.2.20", "cluster": "vision"})
    answer = bench.api.post("/api/build/build-and-deploy", json={**both, "cluster": "vision"})
    assert (answer.status_code, "no registry" in answer.json()["detail"]) == (503, True)


def test_what_the_registry_holds(bench: Bench) -> None:
    assert bench.api.get("/api/build/registry/images").status_code == 503
    bench.registry()
    fake = FakeRegistry({"b": ["v1"], "a": [], "c/d": ["x", "y"]})
    bench.api.app.state.fleet.registry._reach = lambda *_: fake
    answer = bench.api.get("/api/build/registry/images").json()
    assert answer == {
        "images": [
            {"name": "a", "tags": [], "full_image": f"{ADDRESS}/a"}, {"name": "b", "tags": ["v1"], "full_image": f"{ADDRESS}/b"},
            {"name": "c/d", "tags": ["x", "y"], "full_image": f"{ADDRESS}/c/d"},
        ],
        "registry": ADDRESS, "total": 3,
    }  # fmt: skip
    page = bench.api.get("/api/build/registry/images?limit=1&offset=1").json()
    assert ([each["name"] for each in page["images"]], page["total"]) == (["b"], 3)
    fake.error = RegistryAway("It is away.")
    assert bench.api.get("/api/build/registry/images").json() == {"detail": "It is away."}


def test_the_catalogue(bench: Bench) -> None:
    assert {"comfyui", "minio", "redis"} <= {each["name"] for each in bench.api.get("/api/build/catalogue").json()["services"]}


def test_engines_sign_in_to_the_fleets_registry_and_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deploying, "STEADY_SECONDS", 0.02)
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    upgrade(settings.database)
    wanted = registry_identity.Wanted(ADDRESS, ("192.0.2.10",), "fleet")
    registry_identity.ensure(settings.registry_folder, settings.tls_folder, wanted, SystemClock().now())
    with fake_fleet(settings) as fleet:
        fleet.cluster()
        for image, signs_in in ((f"{ADDRESS}/x:v1", True), ("192.0.2.11:5000/x:v1", False), ("web:1", False)):
            name = f"s{len(image)}"
            started = fleet.post("/api/build/deploy", {"image": image, "service_name": name, "cluster": "vision"})
            deadline = time.monotonic() + 10
            while (row := fleet.get(f"/api/operations/{started['operation_id']}"))["state"] in ("queued", "running"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert row["state"] == "succeeded", row["reason"]
            assert fleet.get(f"/api/swarm/services/{name}")["image"].startswith(image)
            [headers] = [each.headers.pop() for each in fleet.dockers.values() if each.headers]
            assert ("X-Registry-Auth" in headers) is signs_in
