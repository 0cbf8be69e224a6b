from __future__ import annotations

import io
import tarfile
from ipaddress import IPv4Network

import pytest
from typer.testing import CliRunner

from fleet_api.cli.main import app
from fleet_api.lab import personality, recipe, service, subnets
from fleet_api.lab.captured import RELEASES
from fleet_api.lab.errors import BadLab, LabFailed
from fleet_api.lab.images import MIRROR, mirror_of

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t0000D60A\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0
"""


def test_a_lab_gets_the_first_subnet_that_nobody_uses() -> None:
    free = subnets.free_subnets(["10.214.0.0/24", "10.214.2.128/25", "192.0.2.0/24", "fd00::/64"])
    assert [str(subnet) for subnet in free[:2]] == ["10.214.1.0/24", "10.214.3.0/24"]


def test_a_route_that_covers_the_range_leaves_no_subnet() -> None:
    with pytest.raises(LabFailed, match="take a lab down"):
        subnets.free_subnets(["10.0.0.0/8"])


def test_a_default_route_is_no_reason() -> None:
    routes = subnets.routed(ROUTES)
    assert routes == ["0.0.0.0/0.0.0.0", "10.214.0.0/255.254.0.0"]
    assert str(subnets.free_subnets(routes[:1])[0]) == "10.214.0.0/24"


def test_nodes_are_counted_from_one() -> None:
    assert str(subnets.node_address(IPv4Network("10.214.7.0/24"), 1)) == "10.214.7.11"
    assert subnets.node_address(IPv4Network("10.214.7.0/24"), subnets.MOST_NODES) in IPv4Network("10.214.7.0/24")


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        ("deb http://mirror.invalid/debian bookworm main", "http://mirror.invalid/debian"),
        ("deb [signed-by=/k.gpg] https://mirror.invalid/debian/ bookworm main", "https://mirror.invalid/debian"),
        ("Types: deb\nURIs: http://mirror.invalid/debian\nSuites: bookworm", "http://mirror.invalid/debian"),
        ("# deb http://mirror.invalid/debian bookworm main", MIRROR),
        ("deb http://mirror.invalid/debian-security bookworm-security main", MIRROR),
        ("", MIRROR),
    ],
)
def test_the_mirror_is_the_machines_own(sources: str, mirror: str) -> None:
    assert mirror_of(sources) == mirror


@pytest.mark.parametrize("release", RELEASES)
def test_a_jetsons_packages_are_well_formed(release: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(personality.archive(personality.of(release)))) as tar:
        names = {entry.name: entry.mode for entry in tar}
        control = tar.extractfile("var/tmp/fleet-lab/nvidia-jetpack/DEBIAN/control")
        assert control is not None
        assert b"Version: " + RELEASES[release].packages["nvidia-jetpack"].encode() in control.read()
        model = tar.extractfile("etc/fleet-lab/device-tree/model")
        assert model is not None
        assert model.read().endswith(b"\0")
    assert names["var/tmp/fleet-lab/nvidia-l4t-tools/usr/bin/tegrastats"] == 0o755


def test_a_release_that_was_not_captured_is_refused_with_those_that_were() -> None:
    with pytest.raises(BadLab, match=r"r35\.4\.1, r36\.4\.3"):
        personality.of("r35")


def test_a_changed_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.tag()
    assert recipe.tag() == before
    monkeypatch.setattr(recipe, "ON_THE_SHELF", (*recipe.ON_THE_SHELF, "nano"))
    assert recipe.tag() != before


@pytest.mark.parametrize("name", ["", "x", "Fleet", "a/b", "-ab", "ab-", "a" * 33, "a b", "é1"])
def test_a_name_that_no_container_could_have_is_refused(name: str) -> None:
    with pytest.raises(BadLab, match="--name"):
        service.up(name)


@pytest.mark.parametrize("count", [0, -1, 201])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(BadLab, match="from 1 to 200"):
        service.up("lab", count)


def test_without_an_engine_the_sentence_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    done = CliRunner().invoke(app, ["lab", "up"])
    assert done.exit_code == 6
    assert "apt-get install docker.io" in done.output
    assert "Traceback" not in done.output
