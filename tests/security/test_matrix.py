"""Every row of the API, by every kind of caller, on loopback and on an address that others can reach."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fleet_api.access.callers import Role
from fleet_api.access.keys import create_key, revoke_key
from fleet_api.access.policy import AGENT, CREATES, ROLES
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.live import Live, live

pytestmark = pytest.mark.security

CALLERS = ("no key", "viewer", "operator", "admin", "this agent", "other agent", "revoked", "expired")
RANK = {"viewer": Role.VIEWER, "operator": Role.OPERATOR, "admin": Role.ADMIN}
LISTENERS = ("loopback", "exposed")
ROWS = sorted(ROLES)
PASSED = 200
MODEL = {"name": "nope", "filename": "nope.safetensors", "size": 1, "sha256": "0" * 64}


@dataclass
class Place:
    """A running API with one caller of each kind; ``lease`` is held by this agent."""

    api: Live
    http: httpx.Client
    secrets: dict[str, str]
    lease: dict[str, Any]
    this_agent: FakeAgent


async def _keys(home: Path) -> dict[str, str]:
    db, clock = Database(home / "fleet.db"), SystemClock()
    try:
        made = {}
        for name, role in (*RANK.items(), ("revoked", Role.ADMIN)):
            _, made[name] = await create_key(db, clock, name, role)
        _, made["expired"] = await create_key(db, clock, "expired", Role.ADMIN, lifetime=0.001)
        await revoke_key(db, clock, "revoked")
        return made
    finally:
        await db.close()


@pytest.fixture(scope="module", params=LISTENERS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    host = "127.0.0.1" if request.param == "loopback" else request.getfixturevalue("bridge_address")
    settings = Settings(home=tmp_path_factory.mktemp(request.param), host=host, port=0, tls="off", create_burst=10_000)
    upgrade(settings.database)
    secrets = asyncio.run(_keys(settings.home))
    with live(settings) as api, httpx.Client(base_url=api.url, trust_env=False, timeout=30) as http:
        admin = {"Authorization": f"Bearer {secrets['admin']}"}
        agents = []
        for name in ("this", "other"):
            token = http.post("/api/agents/tokens", json={"node_id": name}, headers=admin).json()["token"]
            body = {"token": token, "hostname": "machine", "machine_id": name}
            enrolled = http.post("/api/agents/enrol", json=body).json()
            agents.append(FakeAgent(_as_test_client(http), enrolled["node_id"], enrolled["credential"]))
            secrets[f"{name} agent"] = enrolled["credential"]
        agents[1].lease()
        time.sleep(0.01)  # for the key that expires
        yield Place(api, http, secrets, {}, agents[0])


def hold(place: Place) -> None:
    """See to it that this agent holds an attempt, also after rows that end every job."""
    place.this_agent.lease()
    if not place.lease or place.this_agent.beat(place.lease):
        place.http.post("/api/vision/generate", json={"prompt": "x"}, headers={"Authorization": f"Bearer {place.secrets['admin']}"})
        place.lease = place.this_agent.take()


def _as_test_client(http: httpx.Client) -> TestClient:
    return http  # type: ignore[return-value]


def expected(row: str, caller: str, listener: str) -> int:
    """Return 401, 403, or 200 for whoever gets past the doors."""
    wanted = ROLES[row]
    if row == "POST /api/fleet/connect":  # anyone may ask; a good key, or this machine, is wanted for the answer
        good = caller in RANK or caller.endswith("agent") or (caller == "no key" and listener == "loopback")
        return PASSED if good else 401
    if wanted == Role.ANYONE:
        return PASSED
    if caller in ("revoked", "expired"):
        return 401
    if wanted == AGENT:
        if caller == "no key":
            return 401
        if caller == "other agent" and row.split("/")[3] in ("uploads", "previews", "complete", "fail"):
            return 403  # the attempt is this agent's
        return PASSED if caller.endswith("agent") else 403
    if caller.endswith("agent"):
        return 403
    if caller == "no key":
        return PASSED if listener == "loopback" else 401
    return PASSED if RANK[caller] >= wanted else 403


def request_of(place: Place, row: str) -> tuple[str, str, dict[str, Any]]:
    """Return method, path and body of a request that is well formed and harmless to the rows that come after it."""
    method, path = row.split(" ", 1)
    hold(place)
    lease, held = place.lease, {"incarnation": place.this_agent.incarnation, "job_id": place.lease["job_id"], "attempt": 7}
    if row.startswith(("PUT /api/agents/uploads", "PUT /api/agents/previews", "POST /api/agents/complete", "POST /api/agents/fail")):
        held["attempt"] = lease["attempt"]
    values = {
        "{node_id}": "this" if method == "GET" else "nope",
        "{name}": "nope",
        "{filename}": "nope.png",
        "{key_id}": "nope",
        "{cred_id}": "nope",
        "{version}/{path:path}": "0/nope.css",
        "{job_id}": lease["job_id"] if "/agents/" in path else str(uuid.UUID(int=1)),
        "{attempt}": str(held["attempt"]),
        "{service_id}": "nope",
        "{container_id}": "nope",
        "{container_name}": "nope",
        "{cluster_id}": "nope",
        "{delivery_id}": "nope",
        "{backup_id}": "fleet-20260101T000000Z-0000",
        "{upload_id}": "nope",
        "{kind}": "lora",
        "{file}": "nope.safetensors",
        "{key}": "0" * 32,
    }
    for name, value in values.items():
        path = path.replace(name, value)
    bodies: dict[str, Any] = {
        "POST /api/fleet/generate": {"json": {"prompt": "x", "model": "nope"}},
        "POST /api/vision/generate": {"json": {"prompt": "x", "model": "nope"}},
        "POST /api/vision/models/switch/{node_id}": {"json": {"model": "nope"}},
        "POST /api/vision/gallery/zip": {"json": {"filenames": ["nope.png"]}},
        "POST /api/vision/models/upload": {"json": MODEL},
        "POST /api/vision/loras/upload": {"json": MODEL},
        "POST /api/vision/models/{name}/import": {"json": {"name": "nope"}},
        "POST /api/vision/nodes/{node_id}/engines": {"json": {"model": "nope"}},
        "PATCH /api/vision/uploads/{upload_id}": {"params": {"offset": 0}, "content": b"x"},
        "POST /api/agents/models/source": {"json": {"incarnation": "i", "type": "lora", "name": "nope", "sha256": "0" * 64}},
        "POST /api/agents/engines": {"json": {"key": "0" * 32, "said": {}, "size": 1, "sha256": "0" * 64}},
        "PUT /api/agents/engines/{key}": {"content": b"x", "headers": {"X-Content-SHA256": "0" * 64}},
        "POST /api/queue/jobs": {"json": {"job_type": "image_gen", "payload": {"prompt": "x", "model": "nope"}}},
        "POST /api/queue/jobs/batch": {"json": {"jobs": []}},
        "POST /api/keys": {"json": {"name": f"key-{uuid.uuid4()}", "role": "viewer"}},
        "POST /api/session": {"json": {"key": place.secrets["viewer"]}},
        "GET /api/network/scan": {"params": {"subnet": "127.0.0.1/32"}},
        "POST /api/ssh/exec-node": {"json": {"node_id": "nope", "command": "true"}},
        "POST /api/ssh/exec": {"json": {"node_ids": ["nope"], "command": "true"}},
        "POST /api/fleet/exec/{node_id}": {"json": {"command": "true"}},
        "POST /api/nodes/{node_id}/accept-host-key": {"json": {"fingerprint": "SHA256:" + "A" * 43}},
        "POST /api/build/build": {"json": {"image_name": "nope", "tag": "v1", "dockerfile_path": "/nope/Dockerfile"}},
        "POST /api/build/deploy": {"json": {"image": "nope", "service_name": "nope", "cluster": "nope"}},
        "POST /api/vault": {"json": {"name": f"credential-{uuid.uuid4()}", "username": "jetson", "password": "x"}},
        "PATCH /api/vault/{cred_id}": {"json": {"name": "other"}},
        "POST /api/agents/tokens": {"json": {}},
        "POST /api/swarm/join-remote": {"json": {"node_ip": "127.0.0.1", "credential_id": "nope"}},
        "POST /api/swarm/nodes/{node_id}/labels": {"json": {"labels": {"rack": "a1"}}},
        "POST /api/swarm/nodes/{node_id}/role": {"json": {"role": "worker"}},
        "POST /api/swarm/nodes/{node_id}/availability": {"json": {"availability": "active"}},
        "POST /api/swarm/services": {"json": {"name": "web", "image": "web:1"}},
        "POST /api/swarm/services/{service_id}/scale": {"json": {"replicas": 1}},
        "POST /api/swarm/services/{service_id}/update": {"json": {"image": "web:2"}},
        "POST /api/fleet/deploy": {"json": {"node_id": "nope", "image": "web:1", "name": "web"}},
        "POST /api/clusters": {"json": {"name": "vision", "node_ids": ["nope"]}},
        "POST /api/agents/lease": {"json": {"incarnation": held["incarnation"], "request_id": "r", "want_job": False, "wait_seconds": 0}},
        "POST /api/agents/beat": {"json": {"incarnation": held["incarnation"]}},
        "PUT /api/agents/uploads/{job_id}/{attempt}": {"content": b"x", "headers": {"X-Content-SHA256": "0" * 64}},
        "PUT /api/agents/previews/{job_id}/{attempt}": {"content": b"\xff\xd8\xff"},
        "POST /api/agents/complete": {"json": {**held, "sha256": "0" * 64}},
        "POST /api/agents/fail": {"json": {**held, "attempt": lease["attempt"], "error": "x", "incarnation": "another"}},
    }
    return method, path, bodies.get(row, {})


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith("WS")])
def test_http(place: Place, row: str, caller: str, request: pytest.FixtureRequest) -> None:
    listener = request.node.callspec.params["place"]
    method, path, body = request_of(place, row)
    if row == "POST /api/agents/enrol":
        admin = {"Authorization": f"Bearer {place.secrets['admin']}"}
        token = place.http.post("/api/agents/tokens", json={}, headers=admin).json()["token"]
        body = {"json": {"token": token, "hostname": "machine", "machine_id": "third"}}
    headers = dict(body.pop("headers", {}))
    if caller in place.secrets:
        headers["Authorization"] = f"Bearer {place.secrets[caller]}"
    place.http.cookies.clear()
    answer = place.http.request(method, path, headers=headers, **body)
    passed = answer.status_code not in (401, 403)
    assert (PASSED if passed else answer.status_code) == expected(row, caller, listener), answer.text
    assert answer.status_code != 500, answer.text
    assert answer.headers["x-request-id"]
    assert passed or answer.json()["detail"].endswith("."), answer.text


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("way", ["header", "subprotocol"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("WS")])
def test_websockets(place: Place, row: str, way: str, caller: str, request: pytest.FixtureRequest) -> None:
    listener = request.node.callspec.params["place"]
    more: dict[str, Any] = {}
    if caller in place.secrets:
        secret = place.secrets[caller]
        more = {"subprotocols": ["fleet", f"fleet.key.{secret}"]} if way == "subprotocol" else {"additional_headers": {"X-API-Key": secret}}
    try:
        with connect(place.api.ws_url + row.split()[1].replace("{node_id}", "nope"), proxy=None, open_timeout=10, **more) as socket:
            status = PASSED
            assert socket.subprotocol == ("fleet" if "subprotocols" in more else None)
    except InvalidStatus as refused:
        status = refused.response.status_code
    assert status == expected(row, caller, listener)


def test_every_route_of_the_application_has_a_role(place: Place) -> None:
    from fleet_api.access.guard import Guard
    from fleet_api.access.guarding import row_of

    found = {row_of(route): route for route in place.api.app.router.routes}
    found.pop(None, None)
    assert set(found) <= set(ROLES)
    assert all(isinstance(route.app, Guard) for route in found.values())  # type: ignore[attr-defined]


BY_OPERATORS = {
    "POST /api/fleet/generate", "POST /api/vision/generate", "POST /api/vision/jobs/stop-all", "POST /api/vision/jobs/{job_id}/cancel",
    "POST /api/vision/models/switch/{node_id}", "PUT /api/vision/gallery/{filename}/star", "DELETE /api/vision/gallery/{filename}/star",
    "POST /api/vision/gallery/{filename}/restore", "POST /api/outputs/sync",
    "DELETE /api/vision/outputs/{filename}", "POST /api/queue/jobs", "POST /api/queue/jobs/batch", "DELETE /api/queue/jobs/{job_id}",
    "POST /api/queue/jobs/{job_id}/retry", "POST /api/operations/{operation_id}/cancel", "POST /api/swarm/services/{service_id}/scale",
    "POST /api/swarm/containers/{container_id}/restart", "POST /api/swarm/containers/{container_id}/stop",
    "POST /api/swarm/containers/{container_id}/start", "POST /api/queue/jobs/{job_id}/deliveries/{delivery_id}/replay",
}  # fmt: skip
"""All that operators may change: daily work, that brings nothing new onto a machine. Whatever else changes something wants an admin."""

BY_VIEWERS = {"POST /api/vision/gallery/zip"}
"""What only reads, and says what in its body."""

BY_ANYONE = {"POST /api/fleet/connect", "POST /api/session", "DELETE /api/session", "POST /api/agents/enrol"}
SECRET = ("/exec", "/vault", "/keys", "token", "/audit")


def test_the_policy_is_what_the_design_says() -> None:
    for row, wanted in ROLES.items():
        method, path = row.split(" ", 1)
        if wanted == AGENT:
            assert path.startswith("/api/agents/")
        elif any(word in path for word in SECRET):
            assert wanted == Role.ADMIN, row
        elif row in BY_VIEWERS:
            assert wanted == Role.VIEWER, row
        elif method not in ("GET", "WS"):
            assert wanted == (Role.ANYONE if row in BY_ANYONE else Role.OPERATOR if row in BY_OPERATORS else Role.ADMIN), row
        elif path.startswith("/api/") and row != "GET /api/agents/ca":
            assert wanted >= Role.VIEWER, row
    assert set(ROLES) >= BY_OPERATORS | BY_ANYONE
    assert set(CREATES) <= set(ROLES)
