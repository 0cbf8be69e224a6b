"""What the modules for images and services decide, without an engine."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.action import fleet_image
from ansible_collections.fleet.commander.plugins.module_utils import images, services

IMAGE = {
    "Id": "sha256:a", "Config": {"Labels": {"fleet.source": "abc"}},
    "RepoDigests": ["other:5000/x@sha256:o", "192.0.2.10:5000/x@sha256:d"],
}  # fmt: skip
WANTED: dict[str, Any] = {
    "name": "web", "image": "192.0.2.10:5000/x:v1", "replicas": 2, "cluster": "vision", "env": {"B": "secret", "A": "1"},
    "publish": ["8188:80", "90"], "command": ["run"], "gpus": 1,
}  # fmt: skip


def test_what_an_image_says_of_itself() -> None:
    assert images.source_of(IMAGE) == "abc"
    assert images.source_of(None) == images.source_of({"Config": {"Labels": None}}) == ""
    assert images.pushed_digest(IMAGE, "192.0.2.10:5000/x:v1") == "sha256:d"
    assert images.pushed_digest(IMAGE, "192.0.2.10:5000/xy:v1") == images.pushed_digest(None, "x:v1") == ""
    assert images.last_word("") == "it said nothing."
    assert images.last_word("x" * 1_000 + "\n denied.").endswith("x denied.")


def test_a_service_and_no_secret_in_a_list_of_processes() -> None:
    words = services.create_words(WANTED)
    assert words[-2:] == ["192.0.2.10:5000/x:v1", "run"]
    assert "node.labels.cluster==vision" in words
    assert "NVIDIA-GPU=1" in words
    assert [words[n + 1] for n, word in enumerate(words) if word == "--publish"] == [
        "mode=host,target=80,published=8188",
        "mode=host,target=90",
    ]
    assert [words[n + 1] for n, word in enumerate(words) if word == "--env"] == ["A", "B"]
    assert not any("secret" in word for word in words)


@pytest.mark.parametrize(
    ("change", "image", "local", "different"),
    [
        ({}, "192.0.2.10:5000/x:v1@sha256:d", "sha256:d", []),
        ({}, "192.0.2.10:5000/x:v1@sha256:d", "", []),
        ({}, "192.0.2.10:5000/x:v1@sha256:d", "sha256:new", ["image"]),
        ({"image": "192.0.2.10:5000/x:v2"}, "192.0.2.10:5000/x:v1@sha256:d", "", ["image"]),
        ({"replicas": 3}, "192.0.2.10:5000/x:v1", "", ["settings"]),
        ({"env": {"B": "other", "A": "1"}}, "192.0.2.10:5000/x:v1", "", ["settings"]),
    ],
)
def test_what_is_to_change(change: dict[str, Any], image: str, local: str, different: list[str]) -> None:
    labels = {services.WANTED: services.wanted_of(WANTED)}
    there = {"Spec": {"Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": image}}}}
    assert services.differences(there, {**WANTED, **change}, local) == different


def test_variables_that_the_command_itself_would_heed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str], str]] = []

    def docker(*words: str, environment: dict[str, str]) -> Any:
        given = list(words)
        files = [Path(given[number + 1]).read_text() for number, word in enumerate(given) if word == "--env-file"]
        seen.append((given, environment, "".join(files)))
        return subprocess.CompletedProcess(given, 0, "")

    monkeypatch.setattr(services, "docker", docker)
    monkeypatch.setattr(images, "docker", docker)
    heeded = {"HOME": "/data", "PATH": "/app/bin", "DOCKER_CONFIG": "/x"}
    services.create({**WANTED, "env": {**WANTED["env"], **heeded}})
    words, environment, file = seen[-1]
    assert (environment, file) == (WANTED["env"], "DOCKER_CONFIG=/x\nHOME=/data\nPATH=/app/bin\n")
    assert [words[number + 1] for number, word in enumerate(words) if word == "--env"] == ["A", "B"]
    services.create(WANTED)
    assert "--env-file" not in seen[-1][0]
    with pytest.raises(services.ServiceFailed, match="HOME must each be one line"):
        services.create({**WANTED, "env": {"HOME": "a\nb"}})
    images.build("/c", "x:v1", "Dockerfile", {"HOME": "/data", "A": "b"}, "", "abc")
    words, environment, _ = seen[-1]
    assert environment == {"A": "b"}
    assert [words[number + 1] for number, word in enumerate(words) if word == "--build-arg"] == ["A", "HOME=/data"]


def test_why_tasks_fail() -> None:
    assert services.why([{"Error": ""}, {"Error": "task: non-zero exit (3)"}]) == "task: non-zero exit (3)."
    assert services.why([]).startswith("no task says why")


def test_a_context_has_one_hash_and_its_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "src" / "__pycache__").mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "src" / "run").write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    first = fleet_image.source_of(str(tmp_path), {"args": {}})
    (tmp_path / "src" / "__pycache__" / "x.pyc").write_text("x")
    assert fleet_image.source_of(str(tmp_path), {"args": {}}) == first
    assert fleet_image.source_of(str(tmp_path), {"args": {"A": "b"}}) != first
    (tmp_path / "src" / "run").chmod(0o755)
    assert fleet_image.source_of(str(tmp_path), {"args": {}}) != first
    out = io.BytesIO()
    fleet_image.pack(str(tmp_path), out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = {entry.name: entry for entry in tar}
    assert set(found) == {"Dockerfile", "src/run", "link", "folder"}
    assert found["link"].issym()
    assert found["folder"].issym()
