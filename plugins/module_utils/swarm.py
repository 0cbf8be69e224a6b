# Copyright: Fleet Commander contributors. Apache-2.0.
"""A Docker Engine's membership of a swarm, through the engine's own socket: no library of Python, and no token on a command line."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any

SOCKET = "/var/run/docker.sock"
PORT = 2377
SECONDS = 60
TOKEN = re.compile(r"SWMTKN-1-[0-9a-z]+-[0-9a-z]+")


class SwarmFailed(Exception):
    """It did not work; the text is a sentence, without any token."""


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(SOCKET)


def ask(method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> Any:
    """Return what the engine answers. Raises SwarmFailed."""
    connection = _Connection("localhost")
    try:
        sent = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, json.dumps(body) if body is not None else None, sent)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise SwarmFailed(f"No Docker Engine answers on this node ({error}); take the role docker_engine first.") from None
    finally:
        connection.close()
    found = json.loads(text) if text.strip() else None
    if answer.status >= 400:
        said = str((found or {}).get("message") or text)
        raise SwarmFailed("The engine refuses: {}.".format(TOKEN.sub("<token>", " ".join(said.split()))[:300].rstrip(".")))
    return found


def state_now() -> dict[str, Any]:
    """Return what this engine is: ``state`` is inactive, pending, active, error or locked. Raises SwarmFailed."""
    told = (ask("GET", "/info") or {}).get("Swarm") or {}
    return {
        "state": told.get("LocalNodeState") or "inactive",
        "manager": bool(told.get("ControlAvailable")),
        "node_id": told.get("NodeID") or "",
        "swarm_id": (told.get("Cluster") or {}).get("ID") or "",
    }


def form(advertise_addr: str) -> None:
    """Form a swarm that this engine manages."""
    ask("POST", "/swarm/init", {"ListenAddr": f"0.0.0.0:{PORT}", "AdvertiseAddr": advertise_addr})


def join(token: str, managers: list[str], advertise_addr: str) -> None:
    """Join a swarm."""
    body = {"ListenAddr": f"0.0.0.0:{PORT}", "AdvertiseAddr": advertise_addr, "RemoteAddrs": managers, "JoinToken": token}
    ask("POST", "/swarm/join", body)


def leave() -> None:
    """Leave the swarm, whatever becomes of it."""
    ask("POST", "/swarm/leave?force=1")


def members() -> list[dict[str, Any]]:
    """Return the members of the swarm that this engine manages."""
    found = []
    for raw in ask("GET", "/nodes") or []:
        found.append(
            {
                "id": raw["ID"],
                "hostname": (raw.get("Description") or {}).get("Hostname") or "",
                "role": raw["Spec"]["Role"],
                "state": (raw.get("Status") or {}).get("State") or "unknown",
                "addr": (raw.get("ManagerStatus") or {}).get("Addr") or "",
                "labels": raw["Spec"].get("Labels") or {},
            }
        )
    return found


def tokens() -> dict[str, str]:
    """Return the join tokens of the swarm that this engine manages."""
    found = (ask("GET", "/swarm") or {}).get("JoinTokens") or {}
    return {"worker": found.get("Worker", ""), "manager": found.get("Manager", "")}


def member(node_id: str) -> dict[str, Any] | None:
    """Return a member as the engine has it, or None."""
    return next((raw for raw in ask("GET", "/nodes") or [] if raw["ID"] == node_id), None)


def change(raw: dict[str, Any], spec: dict[str, Any]) -> None:
    """Change a member's specification."""
    ask("POST", "/nodes/{}/update?version={}".format(raw["ID"], raw["Version"]["Index"]), spec)


def remove(node_id: str) -> None:
    """Remove a member from the list, by force."""
    ask("DELETE", f"/nodes/{node_id}?force=1")
