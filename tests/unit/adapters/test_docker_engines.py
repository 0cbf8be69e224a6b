"""Engines behind Unix sockets: calls with a bound, streams that are cut off, sockets of nodes that come over a wire."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from fleet_api.adapters.docker import engines as docker_engines
from fleet_api.adapters.docker.engines import DockerEngines
from fleet_api.adapters.docker.errors import EngineAway, NoQuorum, NotAManager, refusal
from fleet_api.adapters.docker.fake_swarm import refused
from fleet_api.adapters.ssh.errors import Unreachable
from fleet_api.adapters.ssh.types import Target
from fleet_api.errors import Conflict, InvalidValue, NotFound, Unavailable


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.paths.append(self.path)
        if self.path.endswith("/hang"):
            server.gate.wait(20)
        if self.path.endswith("/endless"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"4\r\ntick\r\n")
            self.wfile.flush()
            server.gate.wait(20)
            return
        known = self.path.endswith(("/version", "/info"))
        body = json.dumps({"ApiVersion": "1.41"} if known else {"message": "no such thing"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.paths: list[str] = []
        self.gate = threading.Event()
        self.opened = 0

    def get_request(self) -> Any:
        self.opened += 1
        request, _ = super().get_request()
        return request, ("", 0)

    def handle_error(self, *words: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    with _Server(str(tmp_path / "d.sock")) as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.gate.set()
        found.shutdown()


class Wires:
    """Wires that lead to a socket of this machine."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.open = 0
        self.error: Exception | None = None

    @asynccontextmanager
    async def wire(self, target: Target, path: str, bridge: str) -> AsyncIterator[Any]:
        if self.error is not None:
            raise self.error
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.open += 1

        class Wire:
            async def send(self, data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            async def receive(self, most: int) -> bytes:
                return await reader.read(most)

            def end(self) -> None:
                writer.write_eof()

        try:
            yield Wire()
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def wires(server: _Server) -> Wires:
    return Wires(str(server.server_address))


@pytest.fixture
async def engines(server: _Server, wires: Wires) -> AsyncIterator[DockerEngines]:
    found = DockerEngines(f"unix://{server.server_address}", wires, lambda node_id: Target("192.0.2.10", node_id=node_id))
    yield found
    server.gate.set()
    await found.close()


async def test_a_call_off_the_loop(engines: DockerEngines, server: _Server) -> None:
    engine = await engines.of(None)
    assert (await engine.call(lambda client: client.info()))["ApiVersion"] == "1.41"
    for _ in range(5):
        await engine.call(lambda client: client.info())
        with pytest.raises(NotFound, match=r"No such thing\."):
            await engine.call(lambda client: client.inspect_container("x"))
    assert server.opened <= 2, "connections are kept, whatever they ask for"


async def test_one_that_hangs_takes_no_longer_than_it_may(engines: DockerEngines) -> None:
    engine = await engines.of(None)
    started = time.monotonic()
    with pytest.raises(EngineAway, match="did not answer"):
        await engine.call(lambda client: client._get(client._url("/hang")), 0.3)
    assert time.monotonic() - started < 2
    assert (await engine.call(lambda client: client.info()))["ApiVersion"]


async def test_a_stream_is_cut_off(engines: DockerEngines) -> None:
    engine = await engines.of(None)
    before = threading.active_count()
    pieces = []
    async with engine.stream(lambda client: client._get(client._url("/endless"), stream=True).iter_content(4)) as stream:
        async for piece in stream:
            pieces.append(piece)
            break
    assert pieces == [b"tick"]
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_streams_error_is_told(engines: DockerEngines) -> None:
    engine = await engines.of(None)
    async with engine.stream(lambda client: [client.inspect_container("x")]) as stream:
        with pytest.raises(NotFound, match="No such thing"):
            await anext(stream)


async def test_a_nodes_socket_comes_over_a_wire_and_goes_when_it_is_idle(
    engines: DockerEngines, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engines.of("agx0")
    assert engines.open == 0, "nothing is opened before the first call"
    assert (await engine.call(lambda client: client.info()))["ApiVersion"] == "1.41"
    [forward] = engines._forwards.values()
    folder = forward.path.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    await engines.sweep()
    assert (engines.open, wires.open) == (1, 1)
    monkeypatch.setattr(docker_engines, "IDLE_SECONDS", -1.0)
    await engines.sweep()
    assert (engines.open, wires.open) == (0, 0)
    assert not forward.path.exists()
    assert (await (await engines.of("agx0")).call(lambda client: client.info()))["ApiVersion"] == "1.41"
    await engines.close()
    assert not folder.exists()


async def test_why_a_node_is_not_reached_is_told(engines: DockerEngines, wires: Wires) -> None:
    wires.error = Unreachable("agx0 does not answer within 5 s.")
    with pytest.raises(Unreachable, match="agx0 does not answer"):
        await (await engines.of("agx0")).call(lambda client: client.info())
    wires.error = None
    assert (await (await engines.of("agx0")).call(lambda client: client.info()))["ApiVersion"] == "1.41"


async def test_no_engine_is_a_sentence(tmp_path: Path, wires: Wires) -> None:
    engines = DockerEngines(f"unix://{tmp_path}/none.sock", wires, lambda node_id: Target("192.0.2.10"))
    with pytest.raises(EngineAway, match="No Docker Engine answers on this machine"):
        await (await engines.of(None)).call(lambda client: client.info())
    await engines.close()


@pytest.mark.parametrize(
    ("status", "text", "kind", "words"),
    [
        (404, "No such image: web:1", NotFound, "No such image: web:1."),
        (409, "Conflict. The container name is in use.", Conflict, "name is in use."),
        (400, "invalid reference format", InvalidValue, "Invalid reference format."),
        (500, "rpc error: code = InvalidArgument desc = name must be valid", InvalidValue, "Name must be valid."),
        (500, "rpc error: code = Unknown desc = update out of sequence", Conflict, "at the same time"),
        (500, "rpc error: code = Unknown desc = The swarm does not have a leader.", NoQuorum, "managers"),
        (503, "This node is not a swarm manager.", NotAManager, "agx0"),
        (500, "driver failed: port is already allocated", Conflict, "already allocated"),
        (500, "something\nbroke \x1b[31m", Unavailable, "something broke"),
        (500, "x" * 5000, Unavailable, "(and more)"),
    ],
)
def test_refusals(status: int, text: str, kind: type[Exception], words: str) -> None:
    told = refusal(refused(status, text), "agx0")
    assert isinstance(told, kind)
    assert words.lower() in told.detail.lower()
    assert told.detail.endswith(".")
    assert told.detail.isprintable()
    assert len(told.detail) < 500


def test_what_the_library_refuses_is_a_bad_value() -> None:
    assert isinstance(refusal(docker.errors.InvalidArgument("bad mount"), "agx0"), InvalidValue)
