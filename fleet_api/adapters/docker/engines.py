"""Every engine of the fleet: opened at the first call, closed when nobody has used it for a while."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from fleet_api.adapters.docker.engine import SocketEngine
from fleet_api.adapters.docker.forward import Forward
from fleet_api.adapters.ssh.types import Target
from fleet_api.adapters.ssh.wire import Wires
from fleet_api.errors import FleetError

THREADS = 32
IDLE_SECONDS = 60.0
SOCKET = "/var/run/docker.sock"
BRIDGE = f"exec docker -H unix://{SOCKET} system dial-stdio"
HERE = "this machine"


class Swept(Protocol):
    """What is closed when it is idle."""

    async def sweep(self) -> None:
        """Close what nobody has used for :data:`IDLE_SECONDS`."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...


class DockerEngines:
    """One instance a process, used on the event loop only. ``target`` says how a node is reached."""

    def __init__(self, docker_host: str, wires: Wires, target: Callable[[str], Target]) -> None:
        self._path = docker_host.removeprefix("unix://")
        self._wires = wires
        self._target = target
        self._folder: Path | None = None
        self._made = 0
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._engines: dict[str | None, SocketEngine] = {}
        self._forwards: dict[str, Forward] = {}
        self._targets: dict[str, Target] = {}
        self._opening = asyncio.Lock()

    async def of(self, node_id: str | None) -> SocketEngine:
        """See :class:`Engines`."""
        if node_id is None:
            if None not in self._engines:
                self._engines[None] = SocketEngine(HERE, self._executor, self._own)
            return self._engines[None]
        target = self._target(node_id)
        if self._targets.get(node_id) != target:  # another address or credential than before
            await self._drop(node_id)
        if node_id not in self._engines:
            self._targets[node_id] = target

            async def opened() -> str:
                return await self._forwarded(node_id, target)

            def why() -> FleetError | None:
                forward = self._forwards.get(node_id)
                return forward.error if forward else None

            self._engines[node_id] = SocketEngine(node_id, self._executor, opened, why)
        engine = self._engines[node_id]
        engine.last_used = asyncio.get_running_loop().time()  # a sweep before the first call would leave its forward open
        return engine

    async def sweep(self) -> None:
        """See :class:`Swept`."""
        now = asyncio.get_running_loop().time()
        for node_id, engine in list(self._engines.items()):
            if not engine.users and now - engine.last_used > IDLE_SECONDS:
                await self._drop(node_id)

    async def close(self) -> None:
        """See :class:`Swept`."""
        for node_id in list(self._engines):
            await self._drop(node_id)
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def open(self) -> int:
        """How many nodes' sockets are here."""
        return len(self._forwards)

    async def _own(self) -> str:
        return self._path

    async def _forwarded(self, node_id: str, target: Target) -> str:
        async with self._opening:
            forward = self._forwards.get(node_id)
            if forward is None:
                if self._folder is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="fleet-"))  # 0700, and short: a socket's path has 107 bytes
                self._made += 1
                forward = Forward(self._folder / f"{self._made}.sock", lambda: self._wires.wire(target, SOCKET, BRIDGE))
                await forward.start()
                self._forwards[node_id] = forward
            return str(forward.path)

    async def _drop(self, node_id: str | None) -> None:
        engine = self._engines.pop(node_id, None)
        if engine is not None:
            engine.close()
        if node_id is not None:
            self._targets.pop(node_id, None)
            forward = self._forwards.pop(node_id, None)
            if forward is not None:
                await forward.close()
