"""``Idempotency-Key`` on every row that creates: a repeat gets the first answer, and nothing is made twice."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.access.callers import Role
from fleet_api.access.keys import create_key
from fleet_api.access.policy import CREATES, IDEMPOTENT, UPLOADS
from fleet_api.app import create_app
from fleet_api.idempotency import service
from fleet_api.idempotency.keys import hashing_key
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent, png
from tests.support.client import client_of
from tests.support.clock import ManualClock

KEY = {"Idempotency-Key": "order-66"}
JOB = {"job_type": "image_gen", "payload": {"prompt": "x"}}
PASSWORD = "hunter2-canary"
BODIES: dict[str, Any] = {
    "/api/vision/generate": {"prompt": "x", "count": 2},
    "/api/queue/jobs": JOB,
    "/api/queue/jobs/batch": {"jobs": [JOB, JOB]},
    "/api/vault": {"name": "lab", "username": "jetson", "password": PASSWORD},
    "/api/nodes": {"id": "agx7", "ip": "192.0.2.7"},
    "/api/network/join": {"ip": "127.0.0.1", "credential_id": "lab"},
}


def send(api: TestClient, path: str, body: Any, **headers: str) -> Any:
    return api.post(path, json=body, headers={**KEY, **headers})


def jobs(api: TestClient) -> int:
    return int(api.get("/api/queue/jobs").json()["total"])


@pytest.mark.parametrize("path", ["/api/vision/generate", "/api/queue/jobs", "/api/queue/jobs/batch", "/api/vault", "/api/clusters"])
def test_a_repeat_gets_the_same_answer_and_another_request_none(api: TestClient, agent: FakeAgent, path: str) -> None:
    body = BODIES.get(path, {"name": "vision", "node_ids": ["agx0"]})
    first = send(api, path, body)
    if path == "/api/clusters":  # there is no engine here, and a failure is not kept
        again = send(api, path, body)
        assert first.status_code == again.status_code >= 400
        assert "idempotent-replayed" not in again.headers
        return
    assert first.status_code == 201, first.text
    assert "idempotent-replayed" not in first.headers
    made = jobs(api)
    for _ in range(3):
        again = send(api, path, dict(reversed(body.items())))
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == "application/json"
    other = send(api, path, {**body, "priority": 5, "name": "other", "jobs": [JOB], "job_type": "custom"})
    assert other.status_code == 422
    assert "'order-66'" in other.json()["detail"]
    assert jobs(api) == made


def test_the_first_answer_is_kept_though_the_job_has_gone_on(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json={"prompt": "before"})
    first = send(api, "/api/vision/generate", {"prompt": "x"})
    assert first.json()["queue_position"] == 2
    agent.finish(agent.take())
    agent.finish(agent.take())
    assert send(api, "/api/vision/generate", {"prompt": "x"}).content == first.content
    api.portal.call(api.app.state.fleet.repeats.settled)
    assert send(api, "/api/vision/generate", {"prompt": "x"}).content == first.content


def test_keys_belong_to_a_caller_and_a_row(api: TestClient, agent: FakeAgent) -> None:
    fleet = api.app.state.fleet
    secrets = [api.portal.call(create_key, fleet.db, fleet.clock, name, Role.OPERATOR)[1] for name in ("alice", "bob")]
    made = {send(api, "/api/queue/jobs", JOB, Authorization=f"Bearer {secret}").json()["job_id"] for secret in (*secrets, *secrets)}
    made.add(send(api, "/api/queue/jobs", JOB).json()["job_id"])
    assert len(made) == 3
    assert send(api, "/api/vision/generate", {"prompt": "x"}).status_code == 201
    assert jobs(api) == 4


def test_the_path_is_part_of_the_request(api: TestClient, agent: FakeAgent) -> None:
    ids = [api.post("/api/queue/jobs", json=JOB).json()["job_id"] for _ in range(2)]
    for job_id in ids:
        api.delete(f"/api/queue/jobs/{job_id}")
    assert send(api, f"/api/queue/jobs/{ids[0]}/retry", {}).status_code == 200
    assert send(api, f"/api/queue/jobs/{ids[0]}/retry", {}).headers["idempotent-replayed"] == "true"
    assert send(api, f"/api/queue/jobs/{ids[1]}/retry", {}).status_code == 422
    without = api.post(f"/api/queue/jobs/{ids[0]}/retry")
    assert without.status_code == 409, "without the key it is another retry"


@pytest.mark.parametrize("value", [b"", b"x" * 256, b"a\tb", b"a\x7fb", b"\x1b[2J", b"a\xa0b"])
def test_bad_keys_are_a_sentence(api: TestClient, agent: FakeAgent, value: bytes) -> None:
    answer = api.post("/api/queue/jobs", json=JOB, headers=[(b"Idempotency-Key", value)])
    assert answer.status_code == 400, answer.text
    assert "Idempotency-Key" in answer.json()["detail"]
    assert jobs(api) == 0


def test_two_keys_are_refused_and_long_ones_taken(api: TestClient, agent: FakeAgent) -> None:
    assert api.post("/api/queue/jobs", json=JOB, headers=[(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")]).status_code == 400
    for value in ("x" * 255, "é", "with space", "'; DROP TABLE jobs;--"):
        assert api.post("/api/queue/jobs", json=JOB, headers=[(b"Idempotency-Key", value.encode("latin-1"))]).status_code == 201


def test_failures_are_not_kept(api: TestClient, agent: FakeAgent) -> None:
    assert send(api, "/api/queue/jobs", {**JOB, "job_type": "training", "payload": {}}).status_code == 503
    assert send(api, "/api/queue/jobs", {"job_type": "nope"}).status_code == 400
    assert api.post("/api/queue/jobs", content=b"{", headers={**KEY, "Content-Type": "application/json"}).status_code == 400
    assert send(api, "/api/queue/jobs", JOB).status_code == 201


def test_one_that_is_still_at_work_is_409(api: TestClient, agent: FakeAgent) -> None:
    fleet, entered, answers = api.app.state.fleet, threading.Event(), []
    real = fleet.jobs.submit

    async def slowly(*given: Any) -> Any:
        entered.set()
        await asyncio.sleep(0.5)
        return await real(*given)

    fleet.jobs.submit = slowly
    first = threading.Thread(target=lambda: answers.append(send(api, "/api/queue/jobs", JOB)))
    first.start()
    assert entered.wait(5)
    busy = send(api, "/api/queue/jobs", JOB)
    assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
    assert "still at work" in busy.json()["detail"]
    first.join()
    again = send(api, "/api/queue/jobs", JOB)
    assert (again.status_code, again.content) == (201, answers[0].content)
    assert jobs(api) == 1


def test_many_at_once_make_one_job(api: TestClient, agent: FakeAgent) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(send(api, "/api/queue/jobs", JOB))) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 201}) == 1
    assert jobs(api) == 1


def test_a_key_outlives_a_restart_and_a_lost_answer(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        FakeAgent.enrol(api, "agx0").lease()
        first = send(api, "/api/vision/generate", {"prompt": "x", "count": 3})
        other = send(api, "/api/queue/jobs/batch", {"jobs": [JOB, JOB]})
        kept = send(api, "/api/vault", BODIES["/api/vault"])
    with client_of(create_app(settings, clock)) as api:
        assert send(api, "/api/vision/generate", {"prompt": "x", "count": 3}).content == first.content
        assert send(api, "/api/vault", BODIES["/api/vault"]).content == kept.content
        assert jobs(api) == 5
    with sqlite3.connect(settings.database) as db:  # as a kill between the jobs' commit and the answer's leaves it
        db.execute("UPDATE idempotency_keys SET status = NULL, response = NULL WHERE job_ids IS NOT NULL")
    db.close()
    with client_of(create_app(settings, clock)) as api:
        again = send(api, "/api/vision/generate", {"prompt": "x", "count": 3})
        assert again.json()["job_ids"] == first.json()["job_ids"]
        assert again.headers["idempotent-replayed"] == "true"
        assert send(api, "/api/queue/jobs/batch", {"jobs": [JOB, JOB]}).json() == other.json()
        assert send(api, "/api/queue/jobs/batch", {"jobs": [JOB]}).status_code == 422
        assert jobs(api) == 5


def test_after_a_day_a_key_is_new(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    first = send(api, "/api/queue/jobs", JOB).json()["job_id"]
    api.portal.call(api.app.state.fleet.repeats.settled)
    clock.advance(service.KEPT_SECONDS - 10)
    assert send(api, "/api/queue/jobs", JOB).json()["job_id"] == first
    clock.advance(20)
    assert send(api, "/api/queue/jobs", JOB).json()["job_id"] != first
    assert send(api, "/api/queue/jobs", {**JOB, "priority": "high"}).status_code == 422


@pytest.mark.parametrize(("path", "body"), [("/api/keys", {"name": "ci", "role": "viewer"}), ("/api/agents/tokens", {"node_id": "agx9"})])
def test_an_answer_with_a_secret_is_shown_once_and_never_kept(api: TestClient, settings: Settings, path: str, body: Any) -> None:
    first = send(api, path, body)
    assert first.status_code == 201
    secret = first.json().get("key") or first.json()["token"]
    again = send(api, path, body)
    assert again.status_code == 409
    assert "shown once" in again.json()["detail"]
    assert send(api, path, {**body, "expires_in_days": 3, "expires_in_minutes": 3}).status_code == 422
    for file in settings.home.glob("fleet.db*"):
        assert secret.split(".")[0].encode() not in file.read_bytes()


def test_secrets_of_bodies_are_nowhere(api: TestClient, settings: Settings) -> None:
    assert send(api, "/api/vault", BODIES["/api/vault"]).status_code == 201
    assert send(api, "/api/vault", {**BODIES["/api/vault"], "password": "another"}).status_code == 422
    for file in settings.home.rglob("*"):
        assert file.is_dir() or PASSWORD.encode() not in file.read_bytes()
    assert settings.idempotency_key_file.stat().st_mode & 0o777 == 0o600
    assert len(hashing_key(settings.idempotency_key_file)) == 32


def test_a_picture_that_is_waited_for_is_given_again(api: TestClient, agent: FakeAgent) -> None:
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(send(api, "/api/fleet/generate", {"prompt": "x"})))
    asking.start()
    lease = agent.take()
    assert send(api, "/api/fleet/generate", {"prompt": "x"}).status_code == 409
    agent.finish(lease, png())
    asking.join(10)
    again = send(api, "/api/fleet/generate", {"prompt": "x"})
    assert (again.status_code, again.content) == (200, answers[0].content)
    assert again.headers["x-job-id"] == answers[0].headers["x-job-id"] == lease["job_id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert jobs(api) == 1


def test_a_picture_that_failed_is_made_anew(api: TestClient, agent: FakeAgent) -> None:
    for attempt in range(2):
        answers: list[Any] = []
        asking = threading.Thread(target=lambda found=answers: found.append(send(api, "/api/fleet/generate", {"prompt": "x"})))
        asking.start()
        agent.fail(agent.take(), "It cannot be drawn.", retry=False)
        asking.join(10)
        assert answers[0].status_code == 503
        assert jobs(api) == attempt + 1


def test_every_row_that_creates_says_so_and_others_do_not(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    rows = {f"{method.upper()} {path}": operation for path, methods in paths.items() for method, operation in methods.items()}
    takes = {row for row, operation in rows.items() if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))}
    assert takes == IDEMPOTENT == CREATES - {"POST /api/session"} - UPLOADS
    for row in takes:
        responses = rows[row]["responses"]
        assert {"400", "409", "422"} <= set(responses)
        assert all("Idempotent-Replayed" in responses[status]["headers"] for status in responses if status < "300")


@pytest.mark.parametrize("row", sorted(IDEMPOTENT))
def test_a_bad_key_is_refused_at_every_row(api: TestClient, row: str) -> None:
    path = row.split(" ", 1)[1]
    for name in ("node_id", "job_id", "service_id", "cluster_id", "operation_id", "delivery_id"):
        path = path.replace(f"{{{name}}}", "nope")
    answer = api.post(path, json={}, headers={"Idempotency-Key": ""})
    assert answer.status_code == 400, answer.text
    assert "Idempotency-Key" in answer.json()["detail"]


def test_a_body_that_is_too_large_is_413_with_a_key_too(api: TestClient) -> None:
    def pieces() -> Any:
        for _ in range(20):
            yield b"x" * 100_000

    answer = api.post("/api/queue/jobs", content=pieces(), headers=KEY)
    assert answer.status_code == 413
    assert answer.json()["detail"].endswith(".")


def test_a_disk_that_is_full_says_so_and_makes_nothing(api: TestClient, agent: FakeAgent, tmp_path: Path) -> None:
    started = time.monotonic()
    api.app.state.fleet.repeats._key_file = tmp_path / "nowhere" / "key"
    answer = send(api, "/api/queue/jobs", JOB)
    assert (answer.status_code, jobs(api)) == (503, 0)
    assert "FLEET_HOME" in answer.json()["detail"]
    assert time.monotonic() - started < 5
