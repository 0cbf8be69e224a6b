"""Opening one connection: to the checked address, with the pinned host key, with one credential and nothing of this user's own."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

import asyncssh
from asyncssh.public_key import get_default_public_key_algs

from fleet_api.access.vault.secret import Secret
from fleet_api.adapters.ssh.errors import HostKeyChanged, LoginRefused, NoSshServer, Unreachable

CONNECT_SECONDS = 5.0
LOGIN_SECONDS = 10.0
KEEPALIVE_SECONDS, KEEPALIVE_MISSES = 15, 3


class PinnedKeys(Protocol):
    """Where pinned host keys are kept. Keys are lines such as ``ssh-ed25519 AAAA...``, fingerprints ``SHA256:...``."""

    async def pinned(self, address: str, port: int) -> list[str]:
        """Return the keys of a server; none at first contact."""
        ...

    async def pin(self, address: str, port: int, key: str, fingerprint: str) -> bool:
        """Keep the key of a first contact. Say whether it is among those that are pinned now."""
        ...

    async def changed(self, address: str, port: int, key: str, fingerprint: str) -> str:
        """Note a key that was refused, and return the fingerprint of the one that is pinned."""
        ...


class _Client(asyncssh.SSHClient):
    """Is asked about a host key that is not pinned, before anything of the credential is sent."""

    def __init__(self, first_contact: bool) -> None:
        self.shown: asyncssh.SSHKey | None = None
        self._first_contact = first_contact

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """asyncssh: whether to go on with a key that is not pinned."""
        self.shown = key
        return self._first_contact


async def open_connection(
    address: str, port: int, secret: Secret, client_key: asyncssh.SSHKey | None, host_keys: PinnedKeys, name: str
) -> asyncssh.SSHClientConnection:
    """Connect and sign in. ``address`` has been checked; ``name`` is for sentences.

    Raises:
        Unreachable: no connection within :data:`CONNECT_SECONDS`, or no sign-in within :data:`LOGIN_SECONDS`.
        HostKeyChanged: it shows another host key than the pinned one; nothing of the credential was sent.
        LoginRefused: it refuses the credential.
        NoSshServer: what answers does not speak SSH, or nothing of it that is safe.
    """
    pinned = [asyncssh.import_public_key(line) for line in await host_keys.pinned(address, port)]
    client = _Client(first_contact=not pinned)
    where = _where(name, address, port)
    sock = await _connected(address, port, where)
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            connection = await asyncssh.connect(
                address, port, sock=sock, client_factory=lambda: client, **_options(secret, client_key, pinned)
            )
    except TimeoutError:
        raise Unreachable(f"{where} did not finish signing in within {LOGIN_SECONDS:g} s; see whether the machine is overloaded.") from None
    except asyncssh.HostKeyNotVerifiable as error:
        if client.shown is None:
            raise NoSshServer(f"{where} shows a host key that cannot be read ({error.reason}); see what runs on that port.") from None
        raise await _refused(client.shown, address, port, host_keys, name) from None
    except asyncssh.PermissionDenied:
        await _pin(client, address, port, host_keys, name)
        what = f"credential {secret.name!r}" if secret.name else "the password or key that was given"
        raise LoginRefused(f"{where} refuses user {secret.username!r} with {what}; correct the credential, then try again.") from None
    except (asyncssh.KeyExchangeFailed, asyncssh.ProtocolError, asyncssh.ProtocolNotSupported) as error:
        raise NoSshServer(f"{where} does not speak SSH as it should ({error.reason}); see what runs on that port.") from None
    except (asyncssh.Error, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise Unreachable(
            f"{where} broke the connection off while signing in ({reason}); try again, and look at its SSH server's log."
        ) from None
    finally:
        if "connection" not in locals():
            sock.close()
    try:
        await _pin(client, address, port, host_keys, name)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _connected(address: str, port: int, where: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        raise Unreachable(f"{where} does not answer within {CONNECT_SECONDS:g} s; see that it is on and in the network.") from None
    except OSError as error:
        sock.close()
        raise Unreachable(f"No SSH connection to {where}: {_reason(error)}.") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; see that its SSH server runs"
    return f"{(error.strerror or 'it failed').lower()}; see that the machine is on and in the network"


def _options(secret: Secret, client_key: asyncssh.SSHKey | None, pinned: list[asyncssh.SSHKey]) -> dict[str, object]:
    methods = ["publickey"] if client_key is not None else []
    if secret.password:
        methods += ["password", "keyboard-interactive"]
    algorithms = [name for key in pinned for name in key.sig_algorithms]
    algorithms += [name for name in get_default_public_key_algs() if name not in algorithms]
    return {
        "username": secret.username,
        "password": secret.password,
        "client_keys": [client_key] if client_key is not None else None,
        "preferred_auth": methods,
        "known_hosts": (pinned, [], []),
        "server_host_key_algs": [name.decode() if isinstance(name, bytes) else name for name in algorithms],
        "config": None,
        "agent_path": None,
        "gss_auth": False,
        "gss_kex": False,
        "host_based_auth": False,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_MISSES,
        "login_timeout": LOGIN_SECONDS,
        "compression_algs": None,
        "encoding": None,
    }


async def _pin(client: _Client, address: str, port: int, host_keys: PinnedKeys, name: str) -> None:
    if client.shown is not None:
        key = client.shown
        if not await host_keys.pin(address, port, line_of(key), key.get_fingerprint()):
            raise await _refused(key, address, port, host_keys, name)


async def _refused(key: asyncssh.SSHKey, address: str, port: int, host_keys: PinnedKeys, name: str) -> HostKeyChanged:
    shown = key.get_fingerprint()
    node = (address if port == 22 else f"{address}:{port}") if name.startswith(address) else name
    pinned = await host_keys.changed(address, port, line_of(key), shown)
    return HostKeyChanged(
        f"host_key_changed: {_where(name, address, port)} shows the host key {shown} instead of {pinned}, so nothing was sent to "
        f"it. If the machine was installed anew, an admin accepts the new key with POST /api/nodes/{node}/accept-host-key "
        f'{{"fingerprint": "{shown}"}}; else somebody may stand between.',
        pinned, shown,
    )  # fmt: skip


def _where(name: str, address: str, port: int) -> str:
    return name if name.startswith(address) else f"{name} ({address} port {port})"


def line_of(key: asyncssh.SSHKey) -> str:
    """Return a public key as one line, without its comment."""
    return " ".join(key.export_public_key().decode().split()[:2])
