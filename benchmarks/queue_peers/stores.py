"""A Redis and a PostgreSQL of the benchmark's own, on loopback, with every write on disk before it is acknowledged."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import free_port

PATIENCE = 30.0


def redis_server() -> str | None:
    """Return the program, or None where it is not installed."""
    return shutil.which("redis-server")


def postgres_folder() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis with ``appendonly yes`` and ``appendfsync always``; yield its URL."""
    port = free_port()
    words = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ]
    process = subprocess.Popen([str(redis_server()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with its defaults (``fsync`` and ``synchronous_commit`` on); yield its connection string."""
    programs = postgres_folder()
    assert programs is not None
    port, data = free_port(), folder / "data"
    owner = _owner()
    if owner is not None:
        folder.chmod(0o755)
        data.mkdir()
        os.chown(data, owner.pw_uid, owner.pw_gid)
    as_owner = {"user": owner.pw_uid, "group": owner.pw_gid} if owner is not None else {}
    subprocess.run(
        [str(programs / "initdb"), "-D", str(data), "-U", "bench", "--auth", "trust"],
        check=True, capture_output=True, cwd="/", **as_owner,  # type: ignore[call-overload]
    )  # fmt: skip
    words = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data)]
    process = subprocess.Popen(
        [str(programs / "postgres"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **as_owner
    )  # type: ignore[call-overload]
    try:
        _wait(port)
        time.sleep(1)
        yield f"host=127.0.0.1 port={port} user=bench dbname=postgres"
    finally:
        process.terminate()
        process.wait(20)


def _owner() -> pwd.struct_passwd | None:
    """PostgreSQL does not run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _wait(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
