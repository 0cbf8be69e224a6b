"""A real OpenSSH server on loopback, with host keys and users of its own, which no other program on this machine sees."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
USER, PASSWORD = "jetson", 'jetson\'s päss "word"'
OTHER = "visitor"
"""A user whom sudo does not allow anything."""


@dataclass
class Sshd:
    """A running server. ``client_key`` opens it for root and for :data:`USER`, as does the password for the latter."""

    folder: Path
    address: str
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def client_key(self) -> str:
        return (self.folder / "client").read_text()

    @property
    def fingerprint(self) -> str:
        text = subprocess.run(["ssh-keygen", "-lf", str(self.folder / "host.pub")], check=True, capture_output=True, text=True).stdout
        return text.split()[1]

    def start(self) -> None:
        files = ["passwd", "shadow", "group", *(["sudoers"] if Path("/etc/sudoers").exists() else [])]
        mounts = [f"mount --bind {self.folder}/{name} /etc/{name}" for name in files]
        steps = ["set -e", "mount --make-rprivate /", "mount -t tmpfs none /run", "mkdir -p /run/sshd", *mounts]
        script = "; ".join([*steps, f"exec {SSHD} -D -e -f {self.folder}/config"])
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self.address, self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """End the server and every connection of it, at once."""
        assert self.process is not None
        for pid in [self.process.pid, *_children(self.process.pid)]:  # sessions before their commands, so that none tells of its end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def new_host_key(self) -> None:
        """Give the server another host key, as a machine that was installed anew has."""
        self.stop()
        _make_key(self.folder / "host")
        self.start()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += [child, *_children(child)]
    return found


def _make_key(path: Path) -> None:
    for each in (path, path.with_suffix(".pub")):
        each.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)


def missing() -> str | None:
    """Return what this machine lacks for it."""
    if os.getuid() != 0:
        return "a server with users of its own wants root"
    wanted = [SSHD, "ssh-keygen", "unshare", "openssl"]
    lacking = [name for name in wanted if not shutil.which(name)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    alone = subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True)
    return "mounts of its own are not allowed here" if alone.returncode else None


@contextmanager
def sshd(address: str = "127.0.0.1", options: tuple[str, ...] = ()) -> Iterator[Sshd]:
    """Run a server while the context is open. Skips the test where that cannot be done."""
    with tempfile.TemporaryDirectory(prefix="fleet-sshd-") as name:  # not in pytest's folder, which other users may not enter
        yield from _served(Path(name), address, options)


def _served(folder: Path, address: str, options: tuple[str, ...]) -> Iterator[Sshd]:
    lacking = missing()
    if lacking:
        if os.environ.get("FLEET_REQUIRE_NETWORK"):
            raise AssertionError(lacking)
        pytest.skip(f"an SSH server on loopback: {lacking} (apt-get install openssh-server)")
    folder.chmod(0o755)
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    for name in ("host", "client"):
        _make_key(folder / name)
    _write_users(folder)
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    (folder / "config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication yes\nMaxStartups 500:30:1000\nLogLevel ERROR\n"
        + "".join(f"{line}\n" for line in options)
    )
    server = Sshd(folder, address, port, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _write_users(folder: Path) -> None:
    passwd, shadow = Path("/etc/passwd").read_text(), Path("/etc/shadow").read_text()
    hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD.encode(), check=True, capture_output=True, text=False)
    for number, name in ((64001, USER), (64002, OTHER)):
        home = folder / name
        home.mkdir(exist_ok=True)
        os.chown(home, number, number)
        passwd += f"{name}:x:{number}:{number}::{home}:/bin/sh\n"
        shadow += f"{name}:{hashed.stdout.decode().strip()}:19000:0:99999:7:::\n"
    (folder / "passwd").write_text(passwd)
    (folder / "shadow").write_text(shadow)
    (folder / "group").write_text(Path("/etc/group").read_text() + f"{USER}:x:64001:\n{OTHER}:x:64002:\n")
    sudoers = folder / "sudoers"
    sudoers.unlink(missing_ok=True)
    sudoers.write_text(f"root ALL=(ALL:ALL) ALL\n{USER} ALL=(ALL:ALL) ALL\n")
    sudoers.chmod(0o440)
