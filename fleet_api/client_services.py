"""The part of the SDK about the swarm: its services and clusters."""

from __future__ import annotations

from typing import Any, Protocol, cast

from fleet_api.client_nodes import path

WAIT_SECONDS = 600.0


class _Calls(Protocol):
    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]: ...


class ServiceCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def swarm(self: _Calls) -> dict[str, Any]:
        """Return the swarm in figures."""
        return self._json("GET", "/api/swarm/status")

    def services(self: _Calls) -> list[dict[str, Any]]:
        """Return every service of the swarm."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/swarm/services"))

    def service(self: _Calls, name: str) -> dict[str, Any]:
        """Return a service with its tasks."""
        return self._json("GET", f"/api/swarm/services/{path(name)}")

    def scale_service(self: _Calls, name: str, replicas: int) -> dict[str, Any]:
        """Set how many tasks a service has."""
        return self._json("POST", f"/api/swarm/services/{path(name)}/scale", json={"replicas": replicas})

    def service_logs(self: _Calls, name: str, tail: int = 100) -> str:
        """Return the last lines of a service's tasks."""
        return str(self._json("GET", f"/api/swarm/services/{path(name)}/logs", params={"tail": tail})["logs"])

    def remove_service(self: _Calls, name: str) -> dict[str, Any]:
        """Remove a service."""
        return self._json("DELETE", f"/api/swarm/services/{path(name)}")

    def clusters(self: _Calls) -> list[dict[str, Any]]:
        """Return every cluster."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/clusters"))

    def add_cluster(self: _Calls, name: str, node_ids: list[str]) -> dict[str, Any]:
        """Bring nodes into the swarm under one name; the first one manages."""
        body, wait = {"name": name, "node_ids": node_ids}, {"timeout": WAIT_SECONDS}
        return self._json("POST", "/api/clusters", json=body, params=wait, timeout=WAIT_SECONDS + 10)

    def remove_cluster(self: _Calls, name: str, cleanup_swarm: bool = False) -> dict[str, Any]:
        """Take a cluster apart; its nodes leave the swarm where that is asked for."""
        given = {"cleanup_swarm": cleanup_swarm, "timeout": WAIT_SECONDS}
        return self._json("DELETE", f"/api/clusters/{path(name)}", params=given, timeout=WAIT_SECONDS + 10)
