"""``fleet build``, ``catalogue``, ``deploy`` and ``registry``."""

from __future__ import annotations

from tests.support.command import Command
from tests.support.live import Live


def test_the_catalogue(fleet: Command, served: Live) -> None:
    shown = fleet("catalogue", "--url", served.url).stdout
    assert "comfyui" in shown
    assert "8188" in shown
    assert "never run" in shown
    assert {each["name"] for each in fleet.json("catalogue", "--url", served.url)["services"]} >= {"redis", "minio"}


def test_what_cannot_be_deployed_says_why(fleet: Command, served: Live) -> None:
    at = ("--cluster", "vision", "--url", served.url)
    assert "The catalogue has no 'radis'; it has agent" in fleet("deploy", "radis", *at, code=2).stderr
    assert "minio wants a value for MINIO_ROOT_USER, MINIO_ROOT_PASSWORD." in fleet("deploy", "minio", *at, code=2).stderr
    assert "--env: write NAME=value." in fleet("deploy", "redis", "--env", "x", *at, code=2).stderr
    assert "The fleet has no registry" in fleet("deploy", "comfyui", *at, code=4).stderr
    assert "the catalogue says how many" in fleet("deploy", "comfyui", "--gpus", "2", *at, code=2).stderr
    assert "from 0 to 64" in fleet("deploy", "x", "--image", "redis:7", "--gpus", "65", *at, code=4).stderr
    assert "There is no cluster 'vision'" in fleet("deploy", "x", "--image", "redis:7", *at, code=4).stderr


def test_builds_want_roots(fleet: Command, served: Live) -> None:
    assert "FLEET_BUILD_ROOTS" in fleet("build", "x:v1", "/srv/x", "--url", served.url, code=4).stderr
    assert "image_name: 'X' is not allowed" in fleet("build", "X", "/srv/x", "--url", served.url, code=4).stderr
    assert "--arg: write NAME=value." in fleet("build", "x", "/srv/x", "--arg", "=y", "--url", served.url, code=2).stderr


def test_the_registry(fleet: Command, served: Live) -> None:
    assert "The fleet has no registry" in fleet("registry", "images", "--url", served.url, code=4).stderr
    assert fleet("registry", "identity", "192.0.2.10:5000", "--check").stdout == "Would be made: certificate, login.\n"
    assert not fleet.home.exists()
    assert fleet("registry", "identity", "192.0.2.10:5000", "registry.invalid").stdout == "Made: certificate, login.\n"
    assert fleet("registry", "identity", "192.0.2.10:5000").stdout == "All of it is there.\n"
    assert fleet.json("registry", "identity", "192.0.2.10:5000") == {"folder": str(fleet.home / "registry"), "made": []}
    assert "such as 192.0.2.10:5000" in fleet("registry", "identity", "192.0.2.10", code=2).stderr


def test_a_certificate_for_another_machine(fleet: Command) -> None:
    out = fleet.home / "out"
    assert "It is good for 397 days" in fleet("tls", "issue", "registry.invalid", "192.0.2.10", "--out", str(out)).stdout
    assert {path.name: path.stat().st_mode & 0o077 for path in out.iterdir()}["server.key"] == 0
    assert "cannot be in a certificate" in fleet("tls", "issue", "a b", "--out", str(out), code=2).stderr
