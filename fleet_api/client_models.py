"""The part of the SDK about models, and about why a job is where it is."""

from __future__ import annotations

from typing import Any, cast

from fleet_api.client_nodes import _Calls, path


class ModelCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def models(self: _Calls) -> list[dict[str, Any]]:
        """Return every model with the nodes that have it loaded."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/vision/models/available")["models"])

    def load_model(self: _Calls, node_id: str, model: str) -> dict[str, Any]:
        """Have a node load a model."""
        return self._json("POST", f"/api/vision/models/switch/{path(node_id)}", json={"model": model})

    def explain(self: _Calls, job_id: str) -> dict[str, Any]:
        """Return a job with its tries and, in words, why it waits or went where it did."""
        return self._json("GET", f"/api/queue/jobs/{path(job_id)}", params={"explain": True})

    def maintenance(self: _Calls, node_id: str, on: bool) -> dict[str, Any]:
        """Have a node given no more jobs, or given jobs again; its other labels stay."""
        labels = self._json("GET", f"/api/nodes/{path(node_id)}")["labels"]
        labels.pop("maintenance", None)
        if on:
            labels["maintenance"] = "yes"
        return self._json("PATCH", f"/api/nodes/{path(node_id)}", json={"labels": labels})
