"""Commands on a real SSH server: what they print, how they end, and what is said when they do not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from fleet_api.adapters.ssh.errors import (
    BecomeRefused,
    CommandTimeout,
    ConnectionBroke,
    LoginRefused,
    NoSshServer,
    TooManyConnections,
    Unreachable,
)
from fleet_api.adapters.ssh.pool import SESSIONS
from fleet_api.adapters.ssh.session import CAP
from fleet_api.adapters.ssh.types import Target
from fleet_api.kit.allowed import AddressNotAllowed
from tests.integration.ssh.conftest import Desk
from tests.support.sshd import OTHER, PASSWORD, USER, sshd


def running(mark: str) -> list[str]:
    """Return the processes of this machine whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def until(there: bool, mark: str) -> bool:
    """Wait until a process with a mark is there, or gone; say whether it came to that."""
    for _ in range(250):
        if bool(running(mark)) == there:
            return True
        await asyncio.sleep(0.02)
    return False


async def gone(mark: str) -> bool:
    return await until(False, mark)


async def test_output_status_and_input(desk: Desk) -> None:
    target = await desk.target()
    result = await desk.ssh.run(target, "cat; echo 'ärgerlich \"quoted\"' >&2; exit 3", stdin="grün\n".encode())
    assert (result.stdout, result.stderr, result.exit_status, result.ok) == ("grün\n", 'ärgerlich "quoted"\n', 3, False)
    assert result.signal is None
    assert not result.truncated
    ended = await desk.ssh.run(target, "kill -9 $$")
    assert (ended.exit_status, ended.signal) == (137, "SIGKILL")
    assert (await desk.ssh.run(target, "cat")).stdout == "", "a command that reads finds the end of its input"
    assert (await desk.ssh.run(target, "id -un")).stdout == USER + "\n"


async def test_bytes_that_are_no_text(desk: Desk) -> None:
    result = await desk.ssh.run(await desk.target(), "printf 'a\\377\\000b'")
    assert result.stdout == "a\ufffd\x00b"


async def test_much_output_is_cut_and_said(desk: Desk) -> None:
    result = await desk.ssh.run(await desk.target(), "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2")
    assert len(result.stdout) == CAP
    assert result.truncated == ("stdout",)
    assert (result.stderr, result.exit_status) == ("end\n", 0)


async def test_many_lines(desk: Desk) -> None:
    result = await desk.ssh.run(await desk.target(), "seq 10000")
    assert result.stdout.split() == [str(number) for number in range(1, 10_001)]
    async with desk.ssh.lines(desk.brought(), "seq 10000; printf rest") as lines:
        assert [line async for line in lines] == [*(str(number).encode() for number in range(1, 10_001)), b"rest"]


async def test_a_slow_reader_makes_the_sender_wait(desk: Desk) -> None:
    async with desk.ssh.lines(desk.brought(), "yes 0123456789") as lines:
        first = [await anext(lines) for _ in range(10)]
        await asyncio.sleep(0.5)
        session = lines.ag_frame.f_locals["session"]  # type: ignore[attr-defined]
        assert len(session._lines) < 600_000
        held = len(session._lines)
        await asyncio.sleep(0.3)
        assert len(session._lines) <= held + 200_000
    assert first == [b"0123456789"] * 10
    assert await gone("yes 0123456789"[:3] + "\0" + "0123456789")


async def test_one_connection_however_many_ask(desk: Desk) -> None:
    target = await desk.target()
    results = await asyncio.gather(*(desk.ssh.run(target, "echo $SSH_CONNECTION") for _ in range(40)))
    assert len({result.stdout for result in results}) == 1
    assert desk.ssh.pool.size == 1
    assert (await desk.vault.get("lab")).last_used_at is not None


async def test_a_command_that_hangs_is_ended_with_its_group(desk: Desk) -> None:
    target = await desk.target()
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"did not end within 0\.5 s on agx0 and was stopped") as caught:
        await desk.ssh.run(target, "echo before; trap '' TERM; sleep 7771 | sleep 7771", timeout=0.5)
    assert time.monotonic() - started < 5
    assert caught.value.so_far.stdout == "before\n"
    assert await gone("7771")
    assert (await desk.ssh.run(target, "echo on")).stdout == "on\n"


