"""The part of the SDK about machines themselves: the vault, scans, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import quote

import httpx

SCAN_SECONDS = 300.0
MARGIN_SECONDS = 30.0
"""What an answer may take beyond the command's own timeout: connecting, signing in, ending what hangs."""


class _Calls(Protocol):
    url: str
    _http: httpx.Client

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]: ...

    def _reaching(self) -> AbstractContextManager[None]: ...

    def _checked(self, answer: httpx.Response) -> httpx.Response: ...


class RemoteCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def remove_credential(self: _Calls, credential_id: str, force: bool = False) -> dict[str, Any]:
        """Delete a credential, by its id or name; with ``force`` also one in use."""
        return self._json("DELETE", f"/api/vault/{quote(credential_id, safe='')}", params={"force": force})

    def scan(self: _Calls, subnet: str | None = None, refresh: bool = False, thorough: bool = False) -> dict[str, Any]:
        """Return the machines of a subnet."""
        given = {"subnet": subnet} if subnet else {}
        return self._json("GET", "/api/network/scan", params={**given, "refresh": refresh, "thorough": thorough}, timeout=SCAN_SECONDS)

    def scan_status(self: _Calls) -> dict[str, Any]:
        """Return how far the scan is."""
        return self._json("GET", "/api/network/scan-status")

    def run_command(self: _Calls, node_id: str, command: str, timeout: float = 60, become: bool = False) -> dict[str, Any]:
        """Run a command on one node and return how it ended."""
        body = {"node_id": node_id, "command": command, "timeout": timeout, "become": become}
        return self._json("POST", "/api/ssh/exec-node", json=body, timeout=timeout + MARGIN_SECONDS)

    def run_commands(
        self: _Calls, command: str, node_ids: list[str] | None = None, cluster: str | None = None, timeout: float = 60, become: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Run a command on many nodes; yield how it ended on each, as it does."""
        body = {"node_ids": node_ids, "cluster": cluster, "command": command, "timeout": timeout, "become": become}
        call = self._http.stream("POST", "/api/ssh/exec", params={"stream": True}, json=body, timeout=timeout + MARGIN_SECONDS)
        with self._reaching(), call as answer:
            if answer.is_error:
                answer.read()
            self._checked(answer)
            for line in answer.iter_lines():
                yield json.loads(line)

    def accept_host_key(self: _Calls, node_id: str, fingerprint: str) -> dict[str, Any]:
        """Trust the host key that a node showed last."""
        return self._json("POST", f"/api/nodes/{quote(node_id, safe='')}/accept-host-key", json={"fingerprint": fingerprint})
