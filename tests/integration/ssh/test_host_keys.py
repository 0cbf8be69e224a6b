"""Host keys: pinned at the first contact, and another one refused before anybody has said who calls."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncssh
import pytest

from fleet_api.adapters.ssh.errors import HostKeyChanged, LoginRefused
from fleet_api.adapters.ssh.types import Target
from fleet_api.errors import Conflict
from tests.integration.ssh.conftest import Desk


class Listening(asyncssh.SSHServer):
    """Notes who begins to sign in; lets nobody in but with one password."""

    begun: list[str] = []

    def begin_auth(self, username: str) -> bool:
        self.begun.append(username)
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "right"


async def listen(*keys: asyncssh.SSHKey, port: int = 0) -> tuple[asyncssh.SSHAcceptor, int]:
    def process(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("in\n")
        process.exit(0)

    Listening.begun = []
    server = await asyncssh.listen("127.0.0.1", port, server_host_keys=list(keys), server_factory=Listening, process_factory=process)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("other", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
async def test_another_key_gets_nothing(desk: Desk, other: str) -> None:
    first, second = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key(other)
    server, port = await listen(first)
    target = replace(desk.brought(password="right"), port=port)
    assert (await desk.ssh.run(target, "x")).stdout == "in\n"
    assert Listening.begun == ["jetson"]
    pinned = await desk.host_keys.get("127.0.0.1", port)
    assert pinned is not None
    assert pinned.fingerprint == first.get_fingerprint()
    server.close()
    desk.ssh.forget("127.0.0.1", port)
    await asyncio.sleep(0.05)
    server, _ = await listen(second, port=port)
    try:
        for _ in range(2):
            with pytest.raises(HostKeyChanged, match="host_key_changed: ") as caught:
                await desk.ssh.run(target, "x")
        assert (caught.value.pinned, caught.value.shown) == (first.get_fingerprint(), second.get_fingerprint())
        assert f"/api/nodes/127.0.0.1:{port}/accept-host-key" in str(caught.value)
        assert Listening.begun == [], "not even a user name was sent"
        with pytest.raises(Conflict):
            await desk.host_keys.accept("127.0.0.1", port, first.get_fingerprint(), "alice")
        row = await desk.host_keys.accept("127.0.0.1", port, second.get_fingerprint(), "alice")
        assert (row.pinned_by, row.changed_fingerprint) == ("alice", None)
        assert (await desk.ssh.run(target, "x")).stdout == "in\n"
    finally:
        server.close()


async def test_the_pinned_kind_of_key_is_asked_for(desk: Desk) -> None:
    """A server that was pinned with one kind of key and now has another one beside it is still the same."""
    old, newer = asyncssh.generate_private_key("ecdsa-sha2-nistp256"), asyncssh.generate_private_key("ssh-ed25519")
    server, port = await listen(old)
    target = replace(desk.brought(password="right"), port=port)
    assert (await desk.ssh.run(target, "x")).ok
    server.close()
    desk.ssh.forget("127.0.0.1", port)
    await asyncio.sleep(0.05)
    server, _ = await listen(newer, old, port=port)
    try:
        assert (await desk.ssh.run(target, "x")).ok
    finally:
        server.close()


async def test_the_key_of_who_refused_us_is_pinned_too(desk: Desk) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server, port = await listen(key)
    try:
        with pytest.raises(LoginRefused):
            await desk.ssh.run(replace(desk.brought(password="wrong"), port=port), "x")
        assert await desk.host_keys.pinned("127.0.0.1", port) == [" ".join(key.export_public_key().decode().split()[:2])]
    finally:
        server.close()


async def test_two_first_contacts_at_once(desk: Desk) -> None:
    server, port = await listen(asyncssh.generate_private_key("ssh-ed25519"))
    targets: list[Target] = [
        replace(desk.brought(password="right"), port=port),
        replace(desk.brought("other", password="right"), port=port),
    ]
    try:
        results = await asyncio.gather(*(desk.ssh.run(target, "x") for target in targets for _ in range(3)))
        assert all(result.ok for result in results)
    finally:
        server.close()


async def test_a_connection_that_died_silently_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.adapters.ssh.connect.KEEPALIVE_SECONDS", 0.1)
    held = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand between, and drop everything once told to."""
        back, there = await asyncio.open_connection("127.0.0.1", desk.server.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                if not held.is_set():
                    sink.write(data)

        await asyncio.gather(pump(reader, there), pump(back, writer), return_exceptions=True)

    between = await asyncio.start_server(swallow, "127.0.0.1", 0)
    target = replace(desk.brought(), port=between.sockets[0].getsockname()[1])
    assert (await desk.ssh.run(target, "true")).ok
    held.set()
    (kept,) = desk.ssh.pool._kept.values()
    async with asyncio.timeout(5):
        await kept.opening.result().wait_closed()
    assert kept.dead
    between.close()
