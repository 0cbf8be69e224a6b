"""Jobs with a ``callback_url``, and what became of their messages."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent

DAY = 86_400.0


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


def callback(api: TestClient, job_id: str) -> str:
    queue, vision = api.get(f"/api/queue/jobs/{job_id}").json(), api.get(f"/api/vision/jobs/{job_id}").json()
    listed = {each["job_id"]: each for each in api.get("/api/queue/jobs?limit=500").json()["jobs"]}
    assert queue["callback"] == vision["callback"] == listed[job_id]["callback"]
    return str(queue["callback"])
