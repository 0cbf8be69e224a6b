"""The API's own description is complete, and ``docs/api.md`` says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet_api import apidocs
from fleet_api.app import create_app
from fleet_api.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method, operation in methods.items()
]
ROWS = """
GET /health
GET /api/status
POST /api/fleet/connect
GET /api/fleet/connect
GET /api/fleet/status
GET /api/fleet/capabilities
POST /api/fleet/generate
GET /api/fleet/generate/status
GET /api/nodes
GET /api/nodes/{node_id}
GET /api/nodes/heartbeats
DELETE /api/nodes/{node_id}
GET /api/vision/status
GET /api/vision/nodes
POST /api/vision/generate
GET /api/vision/jobs/{job_id}
GET /api/vision/jobs
POST /api/vision/jobs/{job_id}/cancel
POST /api/vision/jobs/stop-all
GET /api/vision/queue
GET /api/vision/models/available
GET /api/vision/models/loaded
GET /api/vision/loras
GET /api/keys
POST /api/keys
DELETE /api/keys/{key_id}
POST /api/session
GET /api/session
DELETE /api/session
GET /api/audit
GET /metrics
DELETE /api/vision/models/{name}
GET /api/vision/gallery
GET /api/vision/outputs
GET /api/vision/outputs/{filename}
DELETE /api/vision/outputs/{filename}
POST /api/vision/outputs/clear
GET /api/vision/schedulers
GET /api/vision/aspect-ratios
POST /api/queue/jobs
POST /api/queue/jobs/batch
GET /api/queue/jobs
GET /api/queue/jobs/{job_id}
DELETE /api/queue/jobs/{job_id}
POST /api/queue/jobs/{job_id}/retry
GET /api/queue/jobs/{job_id}/events
GET /api/queue/jobs/{job_id}/deliveries
POST /api/queue/jobs/{job_id}/deliveries/{delivery_id}/replay
GET /api/queue/stats
"""


def test_every_row_of_this_stage_is_there() -> None:
    there = {f"{method} {path}" for method, path, _ in OPERATIONS}
    assert not set(ROWS.split("\n")) - {""} - there


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_every_operation_is_described(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    responses = operation["responses"]
    assert "422" not in responses or "Idempotency" in responses["422"]["description"], "a validation error is 400"
    if operation.get("requestBody") or "{" in path or operation.get("parameters"):
        errors = [status for status in responses if status >= "400"]
        assert errors, "an operation that takes something says how it refuses"
        for status in errors:
            schema = responses[status]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/ErrorBody"), (status, schema)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_every_path_parameter_has_an_example_and_every_answer_a_schema(method: str, path: str, operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            assert parameter.get("examples") or parameter["schema"].get("examples"), parameter["name"]
    for status, response in operation["responses"].items():
        if status in ("200", "201"):
            assert response["content"], status


def test_bodies_have_examples() -> None:
    document = create_app(Settings()).openapi()
    for name in ("FleetGenerateBody", "VisionGenerateBody", "QueueJobBody"):
        properties = document["components"]["schemas"][name]["properties"]
        assert any("examples" in each for each in properties.values()), name


def test_the_page_is_fresh() -> None:
    assert DOCS.read_text() == apidocs.render(), "docs/api.md is stale; run make docs"
