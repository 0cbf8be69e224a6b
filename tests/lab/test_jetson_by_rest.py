"""A Jetson joins by REST and tells what it is; one of JetPack 4 is refused with a sentence, and nothing on it is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def orin(make_lab: MakeLab) -> Node:
    return make_lab("rest-orin", 1, "--jetson", "r36.4.3")[0]


@pytest.fixture(scope="module")
def manager(orin: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with managing(tmp_path_factory.mktemp("rest") / "home", gateway(orin)) as found:
        yield found


def test_a_jetson_joins_by_rest(orin: Node, manager: Manager) -> None:
    credential = manager.credential(orin)
    with manager.client() as api:
        here = {"subnet": f"{orin.ip}/32", "refresh": True}
        devices = {each["ip"]: each for each in ok(api.get("/api/network/scan", params=here))["devices"]}
        assert devices[orin.ip]["is_jetson"] is None, "what it is cannot be told from outside"
        manager.succeeded(manager.join(orin, credential, cluster="vision"))
        facts = manager.nodes()[orin.name]["facts"]
        assert facts["is_jetson"] is True
        assert (facts["board"], facts["power_mode"]["name"]) == ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "MAXN")
        expected = {"jetpack_version": "6.2", "l4t_version": "36.4.3", "cuda_version": "12.6.68", "cudnn_version": "9.3.0.75"}
        assert ok(api.get(f"/api/nodes/{orin.name}/jetpack")) == expected
        assert ok(api.get("/api/nodes/jetpack")) == {orin.name: expected}
        devices = {each["ip"]: each for each in ok(api.get("/api/network/scan", params=here))["devices"]}
        assert devices[orin.ip]["is_jetson"] is True, "it was seen from inside"


def test_jetpack_4_is_refused_and_left_as_it_is(make_lab: MakeLab, manager: Manager, tmp_path: Path) -> None:
    nano = make_lab("rest-old", 1, "--jetson", "r32.7.1")[0]
    before = snapshot(nano)
    row = manager.ended(manager.join(nano, manager.credential(nano)))
    assert row["state"] == "failed"
    assert "This Jetson runs JetPack 4 (L4T R32), whose Python 3.6 is too old" in row["reason"]
    assert differences(before, snapshot(nano)) == []
