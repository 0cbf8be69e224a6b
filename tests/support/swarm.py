"""A control plane with a fleet of fake engines around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi.testclient import TestClient

from fleet_api.adapters.ansible.fake import FakePlays
from fleet_api.adapters.docker.fake import FakeEngines
from fleet_api.adapters.docker.fake_swarm import FakeDocker, FakeWorld
from fleet_api.app import create_app
from fleet_api.settings import Settings
from tests.support.client import client_of
from tests.support.machines import FakeSsh, Machine

FACTS = {"is_jetson": True, "l4t_version": "36.4.3", "jetpack_version": "6.2", "compute_capability": "8.7", "gpus": [{"name": "orin"}]}


@dataclass
class FakeFleet:
    """Managed nodes ``agx0``, ``agx1``, ... each with an engine and a GPU."""

    api: TestClient
    world: FakeWorld
    engines: FakeEngines
    dockers: dict[str, FakeDocker]
    plays: FakePlays
    ssh: FakeSsh

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = self.api.get(path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 201, **params: Any) -> Any:
        answer = self.api.post(path, json=body, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def delete(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = self.api.delete(path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ended(self, operation_id: str) -> Any:
        deadline = time.monotonic() + 10
        while (row := self.get(f"/api/operations/{operation_id}"))["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, row
            time.sleep(0.02)
        return row

    def cluster(self, name: str = "vision", *nodes: str) -> Any:
        return self.post("/api/clusters", {"name": name, "node_ids": list(nodes or ("agx0", "agx1"))})

    def dead(self, *nodes: str) -> None:
        """Let engines answer no more."""
        from fleet_api.adapters.docker.errors import EngineAway

        for node in nodes:
            self.engines.engines[node].error = EngineAway(f"{node} does not answer.")

    def lost(self, *nodes: str) -> None:
        """Let nodes be gone, as the swarm sees too."""
        self.dead(*nodes)
        for node in nodes:
            member = self.world.members[self.dockers[node].node_id]
            member["Status"]["State"] = "down"
            if "ManagerStatus" in member:
                member["ManagerStatus"]["Reachability"] = "unreachable"


@contextmanager
def fake_fleet(settings: Settings, nodes: int = 3) -> Iterator[FakeFleet]:
    world = FakeWorld()
    dockers = {f"agx{number}": FakeDocker(world, f"agx{number}", f"10.0.0.{number + 1}", gpus=1) for number in range(nodes)}
    engines = FakeEngines(**dockers)
    plays = FakePlays()
    ssh = FakeSsh(**{docker.addr: Machine(name, f"machine of {name}") for name, docker in dockers.items()})
    with client_of(create_app(settings, None, plays, ssh, engines)) as api:
        engines.known = api.app.state.fleet.nodes.get  # type: ignore[attr-defined]
        fleet = FakeFleet(api, world, engines, dockers, plays, ssh)
        credential = fleet.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": "shelf"})["id"]
        state = api.app.state.fleet  # type: ignore[attr-defined]
        for number, name in enumerate(dockers):
            fleet.post("/api/nodes", {"id": name, "ip": f"10.0.0.{number + 1}", "credential_id": credential})
            api.portal.call(lambda name=name: state.nodes.change(name, state="managed", facts=dict(FACTS)))  # type: ignore[union-attr]
            state.nodes.get(name).online = True
            state.nodes.get(name).heard = state.clock.monotonic() + 1000
        yield fleet
