"""A real S3 server on loopback: rclone's, with real signatures, over a folder whose subfolders are its buckets."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.types import S3Access
from fleet_api.kit.allowed import AllowedNetworks

RCLONE = str(Path(sys.executable).parent / "rclone")
KEY, SECRET = "fleetkey", "fleetsecret0123456789"
LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass
class S3Server:
    """One server; it may be stopped and started again on the same port."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    key: str = KEY
    secret: str = SECRET
    options: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def access(self) -> S3Access:
        return S3Access(self.url, self.key, self.secret)

    def store(self, secret: str | None = None) -> S3Store:
        return S3Store(S3Access(self.url, self.key, secret or self.secret), AllowedNetworks([*LOOPBACK, f"{self.host}/32"]))

    def start(self) -> S3Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind((self.host, 0))
                self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [RCLONE, "serve", "s3", "--addr", f"{self.host}:{self.port}", "--auth-key", f"{self.key},{self.secret}",
             "--config", "/dev/null", "--log-level", "ERROR", *self.options, str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(self.folder.parent / f"{self.folder.name}.log").open("ab"),
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return self
            except OSError:
                assert time.monotonic() < deadline, "rclone does not answer"
                assert self.process.poll() is None, "rclone has ended"
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class KnownStore:
    """A fleet whose S3 store is this one: what stands in for ``Storage`` where there is no control plane."""

    def __init__(self, server: S3Server) -> None:
        self._store = server.store()

    async def s3(self) -> S3Store:
        return self._store
