"""``callback_url`` is called when its job ends: each end is told once, signed, to an address that is meant."""

from __future__ import annotations

import json

from fastapi.testclient import TestClient
from standardwebhooks.webhooks import Webhook

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.rotation import rotate
from fleet_api.adapters.http_out.client import HttpOutClient
from fleet_api.app import create_app
from fleet_api.callbacks.secrets import OVERLAP_SECONDS, WebhookSecrets
from fleet_api.jobs.states import LOSS_LIMIT
from fleet_api.migrate import upgrade
from fleet_api.retention import Retention
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.callbacks import DAY, callback, deliveries, finished, settle, submit
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.receiver import Receiver


def secrets(api: TestClient) -> WebhookSecrets:
    return api.app.state.fleet.callbacks.courier._secrets


def test_a_job_that_ends_is_told_of_once_and_signed(api: TestClient, agent: FakeAgent, there: Receiver) -> None:
    job_id = submit(api, there.url)
    assert callback(api, job_id) == "pending"
    assert deliveries(api, job_id) == []
    agent.finish(agent.take())
    [got] = there.wait()
    settle(api)
    secret = api.portal.call(secrets(api).show)
    message = Webhook(secret).verify(got.body, got.headers)
    shown = api.get(f"/api/queue/jobs/{job_id}").json()
    assert message["type"] == "job.completed"
    assert message["timestamp"] == shown["finished_at"]
    assert {**message["data"], "callback": "delivered"} == shown
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("fleet-commander/")
    [delivery] = deliveries(api, job_id)
    assert delivery["id"] == got.headers["webhook-id"]
    assert (delivery["event"], delivery["status"], delivery["url"]) == ("job.completed", "delivered", there.url)
    [attempt] = delivery["attempts"]
    assert (attempt["status_code"], "error" in attempt) == (204, False)
    assert delivery["delivered_at"]
    assert "next_attempt_at" not in delivery
    assert callback(api, job_id) == "delivered"
    settle(api)
    assert len(there.got) == 1


def test_jobs_without_a_callback_leave_nothing(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api, None)
    agent.finish(agent.take())
    assert deliveries(api, job_id) == []
    assert "callback" not in api.get(f"/api/queue/jobs/{job_id}").json()
    assert api.get("/api/queue/jobs/nope/deliveries").status_code == 404


