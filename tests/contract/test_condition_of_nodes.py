"""Figures of nodes reach the scheduler: heat, memory, power mode."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.support.agent import CAPABILITIES, NOTHING, FakeAgent

MODELS = [{"name": "fleet-shapes", "size_bytes": 8_100_000, "native_size": 128, "needs_mib": 40.0},
          {"name": "other-model", "size_bytes": 6_500_000_000, "native_size": 1024, "needs_mib": 9_000.0}]  # fmt: skip
COOL: dict[str, Any] = {"memory_total_mib": 30_000, "memory": 40, "gpu_clock_mhz": 1300}


def agent(api: TestClient, name: str, **figures: Any) -> FakeAgent:
    found = FakeAgent.enrol(api, name)
    found.capabilities, found.loaded_model = {**CAPABILITIES, "loads": True, "models": MODELS}, "fleet-shapes"
    assert found.lease()["lease"] is None
    found.beat(metrics=COOL, facts={"power_mode": "MAXN"})
    found.beat(metrics={**COOL, **figures})
    return found


def submit(api: TestClient, model: str) -> str:
    return str(api.post("/api/vision/generate", json={"prompt": "x", "model": model}).json()["job_id"])


def explained(api: TestClient, job: str) -> str:
    return str(api.get(f"/api/vision/jobs/{job}?explain=true").json()["explanation"])


def test_a_node_without_memory_is_not_told_to_load(api: TestClient) -> None:
    full = agent(api, "agx0", memory=95)
    job = submit(api, "other-model")
    assert full.lease() == NOTHING
    assert "agx0 has 1.5 GiB of memory for it and would need 8.8 GiB" in explained(api, job)
    full.beat(metrics={**COOL, "memory": 95, "free_contiguous_mib": 512})
    assert "agx0 has 1.5 GiB of memory for it (0.5 GiB in large blocks) and would need 8.8 GiB" in explained(api, job)
    full.beat(metrics=COOL)
    assert full.lease(wait=5)["load"] == "other-model"


def test_a_throttled_node_is_slower_until_it_recovers_and_its_heat_is_not_learnt(api: TestClient) -> None:
    hot = agent(api, "agx0", throttled=True, gpu_clock_mhz=650)
    crew, node = api.app.state.fleet.jobs._crew, api.app.state.fleet.nodes.get("agx0")
    assert hot.lease()["lease"] is None
    assert node.worker.speed("fleet-shapes") == 0.5
    job = submit(api, "fleet-shapes")
    waiting = submit(api, "fleet-shapes")
    lease = hot.take()
    assert lease["job_id"] == job
    assert "agx0 (at work, free in about" in explained(api, waiting)
    assert "power mode MAXN, throttled by heat to 50 % of its speed)" in explained(api, waiting)
    hot.beat(lease, metrics=COOL)
    assert node.worker.speed("fleet-shapes") == 1.0
    assert crew.costs.speed("agx0", "fleet-shapes") == 1.0
