"""The disk is full, the database is locked: one sentence, the right status, and the service stays up."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent, png

PROMPT = {"prompt": "x"}


def test_a_locked_database_is_503_and_passes(api: TestClient, agent: FakeAgent) -> None:
    def impatient(db: Any) -> None:
        db.exec_driver_sql("PRAGMA busy_timeout = 50")

    api.portal.call(api.app.state.fleet.db.write, impatient)
    holder = sqlite3.connect(api.app.state.fleet.db.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        answer = api.post("/api/vision/generate", json=PROMPT)
        assert (answer.status_code, "locked by another program" in answer.json()["detail"]) == (503, True)
        health = api.get("/health")
        assert (health.status_code, "locked by another program" in health.json()["detail"]) == (503, True)
        assert api.get("/api/queue/jobs").json()["total"] == 0
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert api.post("/api/vision/generate", json=PROMPT).status_code == 201


def test_a_full_disk_refuses_jobs_and_passes(api: TestClient, agent: FakeAgent) -> None:
    def pages(limit: int) -> int:
        async def change() -> int:
            return await api.app.state.fleet.db.write(lambda db: db.exec_driver_sql(f"PRAGMA max_page_count = {limit}").scalar_one())

        return int(api.portal.call(change))

    full = pages(1)  # SQLite takes the present size where the limit is below it
    body = {"job_type": "custom", "payload": {"filler": "x" * 200_000}}
    agent.capabilities = {**agent.capabilities, "job_types": ["image_gen", "custom"]}
    agent.lease()
    for _ in range(3):
        answer = api.post("/api/queue/jobs", json=body)
        assert answer.status_code == 503
        assert "disk that holds the database is full" in answer.json()["detail"]
    assert api.get("/health").status_code == 200
    assert api.get("/api/queue/jobs").json()["total"] == 0
    pages(full + 100_000)
    assert api.post("/api/queue/jobs", json=body).status_code == 201


def test_a_full_disk_under_an_upload_keeps_the_attempt_open(api: TestClient, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    real = os.fsync

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = agent.upload(lease, png())
    assert (answer.status_code, "No space left" in answer.json()["detail"]) == (503, True)
    monkeypatch.setattr(os, "fsync", real)
    agent.finish(lease)
    assert not list((api.app.state.fleet.settings.outputs / ".incoming").iterdir())


def test_an_upload_over_its_limit_is_413(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    limit = api.app.state.fleet.settings.upload_limit
    headers = {**agent.headers, "X-Content-SHA256": "0" * 64}
    path = f"/api/agents/uploads/{lease['job_id']}/{lease['attempt']}"
    chunks = (b"x" * 1_048_576 for _ in range(limit // 1_048_576 + 2))
    answer = api.put(path, headers=headers, content=chunks)
    assert (answer.status_code, "larger than" in answer.json()["detail"]) == (413, True)
    agent.finish(lease)


def test_the_documentation_page_needs_nothing_from_outside(api: TestClient) -> None:
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for part in ("/docs-assets/swagger-ui-bundle.js", "/docs-assets/swagger-ui.css"):
        assert part in page
        assert api.get(part).status_code == 200