def test_every_way_to_end_is_told(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    events: dict[str, str] = {}
    cancelled = submit(api, there.url)
    api.delete(f"/api/queue/jobs/{cancelled}")
    events[cancelled] = "job.cancelled"
    running = submit(api, there.url)
    agent.take()
    api.delete(f"/api/queue/jobs/{running}")
    events[running] = "job.cancelled"
    failed = submit(api, there.url, max_retries=1)
    agent.fail(agent.take())
    settle(api)
    assert deliveries(api, failed) == [], "it is tried again"
    clock.advance(1)
    agent.fail(agent.take())
    events[failed] = "job.failed"
    late = submit(api, there.url, max_retries=0, timeout_seconds=5)
    lease = agent.take()
    clock.advance(6)
    agent.beat(lease)
    api.portal.call(api.app.state.fleet.leases.reap)
    events[late] = "job.failed"
    api.post("/api/vision/generate", json={"prompt": "x"})
    agent.finish(agent.take())  # else the node is given nothing, after three jobs in a row that went wrong
    poison = submit(api, there.url)
    for _ in range(LOSS_LIMIT):
        agent.take()
        agent.restart()
        agent.lease(want_job=False)
    events[poison] = "job.failed"
    batch = api.post(
        "/api/queue/jobs/batch", json={"jobs": [{"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": there.url}] * 3}
    )
    api.post("/api/vision/jobs/stop-all")
    events |= dict.fromkeys(batch.json()["job_ids"], "job.cancelled")
    there.wait(len(events))
    settle(api)
    told = {json.loads(got.body)["data"]["job_id"]: json.loads(got.body) for got in there.got}
    assert {job_id: message["type"] for job_id, message in told.items()} == events
    assert told[failed]["data"]["error"] == "It broke."
    assert "timeout" in told[late]["data"]["error"]
    assert len(told[poison]["data"]["history"]) == LOSS_LIMIT
    assert len(there.got) == len(events), "each is told once"


def test_a_job_that_is_retried_has_a_message_for_each_end(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    there.statuses = [500, 204]
    job_id = submit(api, there.url, max_retries=0)
    agent.fail(agent.take(), "Out of memory.")
    settle(api)
    api.post(f"/api/queue/jobs/{job_id}/retry")
    assert callback(api, job_id) == "pending"
    clock.advance(10)
    settle(api)
    assert json.loads(there.got[1].body)["data"]["status"] == "failed", "as it was then"
    agent.finish(agent.take())
    settle(api)
    assert [each["event"] for each in deliveries(api, job_id)] == ["job.completed", "job.failed"]
    page = api.get(f"/api/queue/jobs/{job_id}/deliveries?limit=1&offset=1").json()
    assert ([each["event"] for each in page["deliveries"]], page["total"]) == (["job.failed"], 2)


def test_a_clock_that_is_set_back_loses_nothing(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    there.statuses = [500, 204]
    clock._now += 400 * DAY  # it was wrong
    job_id = finished(api, agent, there.url)
    clock._now -= 400 * DAY
    settle(api)
    assert callback(api, job_id) == "delivered"


def test_messages_go_with_their_job(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    job_id = finished(api, agent, there.url)
    clock.advance(DAY)
    fleet = api.app.state.fleet
    api.portal.call(Retention(fleet.db, clock, fleet.settings.model_copy(update={"keep_jobs_days": 0.5})).run)
    assert api.get(f"/api/queue/jobs/{job_id}/deliveries").status_code == 404
    assert api.portal.call(fleet.db.read, lambda db: db.exec_driver_sql("SELECT count(*) FROM deliveries").scalar_one()) == 0


def test_a_job_that_ended_before_there_were_callbacks_says_so(api: TestClient, agent: FakeAgent, there: Receiver) -> None:
    job_id = finished(api, agent, there.url)
    api.portal.call(api.app.state.fleet.db.write, lambda db: db.exec_driver_sql("DELETE FROM deliveries") and None)
    assert callback(api, job_id) == "not_sent"


def test_addresses_that_are_not_meant_are_refused(settings: Settings, clock: ManualClock, there: Receiver) -> None:
    settings = settings.model_copy(update={"callback_networks": ["0.0.0.0/0", "::/0"]})
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        body = {"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": there.url}
        refused = api.post("/api/queue/jobs", json=body)
        assert refused.status_code == 400
        assert refused.json()["detail"].startswith(f"callback_url: '{there.url}' is not allowed; it must not be a loopback address")
        listed = api.post("/api/queue/jobs/batch", json={"jobs": [body]})
        assert listed.json()["detail"].startswith("jobs.0.callback_url: ")

        async def here(host: str) -> list[str]:
            return ["127.0.0.1"]

        courier = api.app.state.fleet.callbacks.courier
        courier.http = HttpOutClient(courier.http._rules, here)
        job_id = finished(api, agent, f"http://app.invalid:{there.port}/hook")
        assert "may not be called: it must not be a loopback address" in deliveries(api, job_id)[0]["attempts"][0]["error"]
    assert there.got == []


def test_the_old_secret_signs_for_a_day_and_a_new_master_key_changes_nothing(
    api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver, settings: Settings
) -> None:
    finished(api, agent, there.url)
    old = api.portal.call(secrets(api).show)
    new = api.portal.call(secrets(api).rotate)
    assert new != old
    assert api.portal.call(rotate, api.app.state.fleet.db, Keyring(settings.vault_folder)).rewrapped == 2
    finished(api, agent, there.url)
    for secret in (old, new):
        Webhook(secret).verify(there.got[-1].body, there.got[-1].headers)
    assert len(there.got[-1].headers["webhook-signature"].split()) == 2
    clock.advance(OVERLAP_SECONDS + 1)
    finished(api, agent, there.url)
    assert len(there.got[-1].headers["webhook-signature"].split()) == 1
    for secret in (old, new):
        for path in settings.home.rglob("*"):
            assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_without_its_secret_a_message_waits(
    api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver, settings: Settings
) -> None:
    finished(api, agent, there.url)
    keys = settings.vault_folder / "keys"
    keys.rename(keys.with_name("away"))
    job_id = finished(api, agent, there.url)
    assert "could not be signed" in deliveries(api, job_id)[0]["attempts"][0]["error"]
    keys.with_name("away").rename(keys)
    clock.advance(10)
    settle(api)
    assert callback(api, job_id) == "delivered"
