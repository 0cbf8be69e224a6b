"""A browser app of another origin: refused until it is allowed, and then the documents' calls work as they are written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleet_api.settings import Settings
from tests.support.live import live

pytestmark = pytest.mark.browser

CALLS = """
async ([api, ws]) => {
    const found = {};
    try {
        const answer = await fetch(`${api}/api/fleet/connect`, {
            method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ api_key: "fleet-commander-2024" }),
        });
        found.connect = (await answer.json()).status;
        found.request_id = answer.headers.get("X-Request-Id");
    } catch (error) {
        found.connect = error.name;
    }
    found.socket = await new Promise((resolve) => {
        const socket = new WebSocket(ws);
        socket.onmessage = (event) => { resolve(JSON.parse(event.data).type); socket.close(); };
        socket.onerror = () => resolve("refused");
    });
    return found;
}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def app_origin(tmp_path: Path) -> Iterator[str]:
    """The origin of an app that another server on this machine serves."""
    (tmp_path / "index.html").write_text("<!doctype html><title>app</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("allowed", [False, True])
def test_another_origin(browser: Any, app_origin: str, tmp_path: Path, allowed: bool) -> None:
    settings = Settings(home=tmp_path / "home", port=0, allowed_origins=app_origin if allowed else "")
    with live(settings) as api:
        context = browser.new_context()
        page = context.new_page()
        page.goto(app_origin)
        found = page.evaluate(CALLS, [api.url, f"{api.ws_url}/ws/metrics"])
        context.close()
    if allowed:
        assert found["connect"] == "connected"
        assert found["request_id"]
        assert found["socket"] == "metrics"
    else:
        assert found == {"connect": "TypeError", "socket": "refused"}
