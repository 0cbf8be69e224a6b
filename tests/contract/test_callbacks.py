"""``callback_url`` is called when its job ends: signed, tried again, logged, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.receiver import Receiver, receiver, unused_port

LOOPBACK = ["127.0.0.0/8"]
DAY = 86_400.0


class WallClock(ManualClock):
    """Stands still until a test moves it, but begins with the present: receivers' libraries refuse what is not fresh."""

    def __init__(self) -> None:
        super().__init__()
        self._now = time.time()


@pytest.fixture
def clock() -> ManualClock:
    return WallClock()


@pytest.fixture
def api(settings: Settings, clock: ManualClock, _empty_database: Path) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"callback_networks": LOOPBACK})
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with client_of(create_app(settings, clock)) as client:
        yield client


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def submit(api: TestClient, url: str | None, **more: Any) -> str:
    body = {"job_type": "image_gen", "payload": {"prompt": "ein Kreis, größer"}, "callback_url": url, **more}
    answer = api.post("/api/queue/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def settle(api: TestClient) -> None:
    """Return once everything that is due now was tried."""
    courier = api.app.state.fleet.callbacks.courier
    api.portal.call(courier.round)
    api.portal.call(courier.settled)


def finished(api: TestClient, agent: FakeAgent, url: str, **more: Any) -> str:
    job_id = submit(api, url, **more)
    agent.finish(agent.take())
    settle(api)
    return job_id


def deliveries(api: TestClient, job_id: str) -> list[dict[str, Any]]:
    answer = api.get(f"/api/queue/jobs/{job_id}/deliveries")
    assert answer.status_code == 200, answer.text
    assert answer.json()["total"] == len(answer.json()["deliveries"])
    return list(answer.json()["deliveries"])


def secrets(api: TestClient) -> WebhookSecrets:
    return api.app.state.fleet.callbacks.courier._secrets


def callback(api: TestClient, job_id: str) -> str:
    queue, vision = api.get(f"/api/queue/jobs/{job_id}").json(), api.get(f"/api/vision/jobs/{job_id}").json()
    listed = {each["job_id"]: each for each in api.get("/api/queue/jobs?limit=500").json()["jobs"]}
    assert queue["callback"] == vision["callback"] == listed[job_id]["callback"]
    return str(queue["callback"])


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


def test_500_and_then_200(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    there.statuses, there.body = [500, 200], b"sorry"
    job_id = finished(api, agent, there.url)
    [delivery] = deliveries(api, job_id)
    assert (delivery["status"], callback(api, job_id)) == ("retrying", "retrying")
    assert delivery["attempts"][0]["error"] == "The receiver answered with status 500."
    assert delivery["next_attempt_at"] > delivery["attempts"][0]["at"]
    settle(api)
    assert len(there.got) == 1, "it is not due yet"
    clock.advance(7)
    settle(api)
    first, second = there.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    [delivery] = deliveries(api, job_id)
    assert [each["status_code"] for each in delivery["attempts"]] == [500, 200]
    figures = api.get("/metrics").text
    assert 'fleet_callback_attempts_total{state="retrying"} 1.0' in figures
    assert 'fleet_callback_attempts_total{state="delivered"} 1.0' in figures
    assert callback(api, job_id) == "delivered"


def test_it_is_given_up_after_about_a_day_and_can_be_replayed(
    api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver
) -> None:
    there.statuses = [503]
    job_id = finished(api, agent, there.url)
    for tries in range(2, 30):
        if callback(api, job_id) == "gave_up":
            break
        clock.advance(60)
        while len(there.got) < tries:
            clock.advance(1_800)
            settle(api)
    assert len(there.got) == 11
    [delivery] = deliveries(api, job_id)
    assert (delivery["status"], len(delivery["attempts"])) == ("gave_up", 11)
    clock.advance(30 * DAY)
    settle(api)
    assert len(there.got) == 11
    there.statuses = [204]
    replayed = api.post(f"/api/queue/jobs/{job_id}/deliveries/{delivery['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"]) == (200, "pending")
    settle(api)
    assert {got.headers["webhook-id"] for got in there.got} == {delivery["id"]}
    assert callback(api, job_id) == "delivered"
    assert any(entry["path"].endswith("/replay") for entry in api.get("/api/audit").json()["entries"])


def test_what_was_delivered_can_be_replayed_but_not_while_it_is_under_way(
    api: TestClient, agent: FakeAgent, there: Receiver, clock: ManualClock
) -> None:
    job_id = finished(api, agent, there.url)
    [delivery] = deliveries(api, job_id)
    address = f"/api/queue/jobs/{job_id}/deliveries/{delivery['id']}/replay"
    there.pause = 0.5
    assert api.post(address).status_code == 200
    there.wait(2)
    refused = api.post(address)
    assert (refused.status_code, "under way" in refused.json()["detail"]) == (409, True)
    settle(api)
    assert len(there.got) == 2
    other = submit(api, there.url)
    for wrong in (f"/api/queue/jobs/{other}/deliveries/{delivery['id']}/replay", f"/api/queue/jobs/{job_id}/deliveries/nope/replay"):
        assert api.post(wrong).status_code == 404
    settle(api)
    assert len(there.got) == 2


def test_redirects_are_refused_and_410_is_the_end(api: TestClient, agent: FakeAgent, there: Receiver) -> None:
    with receiver(statuses=[302], headers={"Location": there.url}) as elsewhere:
        job_id = finished(api, agent, elsewhere.url)
        assert "redirect" in deliveries(api, job_id)[0]["attempts"][0]["error"]
        assert callback(api, job_id) == "retrying"
    assert there.got == []
    there.statuses = [410]
    gone = finished(api, agent, there.url)
    assert callback(api, gone) == "gave_up"
    assert deliveries(api, gone)[0]["attempts"][0]["status_code"] == 410


def test_retry_after_is_honoured(api: TestClient, agent: FakeAgent, clock: ManualClock, there: Receiver) -> None:
    there.statuses, there.headers = [429, 204], {"Retry-After": "600"}
    job_id = finished(api, agent, there.url)
    clock.advance(590)
    settle(api)
    assert len(there.got) == 1
    clock.advance(20)
    settle(api)
    assert callback(api, job_id) == "delivered"


def test_a_receiver_that_is_down_and_comes_back(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    port = unused_port()
    job_id = finished(api, agent, f"http://127.0.0.1:{port}/hook")
    assert deliveries(api, job_id)[0]["attempts"][0]["error"] == f"Nobody answers at 127.0.0.1:{port}."
    with receiver(port=port) as there:
        clock.advance(10)
        settle(api)
        assert len(there.got) == 1
    assert callback(api, job_id) == "delivered"


def test_a_dead_receiver_holds_up_nobody_else(api: TestClient, agent: FakeAgent, there: Receiver) -> None:
    courier = api.app.state.fleet.callbacks.courier
    courier.http = HttpOutClient(courier.http._rules, seconds=1.0)
    with receiver(pause=3) as dead:
        slow = [submit(api, dead.url) for _ in range(40)]
        api.post("/api/vision/jobs/stop-all")
        dead.wait(2)
        job_id = submit(api, there.url)
        agent.finish(agent.take())
        started = time.monotonic()
        there.wait(1, seconds=1.5)
        assert time.monotonic() - started < 1.5
        dead.wait(4)
        assert len(courier._full_hosts()) <= 1
        assert len(dead.got) <= 10
        assert dead.busiest <= 10, "each attempt is cut off, and the receiver may still be at work on it"
    assert callback(api, job_id) == "delivered"
    first = [each for each in (deliveries(api, one)[0] for one in slow) if each["attempts"]]
    assert first[0]["attempts"][0]["error"] == f"127.0.0.1:{dead.port} did not answer within 1 s."


def test_never_more_than_two_at_once_to_one_host(api: TestClient, agent: FakeAgent) -> None:
    with receiver(pause=0.05) as there:
        for _ in range(12):
            submit(api, there.url)
        api.post("/api/vision/jobs/stop-all")
        there.wait(12)
        settle(api)
        assert there.busiest == 2
        assert len({got.headers["webhook-id"] for got in there.got}) == len(there.got) == 12


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
