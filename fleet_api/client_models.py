"""The part of the SDK about models, and about why a job is where it is."""

from __future__ import annotations

from typing import Any, cast

from fleet_api.client_nodes import _Calls, path

LONG_SECONDS = 1800.0


class ModelCalls:
    """Mixed into :class:`fleet_api.client.FleetClient`. Each call raises what its ``_json`` raises."""

    def models(self: _Calls) -> list[dict[str, Any]]:
        """Return every model with the nodes that have it loaded."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/vision/models/available")["models"])

    def load_model(self: _Calls, node_id: str, model: str) -> dict[str, Any]:
        """Have a node load a model."""
        return self._json("POST", f"/api/vision/models/switch/{path(node_id)}", json={"model": model})

    def loras(self: _Calls) -> list[dict[str, Any]]:
        """Return every LoRA."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/vision/loras")["loras"])

    def delete_model(self: _Calls, name: str, lora: bool = False) -> dict[str, Any]:
        """Delete a model, or a LoRA, from the store; nodes drop their copies."""
        return self._json("DELETE", f"/api/vision/{'loras' if lora else 'models'}/{path(name)}")

    def scan_models(self: _Calls) -> dict[str, Any]:
        """Look for models that were put straight into the buckets; it may take minutes."""
        return self._json("POST", "/api/vision/models/scan", timeout=LONG_SECONDS)

    def import_model(self: _Calls, source: str, name: str, **wishes: Any) -> dict[str, Any]:
        """Start an operation that imports a stored checkpoint as the model ``name``; ``wishes`` are the row's other fields."""
        body = {"name": name, **{key: value for key, value in wishes.items() if value is not None}}
        return self._json("POST", f"/api/vision/models/{path(source)}/import", json=body)

    def engines(self: _Calls) -> dict[str, Any]:
        """Return the engines of TensorRT that the store keeps, and how much of it they fill."""
        return self._json("GET", "/api/vision/engines")

    def build_engines(self: _Calls, node_id: str, model: str, loras: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Start an operation that has a node build, or fetch, the engines of a model; ``loras`` (name, strength) go into their weights."""
        body = {"model": model, **({"loras": loras} if loras else {})}
        return self._json("POST", f"/api/vision/nodes/{path(node_id)}/engines", json=body)

    def delete_engine(self: _Calls, key: str) -> None:
        """Delete an engine from the store."""
        self._json("DELETE", f"/api/vision/engines/{path(key)}")

    def begin_upload(self: _Calls, lora: bool, **fields: Any) -> dict[str, Any]:
        """Begin an upload (name, filename, size, sha256, base, source), or find the one that was begun in the same words."""
        given = {name: value for name, value in fields.items() if value is not None}
        return self._json("POST", f"/api/vision/{'loras' if lora else 'models'}/upload", json=given)

    def send_part(self: _Calls, upload_id: str, offset: int, part: bytes) -> dict[str, Any]:
        """Send bytes of an upload; with the last of them it is checked and stored, which may take minutes."""
        return self._json("PATCH", f"/api/vision/uploads/{path(upload_id)}", params={"offset": offset}, content=part, timeout=LONG_SECONDS)

    def upload_stands(self: _Calls, upload_id: str) -> dict[str, Any]:
        """Return where an upload stands."""
        return self._json("GET", f"/api/vision/uploads/{path(upload_id)}")

    def explain(self: _Calls, job_id: str) -> dict[str, Any]:
        """Return a job with its tries and, in words, why it waits or went where it did."""
        return self._json("GET", f"/api/queue/jobs/{path(job_id)}", params={"explain": True})

    def at_work(self: _Calls, node_id: str) -> str | None:
        """Return the job that a node holds, or None."""
        nodes = self._json("GET", "/api/vision/nodes")["nodes"]
        return next((str(node["current_job"]) for node in nodes if node["node_id"] == node_id and node["current_job"]), None)

    def maintenance(self: _Calls, node_id: str, on: bool) -> dict[str, Any]:
        """Have a node given no more jobs, or given jobs again; its other labels stay."""
        labels = self._json("GET", f"/api/nodes/{path(node_id)}")["labels"]
        labels.pop("maintenance", None)
        if on:
            labels["maintenance"] = "yes"
        return self._json("PATCH", f"/api/nodes/{path(node_id)}", json={"labels": labels})
