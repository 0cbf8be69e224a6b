"""The export: an inventory that Ansible reads, and every job as a line of JSON, without secrets and without memory."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from fleet_api.backups.export import export, inventory
from fleet_api.backups.manifest import BackupFailed
from fleet_api.kit.db import Database
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent


def exported(settings: Settings, folder: Path) -> dict[str, int]:
    async def run() -> dict[str, int]:
        db = Database(settings.database)
        try:
            return await export(db, folder)
        finally:
            await db.close()

    return asyncio.run(run())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nodes_and_jobs_with_their_attempts(api: TestClient, agent: FakeAgent, settings: Settings, tmp_path: Path) -> None:
    credential = api.post("/api/vault", json={"name": "j", "username": "nvidia", "password": "what-nobody-sees"}).json()
    body = {"id": "orin", "hostname": "orin", "ip": "192.0.2.11", "ssh_port": 2222, "cluster": "vision", "credential_id": credential["id"]}
    assert api.post("/api/nodes", json=body).status_code == 201
    for number in range(3):
        api.post("/api/vision/generate", json={"prompt": f"a circle, {number}", "callback_url": "http://192.0.2.1/?token=what-nobody-sees"})
    agent.take()
    folder = tmp_path / "export"
    assert exported(settings, folder) == {"nodes": 2, "jobs": 3}
    found = yaml.safe_load((folder / "inventory.yml").read_text())
    assert found["nodes"]["hosts"]["orin"] == {
        "ansible_host": "192.0.2.11", "ansible_port": 2222, "ansible_user": "nvidia", "fleet_cluster": "vision"
    }  # fmt: skip
    assert found["cluster_vision"]["hosts"] == {"orin": {}}
    jobs = lines(folder / "jobs.jsonl")
    assert [job["payload"]["prompt"] for job in jobs] == [f"a circle, {number}" for number in range(3)]
    assert [len(job["attempts"]) for job in jobs] == [1, 0, 0]
    assert jobs[0]["created_at"].endswith("Z")
    assert {node["id"] for node in lines(folder / "nodes.jsonl")} == {"agx0", "orin"}
    text = "".join(path.read_text() for path in folder.iterdir())
    assert "what-nobody-sees" not in text
    assert "credential_hash" not in text
    listed = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(folder / "inventory.yml"), "--list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(listed.stdout)["_meta"]["hostvars"]["orin"]["ansible_host"] == "192.0.2.11"


def test_again_it_replaces_and_leaves_the_rest(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "notes.txt").write_text("mine")
    for _ in range(2):
        assert exported(settings, tmp_path / "export") == {"nodes": 0, "jobs": 0}
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["inventory.yml", "jobs.jsonl", "nodes.jsonl", "notes.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackupFailed, match="could not be written"):
        exported(settings, tmp_path / "file" / "below")


def test_fifty_thousand_jobs_take_no_memory(api: TestClient, agent: FakeAgent, settings: Settings, tmp_path: Path) -> None:
    import sqlite3

    api.post("/api/vision/generate", json={"prompt": "a circle " * 100})
    connection = sqlite3.connect(settings.database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)") if row[1] not in ("seq", "id")]
    names = ", ".join(columns)
    query = f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) INSERT INTO jobs (seq, id, {names}) "
    connection.execute(query + f"SELECT (SELECT max(seq) FROM jobs) + i, 'job-' || i, {names} FROM n, (SELECT * FROM jobs LIMIT 1)")
    connection.commit()
    connection.close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert exported(settings, tmp_path / "export")["jobs"] == 50_001
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "kB"
    with (tmp_path / "export" / "jobs.jsonl").open() as file:
        assert sum(1 for _ in file) == 50_001


def test_retired_nodes_are_in_no_inventory() -> None:
    node = {"id": "a", "hostname": "a", "ip": "", "ssh_port": 22, "credential_id": None, "labels": {}, "cluster": None, "state": "managed"}
    assert inventory([node, {**node, "id": "b", "state": "retired"}], {}) == {"nodes": {"hosts": {"a": {"ansible_host": "a"}}}}
