"""The inventory of one operation, over a Unix socket that belongs to it: callers' data and secrets go no other way to Ansible.

Only processes of this user that descend from the operation's child may read it. Nothing of it is ever written to a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from fleet_api.adapters.ansible.play import Play
from fleet_api.kit.descendants import descendants

log = structlog.get_logger()

_CREDENTIALS = struct.Struct("3i")


def inventory_of(play: Play) -> dict[str, Any]:
    """Return a play's inventory as the plugin reads it: hosts with their variables, groups, variables of all that are in ``nodes``.

    Helpers are not in that group, which playbooks are for, and so have the variables each.
    """
    groups = {name: sorted(hosts) for name, hosts in play.groups.items()}
    helpers = {name: {**play.variables, **variables} for name, variables in play.helpers.items() if name not in play.hosts}
    return {"hosts": {**play.hosts, **helpers}, "groups": {**groups, "nodes": sorted(play.hosts)}, "variables": play.variables}


@asynccontextmanager
async def serving(path: Path, play: Play, owner: Callable[[], int | None]) -> AsyncIterator[None]:
    """Answer each connection with the inventory while the context is open; ``owner`` returns the child's process id."""
    text = json.dumps(inventory_of(play)).encode()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _belongs(writer.get_extra_info("socket"), owner()):
                writer.write(text)
                await writer.drain()
            else:
                log.warning("inventory_refused", path=str(path))
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, path)
    os.chmod(path, 0o600)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _belongs(connection: socket.socket, owner: int | None) -> bool:
    pid, uid, _gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return owner is not None and uid == os.getuid() and (pid == owner or pid in descendants(owner))
