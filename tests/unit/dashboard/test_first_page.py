"""The page as the server paints it, and the files beside it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fleet_api.access.callers import Caller, Role
from fleet_api.dashboard import page, wording
from fleet_api.dashboard.assets import assets, read
from fleet_api.routes import dashboard
from tests.support.agent import FakeAgent, png

HOSTILE = "\"'></script><img src=x onerror=alert(1)>{{ 7*7 }}"


def as_caller(monkeypatch: pytest.MonkeyPatch, caller: Caller | None) -> None:
    monkeypatch.setattr(dashboard, "caller_of", lambda _request: caller)


def test_an_empty_fleet_says_what_to_do(api: TestClient) -> None:
    answer = api.get("/")
    assert answer.status_code == 200
    for words in ("No pictures yet. Describe one above.", "No nodes yet.", "Nothing waits and nothing runs."):
        assert words in answer.text
    assert "<option selected>fleet-shapes</option>" in answer.text, "the default model is offered before any node has it"


def test_nodes_queue_and_gallery_are_painted(api: TestClient, agent: FakeAgent) -> None:
    agent.loaded_model = "fleet-shapes"
    figures = {"cpu": 15.2, "memory": 45.8, "gpu": 99.5, "gpu_memory": 4096, "gpu_memory_total_mib": 8192, "temperature": 61, "disk": 7}
    for prompt in (HOSTILE, "the second", "the third"):
        api.post("/api/vision/generate", json={"prompt": prompt, "seed": 2**63 - 1})
    done = agent.take()
    agent.upload(done, png())
    assert agent.complete(done, png()).status_code == 204
    agent.beat(agent.take(), step=9, steps=20, metrics=figures)
    html = api.get("/").text
    for shown in ("15%", "46%", "100%", "50%", "61 °C", "7%", "fleet-shapes", "agx0 · 45%", "position 1", "seed 9223372036854775807"):
        assert shown in html, shown
    assert "<img src=x" not in html
    assert html.count("{{ 7*7 }}") == 1
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert re.search(r'<strong id="running">1</strong>', html)
    assert re.search(r'<strong id="waiting">1</strong>', html)


def test_nothing_inline_and_nothing_from_elsewhere(api: TestClient, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [api.get("/")]
    as_caller(monkeypatch, None)
    pages.append(api.get("/"))
    for answer in pages:
        html = answer.text
        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|<script(?![^>]* src=)", html)
        addresses = re.findall(r'\s(?:src|href|action)="([^"]+)"', html)
        assert addresses
        assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("caller", [None, Caller("agent", "agx0", "agx0", Role.ANYONE)])
def test_who_may_not_look_is_asked_for_a_key(api: TestClient, monkeypatch: pytest.MonkeyPatch, caller: Caller | None) -> None:
    as_caller(monkeypatch, caller)
    html = api.get("/").text
    assert 'id="sign-in"' in html
    assert "main.js" not in html


def test_a_cookie_of_an_ended_session_is_dropped(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    as_caller(monkeypatch, None)
    answer = api.get("/", headers={"Cookie": f"{api.app.state.fleet.settings.cookie}=old"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(("role", "changes"), [(Role.VIEWER, False), (Role.OPERATOR, True), (Role.ADMIN, True)])
def test_a_viewer_has_nothing_to_press(
    api: TestClient, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, role: Role, changes: bool
) -> None:
    as_caller(monkeypatch, Caller("key", "k", "alice", role, csrf_token="t&k"))
    api.post("/api/vision/generate", json={"prompt": "x"})
    html = api.get("/").text
    for mark in ('id="composer"', 'data-action="cancel"', 'data-action="delete"', 'data-action="again"'):
        assert (mark in html) is changes, mark
    assert ("need the role operator" in html) is not changes
    assert '<meta name="csrf-token" content="t&amp;k">' in html
    assert 'id="sign-out"' in html


def test_nobody_signs_out_who_did_not_sign_in(api: TestClient) -> None:
    html = api.get("/").text
    assert "csrf-token" not in html
    assert 'id="sign-out"' not in html


def test_a_large_fleet_is_painted_in_part(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "NODES", 2)
    for name in ("a", "b", "c"):
        FakeAgent.enrol(api, name).lease()
    html = api.get("/").text
    assert len(re.findall(r'class="node" data-key="\w', html)) == 2
    assert "and 1 more" in html
    assert '<strong id="online">3</strong>' in html


def test_files_are_served_for_good(api: TestClient) -> None:
    html = api.get("/").text
    names = re.findall(rf'"{assets().root}/([^"]+)"', html)
    assert {"main.js", "theme.js", "base.css", "icon.svg"} <= set(names)
    assert "sign_in.js" not in names
    for name in {*names, "sign_in.js"}:
        answer = api.get(f"{assets().root}/{name}", headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}.get(
            name.split(".")[-1], "image/svg+xml"
        )
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        plain = api.get(f"{assets().root}/{name}", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
        again = api.get(f"{assets().root}/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["../page.py", "..%2Fpage.py", "%2e%2e/page.py", "nothing.js", "", "main.js/", ".", "%00", "/etc/passwd", "templates/page.html"]
)
def test_nothing_else_is_served(api: TestClient, path: str) -> None:
    answer = api.get(f"{assets().root}/{path}")
    assert answer.status_code in (404, 200)
    assert answer.status_code == 404 or answer.content == assets().files["main.js"].body, "a closing slash means nothing"
    assert "detail" in answer.json() if answer.status_code == 404 else True


def test_another_version_is_gone(api: TestClient) -> None:
    answer = api.get("/dashboard/000000000000/main.js")
    assert answer.status_code == 404
    assert "load the page again" in answer.json()["detail"]


def test_the_version_is_made_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("one")
    (tmp_path / "notes.txt").write_text("is not served")
    first = read(tmp_path)
    assert list(first.files) == ["a.js"]
    assert read(tmp_path).version == first.version
    (tmp_path / "a.js").write_text("two")
    assert read(tmp_path).version != first.version


def test_every_module_that_is_imported_is_there() -> None:
    for name, asset in assets().files.items():
        for imported in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
            assert imported in assets().files, f"{name} imports {imported}"
        assert b"innerHTML" not in asset.body, name
        if asset.packed:
            assert gzip.decompress(asset.packed) == asset.body


def test_wording() -> None:
    assert wording.percentage(12.5) == "13%"
    assert wording.celsius(None) == "–"
    assert wording.excerpt(" a\n b ") == "a b"
    assert len(wording.excerpt("x" * 300)) == 200
    assert wording.soon(None) == ""
    assert [wording.soon(each) for each in (0, 12.4, 600, 7200)] == [
        "starts next", "starts in about 12 s", "starts in about 10 min", "starts in about 2 h",
    ]  # fmt: skip
    assert wording.counted(1, "picture", "pictures") == "1 picture"
    assert wording.counted(12345, "picture", "pictures") == "12,345 pictures"
    assert wording.moment(None) == "never"
