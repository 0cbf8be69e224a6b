"""The SDK: what the ``fleet`` command and other programs use to call the API."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from fleet_api.client_build import BuildCalls
from fleet_api.client_models import ModelCalls
from fleet_api.client_nodes import NodeCalls
from fleet_api.client_outputs import OutputCalls
from fleet_api.client_remote import RemoteCalls
from fleet_api.client_services import ServiceCalls

DEFAULT_URL = "http://127.0.0.1:8765"
KEY_FILE = "key"  # in the data folder: what 'fleet keys create --save' keeps
UNAUTHORIZED, NOT_FOUND = 401, 404
PATIENCE = 30.0  # seconds that a broken event stream is tried again
ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the API answers, with which key, and whom it is trusted by. The data folder's key goes to its own API alone."""

    url: str
    key: str | None = field(repr=False)
    authority: str | None
    key_file: Path | None = None
    """Where the key was found, if not given."""

    @classmethod
    def find(cls, url: str | None, key: str | None, authority: str | None) -> Whereabouts:
        """Look at the arguments, then at FLEET_URL, FLEET_KEY and FLEET_CA, then at the data folder."""
        home = Path(os.environ.get("FLEET_HOME") or "~/.fleet").expanduser()
        own = _read(home / "url")
        found = (url or os.environ.get("FLEET_URL") or own or DEFAULT_URL).rstrip("/")
        key, authority = key or os.environ.get("FLEET_KEY"), authority or os.environ.get("FLEET_CA")
        key_file = None
        if found == own:
            if not key and (key := saved_key(home / KEY_FILE)):
                key_file = home / KEY_FILE
            own_authority = home / "tls" / "ca.crt"
            authority = authority or (str(own_authority) if own_authority.exists() else None)
        return cls(found, key, authority, key_file)

    def tls(self) -> ssl.SSLContext | None:
        """Return the context for https where an authority is named. Raises FleetUnreachable for a file that is none."""
        if not self.authority or not self.url.startswith("https"):
            return None
        try:
            return ssl.create_default_context(cafile=self.authority)
        except OSError as error:
            raise FleetUnreachable(f"{self.authority} cannot be read as a certificate authority: {error}") from None


def saved_key(path: Path) -> str | None:
    """Return the key that a file keeps."""
    return _read(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


class FleetClientError(Exception):
    """The API refused; ``status`` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class FleetUnreachable(Exception):
    """Nobody answers at the address."""


class FleetClient(ModelCalls, NodeCalls, OutputCalls, RemoteCalls, ServiceCalls, BuildCalls):
    """A synchronous client. Every method returns the API's JSON.

    Raises:
        FleetClientError: the API refused, with its sentence.
        FleetUnreachable: no connection.
    """

    def __init__(self, url: str | None = None, timeout: float = 30.0, key: str | None = None, authority: str | None = None) -> None:
        """``key`` and ``authority`` (a PEM file) left out are FLEET_KEY and FLEET_CA, or those of this machine's data folder."""
        where = Whereabouts.find(url, key, authority)
        self.url = where.url
        self.key_file = where.key_file
        self._key = where.key
        self._tls = where.tls()
        headers = {"Authorization": f"Bearer {where.key}"} if where.key else {}
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False, headers=headers, verify=self._tls or True)
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

    def remove_node(self, node_id: str) -> None:
        """Retire a node: its credential is good for nothing from then on."""
        self._request("DELETE", f"/api/nodes/{quote(node_id, safe='')}")

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

    def deliveries(self, job_id: str, limit: int = 50) -> dict[str, Any]:
        """Return what became of a job's callbacks, newest first, and the number of all."""
        return self._json("GET", f"/api/queue/jobs/{quote(job_id, safe='')}/deliveries", params={"limit": limit})

    def replay(self, job_id: str, delivery_id: str) -> dict[str, Any]:
        """Send a callback again."""
        return self._json("POST", f"/api/queue/jobs/{quote(job_id, safe='')}/deliveries/{quote(delivery_id, safe='')}/replay")

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
        with self._socket(address) as socket:
            job = self.job(job_id)
            yield job
            while job["status"] not in ENDED:
                event = json.loads(socket.recv())
                if event["data"]["job_id"] == job_id:
                    job = self.job(job_id) if event["type"] == "job_complete" else {**job, "status": "processing", **event["data"]}
                    yield job

    def keys(self) -> list[dict[str, Any]]:
        """Return every key, without the keys themselves."""
        return cast(list[dict[str, Any]], self._json("GET", "/api/keys")["keys"])

    def create_key(self, name: str, role: str, expires_in_days: float | None = None) -> dict[str, Any]:
        """Make a key; the answer is the only one that holds it."""
        return self._json("POST", "/api/keys", json={"name": name, "role": role, "expires_in_days": expires_in_days})

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        """Revoke a key by its id or name."""
        if quote(key_id, safe=" @") != key_id:  # a name of old, which a path may not carry as it is
            named = [key["id"] for key in self.keys() if key["name"] == key_id and key["status"] != "revoked"]
            if not named:
                raise FleetClientError(NOT_FOUND, f"There is no key {key_id!r}; 'fleet keys list' shows them.")
            key_id = named[0]
        return self._json("DELETE", f"/api/keys/{quote(key_id, safe='')}")

    def enrolment_token(self, node_id: str | None = None, expires_in_minutes: float = 60) -> dict[str, Any]:
        """Make a token with which one agent may enrol."""
        return self._json("POST", "/api/agents/tokens", json={"node_id": node_id, "expires_in_minutes": expires_in_minutes})

    def audit(self, limit: int = 50, before: int | None = None, caller_id: str | None = None) -> dict[str, Any]:
        """Return the newest audit entries."""
        given = {"limit": limit, "before": before, "caller_id": caller_id}
        return self._json("GET", "/api/audit", params={name: value for name, value in given.items() if value is not None})

    def _socket(self, address: str) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else None
        return connect(address, open_timeout=10, proxy=None, additional_headers=headers, ssl=self._tls)

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._request(method, path, **more)
        try:
            return cast(dict[str, Any], answer.json())
        except ValueError:
            raise FleetUnreachable(f"What answers at {self.url} is not Fleet Commander.") from None

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        with self._reaching():
            return self._checked(self._http.request(method, path, **more))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what goes wrong on the way there into FleetUnreachable."""
        try:
            yield
        except httpx.InvalidURL:
            raise FleetUnreachable(f"{self.url!r} is not an address; it should look like {DEFAULT_URL}.") from None
        except httpx.TransportError as error:
            raise FleetUnreachable(f"Nobody answers at {self.url}; start the control plane with 'fleet up'. ({error})") from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        """Return an answer that is no refusal. Raises FleetClientError."""
        if answer.is_error:
            try:
                detail = answer.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = f"The API answered {answer.status_code}."
            if answer.status_code == UNAUTHORIZED and self.key_file is not None:
                detail += f" It is the key kept in {self.key_file}; remove that file, or keep another with 'fleet keys create --save'."
            raise FleetClientError(answer.status_code, detail)
        return answer
