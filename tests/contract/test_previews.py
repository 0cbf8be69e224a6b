"""How far a picture is: what agents send and callers see of it."""

from __future__ import annotations

import io
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from tests.support.agent import FakeAgent


def jpeg(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def at_work(api: TestClient, **more: Any) -> tuple[FakeAgent, dict[str, Any], str]:
    agent = FakeAgent.enrol(api, "agx0")
    agent.loaded_model = "fleet-shapes"
    assert agent.lease()["lease"] is None
    agent.beat()
    job = api.post("/api/vision/generate", json={"prompt": "x", "preview_every": 5, **more}).json()["job_id"]
    return agent, agent.take(), str(job)


def send(api: TestClient, agent: FakeAgent, lease: dict[str, Any], data: bytes, attempt: int = 0, step: int = 5) -> Any:
    path = f"/api/agents/previews/{lease['job_id']}/{attempt or lease['attempt']}?step={step}"
    return api.put(path, headers=agent.headers, content=data)


def test_a_preview_is_there_while_the_job_runs_and_is_told_of(api: TestClient) -> None:
    agent, lease, job = at_work(api)
    assert lease["payload"]["preview_every"] == 5
    none = api.get(f"/api/queue/jobs/{job}/preview")
    assert none.status_code == 404
    assert "was submitted without preview_every, or has not got that far" in none.json()["detail"]
    with api.websocket_connect("/ws?types=job_progress") as socket:
        agent.beat(lease, step=5)
        assert "preview" not in socket.receive_json()["data"]
        assert "preview" not in api.get(f"/api/queue/jobs/{job}").json()
        assert send(api, agent, lease, jpeg("red")).status_code == 204
        told = socket.receive_json()["data"]
        assert (told["job_id"], told["preview"], told["progress"]) == (job, 5, 25)
    assert [api.get(f"/api/{door}/jobs/{job}").json()["preview"] for door in ("queue", "vision")] == [5, 5], "who comes later is told too"
    first = api.get(f"/api/queue/jobs/{job}/preview")
    assert (first.status_code, first.headers["content-type"], first.headers["cache-control"]) == (200, "image/jpeg", "no-store")
    assert first.content == jpeg("red")
    assert send(api, agent, lease, jpeg("blue"), step=10).status_code == 204
    assert api.get(f"/api/queue/jobs/{job}/preview").content == jpeg("blue"), "there is one a job"
    agent.finish(lease)
    assert "preview" not in api.get(f"/api/queue/jobs/{job}").json()
    assert api.get(f"/api/queue/jobs/{job}/preview").json()["detail"] == f"The job '{job}' has no preview: it is completed."
    assert send(api, agent, lease, jpeg()).status_code == 410


def test_what_is_no_preview_is_refused(api: TestClient) -> None:
    agent, lease, _ = at_work(api)
    assert send(api, agent, lease, b"<html>").json()["detail"] == "The preview must be a JPEG."
    assert send(api, agent, lease, jpeg() + b"x" * 70_000).status_code == 413
    assert send(api, agent, lease, jpeg(), attempt=9).status_code == 410
    other = FakeAgent.enrol(api, "agx1")
    assert send(api, other, lease, jpeg()).status_code == 403
    assert api.get("/api/queue/jobs/nope/preview").status_code == 404


def test_it_renews_no_lease_and_pictures_without_it_have_none_in_their_payload(api: TestClient, clock: Any) -> None:
    agent, lease, job = at_work(api)
    for _ in range(4):
        clock.advance(5)
        send(api, agent, lease, jpeg())
        api.portal.call(api.app.state.fleet.leases.reap)
    assert api.get(f"/api/queue/jobs/{job}").json()["status"] == "queued"
    again = api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
    assert "preview_every" not in api.get(f"/api/queue/jobs/{again}").json()["payload"]
