"""kill -9 in the midst of a backup, and of a restore: no half of either is ever taken for a whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support import homes
from tests.support.product import FLEET

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

BIG = 12


def started(home: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*FLEET, *words, "--home", str(home)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it after a while; say whether it was still at work."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = homes.made(tmp_path / "home")
    for number in range(BIG):
        (home / "outputs" / f"image_big{number}.png").write_bytes(os.urandom(4_000_000))
    return home


def test_a_backup_that_is_killed_is_none(home: Path) -> None:
    found, before, cut = homes.backups(home), homes.tree(home), 0
    whole = found.create(1_767_225_600.0)
    began = time.monotonic()
    assert subprocess.run([*FLEET, "backup", "create", "--outputs", "--home", str(home)], capture_output=True).returncode == 0
    took = time.monotonic() - began
    listed = {each.id for each in found.all()}
    for number in range(12):
        cut += killed_after(started(home, "backup", "create", "--outputs"), took * (0.25 + 0.75 * number / 12))
        for each in found.all():
            if each.id not in listed:
                found.verify(each.id)
                listed.add(each.id)
    assert cut >= 6
    assert whole.id in listed
    found.create(1_767_225_700.0)
    names = sorted(path.name for path in (home / "backups").iterdir())
    assert not [name for name in names if name.startswith(".")], "parts of those that were killed are gone"
    assert not (home / ".backup").exists()
    after = {name: what for name, what in homes.tree(home).items() if not name.startswith(".")}
    assert after == before


def test_a_restore_that_is_killed_is_whole_or_not_begun(home: Path) -> None:
    found = homes.backups(home)
    made = found.create(1_767_225_600.0, outputs=True, keys=True)
    old = {name: what for name, what in homes.tree(home).items() if ".incoming" not in name}
    dice = random.Random(7)
    began = time.monotonic()
    assert subprocess.run([*FLEET, "backup", "restore", made.id, "--home", str(home)], capture_output=True).returncode == 0
    took, cut = time.monotonic() - began, 0
    for number in range(10):
        homes.add_credential(home, f"later-{number}")
        (home / "outputs" / "image_later.png").write_bytes(b"later")
        new = homes.tree(home)
        cut += killed_after(started(home, "backup", "restore", made.id), took * (0.3 + 0.7 * dice.random()))
        if (home / "restore.json").exists():  # what a start of the control plane does first
            program = "import sys; from pathlib import Path; from fleet_api.backups import restoring; restoring.at_start(Path(sys.argv[1]))"
            subprocess.run([sys.executable, "-c", program, str(home)], check=True)
        now = {name: what for name, what in homes.tree(home).items() if not name.startswith((".restore", "outputs/.incoming"))}
        before = {name: what for name, what in new.items() if not name.startswith("outputs/.incoming")}
        assert now in (before, old), (sorted(set(now) ^ set(old)), now["fleet.db"])
        subprocess.run([*FLEET, "backup", "restore", made.id, "--home", str(home)], check=True, capture_output=True)
    assert cut >= 4
    assert homes.opened(home, "lab") == homes.SECRET


def test_the_next_start_restores_with_the_settings_of_then(home: Path) -> None:
    (home / "fleet.toml").write_text("port = 0\nkeep_jobs = 7\nlog_level = 'error'\n")
    made = homes.backups(home).create(1_767_225_600.0)
    (home / "fleet.toml").write_text("this is no TOML\n")
    connection = sqlite3.connect(home / "fleet.db")
    connection.execute("DELETE FROM credentials")
    connection.commit()
    connection.close()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    (home / "fleet.toml").write_text("port = 0\n")
    from fleet_api.backups import restoring

    restoring.stage(home, lambda folder, going: homes.backups(home).unpack(made.id, folder, going))
    server = subprocess.Popen([*FLEET, "serve", "--home", str(home)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not (home / "url").exists() or not _answers((home / "url").read_text().strip()):
            assert time.monotonic() < deadline
            assert server.poll() is None, server.stdout.read() if server.stdout else ""
            time.sleep(0.1)
        names = [each["name"] for each in httpx.get(f"{(home / 'url').read_text().strip()}/api/vault", trust_env=False).json()]
        assert names == ["lab"]
    finally:
        server.send_signal(signal.SIGINT)
        output = server.communicate(timeout=30)[0].decode()
    assert f"{made.id} is restored." in output
    assert "keep_jobs = 7" in (home / "fleet.toml").read_text()
    [kept] = (home / "before-restore").glob("*/fleet.toml")
    assert kept.read_text() == "port = 0\n"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False, timeout=2).is_success
    except httpx.TransportError:
        return False
