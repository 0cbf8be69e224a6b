"""Host, Origin, proxies, cookies: what a browser or a network can be made to do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fleet_api.access import guard
from fleet_api.access.callers import Role
from fleet_api.access.keys import create_key, revoke_key
from fleet_api.access.origin import host_allowed, host_name, is_loopback, normal_origins, origin_allowed
from fleet_api.app import create_app
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.live import live

pytestmark = pytest.mark.security

EXPOSED = "http://192.0.2.10:8765"
"""In tests of this file no socket is opened for it: the application is called in its own process."""


def make_key(home: Path, role: Role = Role.ADMIN, name: str = "k") -> str:
    async def make() -> str:
        db = Database(home / "fleet.db")
        try:
            return (await create_key(db, SystemClock(), name, role))[1]
        finally:
            await db.close()

    return asyncio.run(make())


@pytest.fixture
def key(settings: Settings) -> str:
    settings.home.mkdir()
    upgrade(settings.database)
    return make_key(settings.home)


def exposed(settings: Settings, **more: Any) -> Any:
    wanted = Settings(home=settings.home, host="192.0.2.10", **{"tls": "off", **more})
    return client_of(create_app(wanted), url=EXPOSED, peer="192.0.2.77")


@pytest.mark.parametrize(
    "host",
    [
        "evil.invalid", "127.0.0.1.evil.invalid", "evil.invalid:8765", "192.0.2.10", "", "127.0.0.1@evil.invalid", "127.0.0.1/evil",
        "a b", "[::1", "2130706433.invalid",
    ],
)  # fmt: skip
def test_a_foreign_host_is_refused_on_loopback(api: TestClient, host: str) -> None:
    for path in ("/api/nodes", "/health", "/", "/docs", "/nowhere"):
        answer = api.get(path, headers={"Host": host})
        assert answer.status_code == 403, (path, answer.text)
        assert "Host" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "localhost:8765", "[::1]:8765", "LOCALHOST", "localhost."])
def test_loopback_has_many_names(api: TestClient, host: str) -> None:
    assert api.get("/api/nodes", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.invalid", "https://127.0.0.1:8765", "http://127.0.0.1:3000", "null", "file://", "http://localhost"]
)
def test_a_foreign_origin_is_refused(api: TestClient, agent: FakeAgent, origin: str) -> None:
    headers = {"Origin": origin}
    for method, path in (("GET", "/api/nodes"), ("POST", "/api/vision/generate"), ("OPTIONS", "/api/vision/generate")):
        answer = api.request(method, path, headers=headers, json={"prompt": "x"} if method == "POST" else None)
        assert answer.status_code == 403, (method, answer.text)
        assert "access-control-allow-origin" not in answer.headers
    assert api.get("/api/queue/jobs").json()["total"] == 0
    with pytest.raises(WebSocketDenialResponse) as refused, api.websocket_connect("/ws", headers=headers):
        pass
    assert refused.value.status_code == 403


def test_the_own_origin_is_welcome(api: TestClient, agent: FakeAgent) -> None:
    headers = {"Origin": "http://127.0.0.1:8765"}
    assert api.post("/api/vision/generate", json={"prompt": "x"}, headers=headers).status_code == 201
    with api.websocket_connect("/ws/metrics", headers=headers) as socket:
        assert socket.receive_json()["type"] == "metrics"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host", "X-Forwarded-Proto"])
def test_a_proxy_on_this_machine_is_not_somebody_on_this_machine(api: TestClient, header: str) -> None:
    answer = api.get("/api/nodes", headers={header: "192.0.2.1"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_peer_elsewhere_on_a_loopback_listener_wants_a_key(settings: Settings, key: str) -> None:
    with client_of(create_app(settings), peer="192.0.2.9") as api:
        assert api.get("/api/nodes").status_code == 401
        assert api.get("/api/nodes", headers={"X-API-Key": key}).status_code == 200


def test_an_exposed_listener_wants_a_key_from_this_machine_too(settings: Settings, key: str) -> None:
    wanted = Settings(home=settings.home, host="0.0.0.0", tls="off")
    with client_of(create_app(wanted), peer="127.0.0.1") as api:
        assert api.get("/api/nodes").status_code == 401
        assert api.get("/api/nodes", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_names_of_an_exposed_listener(settings: Settings, key: str) -> None:
    headers = {"X-API-Key": key}
    with exposed(settings, advertise_url="https://manager.invalid:8765", allowed_hosts="fleet.invalid, other.invalid") as api:
        for host in ("192.0.2.10", "192.0.2.10:8765", "manager.invalid:8765", "fleet.invalid", "OTHER.invalid:443"):
            assert api.get("/api/nodes", headers={**headers, "Host": host}).status_code == 200, host
        for host in ("127.0.0.1", "localhost", "192.0.2.11", "evil.invalid"):
            assert api.get("/api/nodes", headers={**headers, "Host": host}).status_code == 403, host


def test_auth_off_is_the_open_lan(settings: Settings, key: str) -> None:
    with exposed(settings, auth="off", create_burst=2) as api:
        assert api.get("/api/session").json() == {"name": "anyone", "role": "admin", "kind": "open", "csrf_token": None}
        assert api.post("/api/keys", json={"name": "x", "role": "viewer"}).status_code == 201
        assert api.get("/api/nodes", headers={"Host": "evil.invalid"}).status_code == 403, "rebinding is refused all the same"
        assert api.get("/api/nodes", headers={"Origin": "http://evil.invalid"}).status_code == 403
        assert api.get("/api/nodes", headers={"X-API-Key": "wrong"}).status_code == 401, "a key that is shown must be good"


def test_a_browser_signs_in_and_out(settings: Settings, key: str) -> None:
    with exposed(settings) as api:
        assert api.post("/api/session", json={"key": "fleet-key_wrong"}).status_code == 401
        answer = api.post("/api/session", json={"key": key})
        assert answer.status_code == 201
        cookie = answer.headers["set-cookie"]
        assert all(part in cookie for part in (f"{settings.cookie}=", "HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"))
        assert "Secure" not in cookie
        assert key not in answer.text
        token = answer.json()["csrf_token"]
        assert api.get("/api/session").json() == {"name": "k", "role": "admin", "kind": "key", "csrf_token": token}
        body = {"name": "made", "role": "viewer"}
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "ü"}):
            refused = api.post("/api/keys", json=body, headers=[(n.encode(), v.encode()) for n, v in headers.items()])
            assert refused.status_code == 403, "a cookie without its proof"
            assert "X-CSRF-Token" in refused.json()["detail"]
        assert api.post("/api/keys", json=body, headers={"X-CSRF-Token": token}).status_code == 201
        kept = dict(api.cookies)
        assert api.delete("/api/session", headers={"X-CSRF-Token": token}).status_code == 204
        assert api.get("/api/session").status_code == 401
        api.cookies.update(kept)
        assert api.get("/api/session").status_code == 401, "the session itself has ended, not the cookie alone"


def test_a_sign_in_over_tls_is_secure(settings: Settings, key: str) -> None:
    wanted = Settings(home=settings.home, host="192.0.2.10")
    with client_of(create_app(wanted), url="https://192.0.2.10:8765", peer="192.0.2.77") as api:
        assert "Secure" in api.post("/api/session", json={"key": key}).headers["set-cookie"]


def test_a_revoked_key_ends_its_sessions_and_websockets(settings: Settings, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.05)
    with live(settings) as api, httpx.Client(base_url=api.url, trust_env=False) as http:
        http.post("/api/session", json={"key": key})
        assert http.get("/api/session").json()["kind"] == "key"
        cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
        with connect(api.ws_url + "/ws", proxy=None, additional_headers={"Cookie": cookie}, origin=api.url) as socket:  # type: ignore[arg-type]

            async def revoke() -> None:
                db = Database(settings.database)
                await revoke_key(db, SystemClock(), "k")
                await db.close()

            asyncio.run(revoke())
            started = time.monotonic()
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=10)
            assert time.monotonic() - started < 4
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
        assert http.get("/api/session").status_code == 401


def test_websockets_take_the_cookie_only_from_the_own_page(settings: Settings, key: str) -> None:
    with live(settings) as api, httpx.Client(base_url=api.url, trust_env=False) as http:
        http.post("/api/session", json={"key": key})
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in http.cookies.items())}
        with connect(api.ws_url + "/ws/metrics", proxy=None, additional_headers=cookie, origin=api.url) as socket:  # type: ignore[arg-type]
            assert socket.recv(timeout=5)
        with pytest.raises(InvalidStatus) as refused:
            connect(api.ws_url + "/ws/metrics", proxy=None, additional_headers=cookie, origin="http://evil.invalid")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403


def test_a_browser_app_of_an_allowed_origin(settings: Settings, key: str) -> None:
    """The documents' axios and WebSocket examples, from a page of another origin, once that is allowed."""
    app = "http://app.invalid:3000"
    with exposed(settings, allowed_origins=app) as api:
        ask = {"Origin": app, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,authorization"}
        preflight = api.options("/api/fleet/generate", headers=ask)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == app
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        answer = api.get("/api/fleet/connect", headers={"Origin": app, "Authorization": f"Bearer {key}"})
        assert answer.json()["status"] == "connected"
        assert answer.headers["access-control-allow-origin"] == app
        assert "X-Seed" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        protocols = ["fleet", f"fleet.key.{key}"]
        with api.websocket_connect("/ws", subprotocols=protocols, headers={"Origin": app}) as socket:
            assert socket.accepted_subprotocol == "fleet"
        assert api.options("/api/fleet/generate", headers={**ask, "Origin": "http://evil.invalid"}).status_code == 403
        assert api.get("/api/nodes", headers={"Origin": app}).status_code == 401, "an allowed origin is no key"


def test_one_key_may_create_only_so_often(settings: Settings, key: str) -> None:
    with exposed(settings, create_burst=3, create_per_minute=60) as api:
        headers = {"X-API-Key": key}
        statuses = [api.post("/api/keys", json={"name": f"n{i}", "role": "viewer"}, headers=headers).status_code for i in range(5)]
        assert statuses[:3] == [201, 201, 201]
        assert statuses[3:] == [429, 429]
        refused = api.post("/api/keys", json={"name": "n", "role": "viewer"}, headers=headers)
        assert int(refused.headers["retry-after"]) >= 1
        assert "60 a minute" in refused.json()["detail"]
        assert api.get("/api/keys", headers=headers).status_code == 200, "looking is not creating"


def test_who_is_on_this_machine_may_create_as_fast_as_they_like(settings: Settings, key: str) -> None:
    with client_of(create_app(Settings(home=settings.home, create_burst=1))) as api:
        assert {api.post("/api/keys", json={"name": f"n{i}", "role": "viewer"}).status_code for i in range(5)} == {201}


@pytest.mark.parametrize("value", ["Basic eDp4", "Bearer", "Bearer ", "Bearer  ", "fleet-key_x", "Bearer fleet-agent_x", "Bearer \xe9"])
def test_odd_authorization_headers_are_a_sentence(settings: Settings, key: str, value: str) -> None:
    with exposed(settings) as api:
        answer = api.get("/api/nodes", headers=[(b"authorization", value.encode("latin-1"))])
        assert answer.status_code == 401
        assert answer.json()["detail"].endswith(".")


def test_request_ids(api: TestClient) -> None:
    assert api.get("/health", headers={"X-Request-Id": "my-id.7"}).headers["x-request-id"] == "my-id.7"
    for bad in ("a b", "x" * 65, "ü", "a\tb"):
        given = api.get("/health", headers=[(b"x-request-id", bad.encode())]).headers["x-request-id"]
        assert len(given) == 32
        assert given.isalnum()


def test_every_answer_is_safe_to_look_at(api: TestClient) -> None:
    for path in ("/health", "/nowhere", "/api/nodes", "/docs"):
        headers = api.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.invalid:8765", "a.invalid"), ("A.Invalid.", "a.invalid"), ("[::1]:80", "::1"), ("u@a", ""), ("a/b", ""), ("a:x", ""), ("", ""),
        ("[x", ""),
    ],
)  # fmt: skip
def test_host_names(text: str, name: str) -> None:
    assert host_name(text) == name


def test_loopback_names() -> None:
    for name in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "x.localhost", "::ffff:127.0.0.1"):
        assert is_loopback(name), name
    for name in ("0.0.0.0", "192.0.2.1", "localhost.invalid", "", "::", "127.0.0.1.invalid", "2130706433"):
        assert not is_loopback(name), name


def test_names_with_other_letters_are_compared_as_clients_send_them(settings: Settings, key: str) -> None:
    with exposed(settings, allowed_hosts="bücher.invalid") as api:
        assert api.get("/api/nodes", headers={"X-API-Key": key, "Host": "xn--bcher-kva.invalid:8765"}).status_code == 200


def test_star_allows_by_name() -> None:
    assert host_allowed("evil.invalid", "192.0.2.1", {"*"})
    assert not host_allowed("localhost", "192.0.2.1", {"*"}), "a name for loopback never reaches another listener"
    assert origin_allowed("http://evil.invalid", "http", "a", {"*"})
    assert normal_origins(["HTTP://A.invalid:3000/", "*"]) == {"http://a.invalid:3000", "*"}
    for bad in ("a.invalid", "ftp://a.invalid", "http://a.invalid/path", "http://"):
        with pytest.raises(ValueError, match="origin"):
            normal_origins([bad])
