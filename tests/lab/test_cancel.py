"""Cancelled at random moments, half of them inside a long task under become: nothing starts, nothing stays, the node is usable."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_api import collection
from fleet_api.adapters.ansible.runner import AnsiblePlays
from fleet_api.kit.descendants import marked
from fleet_api.nodes import plays
from fleet_api.settings import Settings
from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.live import Live, live
from tests.support.manager import gateway, ok

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

TIMES = 20
SECONDS = 5.0


@dataclass
class Bench:
    """A node, and a control plane that knows one more playbook."""

    node: Node
    api: httpx.Client
    control: Live

    def start(self) -> str:
        return str(ok(self.api.post("/api/operations", json={"kind": "long", "node_ids": [self.node.name]}))["id"])

    def get(self, operation_id: str) -> dict[str, Any]:
        return ok(self.api.get(f"/api/operations/{operation_id}"))

    def events(self, operation_id: str) -> list[dict[str, Any]]:
        fleet = self.control.fleet
        rows = self.control.call(fleet.operations.events(operation_id, 0))
        return [{"type": row.type, "text": row.text, "at": row.at} for row in rows]

    def reached(self, operation_id: str, task: str) -> None:
        deadline = time.monotonic() + 30
        while not any(each["type"] == "task" and each["text"] == task for each in self.events(operation_id)):
            assert time.monotonic() < deadline, self.events(operation_id)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def bench(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    [node] = make_lab("cancel", 1)
    folder = tmp_path_factory.mktemp("cancel")
    root = folder / "root"
    for name in ("playbooks", "inventory"):
        (root / name).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("long.yml"), root / "playbooks" / "long.yml")
    shutil.copy(collection.root() / "ansible.cfg", root / "ansible.cfg")
    shutil.copy(collection.root() / "inventory" / "fleet.yml", root / "inventory" / "fleet.yml")
    settings = Settings(home=folder / "home", host=gateway(node), port=0, auth="off", tls="off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plays.PLAYBOOKS, "long", "Take long over")
        with (
            live(settings, AnsiblePlays(root, settings.operation_locks)) as control,
            httpx.Client(base_url=control.url, timeout=30, trust_env=False) as api,
        ):
            credential = ok(api.post("/api/vault", json={"name": "lab", "username": node.user, "password": node.password}))["id"]
            ok(api.post("/api/nodes", json={"id": node.name, "ip": node.ip, "credential_id": credential}))
            yield Bench(node, api, control)


def test_twenty_random_moments(bench: Bench) -> None:
    moments = random.Random(4)
    for number in range(TIMES):
        operation = bench.start()
        if number % 2:
            bench.reached(operation, "Long")
            time.sleep(moments.uniform(0, 0.6))
        else:
            time.sleep(moments.uniform(0, 2.5))
        bench_cancelled(bench, operation)


def bench_cancelled(bench: Bench, operation: str) -> None:
    asked = bench.api.post(f"/api/operations/{operation}/cancel")
    answered = time.time()
    assert asked.status_code == 200
    deadline = time.monotonic() + SECONDS
    while (row := bench.get(operation))["state"] == "running":
        assert time.monotonic() < deadline, row
        time.sleep(0.02)
    assert row["state"] == "cancelled"
    late = [each for each in bench.events(operation) if each["type"] == "task" and each["at"] > answered + 1.0]
    assert late == []
    assert marked("FLEET_CONTROLLER_OPERATION", operation) == set(), "on the controller"
    left = bench.node.shell(f"grep -lsa FLEET_OPERATION={operation} /proc/[0-9]*/environ; pgrep -x sleep; true")
    assert left == "", "on the node"
    assert bench.node.shell("test -e /run/fleet/lock.json && cat /run/fleet/lock.json; true") == "", "the node's lock"
    answer = ok(bench.api.post("/api/ssh/exec-node", json={"node_id": bench.node.name, "command": "echo usable"}))
    assert answer["stdout"] == "usable\n"
