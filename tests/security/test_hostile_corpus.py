"""Hostile requests: each refused with one sentence that names the field, the value and what is allowed; and nothing is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.jobs import repository
from tests.security.hostile_bodies import FIELDS, SCRIPT, Bad
from tests.support.agent import FakeAgent

pytestmark = pytest.mark.security

CORPUS = [(path, base, field, bad) for path, (base, fields) in FIELDS.items() for field, found in fields.items() for bad in found]

QUERIES = [
    (path, name, value, allowed)
    for path in ("/api/vision/jobs", "/api/queue/jobs", "/api/vision/queue", "/api/vision/gallery", "/api/vision/outputs")
    for name, value, allowed in (
        ("limit", "0", "from 1 to 500"),
        ("limit", "501", "from 1 to 500"),
        ("limit", "ten", "whole number from 1 to 500"),
        ("limit", "1e3", "whole number"),
        ("offset", "-1", "from 0"),
        ("offset", "9" * 30, "from 0"),
        ("offset", "", "whole number"),
        ("offset", "0x10", "whole number"),
    )
]
QUERIES += [
    ("/api/vision/jobs", "status", SCRIPT, "queued, processing"),
    ("/api/queue/jobs", "status", "QUEUED", "queued, processing"),
    ("/api/queue/jobs", "job_type", "' OR 1=1 --", "image_gen"),
    ("/api/build/registry/images", "limit", "0", "from 1 to 500"),
    ("/api/build/registry/images", "offset", "-1", "from 0"),
    ("/api/queue/jobs/x/deliveries", "limit", "0", "from 1 to 500"),
    ("/api/queue/jobs/x/deliveries", "offset", "-1", "from 0"),
    ("/api/audit", "since", "yesterday", "date"),
    ("/api/audit", "before", "0", "from 1 to"),
    ("/api/audit", "limit", "-7", "from 1 to 500"),
]


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) + len(QUERIES) >= 150


def identify(case: tuple[str, Any, str, Bad]) -> str:
    return f"{case[0].rsplit('/', 1)[-1]} {case[2]} {str(case[3].value)[:20]}".encode("ascii", "replace").decode()


@pytest.mark.parametrize("case", CORPUS, ids=identify)
def test_bodies(api: TestClient, agent: FakeAgent, case: tuple[str, dict[str, Any], str, Bad]) -> None:
    path, base, field, bad = case
    raw = json.dumps({**base, field: bad.value})
    answer = api.post(path, content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    detail = refused(answer)
    assert field in detail
    assert bad.shown in detail, detail
    assert bad.allowed in detail, detail
    unchanged(api)


@pytest.mark.parametrize(("path", "name", "value", "allowed"), QUERIES)
def test_queries(api: TestClient, path: str, name: str, value: str, allowed: str) -> None:
    answer = api.get(path, params={name: value})
    assert answer.status_code == 400, answer.text
    detail = refused(answer)
    assert name in detail
    assert allowed in detail, detail
    assert value[:20] in detail


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({"Idempotency-Key": "x" * 256}, 400, "Idempotency-Key"),
        ({"Idempotency-Key": ""}, 400, "Idempotency-Key"),
        ({"Content-Type": "application/xml"}, 400, "Content-Type: application/json"),
        ({"Content-Encoding": "gzip"}, 400, "JSON"),
        ({"X-HTTP-Method-Override": "DELETE"}, 201, ""),
        ({"Cookie": "COOKIE=" + "x" * 4000}, 401, "session"),
        ({"Authorization": "Bearer " + "x" * 7000}, 401, "key"),
        ({"Origin": "http://evil.invalid"}, 403, "Origin"),
        ({"Host": "evil.invalid"}, 403, "Host"),
    ],
)
def test_headers(api: TestClient, agent: FakeAgent, headers: dict[str, str], status: int, word: str) -> None:
    body = b'{"prompt":"x"}' if "Content-Encoding" not in headers else b"\x1f\x8b\x08rubbish"
    own = {name: value.replace("COOKIE", api.app.state.fleet.settings.cookie) for name, value in headers.items()}
    answer = api.post("/api/vision/generate", content=body, headers={"Content-Type": "application/json", **own})
    assert answer.status_code == status, answer.text
    if word:
        assert word in refused(answer)
        unchanged(api)


@pytest.mark.parametrize(
    "path",
    [
        "/api/vision/outputs/%2e%2e%2ffleet.db",
        "/api/vision/outputs/..%5cfleet.db",
        "/api/vision/outputs/%252e%252e",
        "/dashboard/../../etc/passwd",
        "/dashboard/0/..%2f..%2fsettings.py",
        "/docs-assets/..%2f..%2fsettings.py",
        "/api/nodes/%00",
        "/api/nodes/%ff%fe",
        "/api/keys/%0d%0aX: y",
        "//evil.invalid/api",
        "/api//nodes",
        "/API/NODES",
        "/api/vision/jobs/" + "a" * 5000,
        "/%",
        "/?" + "a=b&" * 1000,
        "/api/nodes?" + "x" * 5000,
    ],
)
def test_paths(api: TestClient, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code in (200, 400, 404, 405), answer.text
    assert b"SQLite" not in answer.content
    assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PATCH", "PUT", "CONNECT", "OPTIONS", "X"])
def test_methods(api: TestClient, method: str) -> None:
    assert api.request(method, "/api/nodes").status_code == 405
    assert set(api.request(method, "/api/keys").headers.get("allow", "").split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize("types", ["", ",", "job_progress,,", "x" * 10_000, SCRIPT, "\x00", "node_update" + ",y" * 3_000])
def test_event_filters(api: TestClient, types: str) -> None:
    with api.websocket_connect(f"/ws?types={types.replace(chr(0), '%00')}") as socket:
        for words in ("x" * 70_000, "[" * 10_000, '{"type":"subscribe"}'):
            socket.send_text(words)
        socket.send_bytes(b"\x00\xff" * 1_000)


def refused(answer: Any) -> str:
    detail: str = answer.json()["detail"]
    assert detail.endswith("."), detail
    assert len(detail) < 500
    assert "Traceback" not in detail
    assert detail.isprintable()
    return detail


def unchanged(api: TestClient) -> None:
    fleet = api.app.state.fleet
    assert api.portal.call(fleet.db.read, lambda db: repository.last_seq(db)) == 0
    assert api.get("/api/keys").json()["keys"] == []
