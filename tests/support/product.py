"""The whole product as a user starts it: ``fleet up`` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

READY_SECONDS = 60.0
FLEET = [sys.executable, "-m", "fleet_api"]


class Product:
    """A running ``fleet up``."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self.env = {**os.environ, "FLEET_HOME": str(home), "FLEET_PORT": "0", **env}
        self.env.pop("FLEET_URL", None)
        self.output = home.with_suffix(".out")
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Product:
        """Start and wait until it says that it is ready."""
        self.output.unlink(missing_ok=True)
        with self.output.open("wb") as file:
            self.process = subprocess.Popen([*FLEET, "up"], env=self.env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            text = self.output.read_text()
            if "ready on " in text:
                self.url = text.split("ready on ")[1].split()[0]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"fleet up did not get ready: {self.output.read_text()}{self.logs()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C does; return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(20)

    def children(self) -> dict[str, psutil.Process]:
        """Return the living processes by role: ``api``, ``agent``, ``engine``."""
        assert self.process is not None
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                line = " ".join(child.cmdline())
            except psutil.Error:
                continue
            for role, mark in (("api", "fleet_api serve"), ("agent", "gpu_inference.agent"), ("engine", "gpu_inference.engine.child")):
                if mark in line:
                    found[role] = child
        return found

    def client(self, timeout: float = 60) -> httpx.Client:
        """Return an HTTP client for the API."""
        return httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)

    def fleet(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the ``fleet`` command against it."""
        return subprocess.run(
            [*FLEET, *arguments], env={**self.env, "FLEET_URL": self.url, **env}, capture_output=True, text=True, timeout=120
        )

    def logs(self) -> str:
        """Return what its processes wrote."""
        return "".join(path.read_text() for path in sorted((self.home / "logs").glob("*.log"))) if self.home.exists() else ""


@contextmanager
def running(home: Path, **env: str) -> Iterator[Product]:
    """Run the product while the context is open, and leave no process behind."""
    product = Product(home, **env)
    try:
        yield product.start()
    finally:
        process = product.process
        if process is not None:
            family: list[psutil.Process] = []
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for child in psutil.wait_procs(family, timeout=5)[1]:
                child.kill()
