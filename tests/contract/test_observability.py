"""Health that checks what it claims, figures for Prometheus, and what is old being deleted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from fleet_api import checks
from fleet_api.retention import Retention
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.clock import ManualClock

DAY = 86_400.0


def figures(api: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(api: TestClient, name: str, **labels: str) -> float | None:
    return figures(api).get((name, tuple(sorted(labels.items()))))


def test_metrics_follow_a_job(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    assert value(api, "fleet_jobs", state="queued", type="image_gen") is None
    api.post("/api/vision/generate", json={"prompt": "x"})
    clock.advance(7)
    assert value(api, "fleet_jobs", state="queued", type="image_gen") == 1
    assert value(api, "fleet_queue_length") == 1
    assert value(api, "fleet_queue_oldest_seconds") == 7
    lease = agent.take()
    assert value(api, "fleet_leases") == 1
    assert value(api, "fleet_queue_oldest_seconds") == 0
    agent.finish(lease)
    found = figures(api)
    assert found["fleet_jobs", (("state", "completed"), ("type", "image_gen"))] == 1
    assert found["fleet_jobs", (("state", "queued"), ("type", "image_gen"))] == 0
    assert found["fleet_leases", ()] == 0
    assert found["fleet_requests_total", (("method", "POST"), ("path", "/api/vision/generate"), ("status", "201"))] == 1
    assert found["fleet_request_seconds_count", (("method", "POST"), ("path", "/api/vision/generate"))] == 1
    assert found["fleet_events_total", ()] > 0


def test_metrics_of_nodes_and_sockets(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    agent.beat(metrics={"cpu": 12.5, "gpu": 40, "gpu_memory": 2048, "temperature": None})
    found = figures(api)
    assert found["fleet_nodes", (("status", "online"),)] == 1
    assert found["fleet_node_cpu", (("node", "agx0"),)] == 12.5
    assert found["fleet_node_gpu_memory", (("node", "agx0"),)] == 2048
    assert ("fleet_node_temperature", (("node", "agx0"),)) not in found
    with api.websocket_connect("/ws"):
        assert value(api, "fleet_websockets", path="/ws") == 1
        assert value(api, "fleet_event_subscribers") == 1
    assert value(api, "fleet_event_subscribers") == 0


def test_who_is_turned_away_at_the_door_is_counted(api: TestClient) -> None:
    api.get("/api/nodes", headers={"Host": "evil.invalid"})
    api.get("/api/nodes", headers={"Origin": "http://evil.invalid"})
    assert value(api, "fleet_turned_away_total", header="host") == 1
    assert value(api, "fleet_turned_away_total", header="origin") == 1


def test_refused_requests_are_counted(api: TestClient) -> None:
    api.get("/api/nodes", headers={"X-API-Key": "wrong"})
    assert value(api, "fleet_requests_total", method="GET", path="/api/nodes", status="401") == 1


def test_health_says_what_it_looked_at(api: TestClient, agent: FakeAgent) -> None:
    assert api.get("/health").json()["checks"] == {"database": "ok", "outputs": "ok", "background": "ok", "generation": "ok"}


def test_health_without_a_node_is_still_health(api: TestClient) -> None:
    answer = api.get("/health")
    assert answer.status_code == 200
    assert "No node" in answer.json()["checks"]["generation"]


def test_health_fails_without_its_outputs_folder(api: TestClient, settings: Settings) -> None:
    settings.outputs.rename(settings.outputs.with_name("gone"))
    answer = api.get("/health")
    assert answer.status_code == 503
    assert "outputs: The outputs folder cannot be used" in answer.json()["detail"]


def test_health_fails_on_a_full_disk(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_FREE", 10**18)
    assert "MiB left" in api.get("/health").json()["detail"]


def test_health_fails_when_a_background_service_fails(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    [service] = [each for each in api.app.state.fleet.services if each.name == "reaper"]
    monkeypatch.setattr(service, "_last", service._last - 60)
    monkeypatch.setattr(type(service), "in_time", lambda self: self.name != "reaper")
    answer = api.get("/health")
    assert answer.status_code == 503
    assert "reaper" in answer.json()["detail"]


def test_health_fails_when_the_database_does_not_write(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WRITE_SECONDS", 0.05)
    waiting = api.portal.start_task_soon(_hold_the_writer, api.app.state.fleet)
    answer = api.get("/health")
    waiting.result()
    assert answer.status_code == 503
    assert "did not take a write" in answer.json()["detail"]


async def _hold_the_writer(fleet: Any) -> None:
    await fleet.db.write(lambda db: time.sleep(0.5))


def jobs(api: TestClient) -> int:
    return api.get("/api/queue/jobs").json()["total"]


def make(api: TestClient, number: int, end: bool = True) -> None:
    for _ in range(number):
        job = api.post("/api/vision/generate", json={"prompt": "x"}).json()
        if end:
            api.post(f"/api/vision/jobs/{job['job_id']}/cancel")


def retain(api: TestClient, clock: ManualClock, tmp_path: Path, **kept: Any) -> None:
    fleet = api.app.state.fleet
    api.portal.call(Retention(fleet.db, clock, Settings(home=tmp_path, **kept)).run)


def test_old_jobs_go_and_waiting_ones_stay(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    make(api, 1, end=False)
    make(api, 3)
    clock.advance(10 * DAY)
    make(api, 2)
    retain(api, clock, tmp_path, keep_jobs_days=11)
    assert jobs(api) == 6
    retain(api, clock, tmp_path, keep_jobs_days=9)
    assert jobs(api) == 3
    stats = api.get("/api/queue/stats").json()
    assert (stats["queued"], stats["cancelled"]) == (1, 2)


def test_beyond_the_count_the_oldest_go(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    for _ in range(5):
        make(api, 1)
        clock.advance(1)
    newest = [job["job_id"] for job in api.get("/api/queue/jobs?limit=2").json()["jobs"]]
    retain(api, clock, tmp_path, keep_jobs=2)
    assert [job["job_id"] for job in api.get("/api/queue/jobs").json()["jobs"]] == newest


def test_attempts_go_with_their_job_and_pictures_stay(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    make(api, 1, end=False)
    agent.finish(agent.take())
    clock.advance(10 * DAY)
    retain(api, clock, tmp_path, keep_jobs_days=9)
    assert jobs(api) == 0
    fleet = api.app.state.fleet
    count = api.portal.call(fleet.db.read, lambda db: db.exec_driver_sql("SELECT count(*) FROM job_attempts").scalar_one())
    assert count == 0
    assert api.get("/api/vision/gallery").json()["total"] == 1


def test_the_audit_log_is_trimmed(api: TestClient, clock: ManualClock, tmp_path: Path) -> None:
    for _ in range(4):
        api.post("/api/vision/jobs/stop-all")
        clock.advance(DAY)
    retain(api, clock, tmp_path, keep_audit_days=2.5)
    assert len(api.get("/api/audit").json()["entries"]) == 2
    retain(api, clock, tmp_path, keep_audit=1)
    assert len(api.get("/api/audit").json()["entries"]) == 1


def test_repeats_are_remembered_for_a_day(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    send = lambda: api.post("/api/vision/generate", json={"prompt": "x"}, headers={"Idempotency-Key": "k"}).json()["job_id"]  # noqa: E731
    first = send()
    clock.advance(0.9 * DAY)
    retain(api, clock, tmp_path)
    assert send() == first
    clock.advance(0.2 * DAY)
    retain(api, clock, tmp_path)
    assert send() != first


@pytest.mark.parametrize(
    ("where", "counted"),
    [
        ("", 12), ("?status=queued", 4), ("?status=cancelled", 8), ("?job_type=image_gen", 12), ("?job_type=custom", 0),
        ("?status=queued&job_type=image_gen", 4),
    ],
)  # fmt: skip
def test_pages_and_totals_agree_at_every_offset(api: TestClient, agent: FakeAgent, where: str, counted: int) -> None:
    make(api, 4, end=False)
    make(api, 8)
    everything = api.get(f"/api/queue/jobs{where}{'&' if where else '?'}limit=500").json()
    assert everything["total"] == counted == len(everything["jobs"])
    ids = [job["job_id"] for job in everything["jobs"]]
    for offset in range(counted + 2):
        page = api.get(f"/api/queue/jobs{where}{'&' if where else '?'}limit=3&offset={offset}").json()
        assert [job["job_id"] for job in page["jobs"]] == ids[offset : offset + 3], offset
