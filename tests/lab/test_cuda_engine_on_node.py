"""PyTorch for CUDA is installed on a node by the playbook, and makes pictures there; on its processor, as no node of the lab has a GPU.

It fetches 4 GB and wants 25 GB of disk, so it is no part of ``make test``: ``pytest -m soak tests/lab/test_cuda_engine_on_node.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.plays import Plays
from tests.support.releases import Release
from tests.support.sdxl_numpy import import_tiny
from tests.support.store_agents import until

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(1800)]


@dataclass
class Fleet:
    """A control plane and one node with an agent alone."""

    manager: Manager
    node: Node
    plays: Plays

    def changes(self, playbook: str = "gpu_inference", *words: str) -> int:
        return self.plays.play(playbook, *words).changed(self.node)

    def python(self, script: str) -> str:
        return self.node.run("/opt/fleet/agent/current/bin/python", "-c", script).strip()


@pytest.fixture(scope="module")
def fleet(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    [node], folder = make_lab("cuda", 1), tmp_path_factory.mktemp("cuda")
    with managing(folder / "home", gateway(node)) as manager:
        plays = Plays(folder, [node], managers=[], fleet_control_plane_url=manager.url)
        plays.variables["gpu_inference_environment"] = {"FLEET_AGENT_BACKEND": "torch"}
        plays.variables["gpu_inference_bring"] = [str(import_tiny(folder / "tiny"))]
        plays.variables |= {"gpu_inference_builtin": False, "gpu_inference_load": "tiny"}
        plays.environment = {"FLEET_HOME": str(manager.home)}
        assert plays.play("onboard", "--tags", "node_agent").changed(node) > 0
        yield Fleet(manager, node, plays)


def test_it_is_installed_and_makes_pictures(fleet: Fleet) -> None:
    fleet.plays.variables["gpu_inference_cuda"] = "always"
    assert fleet.changes() > 3
    assert fleet.python("import torch; print(torch.version.cuda.split('.')[0], torch.cuda.is_available())") == "12 False"
    with fleet.manager.client() as api:
        body = {"prompt": "a red circle", "model": "tiny", "width": 128, "height": 128, "steps": 2}
        job = str(ok(api.post("/api/vision/generate", json=body))["job_id"])
        done = until(lambda: (found := ok(api.get(f"/api/queue/jobs/{job}")))["status"] in ("completed", "failed") and found, 120)
    assert done["status"] == "completed", done
    assert fleet.changes() == 0


def test_onboarded_again_it_stays(fleet: Fleet) -> None:
    assert fleet.changes("onboard", "--tags", "node_agent") == 0


def test_the_next_release_does_not_bring_4_gb_again(fleet: Fleet) -> None:
    release = Release.of(fleet.node)
    release.pretend_another()
    started = time.monotonic()
    assert fleet.changes() > 0
    print(f"the next release: {time.monotonic() - started:.0f} s")
    assert Release.of(fleet.node) == release
    assert fleet.changes() == 0


def test_it_goes_when_it_is_wanted_no_more(fleet: Fleet) -> None:
    fleet.plays.variables |= {"gpu_inference_cuda": "auto", "gpu_inference_environment": {}}
    assert fleet.changes() > 0
    assert fleet.python("import importlib.util as u; print(u.find_spec('torch'))") == "None"
    assert fleet.changes() == 0
