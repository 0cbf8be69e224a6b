"""The table of routes finds what the router's own search would find."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from fleet_api.kit.shortcut import Shortcut

ROWS = [
    "GET /", "GET /a", "GET /a/b", "POST /a/b", "GET /a/b/fixed", "GET /a/b/{name}", "GET /a/b/{name}/c", "DELETE /a/b/{name}",
    "GET /files/{rest:path}", "GET /{first}/b/c",
]  # fmt: skip


def answering(found: dict[str, str]) -> Callable[[], dict[str, str]]:
    return lambda: found


@pytest.fixture(scope="module", params=["usual", "shortcut"])
def api(request: pytest.FixtureRequest) -> TestClient:
    app = FastAPI(redirect_slashes=False)

    for row in ROWS:
        method, path = row.split()
        app.add_api_route(path, answering({"row": row}), methods=[method])

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    if request.param == "shortcut":
        app.router.middleware_stack = Shortcut(app.router, app.router.routes)
    return TestClient(app)


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [
        ("GET", "/", "GET /"),
        ("GET", "/a", "GET /a"),
        ("GET", "/a/b", "GET /a/b"),
        ("POST", "/a/b", "POST /a/b"),
        ("GET", "/a/b/fixed", "GET /a/b/fixed"),
        ("GET", "/a/b/other", "GET /a/b/{name}"),
        ("GET", "/a/b/other/c", "GET /a/b/{name}/c"),
        ("DELETE", "/a/b/fixed", "DELETE /a/b/{name}"),
        ("GET", "/files/x/y/z", "GET /files/{rest:path}"),
        ("GET", "/x/b/c", "GET /{first}/b/c"),
        ("GET", "/a/b/c", "GET /a/b/{name}"),
        ("PUT", "/a/b", None),
        ("GET", "/nothing", None),
        ("GET", "/a/", None),
        ("GET", "/a/b/x/c/d", None),
    ],
)
def test_the_same_row(api: TestClient, method: str, path: str, row: str | None) -> None:
    answer = api.request(method, path)
    if row is None:
        assert answer.status_code == (405 if method == "PUT" else 404)
    else:
        assert answer.json() == {"row": row}


def test_websockets_go_the_usual_way(api: TestClient) -> None:
    with api.websocket_connect("/ws"):
        pass
