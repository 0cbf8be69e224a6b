"""Ceph's S3 gateway on loopback, over an in-memory store: bucket policies, lifecycle and anonymous reading, which rclone's server has not.

From Debian's ``radosgw``, ``ceph-mon`` and ``ceph-osd``; about 15 seconds to start. All of it is in one folder and three processes.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.types import S3Access
from fleet_api.kit.allowed import AllowedNetworks

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
LOOPBACK = ("127.0.0.0/8", "::1/128")
READY_SECONDS = 90
CONFIG = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data = {folder}/mon
osd data = {folder}/osd
keyring = {folder}/keyring
run dir = {folder}
pid file =
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
err to stderr = false
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw enable usage log = false
rgw lc debug interval = 10
"""


def missing() -> str:
    """Return which of Ceph's programs this machine lacks; empty where it has all of them."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name) is None)


@dataclass
class Gateway:
    """One gateway with one user."""

    folder: Path
    port: int = 0
    key: str = "fleetgateway"
    secret: str = "gatewaysecret0123456789"
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def store(self, secret: str | None = None) -> S3Store:
        return S3Store(S3Access(self.url, self.key, secret or self.secret), AllowedNetworks(LOOPBACK))

    def __enter__(self) -> Gateway:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self.processes.clear()

    def _start(self) -> None:
        mon, self.port = free_port(), free_port()
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True)
        config = CONFIG.format(fsid=uuid.uuid4(), mon=mon, port=self.port, folder=self.folder)
        (self.folder / "ceph.conf").write_text(config)
        fsid = config.split("fsid = ")[1].split()[0]
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}/0]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._serve("ceph-mon", "-f", "-i", "a")
        osd = str(uuid.uuid4())
        self._until("ceph", "--connect-timeout", "5", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve("ceph-osd", "-f", "-i", "0")
        deadline = time.monotonic() + READY_SECONDS
        while json.loads(self._run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] != 1:
            assert time.monotonic() < deadline, "the osd does not come up"
            time.sleep(0.3)
        user = ["--uid", "fleet", "--display-name", "fleet", "--access-key", self.key, "--secret-key", self.secret]
        self._until("radosgw-admin", "user", "create", *user)
        self._serve("radosgw", "-f", "-n", "client.rgw")
        while not self._answers():
            assert time.monotonic() < deadline, "the gateway does not answer"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, timeout=2, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    def _run(self, program: str, *words: str) -> str:
        command = [program, "-c", str(self.folder / "ceph.conf"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS, cwd=self.folder)
        assert done.returncode == 0, (program, words, done.stderr[-2000:])
        return done.stdout

    def _until(self, program: str, *words: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self._run(program, *words)
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _serve(self, program: str, *words: str) -> None:
        with (self.folder / "output.log").open("ab") as log:
            command = [program, "-c", str(self.folder / "ceph.conf"), *words]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder))


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
