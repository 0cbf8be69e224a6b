"""An agent that speaks the protocol and does no work: a test says what it reports."""

from __future__ import annotations

import hashlib
import io
import uuid
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock

CAPABILITIES = {
    "job_types": ["image_gen"],
    "models": [
        {"name": "fleet-shapes", "size_bytes": 8_100_000, "native_size": 128},
        {"name": "other-model", "size_bytes": 6_500_000_000, "native_size": 1024},
    ],
    "samplers": ["euler", "euler_a", "dpm++_2m"],
    "backend": "onnx",
}

NOTHING: dict[str, Any] = {"lease": None, "companions": [], "load": None, "stop": []}
"""The answer to a poll for which there is nothing."""


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


class FakeAgent:
    def __init__(self, api: TestClient, node_id: str, credential: str) -> None:
        self.api = api
        self.node_id = node_id
        self.headers = {"Authorization": f"Bearer {credential}"}
        self.incarnation = uuid.uuid4().hex
        self.capabilities: dict[str, Any] = CAPABILITIES
        self.loaded_model: str | None = None
        self.warm_models: list[str] = []
        self.parked_models: list[str] = []
        self.unbuilt_models: list[str] = []
        self.batch_limit = 1

    @classmethod
    def enrol(cls, api: TestClient, hostname: str, machine_id: str | None = None, node_id: str | None = None) -> FakeAgent:
        token = api.portal.call(create_token, api.app.state.fleet.db, api.app.state.fleet.clock or SystemClock(), node_id)
        body = {"token": token, "hostname": hostname, "machine_id": machine_id or hostname}
        answer = api.post("/api/agents/enrol", json=body)
        assert answer.status_code == 201, answer.text
        return cls(api, answer.json()["node_id"], answer.json()["credential"])

    def restart(self) -> None:
        self.incarnation = uuid.uuid4().hex

    def lease(self, request_id: str | None = None, wait: float = 0.0, holding: Any = (), want_job: bool = True) -> dict[str, Any]:
        body = {
            "incarnation": self.incarnation, "request_id": request_id or uuid.uuid4().hex, "capabilities": self.capabilities,
            "wait_seconds": wait, "holding": list(holding), "want_job": want_job, "loaded_model": self.loaded_model,
            "warm_models": self.warm_models, "unbuilt_models": self.unbuilt_models, "batch_limit": self.batch_limit,
            "parked_models": self.parked_models,
        }  # fmt: skip
        answer = self.api.post("/api/agents/lease", headers=self.headers, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def take(self) -> dict[str, Any]:
        """Lease a job that must be there."""
        lease = self.lease(wait=5)["lease"]
        assert lease is not None, "there was no job for this agent"
        return lease

    def take_batch(self, limit: int, request_id: str | None = None) -> list[dict[str, Any]]:
        """Lease up to so many jobs that must be there, at least one."""
        self.batch_limit = limit
        answer = self.lease(request_id, wait=5)
        assert answer["lease"] is not None, "there was no job for this agent"
        return [answer["lease"], *answer["companions"]]

    def beat(self, lease: dict[str, Any] | None = None, step: int = 0, steps: int = 20, **more: Any) -> list[dict[str, Any]]:
        holding = [{"job_id": lease["job_id"], "attempt": lease["attempt"], "step": step, "steps": steps}] if lease else []
        body = {
            "incarnation": self.incarnation,
            "holding": holding,
            "loaded_model": self.loaded_model,
            "warm_models": self.warm_models,
            "parked_models": self.parked_models,
            **more,
        }
        answer = self.api.post("/api/agents/beat", headers=self.headers, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["stop"]

    def upload(self, lease: dict[str, Any], data: bytes) -> Any:
        headers = {**self.headers, "X-Content-SHA256": hashlib.sha256(data).hexdigest()}
        return self.api.put(f"/api/agents/uploads/{lease['job_id']}/{lease['attempt']}", headers=headers, content=data)

    def complete(self, lease: dict[str, Any], data: bytes) -> Any:
        payload = lease["payload"]
        result = {
            "seed": payload.get("seed", 0), "model": payload.get("model", ""), "sampler": "euler", "steps": 20, "width": 64, "height": 64,
            "native_width": 64, "native_height": 64, "generation_time": 0.5,
        }  # fmt: skip
        body = {
            "incarnation": self.incarnation, "job_id": lease["job_id"], "attempt": lease["attempt"],
            "sha256": hashlib.sha256(data).hexdigest(), "result": result,
        }  # fmt: skip
        return self.api.post("/api/agents/complete", headers=self.headers, json=body)

    def finish(self, lease: dict[str, Any], data: bytes | None = None) -> None:
        data = data or png()
        assert self.upload(lease, data).status_code == 204
        assert self.complete(lease, data).status_code == 204

    def fail(self, lease: dict[str, Any], error: str = "It broke.", retry: bool = True, kind: str = "error") -> Any:
        held = {"incarnation": self.incarnation, "job_id": lease["job_id"], "attempt": lease["attempt"]}
        body = {**held, "error": error, "retry": retry, "kind": kind}
        return self.api.post("/api/agents/fail", headers=self.headers, json=body)
