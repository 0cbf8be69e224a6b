"""``kill -9`` of the control plane in mid-play; and what of secrets can be seen while a play runs."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PASSPHRASE, PASSWORD = "canary-passphrase-51", "canary-password-52"


@dataclass
class Bench:
    manager: Manager
    node: Node
    key: str
    credential: str


@pytest.fixture(scope="module")
def bench(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    [node] = make_lab("plug", 1)
    folder = tmp_path_factory.mktemp("plug")
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", str(path)], check=True)
    node.set_password(PASSWORD)
    node.shell(f"mkdir -p /home/nvidia/.ssh; echo '{path.with_suffix('.pub').read_text()}' > /home/nvidia/.ssh/authorized_keys")
    node.shell("chown -R nvidia: /home/nvidia/.ssh; chmod 600 /home/nvidia/.ssh/authorized_keys")
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="plug-") as runtime,  # short enough for sockets
    ):
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        yield from benches(node, path, folder)


def benches(node: Node, path: Path, folder: Path) -> Iterator[Bench]:
    with managing(folder / "home", gateway(node)) as manager:
        body = {"name": "key", "username": "nvidia", "private_key": path.read_text(), "passphrase": PASSPHRASE, "become_password": PASSWORD}
        with manager.client() as api:
            credential = ok(api.post("/api/vault", json=body))["id"]
        yield Bench(manager, node, path.read_text(), credential)


def leaders(manager: Manager) -> dict[int, str]:
    """Return the operation of each ansible-playbook process of a control plane, workers aside."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        marks = [each.split(b"=", 1)[1].decode() for each in environment if each.startswith(b"FLEET_CONTROLLER_OPERATION=")]
        own = f"FLEET_HOME={manager.home}".encode() in environment
        if own and marks and any(part.endswith(b"ansible-playbook") for part in argv[:3]):
            found[int(entry.name)] = marks[0]
    return found


@dataclass
class Watch:
    """Notes which operations have a play at work at the same moment."""

    manager: Manager
    most: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(0.02):
            self.most = max(self.most, len(set(leaders(self.manager).values())))


def at_step(manager: Manager, operation: str, step: str) -> None:
    deadline = time.monotonic() + 120
    with manager.client() as api:
        while ok(api.get(f"/api/operations/{operation}"))["step"] != step:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_kill_9_in_mid_play(bench: Bench) -> None:
    watch = Watch(bench.manager)
    threading.Thread(target=watch.run, daemon=True).start()
    operation = bench.manager.join(bench.node, bench.credential)
    at_step(bench.manager, operation, "node_baseline")
    assert set(leaders(bench.manager).values()) == {operation}
    bench.manager.stop(signal.SIGKILL)
    bench.manager.start()
    row = bench.manager.ended(operation)
    assert row["state"] == "lost"
    assert "try again with a retry" in row["reason"]
    assert operation not in leaders(bench.manager).values(), "its play ended before the new control plane was there"
    with bench.manager.client() as api:
        again = ok(api.post(f"/api/operations/{operation}/retry"))["id"]
    bench.manager.succeeded(again)
    watch.stop.set()
    assert watch.most == 1
    assert bench.manager.nodes()[bench.node.name]["status"] == "online"


def test_no_secret_can_be_seen_while_a_play_runs(bench: Bench) -> None:
    body = [line for line in bench.key.splitlines() if not line.startswith("-----")]
    secrets = {PASSPHRASE, PASSWORD, body[0], body[1]}
    there_before = folders_of_runs()
    operation = bench.manager.join(bench.node, bench.credential)
    seen: set[str] = set()
    looked, folders = 0, set[Path]()
    deadline = time.monotonic() + 300
    while bench.manager.ended_yet(operation) is None:
        assert time.monotonic() < deadline
        folders |= folders_of_runs() - there_before
        seen |= shown_by_processes(secrets) | shown_by_files(secrets, folders)
        looked += bool(leaders(bench.manager))
        time.sleep(0.1)
    assert looked > 10, "the play was looked at while it ran"
    assert folders, "and so was its folder"
    assert seen == set()
    row = bench.manager.succeeded(operation)
    told = str(row) + str(bench.manager.events(operation)) + str(bench.manager.nodes())
    with bench.manager.client() as api:
        told += api.get("/api/vault").text + api.get("/api/audit").text + api.get("/api/install-queue/queue").text
    assert [secret for secret in secrets if secret in told] == []
    assert shown_by_files(secrets, [bench.manager.home, bench.manager.home.with_suffix(".log")]) == set()
    on_node = bench.node.shell(f"journalctl --no-pager -o cat | grep -cF -e {PASSPHRASE} -e {PASSWORD} -e '{body[0]}'; true")
    assert on_node.strip() == "0"
    out = bench.manager.fleet("operations", operation, "--follow", "--json")
    assert [secret for secret in secrets if secret in out] == []


def folders_of_runs() -> set[Path]:
    """Return where this bench's runs keep what Ansible wants in files."""
    return set(Path(os.environ["XDG_RUNTIME_DIR"]).glob("fleet-*"))


def shown_by_processes(secrets: set[str]) -> set[str]:
    """Return which processes show a secret in their arguments or environment; this test's own aside."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                text = (entry / name).read_bytes().decode(errors="replace")
            except OSError:
                continue
            found |= {f"{name} of {text[:80]}" for secret in secrets if secret in text}
    return found


def shown_by_files(secrets: set[str], roots: Iterable[Path]) -> set[str]:
    """Return which files hold a secret."""
    found = set()
    for root in roots:
        inside = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]  # what goes meanwhile is no error to it
        for path in [root, *inside]:
            try:
                text = path.read_bytes().decode(errors="replace") if path.is_file() and not path.is_symlink() else ""
            except OSError:
                continue
            found |= {f"{path} holds {secret[:12]}" for secret in secrets if secret in text}
    return found
