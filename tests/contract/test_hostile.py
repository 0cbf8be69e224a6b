"""Bad input: the right status, and one sentence that names field, value and what is allowed."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent

GENERATE = "/api/vision/generate"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, ["prompt is required"]),
        ({"prompt": None}, 400, ["prompt is required"]),
        ({"prompt": ""}, 400, ["prompt", "''", "from 1 to 10000 characters"]),
        ({"prompt": 5}, 400, ["prompt", "5", "text"]),
        ({"prompt": ["x"]}, 400, ["prompt", "text"]),
        ({"prompt": "x" * 10_001}, 400, ["prompt", "10,001 characters", "from 1 to 10000"]),
        ({"prompt": "a\x00b"}, 400, ["prompt", "NUL"]),
        ({"prompt": "x", "steps": 0}, 400, ["steps", "0", "from 1 to 150"]),
        ({"prompt": "x", "steps": 1.5}, 400, ["steps", "1.5", "whole number from 1 to 150"]),
        ({"prompt": "x", "steps": True}, 400, ["steps", "true", "whole number from 1 to 150"]),
        ({"prompt": "x", "steps": "20"}, 400, ["steps", "'20'", "whole number"]),
        ({"prompt": "x", "steps": 10_000_000}, 400, ["steps", "10000000", "from 1 to 150"]),
        ({"prompt": "x", "steps": [20]}, 400, ["steps", "whole number"]),
        ({"prompt": "x", "width": 7}, 400, ["width", "7", "from 64 to 2048 in multiples of 8"]),
        ({"prompt": "x", "width": 65}, 400, ["width", "65", "multiples of 8"]),
        ({"prompt": "x", "height": 4096}, 400, ["height", "4096", "2048"]),
        ({"prompt": "x", "height": -64}, 400, ["height", "-64"]),
        ({"prompt": "x", "seed": 2**63}, 400, ["seed", str(2**63), str(2**63 - 1)]),
        ({"prompt": "x", "seed": 2**70}, 400, ["seed", str(2**63 - 1)]),
        ({"prompt": "x", "seed": -1}, 400, ["seed", "-1", "from 0"]),
        ({"prompt": "x", "guidance_scale": 31}, 400, ["guidance_scale", "31", "from 0 to 30"]),
        ({"prompt": "x", "guidance_scale": "high"}, 400, ["guidance_scale", "'high'", "number from 0 to 30"]),
        ({"prompt": "x", "model": "nope"}, 404, ["model", "'nope'", "fleet-shapes"]),
        ({"prompt": "x", "model": ""}, 400, ["model", "from 1 to 200"]),
        ({"prompt": "x", "lora": "detail"}, 404, ["lora", "'detail'"]),
        ({"prompt": "x", "scheduler": "magic"}, 400, ["scheduler", "'magic'", "euler"]),
        ({"prompt": "x", "count": 17}, 400, ["count", "17", "from 1 to 16"]),
        ({"prompt": "x", "priority": 10**9}, 400, ["priority", "from -1000 to 1000"]),
        ([], 400, ["JSON object"]),
        ("prompt", 400, ["JSON object"]),
        (7, 400, ["JSON object"]),
    ],
)
def test_generate(api: TestClient, agent: FakeAgent, body: object, status: int, words: list[str]) -> None:
    check(api.post(GENERATE, json=body), status, words)
    assert api.get("/api/queue/jobs").json()["total"] == 0


@pytest.mark.parametrize(
    ("raw", "content_type", "status", "words"),
    [
        (b"", None, 400, ["JSON body is required"]),
        (b"{", "application/json", 400, ["not valid JSON"]),
        (b"\xff\xfe\x00", "application/json", 400, ["not valid JSON"]),
        (b"[" * 200_000, "application/json", 400, ["not valid JSON"]),
        (b'{"prompt":"x","seed":' + b"9" * 10_000 + b"}", "application/json", 400, ["not valid JSON"]),
        (b'{"prompt":"x","guidance_scale":NaN}', "application/json", 400, ["guidance_scale", "finite number from 0 to 30"]),
        (b'{"prompt":"x","guidance_scale":1e999}', "application/json", 400, ["guidance_scale", "finite number"]),
        (b'{"prompt":"x","seed":Infinity}', "application/json", 400, ["seed"]),
        (b'{"prompt":"\\ud800"}', "application/json", 400, ["prompt", "Unicode"]),
        (b"prompt=x", "application/x-www-form-urlencoded", 400, ["Content-Type: application/json"]),
        (b'{"prompt":"x"}', "text/plain", 400, ["Content-Type: application/json"]),
        (b'{"prompt":"' + b"x" * 10_000_000 + b'"}', "application/json", 413, ["1,048,576 bytes"]),
    ],
)
def test_raw_bodies(api: TestClient, agent: FakeAgent, raw: bytes, content_type: str | None, status: int, words: list[str]) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    check(api.post(GENERATE, content=raw, headers=headers), status, words)


def test_a_long_body_without_a_length_is_413(api: TestClient, agent: FakeAgent) -> None:
    chunks = (b"x" * 65_536 for _ in range(40))
    check(api.post(GENERATE, content=chunks, headers={"Content-Type": "application/json"}), 413, ["1,048,576 bytes"])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"job_type": "magic"}, 400, ["job_type", "'magic'", "image_gen", "custom"]),
        ({}, 400, ["job_type is required"]),
        ({"job_type": "image_gen", "payload": {}}, 400, ["payload.prompt is required"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x", "steps": 0}}, 400, ["payload.steps", "from 1 to 150"]),
        ({"job_type": "image_gen", "payload": "x"}, 400, ["payload", "JSON object"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "priority": "urgent"}, 400, ["priority", "'urgent'", "high, normal, low"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "max_retries": -1}, 400, ["max_retries", "from 0 to 100"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "timeout_seconds": 0}, 400, ["timeout_seconds", "from 1 to 604800"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "ftp://x.invalid/"}, 400, ["callback_url", "http"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "http://127.0.0.1/x"}, 400, ["callback_url", "loopback"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "http://[::1]/"}, 400, ["callback_url", "loopback"]),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "http://169.254.169.254/"}, 400, ["callback_url"]),
        (
            {"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "http://u:p@app.invalid/"},
            400,
            ["callback_url", "password"],
        ),
        ({"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": "http://app.invalid:99999/"}, 400, ["callback_url"]),
        ({"job_type": "custom", "payload": {"deep": {"nul": "\x00"}}}, 400, ["payload", "NUL"]),
    ],
)
def test_queue_jobs(api: TestClient, agent: FakeAgent, body: object, status: int, words: list[str]) -> None:
    check(api.post("/api/queue/jobs", json=body), status, words)


def test_payload_of_another_kind_may_not_hold_nan(api: TestClient, agent: FakeAgent) -> None:
    raw = json.dumps({"job_type": "custom", "payload": {"n": float("nan")}})
    answer = api.post("/api/queue/jobs", content=raw, headers={"Content-Type": "application/json"})
    check(answer, 400, ["payload", "NaN"])


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/vision/outputs/..%2Ffleet.db", 404, ["nothing at this address"]),
        ("/api/vision/outputs/..", 404, []),
        ("/api/vision/outputs/%00", 400, ["filename"]),
        ("/api/vision/outputs/a%00b.png", 400, ["filename"]),
        ("/api/vision/outputs/.thumbnails", 400, ["filename"]),
        ("/api/vision/outputs/-rf", 400, ["filename"]),
        ("/api/vision/outputs/" + "x" * 300, 400, ["filename"]),
        ("/api/vision/outputs/fleet.db", 404, ["fleet.db"]),
        ("/api/vision/jobs/not-a-job", 404, ["not-a-job"]),
        ("/api/vision/jobs/%F0%9F%92%A5", 404, []),
        ("/api/vision/jobs?limit=0", 400, ["limit", "from 1 to 500"]),
        ("/api/vision/jobs?limit=x", 400, ["limit", "whole number"]),
        ("/api/vision/jobs?offset=-1", 400, ["offset"]),
        ("/api/vision/jobs?offset=99999999999999999999", 400, ["offset"]),
        ("/api/vision/jobs?status=lost", 400, ["status", "queued"]),
        ("/api/queue/jobs?job_type=lost", 400, ["job_type", "image_gen"]),
        ("/api/nodes/nope", 404, ["nope", "agx0"]),
        ("/api/nothing", 404, ["nothing at this address"]),
        ("/api/vision/outputs/x.png?thumbnail=maybe", 400, ["thumbnail", "true or false"]),
    ],
)
def test_addresses(api: TestClient, agent: FakeAgent, path: str, status: int, words: list[str]) -> None:
    check(api.get(path), status, words)


def test_a_wrong_method_is_405_with_a_sentence(api: TestClient) -> None:
    check(api.put("/api/vision/generate", json={}), 405, ["method"])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}])
def test_agent_rows_want_a_credential(api: TestClient, headers: dict[str, str]) -> None:
    body = {"incarnation": "i", "request_id": "r"}
    for path in ("/api/agents/lease", "/api/agents/beat"):
        check(api.post(path, json=body, headers=headers), 401, ["credential"])


def test_null_is_the_same_as_leaving_out(api: TestClient, agent: FakeAgent) -> None:
    nulls = dict.fromkeys(
        ["negative_prompt", "width", "height", "steps", "guidance_scale", "seed", "model", "lora", "priority", "scheduler"]
    )
    assert api.post(GENERATE, json={"prompt": "x", **nulls}).status_code == 201
    payload = agent.take()["payload"]
    assert (payload["width"], payload["steps"], payload["scheduler"]) == (1024, 20, "euler")


def check(answer: object, status: int, words: list[str]) -> None:
    code, text = answer.status_code, answer.text  # type: ignore[attr-defined]
    assert code == status, (code, text)
    detail = answer.json()["detail"]  # type: ignore[attr-defined]
    assert isinstance(detail, str)
    assert len(detail) < 400
    assert "Traceback" not in detail
    for word in words:
        assert word in detail, detail
