"""Commands over SSH on 50 addresses of loopback: one at a time beside bare asyncssh and ``ansible -m command``, and all at once.

Four SSH servers of this user's own listen there, with throwaway keys. Wants OpenSSH's server; ansible is measured where it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh

from benchmarks.http_client import Connection
from benchmarks.servers import control_plane, free_port

SSHD = "/usr/sbin/sshd"
ADDRESSES = [f"127.0.0.{last}" for last in range(2, 52)]
SERVERS = 4  # one takes at most 16 addresses
CALLS = 200
ROUNDS = 5
COMMAND = "echo hi"


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where no SSH server is installed."""
    if not Path(SSHD).exists():
        print("commands over SSH: left out, as OpenSSH's server is not installed")
        return {}
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as port:
        found = asyncio.run(_measure(Path(folder), port))
        ansible = Path(sys.executable).parent / "ansible"
        if ansible.exists():
            found["ansible -m command"] = _ansible(ansible, Path(folder), port)
    bare = found["asyncssh, open connection"]["p50_ms"]
    print(f"{'one command':36} {'p50 ms':>8} {'p99 ms':>8} {'beside':>8}")
    for name in ("asyncssh, open connection", "POST /api/ssh/exec-node", "ansible -m command"):
        if name in found:
            figures = found[name]
            print(f"{name:36} {figures['p50_ms']:8.1f} {figures['p99_ms']:8.1f} {figures['p50_ms'] / bare:8.1f}")
    print(f"{'the first, with signing in':36} {found['first_ms']:8.1f}")
    print(f"\n{'one command on 50 nodes':36} {'seconds':>8}")
    for name in ("cold", "warm"):
        print(f"{name:36} {found['on_50'][name]:8.2f}")
    print(f"memory of an open connection: {found['kilobytes_each']:.0f} kB")
    return found


async def _measure(folder: Path, port: int) -> dict[str, Any]:
    key = (folder / "client").read_text()
    home = folder / "home"
    with control_plane(home) as server:
        http = await Connection("127.0.0.1", server.port).open()

        async def call(method: str, path: str, body: Any = None) -> Any:
            status, answer = await http.send(Connection.prepare(method, path, body))
            if status >= 400:
                raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
            return json.loads(answer)

        made = await call("POST", "/api/vault", {"name": "bench", "username": getpass.getuser(), "private_key": key})
        for number, address in enumerate(ADDRESSES):
            node = {"id": f"n{number}", "ip": address, "ssh_port": port, "credential_id": made["id"], "cluster": "bench"}
            await call("POST", "/api/nodes", node)
        body = {"node_id": "n0", "command": COMMAND}
        started = time.perf_counter()
        await call("POST", "/api/ssh/exec-node", body)
        first = time.perf_counter() - started
        request = Connection.prepare("POST", "/api/ssh/exec-node", body)
        client_key = asyncssh.import_private_key(key)
        line = (folder / "host.pub").read_text().split()[:2]
        trusted = asyncssh.import_public_key(" ".join(line))
        options: dict[str, Any] = {"known_hosts": ([trusted], [], []), "client_keys": [client_key], "config": None, "agent_path": None}
        async with asyncssh.connect(ADDRESSES[0], port, **options) as connection:
            ours, bare = [], []
            for _ in range(CALLS):  # they take turns, so that both meet the same machine
                started = time.perf_counter()
                await http.send(request)
                ours.append(time.perf_counter() - started)
                started = time.perf_counter()
                await connection.run(COMMAND)
                bare.append(time.perf_counter() - started)
        before = server.memory()
        on_all, times = {"cluster": "bench", "command": COMMAND}, []
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            answer = await call("POST", "/api/ssh/exec", on_all)
            times.append(time.perf_counter() - started)
            if answer["ok"] != len(ADDRESSES):
                raise RuntimeError(f"only {answer['ok']} answered: {[each['error'] for each in answer['results'] if each['error']][:1]}")
        http.close()
        return {
            "POST /api/ssh/exec-node": _figures(ours), "asyncssh, open connection": _figures(bare), "first_ms": first * 1000,
            "on_50": {"cold": times[0], "warm": statistics.median(times[1:])},
            "kilobytes_each": (server.memory() - before) / (len(ADDRESSES) - 1) / 1e3,
        }  # fmt: skip


def _ansible(ansible: Path, folder: Path, port: int) -> dict[str, float]:
    known = folder / "known_hosts"
    line = (folder / "host.pub").read_text().split()[:2]
    known.write_text(f"[{ADDRESSES[0]}]:{port} {' '.join(line)}\n")
    options = f"-o UserKnownHostsFile={known} -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={folder}/c"
    env = {**os.environ, "ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_ARGS": options, "ANSIBLE_HOME": str(folder / "ansible")}
    words = [str(ansible), "all", "-i", f"{ADDRESSES[0]},", "-m", "command", "-a", COMMAND]
    words += ["-e", f"ansible_port={port} ansible_ssh_private_key_file={folder}/client"]
    took = []
    for _ in range(4):
        started = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, env=env)
        took.append(time.perf_counter() - started)
    return _figures(took[1:])  # the first signs in


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[int]:
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # OpenSSH will not start as root without it
    port = free_port()
    processes = []
    for number in range(SERVERS):
        listen = "".join(f"ListenAddress {address}:{port}\n" for address in ADDRESSES[number::SERVERS])
        config = folder / f"config-{number}"
        config.write_text(
            f"{listen}HostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            f"AuthorizedKeysFile {folder}/authorized\n"
            f"MaxStartups 500:30:1000\nLogLevel ERROR\nSetEnv HOME={folder}\n"  # else the start-up files of this user's shell are measured
        )
        processes.append(subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL))
    try:
        time.sleep(0.5)
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("an SSH server did not start")
        yield port
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


def _figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {"p50_ms": statistics.median(ordered) * 1000, "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000}


if __name__ == "__main__":
    report()
