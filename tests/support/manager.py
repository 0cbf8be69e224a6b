"""The control plane as on a manager machine: ``fleet serve`` in a process of its own, on the lab's bridge, with keys and TLS."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.lab import Node

FLEET = [sys.executable, "-m", "fleet_api"]
READY_SECONDS = 60.0
KEPT = ("FLEET_ALLOWED_NETWORKS", "FLEET_DOCKER_HOST")


@dataclass
class Manager:
    """A running control plane. ``address`` is this machine's on the lab's bridge."""

    home: Path
    address: str
    port: int
    key: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'http' if self.settings.get('FLEET_TLS') == 'off' else 'https'}://{self.address}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_") or name in KEPT}
        return {**kept, "FLEET_HOME": str(self.home), "FLEET_HOST": self.address, "FLEET_PORT": str(self.port), **self.settings}

    def start(self) -> None:
        log = self.home.with_suffix(".log").open("ab")
        self.process = subprocess.Popen([*FLEET, "serve"], env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health", verify=self.trusted(), timeout=2, trust_env=False).is_success:
                    return
            except (httpx.TransportError, OSError):
                assert self.process.poll() is None, self.log()
                time.sleep(0.05)
        raise AssertionError(self.log())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)

    @contextmanager
    def open_lan(self) -> Iterator[None]:
        """Run it again without keys and TLS while the context is open, then as it was."""
        self.again({"FLEET_AUTH": "off", "FLEET_TLS": "off"})
        try:
            yield
        finally:
            self.again({})

    def again(self, settings: dict[str, str]) -> None:
        """Start it anew with these settings beside its own."""
        self.stop()
        self.settings = settings
        self.start()

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.home / "tls" / "ca.crt"))

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, verify=self.trusted(), headers=headers, timeout=60, trust_env=False)

    def fleet(self, *words: str, code: int = 0, timeout: float = 400, stdin: str | None = None) -> str:
        """Run the ``fleet`` command as an admin of this machine."""
        done = subprocess.run([*FLEET, *words], env=self.env, capture_output=True, text=True, timeout=timeout, input=stdin)
        assert done.returncode == code, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def log(self) -> str:
        return self.home.with_suffix(".log").read_text()[-5000:]

    # -- what tests do most

    def credential(self, node: Node, name: str | None = None) -> str:
        """Put a node's password into the vault; return the credential's id."""
        body = {"name": name or node.name, "username": node.user, "password": node.password}
        with self.client() as api:
            return str(ok(api.post("/api/vault", json=body))["id"])

    def join(self, node: Node, credential_id: str, **more: Any) -> str:
        """Start to onboard a node; return the operation's id."""
        with self.client() as api:
            return str(ok(api.post("/api/network/join", json={"ip": node.ip, "credential_id": credential_id, **more}))["operation_id"])

    def ended(self, operation_id: str, seconds: float = 400) -> dict[str, Any]:
        """Return an operation once it has ended."""
        deadline = time.monotonic() + seconds
        with self.client() as api:
            while True:
                row = ok(api.get(f"/api/operations/{operation_id}"))
                if row["state"] not in ("queued", "running"):
                    return row
                assert time.monotonic() < deadline, row
                time.sleep(0.2)

    def operation(self, operation_id: str) -> dict[str, Any]:
        """Return an operation as it is now."""
        with self.client() as api:
            return ok(api.get(f"/api/operations/{operation_id}"))

    def ended_yet(self, operation_id: str) -> dict[str, Any] | None:
        """Return an operation if it has ended."""
        row = self.operation(operation_id)
        return None if row["state"] in ("queued", "running") else row

    def events(self, operation_id: str) -> list[dict[str, Any]]:
        """Return all that an ended operation told."""
        with self.client() as api:
            text = api.get(f"/api/operations/{operation_id}/events").text
        return [each for each in (json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")) if "seq" in each]

    def succeeded(self, operation_id: str) -> dict[str, Any]:
        """Return an operation once it has ended well; otherwise show what it told."""
        row = self.ended(operation_id)
        assert row["state"] == "succeeded", (row["reason"], [each["text"] for each in self.events(operation_id)][-20:])
        return row

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return every node by its id."""
        with self.client() as api:
            return {node["id"]: node for node in ok(api.get("/api/nodes?details=true"))["nodes"]}


def ok(answer: httpx.Response) -> dict[str, Any]:
    """Return an answer's body; fails with the reason for an error."""
    assert answer.is_success, (answer.status_code, answer.text)
    body: dict[str, Any] = answer.json()
    return body


def gateway(node: Node) -> str:
    """Return this machine's address on a node's bridge."""
    return f"{node.ip.rsplit('.', 1)[0]}.1"


@contextmanager
def managing(home: Path, address: str) -> Iterator[Manager]:
    """Run a control plane while the context is open, with a key for an admin."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    manager = Manager(home, address, port)
    manager.start()
    try:
        manager.key = json.loads(manager.fleet("keys", "create", "tests", "--role", "admin", "--save", "--json"))["key"]
        yield manager
    finally:
        if manager.process is not None and manager.process.poll() is None:
            manager.stop()
