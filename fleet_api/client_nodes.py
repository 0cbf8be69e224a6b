"""The part of the SDK about nodes and the operations on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol, cast
from urllib.parse import quote

import httpx


def path(name: str) -> str:
    """Return a name as one segment of a path. An empty one stays none: it is asked for as a name that nothing has."""
    return quote(name, safe="") or "-"


class _Calls(Protocol):
    url: str
    _http: httpx.Client

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]: ...


class NodeCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def add_node(self: _Calls, **fields: Any) -> dict[str, Any]:
        """Register a machine."""
        return self._json("POST", "/api/nodes", json=fields)

    def node(self: _Calls, node_id: str) -> dict[str, Any]:
        """Return a node with all that is known of it."""
        return self._json("GET", f"/api/nodes/{path(node_id)}")

    def change_node(self: _Calls, node_id: str, **fields: Any) -> dict[str, Any]:
        """Change a node."""
        return self._json("PATCH", f"/api/nodes/{path(node_id)}", json=fields)

    def credentials(self: _Calls) -> list[dict[str, Any]]:
        """Return every credential of the vault, without its secrets."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/vault"))

    def add_credential(self: _Calls, name: str, username: str, **secrets: str) -> dict[str, Any]:
        """Keep a credential; ``secrets`` are password, private_key, passphrase and become_password."""
        return self._json("POST", "/api/vault", json={"name": name, "username": username, **secrets})

    def change_credential(self: _Calls, credential_id: str, **fields: str) -> dict[str, Any]:
        """Change a credential, or replace secrets of it."""
        return self._json("PATCH", f"/api/vault/{path(credential_id)}", json=fields)

    def join(self: _Calls, ip: str, credential_id: str, **more: Any) -> dict[str, Any]:
        """Onboard one machine; ``more`` are cluster, ssh_port, node_id and labels."""
        given = {name: value for name, value in more.items() if value is not None}
        return self._json("POST", "/api/network/join", json={"ip": ip, "credential_id": credential_id, **given})

    def join_all(self: _Calls, credential_id: str | None, cluster: str | None) -> dict[str, Any]:
        """Onboard every machine that the last scan found."""
        return self._json("POST", "/api/network/auto-join-all", json={"credential_id": credential_id, "cluster": cluster})

    def start_operation(
        self: _Calls, kind: str, node_ids: list[str] | None, cluster: str | None = None, check: bool = False, mode: str | None = None
    ) -> dict[str, Any]:
        """Run a playbook on nodes; ``mode`` is for gpu_inference."""
        body = {"kind": kind, "node_ids": node_ids, "cluster": cluster, **({"mode": mode} if mode else {})}
        return self._json("POST", "/api/operations", params={"check": check}, json=body)

    def operations(self: _Calls, limit: int = 20, kind: str | None = None, state: str | None = None) -> dict[str, Any]:
        """Return the newest operations."""
        given = {"limit": limit, "kind": kind, "state": state}
        return self._json("GET", "/api/operations", params={name: value for name, value in given.items() if value is not None})

    def operation(self: _Calls, operation_id: str) -> dict[str, Any]:
        """Return one operation."""
        return self._json("GET", f"/api/operations/{path(operation_id)}")

    def cancel_operation(self: _Calls, operation_id: str) -> dict[str, Any]:
        """Ask an operation to end."""
        return self._json("POST", f"/api/operations/{path(operation_id)}/cancel")

    def retry_operation(self: _Calls, operation_id: str) -> dict[str, Any]:
        """Try an operation again where it did not succeed."""
        return self._json("POST", f"/api/operations/{path(operation_id)}/retry")

    def schedule(self: _Calls) -> list[dict[str, Any]]:
        """Return what runs by the clock."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/schedule"))

    def operation_events(self: _Calls, operation_id: str, after: int = 0, patience: float = 30.0) -> Iterator[dict[str, Any]]:
        """Yield what an operation tells until it has ended; a broken stream goes on where it was. Raises httpx.TransportError."""
        broken_at: float | None = None
        while True:
            try:
                address = f"/api/operations/{path(operation_id)}/events"
                with self._http.stream("GET", address, params={"after": after}, timeout=httpx.Timeout(10, read=60)) as answer:
                    if answer.is_error:
                        answer.read()
                        self._json("GET", f"/api/operations/{path(operation_id)}")  # raises what there is to say
                        return
                    name = ""
                    for line in answer.iter_lines():
                        if line.startswith("event: "):
                            name = line[len("event: ") :]
                        elif line.startswith("data: "):
                            broken_at = None
                            if name == "ended":
                                return
                            event = json.loads(line[len("data: ") :])
                            after = event["seq"]
                            yield event
            except httpx.TransportError:
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > patience:
                    raise
                time.sleep(0.5)
