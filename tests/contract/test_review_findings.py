"""Defects that a review found once, each with the sequence that showed it."""

from __future__ import annotations

import hashlib
import json
import threading
import time

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import CAPABILITIES, FakeAgent, png
from tests.support.clock import ManualClock

PROMPT = {"prompt": "x"}
GOOD_RESULT = {
    "seed": 1, "model": "m", "sampler": "euler", "steps": 1, "width": 1, "height": 1, "native_width": 1, "native_height": 1,
    "generation_time": 1.0,
}  # fmt: skip


def test_an_agent_without_an_engine_yet_keeps_what_was_known_of_it(api: TestClient, agent: FakeAgent) -> None:
    agent.restart()
    body = {"incarnation": agent.incarnation, "request_id": "r", "want_job": False, "wait_seconds": 0}
    assert api.post("/api/agents/lease", headers=agent.headers, json=body).status_code == 200
    assert api.post("/api/vision/generate", json=PROMPT).status_code == 201


def test_a_poll_that_ends_while_its_grant_is_written_still_gets_the_job(api: TestClient, agent: FakeAgent) -> None:
    for _ in range(20):
        api.post("/api/vision/generate", json=PROMPT)
    got = [agent.lease(f"request-{n}", wait=0.0)["lease"] for n in range(60)]
    held = {lease.job.id for lease in api.app.state.fleet.open_leases.all()}
    assert held == {lease["job_id"] for lease in got if lease}, "every lease that was granted was also told"


def test_a_node_that_is_offline_is_given_nothing(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    answers: list[object] = []
    poll = threading.Thread(target=lambda: answers.append(agent.lease(wait=3)["lease"]))
    poll.start()
    while not api.app.state.fleet.dispatcher._waiters:
        time.sleep(0.01)
    clock.advance(10)
    api.portal.call(api.app.state.fleet.nodes.check_silence)
    job_id = api.post("/api/vision/generate", json=PROMPT).json()["job_id"]
    poll.join()
    assert answers == [None]
    assert api.get(f"/api/vision/jobs/{job_id}").json()["status"] == "queued"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"seed": "abc"}, "result.seed"),
        ({"seed": 2**63}, "result.seed"),
        ({"width": "wide"}, "result.width"),
        ({"seed": None}, "result.seed"),
        ({"generation_time": -1}, "result.generation_time"),
    ],
)
def test_what_an_agent_says_of_a_picture_is_checked(api: TestClient, agent: FakeAgent, result: dict[str, object], words: str) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    assert agent.upload(lease, png()).status_code == 204
    body = {
        "incarnation": agent.incarnation, "job_id": lease["job_id"], "attempt": 1, "sha256": hashlib.sha256(png()).hexdigest(),
        "result": {**GOOD_RESULT, **result},
    }  # fmt: skip
    answer = api.post("/api/agents/complete", headers=agent.headers, json=body)
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text
    agent.finish(lease)