async def test_a_caller_who_leaves_ends_the_command(desk: Desk) -> None:
    task = asyncio.create_task(desk.ssh.run(desk.brought(), "sleep 7772"))
    assert await until(True, "7772")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone("7772")


async def test_a_caller_who_leaves_while_it_starts_ends_it_too(desk: Desk) -> None:
    assert (await desk.ssh.run(desk.brought(), "true")).ok
    for number in range(40):
        task = asyncio.create_task(desk.ssh.run(desk.brought(), "sleep 7775"))
        await asyncio.sleep(number / 2000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await gone("7775")


async def test_the_server_dies_under_a_command(desk: Desk) -> None:
    target = await desk.target()
    task = asyncio.create_task(desk.ssh.run(target, "sleep 7773"))
    assert await until(True, "7773")
    desk.server.stop()
    try:
        with pytest.raises(ConnectionBroke, match="agx0 broke while the command ran"):
            await task
        with pytest.raises(Unreachable, match="connection refused; see that its SSH server runs"):
            await desk.ssh.run(target, "true")
    finally:
        desk.server.start()
    assert (await desk.ssh.run(target, "echo back")).stdout == "back\n"
    for pid in running("7773"):
        os.kill(int(pid), signal.SIGKILL)


async def test_a_wrong_password_and_a_wrong_key(desk: Desk) -> None:
    wrong = await desk.target("wrong", password="canary-password")
    with pytest.raises(LoginRefused, match="refuses user 'jetson' with credential 'wrong'; correct the credential") as caught:
        await desk.ssh.run(wrong, "true")
    assert "canary" not in str(caught.value)
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(LoginRefused):
        await desk.ssh.run(await desk.target("key", private_key=other), "true")
    assert (await desk.ssh.run(await desk.target("right", private_key=desk.server.client_key), "echo in")).stdout == "in\n"


async def test_a_replaced_password_opens_a_new_connection(desk: Desk) -> None:
    target = await desk.target()
    await desk.ssh.run(target, "true")
    await desk.vault.change(target.credential_id, None, None, {"password": "other"})
    with pytest.raises(LoginRefused):
        await desk.ssh.run(target, "true")
    await desk.vault.change(target.credential_id, None, None, {"password": PASSWORD})
    assert (await desk.ssh.run(target, "true")).ok


async def test_as_root(desk: Desk) -> None:
    target = await desk.target()
    result = await desk.ssh.run(target, 'id -un; cat; echo "it\'s" >&2; exit 4', become=True, stdin=b"given\n")
    assert (result.stdout, result.stderr, result.exit_status) == ("root\ngiven\n", "it's\n", 4)
    again = await desk.ssh.run(target, "cat", become=True, stdin=b"only this\n")
    assert again.stdout == "only this\n", "sudo remembers, and does not ask: the password must not reach the command"
    direct = await desk.ssh.run(await desk.target("root", "root", private_key=desk.server.client_key), "id -un", become=True)
    assert direct.stdout == "root\n"


async def test_as_root_and_too_long(desk: Desk) -> None:
    with pytest.raises(CommandTimeout, match="was stopped"):
        await desk.ssh.run(desk.brought(), "setsid sleep 7774 & sleep 7774", become=True, timeout=0.5)
    assert await gone("7774"), "what left the process group is found by its mark"


async def test_sudo_refuses(desk: Desk) -> None:
    with pytest.raises(BecomeRefused, match="sudo does not allow it"):
        await desk.ssh.run(desk.brought(OTHER), "id", become=True)
    with pytest.raises(BecomeRefused, match="its password is wrong"):
        await desk.ssh.run(desk.brought(password=PASSWORD, become_password="nope"), "id", become=True)
    with pytest.raises(BecomeRefused, match="the credential has none"):
        await desk.ssh.run(desk.brought(private_key=desk.server.client_key), "sudo -K; id", become=True)


async def test_a_slow_login_shell_is_named(desk: Desk) -> None:
    profile = desk.server.folder / "root-slow"
    profile.write_text('#!/bin/sh\nsleep 0.15\nexec /bin/sh "$@"\n')
    profile.chmod(0o755)
    passwd = desk.server.folder / "passwd"
    text = passwd.read_text()
    passwd.write_text(text.replace(f"/{OTHER}:/bin/sh", f"/{OTHER}:{profile}"))
    try:
        result = await desk.ssh.run(desk.brought(OTHER), "echo slow")
        assert (result.stdout, result.stderr) == ("slow\n", "")
        assert result.note is not None
        assert "takes 1" in result.note
    finally:
        passwd.write_text(text)
    assert (await desk.ssh.run(desk.brought(), "sleep 0.2")).note is None


async def test_addresses_that_are_not_allowed(desk: Desk) -> None:
    with pytest.raises(AddressNotAllowed, match=r"192\.0\.2\.1 is in none of the networks that may be called; .* FLEET_ALLOWED_NETWORKS"):
        await desk.ssh.run(Target("192.0.2.1", 22, secret=desk.brought().secret), "true")
    assert (await desk.ssh.run(Target("localhost", desk.server.port, secret=desk.brought().secret), "echo name")).stdout == "name\n"


async def test_idle_connections_are_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.ssh.run(desk.brought(), "true")
    await desk.ssh.pool.sweep()
    assert desk.ssh.pool.size == 1
    monkeypatch.setattr("fleet_api.adapters.ssh.pool.IDLE_SECONDS", 0)
    async with desk.ssh.pool.lent(desk.brought()):
        await desk.ssh.pool.sweep()
        assert desk.ssh.pool.size == 1, "it is in use"
    await asyncio.sleep(0.01)
    await desk.ssh.pool.sweep()
    assert desk.ssh.pool.size == 0


async def test_a_connection_that_ended_meanwhile(desk: Desk) -> None:
    target = await desk.target()
    assert (await desk.ssh.run(target, "true")).ok
    async with desk.ssh.pool.lent(target) as kept:
        kept.opening.result().abort()
    assert (await desk.ssh.run(target, "echo on")).stdout == "on\n"
    desk.server.stop()
    desk.server.start()
    assert (await desk.ssh.run(target, "echo again")).stdout == "again\n"


async def test_more_commands_than_sessions(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.adapters.ssh.client.OPEN_SECONDS", 0.3)
    target = await desk.target()
    long = [asyncio.create_task(desk.ssh.run(target, "sleep 1")) for _ in range(SESSIONS)]
    await asyncio.sleep(0.3)
    with pytest.raises(TooManyConnections, match="8 commands run on agx0 already; try again when one has ended"):
        await desk.ssh.run(target, "true")
    assert all(result.ok for result in await asyncio.gather(*long))
    assert (await desk.ssh.run(target, "true")).ok


async def test_a_server_with_fewer_sessions(desk: Desk) -> None:
    with sshd("127.0.0.3", ("MaxSessions 1",)) as strict:
        target = replace(desk.brought(), host=strict.address, port=strict.port)
        results = await asyncio.gather(*(desk.ssh.run(target, "sleep 0.1; echo in") for _ in range(4)))
        assert [result.stdout for result in results] == ["in\n"] * 4
        assert desk.ssh.pool.size == 1


async def test_what_is_no_ssh_server(desk: Desk) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    target = replace(desk.brought(), port=server.sockets[0].getsockname()[1])
    with pytest.raises((NoSshServer, Unreachable), match=r"127\.0\.0\.1 port \d+ (does not speak SSH|broke the connection off)"):
        await desk.ssh.run(target, "true")
    server.close()


async def test_a_server_that_says_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.adapters.ssh.connect.LOGIN_SECONDS", 0.3)
    server = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
    target = replace(desk.brought(), port=server.sockets[0].getsockname()[1])
    started = time.monotonic()
    with pytest.raises(Unreachable, match="did not finish signing in within"):
        await asyncio.gather(*(desk.ssh.run(target, "true") for _ in range(20)))
    assert time.monotonic() - started < 2
    assert desk.ssh.pool.size == 0
    server.close()


async def test_bounded_connections(desk: Desk) -> None:
    desk.ssh.pool._limit = 1
    await desk.ssh.run(desk.brought(), "true")
    other = desk.brought("root", private_key=desk.server.client_key)
    assert (await desk.ssh.run(other, "true")).ok, "the idle one makes room"
    assert desk.ssh.pool.size == 1
    async with desk.ssh.pool.lent(other):
        with pytest.raises(TooManyConnections, match="All of the 1 SSH connections"):
            await desk.ssh.run(desk.brought(), "true")
