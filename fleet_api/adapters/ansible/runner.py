"""Runs plays: each in a child process of its own, under a folder that is gone when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from fleet_api.adapters.ansible.explain import sentence
from fleet_api.adapters.ansible.inventory_socket import serving
from fleet_api.adapters.ansible.play import Outcome, Play, Told
from fleet_api.kit.descendants import descendants, end, marked
from fleet_api.kit.process import die_with_parent

log = structlog.get_logger()

STOP_SECONDS = 8.0
"""A cancelled child has ended all that is its own by then: twice its grace, and the start of an interpreter."""

UNKNOWN = "unknown"
"""A host of which Ansible's summary has not said how it went: nothing may be concluded of it."""

LONGEST_LINE = 8 * 1024 * 1024
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "USER", "SSL_CERT_FILE", "PYTHONPATH")
MARK = "FLEET_CONTROLLER_OPERATION"  # not FLEET_OPERATION, which marks what runs on nodes: a manager may be a node too
SOCKET = "FLEET_OPERATION_SOCKET"


class AnsiblePlays:
    """The real thing. ``root`` is where the playbooks are, ``locks`` a folder of lock files in the data folder."""

    def __init__(self, root: Path, locks: Path, settings_environment: dict[str, str] | None = None) -> None:
        self._root = root
        self._locks = locks
        self._environment = settings_environment or {}

    async def run(self, operation_id: str, play: Play, checking: bool, told: Callable[[Told], None]) -> Outcome:
        """See :class:`Plays`."""
        outcome = Outcome(code=1, hosts=dict.fromkeys(play.hosts, UNKNOWN))
        child: asyncio.subprocess.Process | None = None
        async with _folder() as folder:
            socket = folder / "inventory.sock"
            (folder / "known_hosts").write_text(play.known_hosts)
            if play.known_hosts:
                play = replace(play, variables={**play.variables, "ansible_ssh_common_args": _ssh_arguments(folder)})
            async with serving(socket, play, lambda: child.pid if child else None):
                order = self._order(operation_id, play, checking, folder)
                child = await self._spawn(operation_id)
                try:
                    assert child.stdin is not None
                    child.stdin.write(json.dumps(order).encode() + b"\n")
                    await _read(child, outcome, told)
                finally:
                    await asyncio.shield(_stop(child))
                    (self._locks / f"{operation_id}.lock").unlink(missing_ok=True)
        return outcome

    async def end_survivors(self) -> list[str]:
        """See :class:`Plays`. A lock file that somebody still holds names a child that lives."""
        return await asyncio.to_thread(self._end_survivors)

    def _end_survivors(self) -> list[str]:
        ended = []
        for path in sorted(self._locks.glob("*.lock")) if self._locks.is_dir() else []:
            operation_id = path.stem
            for _ in range(50):
                left = _holder(path) | marked(MARK, operation_id)
                if not left:
                    break
                end({each for pid in left for each in descendants(pid)} | left)
                time.sleep(0.05)
            else:
                log.error("survivors_left", operation=operation_id, pids=sorted(left))
            path.unlink(missing_ok=True)
            ended.append(operation_id)
        return ended

    def _order(self, operation_id: str, play: Play, checking: bool, folder: Path) -> dict[str, Any]:
        environment = {
            **self._environment,
            MARK: operation_id,
            SOCKET: str(folder / "inventory.sock"),
            "ANSIBLE_CONFIG": str(self._root / "ansible.cfg"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_SSH_AGENT": "auto",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_NOCOWS": "True",
            "FLEET_KNOWN_HOSTS": str(folder / "known_hosts"),
        }
        return {
            "folder": str(folder),
            "lock": str(self._locks / f"{operation_id}.lock"),
            "playbook": str(self._root / "playbooks" / f"{play.playbook}.yml"),
            "inventory": str(self._root / "inventory" / "fleet.yml"),
            "check": checking,
            "forks": play.forks or min(50, max(5, len(play.hosts)), 4 * (os.cpu_count() or 1) + 2),
            "environment": environment,
        }

    async def _spawn(self, operation_id: str) -> asyncio.subprocess.Process:
        self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fleet_api.adapters.ansible.child",
            env={**environment, MARK: operation_id, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE, start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip


def _ssh_arguments(folder: Path) -> str:
    return (
        f"-o UserKnownHostsFile={folder}/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes "
        "-o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=3"
    )


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """Make a folder for one run, with a path short enough for sockets, and take it away again."""
    base = os.environ.get("XDG_RUNTIME_DIR") or None
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=base if base and os.access(base, os.W_OK) else None))
    try:
        yield folder
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


async def _read(child: asyncio.subprocess.Process, outcome: Outcome, told: Callable[[Told], None]) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    errors = asyncio.create_task(child.stderr.read())
    try:
        exited = False
        while True:
            try:
                line = await child.stdout.readline()
                word: Told | None = json.loads(line) if line else None
            except ValueError:  # longer than a line may be, or the rest of such a one
                told({"type": "note", "text": "An event was left out: it was too large."})
                continue
            if word is None:
                break
            if word["type"] == "exit":
                outcome.code, exited = word["code"], True
                continue
            _note(outcome, word)
            told(word)
        await child.wait()
        if not exited:
            outcome.error = (await errors).decode(errors="replace").strip()[-2000:] or "The process that ran the play ended too early."
    finally:
        errors.cancel()
        await asyncio.gather(errors, return_exceptions=True)


def _note(outcome: Outcome, word: Told) -> None:
    node = word.get("node_id")
    if word["type"] in ("failed", "unreachable") and node in outcome.hosts:
        outcome.hosts[node] = word["type"]
        outcome.reasons.setdefault(node, sentence(word["type"], word["text"], word.get("task") or ""))
    elif word["type"] == "stats":
        outcome.stats = word["data"]["hosts"]
        for host, counts in outcome.stats.items():
            if host in outcome.hosts:
                outcome.hosts[host] = "unreachable" if counts["dark"] else "failed" if counts["failures"] else "ok"
    elif word["type"] == "line" and word["text"].startswith(("ERROR", "[ERROR]", "fatal")):
        outcome.error = outcome.error or word["text"]
    facts = word.get("data", {}).get("fleet_facts")
    if node in outcome.hosts and facts is not None:
        outcome.results[node] = {"fleet_facts": facts}


async def _stop(child: asyncio.subprocess.Process) -> None:
    """See the child out: it ends what it started. One that does not is killed, with all below it."""
    if child.returncode is not None:
        return
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        child.stdin.write(b"cancel\n")
        child.stdin.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await _drain(child)
    except TimeoutError:
        end(descendants(child.pid) | {child.pid})
        await child.wait()


async def _drain(child: asyncio.subprocess.Process) -> None:
    assert child.stdout is not None
    while await child.stdout.read(65536):
        pass
    await child.wait()


def _holder(path: Path) -> set[int]:
    """Return the process that holds the lock file, or nothing if it is free."""
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return {int(file.read().strip() or 0)} - {0}
    except (OSError, ValueError):
        pass
    return set()