def test_figures_and_steps_of_an_agent_are_bounded(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    head = {"incarnation": agent.incarnation}
    for held in ({"step": 10**400}, {"step": -1}, {"attempt": 2**70}):
        body = {**head, "holding": [{"job_id": lease["job_id"], "attempt": 1, "step": 1, "steps": 2, **held}]}
        assert api.post("/api/agents/beat", headers=agent.headers, json=body).status_code == 400
    nan = json.dumps({**head, "metrics": {"cpu": float("nan")}})
    headers = {**agent.headers, "Content-Type": "application/json"}
    assert api.post("/api/agents/beat", headers=headers, content=nan).status_code == 400
    assert api.get("/api/queue/jobs").status_code == 200


def test_two_equal_completions_at_once_are_both_told_that_it_went_well(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    agent.upload(lease, png())
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(agent.complete(lease, png()).status_code)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 204 in codes
    assert set(codes) <= {204, 409}
    assert api.get("/api/vision/outputs").json()["total"] == 1


def test_another_nodes_completion_does_not_drop_an_upload(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    assert agent.upload(lease, png()).status_code == 204
    other = FakeAgent.enrol(api, "agx1")
    assert other.complete(lease, png()).status_code == 403
    assert agent.complete(lease, png()).status_code == 204


def test_a_repeated_enrolment_gets_a_credential_again(api: TestClient, clock: ManualClock) -> None:
    from fleet_api.access.enrolment import create_token

    token = api.portal.call(create_token, api.app.state.fleet.db, clock)
    body = {"token": token, "hostname": "agx0", "machine_id": "m", "request_id": "the-one"}
    first = api.post("/api/agents/enrol", json=body)
    again = api.post("/api/agents/enrol", json=body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["node_id"] == again.json()["node_id"]
    assert api.post("/api/agents/enrol", json={**body, "request_id": "another"}).status_code == 401


def test_a_sampler_goes_only_to_a_node_that_serves_it(api: TestClient, agent: FakeAgent) -> None:
    other = FakeAgent.enrol(api, "agx1")
    other.capabilities = {**CAPABILITIES, "samplers": ["euler", "heun"]}
    other.lease()
    job_id = api.post("/api/vision/generate", json={**PROMPT, "scheduler": "heun"}).json()["job_id"]
    assert agent.lease()["lease"] is None
    assert other.take()["job_id"] == job_id


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_a_payload_nested_too_deep_is_400(api: TestClient, agent: FakeAgent, headers: dict[str, str]) -> None:
    agent.capabilities = {**CAPABILITIES, "job_types": ["image_gen", "custom"]}
    agent.lease()
    for depth in (65, 300, 900):
        payload: object = 1
        for _ in range(depth):
            payload = {"a": payload}
        answer = api.post("/api/queue/jobs", json={"job_type": "custom", "payload": payload}, headers=headers)
        assert (answer.status_code, "nested" in answer.json()["detail"]) == (400, True)
    literal = {"job_type": "custom", "payload": {"text": "a literal \\u0000 is no NUL"}}
    assert api.post("/api/queue/jobs", json=literal).status_code == 201


def test_count_in_a_queue_payload_is_refused_and_not_ignored(api: TestClient, agent: FakeAgent) -> None:
    answer = api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": {**PROMPT, "count": 4}})
    assert (answer.status_code, "payload.count" in answer.json()["detail"]) == (400, True)


def test_a_damaged_png_is_refused(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    lease = agent.take()
    junk = b"\x89PNG\r\n\x1a\n" + b"junk" * 100
    assert agent.upload(lease, junk).status_code == 204
    assert agent.complete(lease, junk).status_code == 400


def test_head_is_get_without_the_body(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json=PROMPT)
    agent.finish(agent.take())
    url = api.get("/api/vision/outputs").json()["outputs"][0]["url"]
    head = api.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(png())
    assert api.head("/health").status_code == 200


def test_the_queue_limit_counts_what_is_on_its_way(api: TestClient, agent: FakeAgent) -> None:
    api.app.state.fleet.jobs._limit = 2
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(api.post("/api/vision/generate", json=PROMPT).status_code)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201] * 2 + [429] * 10
    full = api.post("/api/vision/generate", json=PROMPT)
    assert (full.headers["retry-after"], "2 jobs wait and the limit is 2" in full.json()["detail"]) == ("10", True)


def test_a_lost_job_keeps_its_place_where_there_is_no_other_node(api: TestClient, agent: FakeAgent) -> None:
    first = api.post("/api/vision/generate", json=PROMPT).json()["job_id"]
    agent.take()
    for _ in range(5):
        api.post("/api/vision/generate", json=PROMPT)
    agent.restart()
    assert agent.take()["job_id"] == first


def test_a_node_that_loads_a_model_is_switching_and_one_without_an_engine_is_not_there(api: TestClient, agent: FakeAgent) -> None:
    agent.beat(state="loading")
    assert api.get("/api/vision/status").json()["switching_nodes"] == 1
    agent.beat(state="no_engine")
    assert api.get("/api/vision/status").json()["offline_nodes"] == 1
