"""The SDK: what the ``fleet`` command and other programs use to call the API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any, cast

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

DEFAULT_URL = "http://127.0.0.1:8765"
PATIENCE = 30.0  # seconds that a broken event stream is tried again
ENDED = ("completed", "failed", "cancelled")


class FleetClientError(Exception):
    """The API refused; ``status`` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class FleetUnreachable(Exception):
    """Nobody answers at the address."""


class FleetClient:
    """A synchronous client. Every method returns the API's JSON.

    Raises:
        FleetClientError: the API refused, with its sentence.
        FleetUnreachable: no connection.
    """

    def __init__(self, url: str | None = None, timeout: float = 30.0) -> None:
        self.url = (url or os.environ.get("FLEET_URL") or DEFAULT_URL).rstrip("/")
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)
        except httpx.InvalidURL:
            raise FleetUnreachable(f"{self.url!r} is not an address; it should look like {DEFAULT_URL}.") from None

    def __enter__(self) -> FleetClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def status(self) -> dict[str, Any]:
        """Return the fleet in figures."""
        return self._json("GET", "/api/fleet/status")

    def nodes(self) -> list[dict[str, Any]]:
        """Return every node."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/nodes")["nodes"])

    def jobs(self, status: str | None = None, limit: int = 50) -> dict[str, Any]:
        """Return the newest jobs and the number of all."""
        return self._json("GET", "/api/queue/jobs", params={"limit": limit, **({"status": status} if status else {})})

    def job(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        return self._json("GET", f"/api/vision/jobs/{job_id}")

    def generate(self, prompt: str, **values: Any) -> dict[str, Any]:
        """Queue a picture; values that are None are left out."""
        body = {"prompt": prompt, **{name: value for name, value in values.items() if value is not None}}
        return self._json("POST", "/api/vision/generate", json=body)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        return self._json("POST", f"/api/vision/jobs/{job_id}/cancel")

    def output(self, url: str) -> bytes:
        """Return the bytes of a finished picture, by the ``image_url`` of its job's result."""
        return self._request("GET", url).content

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the job whenever it moved, until it has ended: told by the API's events, not by asking again and again.

        A connection that breaks, as when the API is restarted, is made again for :data:`PATIENCE` seconds.
        """
        broken_at: float | None = None
        while True:
            try:
                for job in self._followed(job_id):
                    broken_at = None
                    yield job
                return
            except (FleetUnreachable, OSError, WebSocketException) as error:
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > PATIENCE:
                    raise FleetUnreachable(f"The connection to {self.url} broke: {error}") from error
                time.sleep(0.5)

    def _followed(self, job_id: str) -> Iterator[dict[str, Any]]:
        address = self.url.replace("http", "ws", 1) + "/ws?types=job_progress,job_complete"
        with connect(address, open_timeout=10, proxy=None) as socket:
            job = self.job(job_id)
            yield job
            while job["status"] not in ENDED:
                event = json.loads(socket.recv())
                if event["data"]["job_id"] == job_id:
                    job = self.job(job_id) if event["type"] == "job_complete" else {**job, "status": "processing", **event["data"]}
                    yield job

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._request(method, path, **more)
        try:
            return cast(dict[str, Any], answer.json())
        except ValueError:
            raise FleetUnreachable(f"What answers at {self.url} is not Fleet Commander.") from None

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.InvalidURL:
            raise FleetUnreachable(f"{self.url!r} is not an address; it should look like {DEFAULT_URL}.") from None
        except httpx.TransportError as error:
            raise FleetUnreachable(f"Nobody answers at {self.url}; start the control plane with 'fleet up'. ({error})") from error
        if answer.is_error:
            try:
                detail = answer.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = f"The API answered {answer.status_code}."
            raise FleetClientError(answer.status_code, detail)
        return answer
