"""The life of a job, by every door, with an agent that does as the test says."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from fleet_api.jobs.states import LOSS_LIMIT
from tests.support.agent import NOTHING, FakeAgent, png
from tests.support.clock import ManualClock

PROMPT = {"prompt": "a red circle on a blue background"}


def submit(api: TestClient, **more: object) -> str:
    answer = api.post("/api/vision/generate", json={**PROMPT, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def job(api: TestClient, job_id: str) -> dict[str, object]:
    return dict(api.get(f"/api/vision/jobs/{job_id}").json())


def test_a_picture_from_submit_to_gallery(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api, seed=42)
    waiting = job(api, job_id)
    assert (waiting["status"], waiting["queue_position"], waiting["is_possible"]) == ("queued", 1, True)

    lease = agent.take()
    assert lease["job_id"] == job_id
    assert lease["payload"] == {
        "prompt": PROMPT["prompt"], "negative_prompt": "", "width": 1024, "height": 1024, "steps": 20,
        "seed": 42, "model": "fleet-shapes", "scheduler": "euler", "steps_default": True,
    }  # fmt: skip
    assert agent.beat(lease, step=9) == []
    running = job(api, job_id)
    assert (running["status"], running["progress"], running["node_id"]) == ("processing", 45, "agx0")

    agent.finish(lease, png())
    done = job(api, job_id)
    assert (done["status"], done["progress"]) == ("completed", 100)
    result = done["result"]
    assert isinstance(result, dict)
    assert {"image_url", "seed", "generation_time", "node_id"} <= set(result)
    assert result["seed"] == 42
    assert api.get(str(result["image_url"])).content == png()
    [picture] = api.get("/api/vision/gallery").json()["images"]
    assert (picture["prompt"], picture["seed"], picture["node_id"]) == (PROMPT["prompt"], 42, "agx0")
    thumbnail = api.get(picture["thumbnail_url"])
    assert thumbnail.headers["content-type"] == "image/webp"
    assert thumbnail.content[8:12] == b"WEBP"


def test_guidance_is_passed_on_where_it_is_named(api: TestClient, agent: FakeAgent) -> None:
    submit(api, guidance_scale=7.5)
    submit(api, guidance_scale=None)
    assert agent.take()["payload"]["guidance_scale"] == 7.5
    assert "guidance_scale" not in agent.take()["payload"], "the model's own is used"


def test_a_repeated_lease_request_gets_the_same_lease(api: TestClient, agent: FakeAgent) -> None:
    submit(api)
    submit(api)
    first = agent.lease("same-request", wait=5)
    assert first["lease"] is not None
    assert agent.lease("same-request", wait=5) == first


def test_a_repeated_completion_is_taken_once(api: TestClient, agent: FakeAgent) -> None:
    submit(api)
    lease = agent.take()
    agent.finish(lease)
    assert agent.complete(lease, png()).status_code == 204
    assert agent.complete(lease, png("blue")).status_code == 410
    assert api.get("/api/vision/outputs").json()["total"] == 1


def test_completing_without_an_upload_is_refused(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    lease = agent.take()
    answer = agent.complete(lease, png())
    assert answer.status_code == 409
    assert "upload" in answer.json()["detail"]
    assert job(api, job_id)["status"] == "processing"


def test_an_upload_that_does_not_fit_its_digest_is_refused(api: TestClient, agent: FakeAgent) -> None:
    submit(api)
    lease = agent.take()
    headers = {**agent.headers, "X-Content-SHA256": "0" * 64}
    answer = api.put(f"/api/agents/uploads/{lease['job_id']}/{lease['attempt']}", headers=headers, content=png())
    assert answer.status_code == 400
    assert agent.complete(lease, png()).status_code == 409


def test_something_else_than_a_png_is_refused(api: TestClient, agent: FakeAgent) -> None:
    submit(api)
    lease = agent.take()
    assert agent.upload(lease, b"<html>").status_code == 204
    assert agent.complete(lease, b"<html>").status_code == 400


def test_a_failed_attempt_is_tried_again_until_its_retries_are_used(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    answer = api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": PROMPT, "max_retries": 2})
    job_id = answer.json()["job_id"]
    for attempt in (1, 2, 3):
        lease = agent.take()
        assert lease["attempt"] == attempt
        assert agent.fail(lease, f"Broken {attempt}.").status_code == 204
        assert agent.lease()["lease"] is None, "it is tried again at once"
        clock.advance(2 ** (attempt - 1))
    shown = api.get(f"/api/queue/jobs/{job_id}").json()
    assert (shown["status"], shown["error"]) == ("failed", "Broken 3.")
    assert [each["error"] for each in shown["history"]] == ["Broken 1.", "Broken 2.", "Broken 3."]
    assert agent.lease()["lease"] is None

    again = api.post(f"/api/queue/jobs/{job_id}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "queued")
    agent.finish(agent.take())
    assert job(api, job_id)["status"] == "completed"


def test_a_failure_that_no_retry_would_change_ends_the_job(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    agent.fail(agent.take(), "The prompt cannot be drawn.", retry=False)
    assert job(api, job_id)["error"] == "The prompt cannot be drawn."


def test_a_silent_node_loses_its_lease_and_its_late_result(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    job_id = submit(api)
    lease = agent.take()
    clock.advance(14)
    agent.beat(lease, step=1)
    clock.advance(14)
    api.portal.call(api.app.state.fleet.leases.reap)
    assert job(api, job_id)["status"] == "processing", "a beat renews the lease"
    assert agent.upload(lease, png()).status_code == 204
    clock.advance(2)
    api.portal.call(api.app.state.fleet.leases.reap)
    assert job(api, job_id)["status"] == "queued"

    other = FakeAgent.enrol(api, "agx1")
    second = other.take()
    assert (second["job_id"], second["attempt"]) == (job_id, 2)
    assert agent.beat(lease) == [{"job_id": job_id, "attempt": 1}], "the old holder is told to stop"
    assert agent.upload(lease, png("blue")).status_code == 410
    assert agent.complete(lease, png("blue")).status_code == 410
    assert agent.fail(lease).status_code == 410
    other.finish(second)
    assert api.get("/api/vision/outputs").json()["total"] == 1


def test_a_new_incarnation_frees_what_the_old_one_held(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    first = agent.take()
    old = agent.incarnation
    agent.restart()
    second = agent.take()
    assert (second["job_id"], second["attempt"]) == (job_id, 2)
    agent.incarnation = old
    assert agent.complete(first, png()).status_code == 410


def test_a_job_that_takes_every_node_with_it_fails_in_the_end(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    for _ in range(LOSS_LIMIT):
        agent.take()
        agent.restart()
        agent.beat()
    shown = job(api, job_id)
    assert shown["status"] == "failed"
    assert f"{LOSS_LIMIT} times" in str(shown["error"])


def test_a_job_over_its_time_is_ended(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    body = {"job_type": "image_gen", "payload": PROMPT, "timeout_seconds": 10, "max_retries": 0}
    job_id = api.post("/api/queue/jobs", json=body).json()["job_id"]
    lease = agent.take()
    clock.advance(9)
    agent.beat(lease, step=1)
    clock.advance(2)
    api.portal.call(api.app.state.fleet.leases.reap)
    assert "timeout of 10 s" in str(job(api, job_id)["error"])
    assert agent.beat(lease) == [{"job_id": job_id, "attempt": 1}]


def test_cancel_a_waiting_job(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    assert api.post(f"/api/vision/jobs/{job_id}/cancel").json() == {"job_id": job_id, "status": "cancelled"}
    assert api.post(f"/api/vision/jobs/{job_id}/cancel").status_code == 200, "twice is as good as once"
    assert agent.lease()["lease"] is None


def test_cancel_a_running_job_reaches_the_agent_through_its_open_poll(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    lease = agent.take()
    held = [{"job_id": job_id, "attempt": 1}]
    import threading

    answers: list[object] = []
    poll = threading.Thread(target=lambda: answers.append(agent.lease(wait=20, holding=held, want_job=False)))
    poll.start()
    while not api.app.state.fleet.dispatcher._waiters:
        pass
    assert api.delete(f"/api/queue/jobs/{job_id}").json()["status"] == "cancelled"
    poll.join(timeout=1)
    assert answers == [{**NOTHING, "stop": held}]
    assert agent.complete(lease, png()).status_code == 410
    assert api.delete(f"/api/queue/jobs/{job_id}").status_code == 200


def test_a_finished_job_cannot_be_cancelled_nor_retried(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api)
    agent.finish(agent.take())
    assert api.post(f"/api/vision/jobs/{job_id}/cancel").status_code == 409
    assert api.post(f"/api/queue/jobs/{job_id}/retry").status_code == 409


def test_stop_all(api: TestClient, agent: FakeAgent) -> None:
    for _ in range(3):
        submit(api)
    lease = agent.take()
    assert api.post("/api/vision/jobs/stop-all").json() == {"cancelled": 3}
    assert agent.beat(lease) == [{"job_id": lease["job_id"], "attempt": 1}]
    assert api.get("/api/queue/stats").json()["cancelled"] == 3


def test_priorities_of_all_three_doors_are_one_queue(api: TestClient, agent: FakeAgent) -> None:
    low = api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": PROMPT, "priority": "low"}).json()["job_id"]
    plain = submit(api)
    high = api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": PROMPT, "priority": "high"}).json()["job_id"]
    above = submit(api, priority=11)
    entries = api.get("/api/vision/queue").json()["queue"]
    assert [entry["job_id"] for entry in entries] == [above, high, plain, low]
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4]
    assert [agent.take()["job_id"] for _ in range(4)] == [above, high, plain, low]


def test_count_makes_jobs_with_consecutive_seeds(api: TestClient, agent: FakeAgent) -> None:
    answer = api.post("/api/vision/generate", json={**PROMPT, "seed": 7, "count": 3}).json()
    assert len(answer["job_ids"]) == 3
    assert [agent.take()["payload"]["seed"] for _ in range(3)] == [7, 8, 9]


def test_a_batch_is_taken_all_or_none(api: TestClient, agent: FakeAgent) -> None:
    good = {"job_type": "image_gen", "payload": PROMPT}
    bad = {"job_type": "image_gen", "payload": {**PROMPT, "width": 7}}
    refused = api.post("/api/queue/jobs/batch", json={"jobs": [good, bad]})
    assert refused.status_code == 400
    assert "jobs.1.payload.width" in refused.json()["detail"]
    assert api.get("/api/queue/jobs").json()["total"] == 0
    taken = api.post("/api/queue/jobs/batch", json={"jobs": [good, good]})
    assert (taken.status_code, taken.json()["created"]) == (201, 2)
    assert api.get("/api/queue/jobs").json()["total"] == 2


def test_an_idempotency_key_makes_one_job(api: TestClient, agent: FakeAgent) -> None:
    headers = {"Idempotency-Key": "order-66"}
    first = api.post("/api/vision/generate", json=PROMPT, headers=headers)
    second = api.post("/api/vision/generate", json=PROMPT, headers=headers)
    assert first.json()["job_id"] == second.json()["job_id"]
    other = api.post("/api/vision/generate", json={**PROMPT, "steps": 5}, headers=headers)
    assert other.status_code == 422
    assert api.get("/api/queue/jobs").json()["total"] == 1


def test_a_full_queue_is_429(api: TestClient, agent: FakeAgent) -> None:
    api.app.state.fleet.jobs._limit = 2
    submit(api)
    submit(api)
    answer = api.post("/api/vision/generate", json=PROMPT)
    assert answer.status_code == 429
    assert "limit is 2" in answer.json()["detail"]


def test_a_callback_that_is_to_come_is_pending(api: TestClient, agent: FakeAgent) -> None:
    body = {"job_type": "image_gen", "payload": PROMPT, "callback_url": "https://app.invalid/webhook"}
    job_id = api.post("/api/queue/jobs", json=body).json()["job_id"]
    assert job(api, job_id)["callback"] == "pending"


def test_what_no_agent_can_serve_is_503_with_the_reason(api: TestClient, agent: FakeAgent) -> None:
    answer = api.post("/api/queue/jobs", json={"job_type": "training", "payload": {}})
    assert (answer.status_code, "training" in answer.json()["detail"]) == (503, True)
    body = {"job_type": "image_gen", "payload": PROMPT, "target_cluster": "night"}
    assert api.post("/api/queue/jobs", json=body).status_code == 503


def test_a_job_that_became_impossible_says_so(api: TestClient, agent: FakeAgent) -> None:
    job_id = submit(api, model="other-model")
    agent.capabilities = {**agent.capabilities, "models": agent.capabilities["models"][:1]}
    assert agent.lease()["lease"] is None
    shown = job(api, job_id)
    assert shown["is_possible"] is False
    assert "other-model" in str(shown["reason"])
    listed = api.post("/api/vision/generate", json={**PROMPT, "model": "other-model"})
    assert (listed.status_code, "fleet-shapes" in listed.json()["detail"]) == (404, True)


def test_the_loaded_model_is_preferred(api: TestClient, agent: FakeAgent) -> None:
    cold = submit(api, model="other-model")
    warm = submit(api)
    agent.loaded_model = "fleet-shapes"
    assert agent.take()["job_id"] == warm
    agent.loaded_model = "other-model"
    assert agent.take()["job_id"] == cold
    assert api.get("/api/vision/models/loaded").json() == {"models": {"other-model": ["agx0"]}}


def test_waits_are_predicted_once_a_job_has_been_measured(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    agent.loaded_model = "fleet-shapes"
    submit(api)
    lease = agent.take()
    clock.advance(4)
    agent.finish(lease)
    submit(api)
    agent.take()
    for _ in range(3):
        last = submit(api)
    shown = job(api, last)
    assert shown["wait_seconds"] == pytest.approx(4 * 3, rel=0.05), "one at work and two ahead, on one node, at 4 s each"


def test_a_sync_generate_that_no_agent_can_serve_is_503(api: TestClient) -> None:
    answer = api.post("/api/fleet/generate", json=PROMPT)
    assert answer.status_code == 503
    assert "fleet up" in answer.json()["detail"]


def test_a_completion_that_names_another_file_is_refused(api: TestClient, agent: FakeAgent) -> None:
    submit(api)
    lease = agent.take()
    assert agent.upload(lease, png()).status_code == 204
    assert agent.complete(lease, png("blue")).status_code == 409
    agent.finish(lease, png("blue"))


def test_an_agent_that_is_told_to_stop_uses_up_no_retry(api: TestClient, agent: FakeAgent) -> None:
    body = {"job_type": "image_gen", "payload": PROMPT, "max_retries": 0}
    job_id = api.post("/api/queue/jobs", json=body).json()["job_id"]
    assert agent.fail(agent.take(), "Stopped.", kind="agent_stopped").status_code == 204
    assert job(api, job_id)["status"] == "queued"
    agent.finish(agent.take())
