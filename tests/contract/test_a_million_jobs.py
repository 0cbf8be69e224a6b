"""A million ended jobs in the database cost nobody who looks or works now."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fleet_api.app import create_app
from fleet_api.kit.clock import SystemClock
from fleet_api.migrate import upgrade
from fleet_api.retention import BATCH, Retention
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of

JOBS = 1_000_000
PAGE_SECONDS = 0.050
"""What the issue of this product promises for a page of a list."""

FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number})
INSERT INTO jobs (seq, id, door, job_type, state, priority, front, payload, max_retries, timeout_seconds, attempt, failures, losses,
                  overtaken, step, steps, created_at, queued_at, started_at, finished_at)
SELECT i, printf('%08x-0000-4000-8000-000000000000', i), 'queue',
       CASE i % 10 WHEN 0 THEN 'custom' WHEN 1 THEN 'training' ELSE 'image_gen' END,
       CASE WHEN i % 50 = 0 THEN 'failed' WHEN i % 77 = 0 THEN 'cancelled' ELSE 'completed' END,
       0, 0, '{{"prompt": "a red circle on a blue background, number ' || i || '"}}', 3, 3600, 1, 0, 0, 0, 20, 20,
       {start} + i, {start} + i, {start} + i, {start} + i + 1 FROM n
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path_factory.mktemp("million"), port=0, keep_jobs=None, keep_jobs_days=None)
    upgrade(settings.database)
    with sqlite3.connect(settings.database) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(FILL.format(number=JOBS, start=time.time() - 2 * JOBS))
    db.close()
    with client_of(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def agent(api: TestClient) -> FakeAgent:
    agent = FakeAgent.enrol(api, "agx0")
    agent.lease()
    return agent


def best(work: Callable[[], object], times: int = 7, enough: float = 0.0) -> float:
    """Return the least of the seconds that the work takes: what it costs where nothing else wants the processor.

    It is done ``times``, and on a busy machine up to ten times as often, until it took less than ``enough``.
    """
    found: list[float] = []
    while len(found) < times or (min(found) >= enough > 0 and len(found) < 10 * times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


@pytest.mark.parametrize(
    "query",
    [
        "", "offset=1000", f"offset={JOBS // 2}", f"offset={JOBS - 60}", "status=failed", "status=completed&offset=480000", "status=queued",
        "job_type=custom", "job_type=image_gen&offset=400000", "status=failed&job_type=custom", "status=processing&job_type=custom",
        "status=completed&job_type=image_gen&offset=390000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("door", ["queue", "vision"])
def test_pages(api: TestClient, agent: FakeAgent, door: str, query: str) -> None:
    if door == "vision" and "job_type" in query:
        return
    path = f"/api/{door}/jobs?limit=50&{query}"
    assert api.get(path).status_code == 200
    assert best(lambda: api.get(path), enough=PAGE_SECONDS) < PAGE_SECONDS


@pytest.mark.parametrize(
    "path", ["/api/queue/stats", "/api/status", "/api/fleet/status", "/metrics", "/health", "/api/vision/gallery", "/"]
)
def test_figures(api: TestClient, agent: FakeAgent, path: str) -> None:
    assert api.get(path).status_code == 200
    assert best(lambda: api.get(path), enough=PAGE_SECONDS) < PAGE_SECONDS


def test_totals_are_right(api: TestClient) -> None:
    stats = api.get("/api/queue/stats").json()
    assert stats["failed"] == JOBS // 50
    assert stats["completed"] + stats["failed"] + stats["cancelled"] == JOBS
    assert stats["by_type"]["custom"] == JOBS // 10
    assert api.get("/api/queue/jobs?status=failed&job_type=custom&limit=1").json()["total"] == JOBS // 50
    last = api.get(f"/api/queue/jobs?limit=50&offset={JOBS - 3}").json()
    assert [job["payload"]["prompt"].rsplit(" ", 1)[1] for job in last["jobs"]] == ["3", "2", "1"]


def test_a_claim_is_as_quick_as_in_an_empty_database(api: TestClient, agent: FakeAgent, tmp_path: Path) -> None:
    def claim(client: TestClient, worker: FakeAgent) -> Callable[[], object]:
        def once() -> None:
            client.post("/api/vision/generate", json={"prompt": "x"})
            worker.fail(worker.take(), retry=False)

        return once

    settings = Settings(home=tmp_path, port=0)
    upgrade(settings.database)
    with client_of(create_app(settings)) as empty:
        other = FakeAgent.enrol(empty, "agx0")
        other.lease()
        quick = best(claim(empty, other), 15)
        full = best(claim(api, agent), 15)
    assert full < 3 * quick + 0.005, (full, quick)


def test_retention_gives_others_their_turn(api: TestClient, agent: FakeAgent, tmp_path: Path) -> None:
    """While 5,000 jobs are deleted, a submission waits for one batch at the most."""
    fleet = api.app.state.fleet
    total = api.get("/api/queue/jobs?limit=1").json()["total"]
    retention = Retention(fleet.db, SystemClock(), Settings(home=tmp_path, keep_jobs=total - 5_000, keep_jobs_days=None))
    running = api.portal.start_task_soon(retention.run)
    waits = []
    while not running.done():
        started = time.perf_counter()
        assert api.post("/api/vision/generate", json={"prompt": "x"}).status_code == 201
        waits.append(time.perf_counter() - started)
    running.result()
    assert len(waits) > 5_000 // BATCH, "they took turns"
    assert statistics.median(waits) < 0.25
    assert api.get("/api/queue/jobs?limit=1").json()["total"] <= total - 4_000 + len(waits)
