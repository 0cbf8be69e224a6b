"""Receivers that refuse, redirect, are slow, are down or gone: who is tried again, when, and how long."""

from __future__ import annotations

import time

from fastapi.testclient import TestClient

from fleet_api.adapters.http_out.client import HttpOutClient
from tests.support.agent import FakeAgent
from tests.support.callbacks import DAY, callback, deliveries, finished, settle, submit
from tests.support.clock import ManualClock
from tests.support.receiver import Receiver, receiver, unused_port


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
