"""Rows are the truth: a control plane that starts again on the same folder goes on where it was."""

from __future__ import annotations

from fleet_api.app import create_app
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent, png
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.models import lora

PROMPT = {"prompt": "a red circle on a blue background"}


def test_queue_leases_and_uploads_outlive_a_restart(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        running = api.post("/api/vision/generate", json=PROMPT).json()["job_id"]
        lease = agent.lease("the-request", wait=5)["lease"]
        waiting = [api.post("/api/vision/generate", json={**PROMPT, "priority": n}).json()["job_id"] for n in (0, 5)]
        assert agent.upload(lease, png()).status_code == 204
    clock.advance(3600)
    with client_of(create_app(settings, clock)) as api:
        agent.api = api
        assert [each["job_id"] for each in api.get("/api/vision/queue").json()["queue"]] == waiting[::-1]
        assert api.get(f"/api/vision/jobs/{running}").json()["status"] == "processing", "a lease gets a full term"
        assert agent.lease("the-request", wait=5)["lease"]["job_id"] == running
        clock.advance(14)
        api.portal.call(api.app.state.fleet.leases.reap)
        assert agent.complete(lease, png()).status_code == 204
        assert api.get(f"/api/vision/jobs/{running}").json()["status"] == "completed"
        assert agent.take()["job_id"] == waiting[1]


def test_only_what_a_crash_left_is_swept(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        job_id = api.post("/api/vision/generate", json=PROMPT).json()["job_id"]
        lease = agent.take()
        assert agent.upload(lease, png()).status_code == 204
    crashed = settings.outputs / f"image_{job_id}.png"  # the file was moved, the power went before the commit
    restored = settings.outputs / "image_550e8400-e29b-41d4-a716-446655440000.png"  # a backup of the database is older than this
    for path in (crashed, restored, settings.outputs / "holiday.png"):
        path.write_bytes(png())
    stale = settings.outputs / ".incoming" / "550e8400-e29b-41d4-a716-446655440000.1"
    stale.write_bytes(png())
    with client_of(create_app(settings, clock)) as api:
        agent.api = api
        assert agent.complete(lease, png()).status_code == 204, "the upload of an open attempt outlives a restart"
        assert api.get("/api/vision/outputs").json()["total"] == 1
    assert restored.exists()
    assert (settings.outputs / "holiday.png").exists()
    assert not stale.exists()


def test_the_file_of_a_crashed_attempt_is_removed(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        job_id = api.post("/api/vision/generate", json=PROMPT).json()["job_id"]
        agent.take()
    crashed = settings.outputs / f"image_{job_id}.png"
    crashed.write_bytes(png())
    with client_of(create_app(settings, clock)):
        assert not crashed.exists()


def test_what_an_offline_node_fetched_and_was_deleted_may_be_uploaded_anew(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        loras = [{"name": "night", "base_model": "fleet-shapes", "fetched": True}, {"name": "own", "base_model": "fleet-shapes"}]
        agent.capabilities = {**agent.capabilities, "fetches": True, "loras": loras}
        agent.lease()
    with client_of(create_app(settings, clock)) as api:
        answers = {
            name: api.post("/api/vision/loras/upload", files={"file": ("x.safetensors", lora("fleet-shapes"))}, data={"name": name})
            for name in ("night", "own")
        }
        assert {name: each.status_code for name, each in answers.items()} == {"night": 201, "own": 409}
        assert "came with the agents' own software" in answers["own"].json()["detail"]
