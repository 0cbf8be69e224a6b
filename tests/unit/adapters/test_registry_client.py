"""The registry's client against a real HTTPS server that behaves, and one that does not."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fleet_api.access import certificates
from fleet_api.adapters.registry import client as module
from fleet_api.adapters.registry.client import HttpRegistry
from fleet_api.adapters.registry.types import Access, RegistryAway, RegistryRefuses
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.clock import SystemClock


@dataclass
class Served:
    """``images`` are tags by name; ``answers`` are whole answers by path, instead."""

    access: Access
    images: dict[str, list[str] | None] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def registry(self, **more: Any) -> HttpRegistry:
        values = {name: getattr(self.access, name) for name in ("address", "username", "password", "authority")} | more
        return HttpRegistry(Access(**values), AllowedNetworks(["127.0.0.0/8"]))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = certificates.sign_for(tmp_path / "tls", ["127.0.0.1"], SystemClock().now())
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    found: Served

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            parts = urlsplit(self.path)
            if parts.path in found.answers:
                self._send(*found.answers[parts.path])
            elif self.headers.get("Authorization") != "Basic " + base64.b64encode(b"fleet:right").decode():
                self._send(401, {}, b"{}")
            elif parts.path == "/v2/_catalog":
                query = parse_qs(parts.query)
                after, count = query.get("last", [""])[0], min(int(query["n"][0]), 2)
                names = [name for name in sorted(found.images) if name > after]
                more = {"Link": f'</v2/_catalog?last={names[count - 1]}&n={count}>; rel="next"'} if len(names) > count else {}
                self._send(200, more, json.dumps({"repositories": names[:count]}).encode())
            else:
                name = parts.path.removeprefix("/v2/").removesuffix("/tags/list")
                known = name in found.images
                self._send(200 if known else 404, {}, json.dumps({"name": name, "tags": found.images.get(name)}).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Served(Access(f"127.0.0.1:{server.server_address[1]}", "fleet", "right", tmp_path / "authority"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


async def test_all_pages_and_tags(served: Served) -> None:
    served.images = {"a": ["v2", "v1"], "b/c": [], "d": None, "e": ["latest"], "f": ["x"]}
    names = await served.registry().names()
    assert names == ["a", "b/c", "d", "e", "f"]
    assert len(served.asked) == 3
    assert await served.registry().tags(["a", "b/c", "d", "gone"]) == {"a": ["v1", "v2"], "b/c": [], "d": [], "gone": []}


async def test_refused(served: Served) -> None:
    with pytest.raises(RegistryRefuses, match="refuses the sign-in of 'fleet'; set FLEET_REGISTRY_CREDENTIAL") as refused:
        await served.registry(password="wrong").names()
    assert "wrong" not in refused.value.detail
    with pytest.raises(RegistryRefuses, match="refuses callers without a sign-in"):
        await served.registry(username="").names()


async def test_not_trusted(served: Served) -> None:
    with pytest.raises(RegistryAway, match="a certificate that is not trusted here"):
        await served.registry(authority=None).names()
    assert served.asked == []


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, {}, b"<html>"), "is no registry: its answer is not JSON"),
        ((200, {}, b"[]"), "is no registry"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "answered with status 302"),
        ((500, {}, b"x"), "answered with status 500"),
        ((404, {}, b"x"), "answered with status 404"),
        ((200, {}, b'{"repositories": ["' + b"a" * 2_000 + b'"]}'), "more than 1,000 bytes"),
    ],
)
async def test_no_registry(
    served: Served, answer: tuple[int, dict[str, str], bytes], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 1_000)
    served.answers["/v2/_catalog"] = answer
    with pytest.raises(RegistryAway, match=sentence):
        await served.registry().names()


async def test_hostile_names_and_links_are_left_out(served: Served) -> None:
    names = json.dumps({"repositories": ["../etc", "A", "ok", 5, None, "x/" * 200, "a b", "a\n"]}).encode()
    served.answers["/v2/_catalog"] = (200, {"Link": '<https://elsewhere.invalid/v2/_catalog?n=1>; rel="next"'}, names)
    assert await served.registry().names() == ["ok"]
    served.answers["/v2/ok/tags/list"] = (200, {}, json.dumps({"tags": ["v1", "-x", "a/b", 3, "\u202e"]}).encode())
    assert await served.registry().tags(["ok"]) == {"ok": ["v1"]}


async def test_a_circle_of_pages_comes_to_an_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 5)
    served.answers["/v2/_catalog"] = (200, {"Link": '</v2/_catalog?n=1>; rel="next"'}, b'{"repositories": ["a"]}')
    assert await served.registry().names() == ["a"] * 5


async def test_away_and_not_allowed(served: Served) -> None:
    with pytest.raises(RegistryAway, match=r"No registry answers at 127.0.0.1:1; see that it runs there"):
        await served.registry(address="127.0.0.1:1").names()
    with pytest.raises(RegistryAway, match=r"cannot be called: 192.0.2.7 is in none of the networks"):
        await served.registry(address="192.0.2.7:5000").names()
