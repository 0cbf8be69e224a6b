"""The part of the client that builds images and deploys them."""

from __future__ import annotations

from typing import Any, Protocol


class _Calls(Protocol):
    """What the client gives to its parts."""

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]: ...


class BuildCalls:
    """Calls about images."""

    def registry_images(self: _Calls, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """Return a page of what the fleet's registry holds."""
        return self._json("GET", f"/api/build/registry/images?limit={limit}&offset={offset}")

    def build_image(self: _Calls, image_name: str, tag: str, dockerfile_path: str, **more: Any) -> dict[str, Any]:
        """Start to build an image; None in a field is the same as leaving it out."""
        body = {"image_name": image_name, "tag": tag, "dockerfile_path": dockerfile_path, **more}
        return self._json("POST", "/api/build/build", json=body)

    def deploy_image(
        self: _Calls, image: str, service_name: str, cluster: str, replicas: int = 1, gpus: int | None = None
    ) -> dict[str, Any]:
        """Start to run an image as a service on a cluster."""
        body = {"image": image, "service_name": service_name, "cluster": cluster, "replicas": replicas, "gpus": gpus}
        return self._json("POST", "/api/build/deploy", json=body)

    def service_catalogue(self: _Calls) -> dict[str, Any]:
        """Return the services that a fleet may run."""
        return self._json("GET", "/api/build/catalogue")

    def create_service(self: _Calls, body: dict[str, Any]) -> dict[str, Any]:
        """Make a service of the swarm."""
        return self._json("POST", "/api/swarm/services", json=body)
