"""Every row of this stage: its status, its keys, with and without the trailing slash."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent

READS = [
    ("/health", {"status", "version", "checks"}),
    ("/api/status", {"status", "version", "nodes", "jobs", "storage"}),
    ("/api/fleet/connect", {"status", "message", "version", "capabilities"}),
    ("/api/fleet/status", {"status", "version", "nodes", "jobs", "vision", "storage"}),
    ("/api/fleet/capabilities", {"capabilities"}),
    ("/api/fleet/generate/status", {"available", "nodes", "queue_length"}),
    ("/api/nodes", {"nodes"}),
    ("/api/nodes/heartbeats", {"heartbeats"}),
    ("/api/vision/status", {"online_nodes", "busy_nodes", "switching_nodes", "offline_nodes", "queue_length", "models_loaded"}),
    ("/api/vision/nodes", {"nodes"}),
    ("/api/vision/jobs", {"jobs", "total"}),
    ("/api/vision/queue", {"queue", "length"}),
    ("/api/vision/models/available", {"models"}),
    ("/api/vision/models/loaded", {"models"}),
    ("/api/vision/gallery", {"images", "total", "next"}),
    ("/api/vision/outputs", {"outputs", "total"}),
    ("/api/outputs/stats", {"local", "s3", "last_sync", "unsynced", "store", "progress", "trouble"}),
    ("/api/outputs/list", {"source", "outputs", "total"}),
    ("/api/vision/schedulers", {"schedulers"}),
    ("/api/vision/aspect-ratios", {"ratios"}),
    ("/api/queue/jobs", {"jobs", "total"}),
    (
        "/api/queue/stats",
        {
            "queued", "processing", "completed", "failed", "cancelled", "by_type", "by_priority", "throughput_per_minute",
            "oldest_queued_seconds",
        },
    ),
]  # fmt: skip
NODE = {"id", "hostname", "ip", "status", "cluster", "cpu", "memory", "gpu", "gpu_memory", "temperature", "disk", "last_seen", "reason"}


@pytest.mark.parametrize(("path", "keys"), READS)
def test_reads(api: TestClient, agent: FakeAgent, path: str, keys: set[str]) -> None:
    plain, slashed = api.get(path, follow_redirects=False), api.get(path + "/", follow_redirects=False)
    assert (plain.status_code, slashed.status_code) == (200, 200)
    assert set(plain.json()) == keys == set(slashed.json())


def test_elements(api: TestClient, agent: FakeAgent) -> None:
    agent.loaded_model = "fleet-shapes"
    agent.beat()
    for _ in range(3):
        api.post("/api/vision/generate", json={"prompt": "x"})
    agent.finish(agent.take())
    running = agent.take()
    agent.beat(running, step=10)
    assert set(api.get("/api/nodes").json()["nodes"][0]) == NODE
    assert set(api.get("/api/nodes/agx0").json()) >= NODE | {"labels", "facts", "services", "loaded_models"}
    [worker] = api.get("/api/vision/nodes").json()["nodes"]
    assert worker == {
        "node_id": "agx0", "status": "busy", "loaded_model": "fleet-shapes", "current_job": running["job_id"], "progress": 50,
        "queue": 1, "url": None, "unavailable": None,
    }  # fmt: skip
    [waiting] = api.get("/api/vision/queue").json()["queue"]
    assert set(waiting) == {"job_id", "position", "model", "priority", "status", "wait_seconds", "created_at"}
    model = api.get("/api/vision/models/available").json()["models"][0]
    assert {"name", "type", "size", "loaded_on"} <= set(model)
    assert (model["size"], model["loaded_on"]) == ("8.1MB", ["agx0"])
    [image] = api.get("/api/vision/gallery").json()["images"]
    keys = {"filename", "url", "thumbnail_url", "prompt", "model", "seed", "width", "height", "node_id", "created_at"}
    assert set(image) == keys | {"lora", "starred", "deleted_at"}
    assert set(api.get("/api/vision/aspect-ratios").json()["ratios"][0]) == {"name", "width", "height"}
    assert {"name": "16:9", "width": 1344, "height": 768} in api.get("/api/vision/aspect-ratios").json()["ratios"]
    assert api.get("/api/vision/schedulers").json()["schedulers"] == ["euler", "euler_a", "dpm++_2m"]
    shown = api.get(f"/api/vision/jobs/{waiting['job_id']}").json()
    assert {"job_id", "status", "queue_position", "is_possible", "attempts"} <= set(shown)
    assert {"job_id", "status", "progress", "node_id"} <= set(api.get(f"/api/vision/jobs/{running['job_id']}").json())


@pytest.mark.parametrize("body", [None, {}, {"api_key": "anything"}, {"api_key": None}])
def test_connect_takes_any_key_or_none(api: TestClient, body: object) -> None:
    answer = api.post("/api/fleet/connect", json=body) if body is not None else api.post("/api/fleet/connect/")
    assert (answer.status_code, answer.json()["status"]) == (200, "connected")
    assert answer.json()["capabilities"] == ["nodes", "containers", "images", "generation", "ssh", "metrics", "vision"]


def test_creating_answers_201_and_the_rest_200(api: TestClient, agent: FakeAgent) -> None:
    one = api.post("/api/queue/jobs/", json={"job_type": "image_gen", "payload": {"prompt": "x"}})
    assert one.status_code == 201
    assert set(one.json()) == {"job_id", "status", "job_type", "priority", "queue_position"}
    batch = api.post("/api/queue/jobs/batch", json={"jobs": [{"job_type": "image_gen", "payload": {"prompt": "x"}}]})
    assert (batch.status_code, set(batch.json())) == (201, {"job_ids", "created"})
    picture = api.post("/api/vision/generate/", json={"prompt": "x"})
    assert picture.status_code == 201
    assert {"job_id", "status", "queue_position", "target_model"} <= set(picture.json())
    assert api.post("/api/vision/outputs/clear").status_code == 200


def test_lists_are_newest_first_and_paged(api: TestClient, agent: FakeAgent) -> None:
    ids = [api.post("/api/vision/generate", json={"prompt": str(n)}).json()["job_id"] for n in range(5)]
    page = api.get("/api/queue/jobs?limit=2&offset=1").json()
    assert ([each["job_id"] for each in page["jobs"]], page["total"]) == ([ids[3], ids[2]], 5)
    for _ in range(5):
        agent.finish(agent.take())
    first = api.get("/api/vision/gallery?limit=3").json()
    assert (len(first["images"]), first["total"], first["next"]) == (3, 5, 3)
    last = api.get("/api/vision/gallery?limit=3&offset=3").json()
    assert (len(last["images"]), last["next"]) == (2, None)


def test_outputs_are_deleted_one_and_all(api: TestClient, agent: FakeAgent) -> None:
    for _ in range(3):
        api.post("/api/vision/generate", json={"prompt": "x"})
        agent.finish(agent.take())
    first = api.get("/api/vision/outputs").json()["outputs"][0]
    assert api.delete(first["url"]).json() == {"deleted": 1}
    assert api.get(first["url"]).status_code == 404
    assert api.delete(first["url"]).status_code == 404
    assert api.post("/api/vision/outputs/clear").json() == {"deleted": 2}
    assert api.get("/api/vision/gallery").json() == {"images": [], "total": 0, "next": None}
    assert len(api.get("/api/vision/gallery?deleted=true").json()["images"]) == 3, "a day in the bin"


def test_an_output_supports_ranges_and_says_its_type(api: TestClient, agent: FakeAgent) -> None:
    api.post("/api/vision/generate", json={"prompt": "x"})
    agent.finish(agent.take())
    url = api.get("/api/vision/outputs").json()["outputs"][0]["url"]
    part = api.get(url, headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    assert part.headers["content-type"] == "image/png"
    assert "immutable" in part.headers["cache-control"]


def test_a_model_that_came_with_its_agent_stays(api: TestClient, agent: FakeAgent) -> None:
    assert api.delete("/api/vision/models/fleet-shapes").status_code == 409
    assert api.delete("/api/vision/models/nope").status_code == 404
