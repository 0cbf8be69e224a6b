"""What an attacker found once, and must not find again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.access import audit, repository
from fleet_api.access.callers import Role
from fleet_api.access.keys import KeyService, create_key
from fleet_api.errors import Unauthorized
from fleet_api.kit.db import Database, DatabaseUnusable
from fleet_api.migrate import upgrade
from fleet_api.retention import Retention
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.clock import ManualClock


def elsewhere(_api: TestClient) -> dict[str, str]:
    """Return headers with which a request is not from this machine."""
    return {"X-Forwarded-For": "192.0.2.1"}


def make_key(api: TestClient, name: str = "k", role: str = "operator") -> dict[str, str]:
    key = api.post("/api/keys", json={"name": name, "role": role}).json()["key"]
    return {"Authorization": f"Bearer {key}"}


def enrol(api: TestClient, hostname: str, machine_id: str, node_id: str | None = None) -> Any:
    token = api.post("/api/agents/tokens", json={"node_id": node_id}).json()["token"]
    return api.post("/api/agents/enrol", json={"token": token, "hostname": hostname, "machine_id": machine_id})


def test_a_token_for_any_node_does_not_take_over_one_that_is_there(api: TestClient, agent: FakeAgent) -> None:
    refused = enrol(api, "agx0", "agx0")
    assert refused.status_code == 409
    assert "fleet enrol agx0" in refused.json()["detail"]
    agent.beat()
    assert enrol(api, "agx0", "agx0", node_id="agx0").json()["node_id"] == "agx0"


def test_machines_copied_from_one_image_are_nodes_of_their_own(api: TestClient) -> None:
    assert [enrol(api, f"box-{i}", "the-same").json()["node_id"] for i in range(3)] == ["box-0", "box-1", "box-2"]


def test_a_retired_node_is_gone_and_so_is_its_credential(api: TestClient, agent: FakeAgent) -> None:
    other = FakeAgent.enrol(api, "agx1")
    other.lease()
    job = api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
    assert agent.take()["job_id"] == job
    assert api.delete("/api/nodes/agx0").status_code == 204
    assert api.get("/api/nodes/agx0").status_code == 404
    for path in ("lease", "beat"):
        assert api.post(f"/api/agents/{path}", json={"incarnation": "i", "request_id": "r"}, headers=agent.headers).status_code == 401
    assert other.take()["job_id"] == job, "what it held is queued again"
    assert api.delete("/api/nodes/agx0").status_code == 404


def test_sign_ins_and_enrolments_are_audited_by_name_whatever_strangers_do(api: TestClient) -> None:
    key = api.post("/api/keys", json={"name": "alice", "role": "viewer"}).json()["key"]
    for _ in range(300):
        api.post("/api/queue/jobs", headers={"X-API-Key": "wrong"})
    assert api.post("/api/session", json={"key": key}).status_code == 201
    api.cookies.clear()
    assert enrol(api, "box", "m").status_code == 201
    found = [(each["caller_kind"], each["caller_name"], each["row"]) for each in api.get("/api/audit?limit=500").json()["entries"]]
    assert ("key", "alice", "POST /api/session") in found
    assert ("agent", "box", "POST /api/agents/enrol") in found


def test_a_viewer_cannot_push_the_audit_log_out(api: TestClient) -> None:
    viewer = make_key(api, "v", "viewer")
    for number in range(260):
        assert api.delete(f"/api/keys/none-{number}", headers=viewer).status_code == 403
    assert len(api.get("/api/audit?limit=500").json()["entries"]) == audit.REFUSED_BURST + 1


def test_a_key_pasted_into_an_address_is_not_stored(api: TestClient) -> None:
    secret = api.post("/api/keys", json={"name": "k", "role": "viewer"}).json()["key"]
    api.delete(f"/api/keys/{secret}")
    [entry] = [each for each in api.get("/api/audit").json()["entries"] if each["status"] == 404]
    assert secret not in entry["path"]
    assert "[secret]" in entry["path"]


def test_a_batch_counts_as_the_jobs_that_it_makes(settings: Settings, tmp_path: Path) -> None:
    wanted = Settings(home=tmp_path / "limited", port=0, create_burst=10, create_per_minute=60)
    wanted.home.mkdir()
    upgrade(wanted.database)
    with client_of(create_app_with(wanted)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        headers = make_key(api)
        job = {"job_type": "image_gen", "payload": {"prompt": "x"}}
        assert api.post("/api/queue/jobs/batch", json={"jobs": [job] * 50}, headers=headers).status_code == 201
        refused = api.post("/api/queue/jobs", json=job, headers=headers)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 30


def test_several_pictures_count_as_so_many(tmp_path: Path) -> None:
    wanted = Settings(home=tmp_path / "limited", port=0, create_burst=10, create_per_minute=60)
    wanted.home.mkdir()
    upgrade(wanted.database)
    with client_of(create_app_with(wanted)) as api:
        FakeAgent.enrol(api, "agx0").lease()
        headers = make_key(api)
        assert api.post("/api/vision/generate", json={"prompt": "x", "count": 16}, headers=headers).status_code == 201
        assert api.post("/api/vision/generate", json={"prompt": "x"}, headers=headers).status_code == 429


def test_a_request_that_ends_in_an_error_is_audited_once(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(api.app.state.fleet.jobs, "cancel_open", broken)
    assert api.post("/api/vision/jobs/stop-all").status_code == 500
    assert [each["status"] for each in api.get("/api/audit").json()["entries"]] == [500]


def create_app_with(settings: Settings) -> Any:
    from fleet_api.app import create_app

    return create_app(settings, ManualClock())


def test_sign_ins_are_limited_and_sessions_capped(settings: Settings, tmp_path: Path) -> None:
    wanted = Settings(home=tmp_path / "limited", port=0, create_burst=150)
    wanted.home.mkdir()
    upgrade(wanted.database)
    with client_of(create_app_with(wanted)) as api:
        key = api.post("/api/keys", json={"name": "k", "role": "viewer"}).json()["key"]
        statuses = []
        for _ in range(160):
            api.cookies.clear()
            statuses.append(api.post("/api/session", json={"key": key}, headers=elsewhere(api)).status_code)
        assert statuses.count(201) == 150
        assert statuses[-1] == 429
        fleet = api.app.state.fleet
        count = api.portal.call(fleet.db.read, lambda db: db.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one())
        assert count == repository.SESSIONS_PER_KEY


def test_keys_are_wanted_on_loopback_where_that_is_said(settings: Settings, tmp_path: Path) -> None:
    wanted = Settings(home=tmp_path / "always", port=0, auth="always")
    wanted.home.mkdir()
    upgrade(wanted.database)
    with client_of(create_app_with(wanted)) as api:
        assert api.get("/api/nodes").status_code == 401


def test_a_repeat_whose_jobs_were_deleted_is_a_sentence(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "k"}
    job = api.post("/api/vision/generate", json={"prompt": "x"}, headers=headers).json()["job_id"]
    api.post(f"/api/vision/jobs/{job}/cancel")
    clock.advance(10)
    fleet = api.app.state.fleet
    api.portal.call(Retention(fleet.db, clock, Settings(home=tmp_path, keep_jobs_days=0.0001)).run)
    answer = api.post("/api/vision/generate", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 409
    assert "'k'" in answer.json()["detail"]


def test_age_and_count_are_kept_together(api: TestClient, agent: FakeAgent, clock: ManualClock, tmp_path: Path) -> None:
    def make(number: int) -> None:
        for _ in range(number):
            job = api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
            api.post(f"/api/vision/jobs/{job}/cancel")

    make(8)
    clock.advance(10 * 86_400)
    make(2)
    fleet = api.app.state.fleet
    api.portal.call(Retention(fleet.db, clock, Settings(home=tmp_path, keep_jobs=9, keep_jobs_days=1)).run)
    assert api.get("/api/queue/jobs").json()["total"] == 2


def test_what_ended_long_ago_is_forgotten(api: TestClient, clock: ManualClock, tmp_path: Path) -> None:
    make_key(api)
    api.delete("/api/keys/k")
    api.post("/api/agents/tokens", json={})
    clock.advance(366 * 86_400)
    fleet = api.app.state.fleet
    api.portal.call(Retention(fleet.db, clock, Settings(home=tmp_path)).run)
    assert api.get("/api/keys").json()["keys"] == []
    assert api.portal.call(fleet.db.read, lambda db: db.exec_driver_sql("SELECT count(*) FROM enrolment_tokens").scalar_one()) == 0


def test_a_full_disk_is_a_sentence_for_everyone_in_the_batch(tmp_path: Path) -> None:
    upgrade(tmp_path / "fleet.db")

    async def run() -> list[BaseException | None]:
        db = Database(tmp_path / "fleet.db")
        try:
            await db.write(lambda c: c.exec_driver_sql("CREATE TABLE filler (x TEXT)"))
            await db.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1").scalar_one())
            rows = ["x" * 20_000] * 8
            done = await asyncio.gather(
                *(db.write(lambda c, row=row: c.exec_driver_sql("INSERT INTO filler VALUES (?)", (row,))) for row in rows),  # type: ignore[misc]
                return_exceptions=True,
            )
            count = await db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM filler").scalar_one())
            assert count == sum(not isinstance(each, BaseException) for each in done), "who was told of success has his row"
            return [each for each in done if isinstance(each, BaseException)]
        finally:
            await db.close()

    errors = asyncio.run(run())
    assert errors
    assert all(isinstance(error, DatabaseUnusable) and "full" in error.detail for error in errors), errors


def test_one_read_is_one_view(tmp_path: Path) -> None:
    upgrade(tmp_path / "fleet.db")

    async def run() -> tuple[int, int]:
        db = Database(tmp_path / "fleet.db")
        other = sqlite3.connect(tmp_path / "fleet.db", isolation_level=None, check_same_thread=False)

        def look(connection: Any) -> tuple[int, int]:
            query = "SELECT count(*) FROM api_keys"
            first = connection.exec_driver_sql(query).scalar_one()
            other.execute(
                "INSERT INTO api_keys (id, name, role, hint, key_hash, created_at, created_by) VALUES ('1', 'n', 'viewer', 'h', 'x', 0, '')"
            )
            return first, connection.exec_driver_sql(query).scalar_one()

        try:
            return await db.read(look)
        finally:
            other.close()
            await db.close()

    assert asyncio.run(run()) == (0, 0)


def test_health_notices_that_its_database_was_replaced(api: TestClient, settings: Settings) -> None:
    shutil.copy(settings.database, settings.home / "copy")
    os.replace(settings.home / "copy", settings.database)
    answer = api.get("/health")
    assert answer.status_code == 503
    assert "replaced" in answer.json()["detail"]
    settings.database.unlink()
    assert "gone" in api.get("/health").json()["detail"]


def test_a_read_that_began_before_a_revocation_lets_nobody_in(tmp_path: Path) -> None:
    upgrade(tmp_path / "fleet.db")

    async def run() -> None:
        db, clock = Database(tmp_path / "fleet.db"), ManualClock()
        keys = KeyService(db, clock)
        _, secret = await create_key(db, clock, "k", Role.ADMIN)
        real, hold = db.read, asyncio.Event()

        async def slow(fn: Any) -> Any:
            found = await real(fn)
            await hold.wait()
            return found

        db.read = slow  # type: ignore[method-assign]
        asking = asyncio.create_task(keys.caller_with_key(secret, ""))
        await asyncio.sleep(0.05)
        await keys.revoke("k")
        hold.set()
        try:
            with pytest.raises(Unauthorized):
                await asking
            with pytest.raises(Unauthorized):
                await keys.caller_with_key(secret, "")
        finally:
            await db.close()

    asyncio.run(run())


def test_an_error_of_its_own_has_an_id_and_is_safe_to_look_at(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.app.state.fleet.nodes, "all", lambda: 1 / 0)
    answer = api.get("/api/nodes", headers={"X-Request-Id": "r-7"})
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] == "r-7"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00", "2026-01-01", "x", "2026-01-01T00:00:00"])
def test_times_without_a_zone_are_refused(api: TestClient, since: str) -> None:
    assert api.get(f"/api/audit?since={since}").status_code == 400


def test_very_early_and_late_times(api: TestClient) -> None:
    for since in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert api.get(f"/api/audit?since={since}").status_code == 200


def test_facts_that_cannot_be_shown_are_refused(api: TestClient, agent: FakeAgent) -> None:
    body = json.dumps({"incarnation": agent.incarnation, "facts": {"a": "\ud800"}})
    answer = api.post("/api/agents/beat", content=body, headers={**agent.headers, "Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "facts" in answer.json()["detail"]
    assert api.get("/api/nodes/agx0").status_code == 200


def test_an_ipv4_caller_of_an_ipv6_listener(settings: Settings, tmp_path: Path) -> None:
    wanted = Settings(home=tmp_path / "six", port=0, host="::", auth="off", tls="off")
    wanted.home.mkdir()
    upgrade(wanted.database)
    with client_of(create_app_with(wanted), url="http://192.0.2.10:8765", peer="::ffff:192.0.2.7") as api:
        assert api.get("/api/nodes").status_code == 200
        assert api.get("/api/nodes", headers={"Host": "192.0.2.11"}).status_code == 403
