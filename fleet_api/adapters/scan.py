"""Looking at machines of the network: TCP connections, the table of neighbours, names. Wants no root."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

ARP_TABLE = Path("/proc/net/arp")
BANNER_BYTES = 255
NAME_THREADS = 16
NO_LINGER = struct.pack("ii", 1, 0)  # the connection's end takes no port away for minutes


class Answer(Enum):
    """What a port did when it was called."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Probed:
    """What came back; ``banner`` is the first line of who talks first, where that was asked for."""

    answer: Answer
    banner: str | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine on the same network segment; ``fresh`` where the kernel has just heard it."""

    mac: str
    fresh: bool


class Prober(Protocol):
    """What a scan wants of the network."""

    async def probe(self, address: str, port: int, timeout: float, banner: bool = False) -> Probed:
        """Call a port. Never raises for what the network does."""
        ...

    async def neighbours(self) -> dict[str, Neighbour]:
        """Return the neighbours that the kernel knows, by address."""
        ...

    async def name_of(self, address: str) -> str | None:
        """Return the name that DNS has for an address; None where it has none."""
        ...

    def close(self) -> None:
        """Take no more names."""
        ...


class NetworkProber:
    """The real network."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(NAME_THREADS, thread_name_prefix="names")

    async def probe(self, address: str, port: int, timeout: float, banner: bool = False) -> Probed:
        """See :class:`Prober`. Waits for a free file where there is none."""
        while True:
            try:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                break
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    return Probed(Answer.SILENT)
                await asyncio.sleep(0.05)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except ConnectionRefusedError:
                return Probed(Answer.REFUSED)
            except (TimeoutError, OSError):
                return Probed(Answer.SILENT)
            return Probed(Answer.OPEN, await _banner(sock, timeout) if banner else None)

    async def neighbours(self) -> dict[str, Neighbour]:
        """See :class:`Prober`."""
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec(
                "ip", "-4", "neigh", "show", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            output, _ = await process.communicate()
            if process.returncode == 0:
                return neighbours_of_ip(output.decode(errors="replace"))
        return await asyncio.to_thread(_arp_table)

    async def name_of(self, address: str) -> str | None:
        """See :class:`Prober`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _name, address)

    def close(self) -> None:
        """Take no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _arp_table() -> dict[str, Neighbour]:
    try:
        return neighbours_of_arp(ARP_TABLE.read_text())
    except OSError:
        return {}


def neighbours_of_ip(text: str) -> dict[str, Neighbour]:
    """Read what ``ip neigh`` prints: ``192.0.2.7 dev eth0 lladdr 48:b0:2d:00:00:01 REACHABLE``."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if "lladdr" in words[:-1] and words[-1] not in ("FAILED", "INCOMPLETE"):
            mac = words[words.index("lladdr") + 1]
            found[words[0]] = Neighbour(mac.lower(), fresh=words[-1] in ("REACHABLE", "PERMANENT"))
    return found


def neighbours_of_arp(text: str) -> dict[str, Neighbour]:
    """Read ``/proc/net/arp``, which does not tell who was heard just now."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 4 and int(words[2], 16) & 0x2 and words[3] != "00:00:00:00:00:00":
            found[words[0]] = Neighbour(words[3].lower(), fresh=False)
    return found


async def _banner(sock: socket.socket, timeout: float) -> str | None:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(timeout):
            data = await asyncio.get_running_loop().sock_recv(sock, BANNER_BYTES)
        line = data.split(b"\n", 1)[0].decode("ascii", "replace").strip()
        return "".join(each for each in line if each.isprintable()) or None
    return None


def _name(address: str) -> str | None:
    try:
        return socket.gethostbyaddr(address)[0]
    except (OSError, UnicodeError):
        return None
