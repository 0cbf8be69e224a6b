"""A restore is whole or not at all, keeps what was there, and refuses what this version cannot be sure of."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fleet_api.backups import archive, making, places, restoring
from fleet_api.backups.manifest import ARCHIVE, BackupDamaged, BackupFailed, FileEntry, Manifest
from fleet_api.backups.restoring import Plan
from fleet_api.errors import Conflict, NotFound, SchemaTooNew
from fleet_api.migrate import HEAD
from tests.support import homes

NOW = 1_767_225_600.0


def restore(home: Path, backup_id: str, source: Path) -> Plan:
    found = homes.backups(source)
    restoring.stage(home, lambda folder, going: found.unpack(backup_id, folder, going))
    plan = restoring.apply(home)
    assert plan is not None
    return plan


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return homes.made(tmp_path / "home")


def test_into_a_fresh_home(home: Path, tmp_path: Path) -> None:
    made = homes.backups(home).create(NOW, outputs=True, keys=True)
    fresh = tmp_path / "fresh"
    fresh.mkdir(mode=0o700)
    plan = restore(fresh, made.id, home)
    expected = {name: what for name, what in homes.tree(home).items() if ".incoming" not in name}
    assert homes.tree(fresh) == expected
    assert homes.opened(fresh, "lab") == homes.SECRET
    assert not (fresh / "before-restore").exists()
    assert restoring.told(fresh, plan) == f"{made.id} is restored."


def test_without_keys_it_says_what_is_missing(home: Path, tmp_path: Path) -> None:
    made = homes.backups(home).create(NOW)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    plan = restore(fresh, made.id, home)
    assert "put your copy of vault/ into" in restoring.told(fresh, plan)
    (home / "vault").rename(fresh / "vault")
    assert homes.opened(fresh, "lab") == homes.SECRET


def test_what_was_there_is_kept_and_nothing_of_it_is_mixed_in(home: Path) -> None:
    made = homes.backups(home).create(NOW, outputs=True)
    homes.add_credential(home, "later")
    (home / "outputs" / "image_later.png").write_bytes(b"later")
    (home / "outputs" / "image_0.png").write_bytes(b"changed")
    holder = sqlite3.connect(home / "fleet.db")  # so that its log stays
    holder.execute("SELECT count(*) FROM credentials").fetchone()
    before = homes.tree(home)
    plan = restore(home, made.id, home)
    holder.close()
    after = homes.tree(home)
    assert (after["fleet.db"], before["fleet.db"]) == (["lab"], ["lab", "later"])
    assert "outputs/image_later.png" not in after
    assert after["outputs/image_0.png"] == bytes(100_000)
    kept = home / "before-restore" / plan.undo
    assert (kept / "outputs" / "image_later.png").read_bytes() == b"later"
    assert homes.credentials(kept / "fleet.db") == ["lab", "later"]
    assert homes.opened(home, "lab") == homes.SECRET, "the keys of the folder stay"


def test_a_few_of_what_was_there_are_kept(home: Path) -> None:
    made = homes.backups(home).create(NOW)
    undone = [restore(home, made.id, home).undo for _ in range(5)]
    assert len(set(undone)) == 5
    assert len(list((home / "before-restore").iterdir())) == restoring.KEPT


def test_killed_between_any_two_renames_it_is_finished_by_the_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = homes.backups(home).create(NOW, outputs=True, keys=True)
    homes.add_credential(home, "later")
    (home / "outputs" / "image_later.png").write_bytes(b"later")
    real, steps = Path.rename, 0

    class Killed(BaseException):
        pass

    allowed = 0

    def rename(self: Path, target: Any) -> Path:
        nonlocal steps
        if steps == allowed:
            raise Killed
        steps += 1
        return real(self, target)

    found = homes.backups(home)
    restoring.stage(home, lambda folder, going: found.unpack(made.id, folder, going))
    monkeypatch.setattr(Path, "rename", rename)
    cuts = 0
    while True:  # one rename a life
        steps, allowed = 0, 1
        try:
            restoring.apply(home)
            break
        except Killed:
            cuts += 1
    assert cuts >= 8
    monkeypatch.undo()
    assert homes.tree(home)["fleet.db"] == ["lab"]
    assert "outputs/image_later.png" not in homes.tree(home)
    [kept] = (home / "before-restore").iterdir()
    assert homes.credentials(kept / "fleet.db") == ["lab", "later"]
    assert not (home / "restore.json").exists()
    assert not (home / ".restore").exists()


@pytest.mark.parametrize("mounted", ["outputs", "outputs/comfyui", "tls", "before-restore"])
def test_a_mount_point_is_refused_before_anything_is_changed(home: Path, monkeypatch: pytest.MonkeyPatch, mounted: str) -> None:
    (home / "before-restore").mkdir()
    made = homes.backups(home).create(NOW, outputs=True, keys=True)
    before = homes.tree(home)
    (home.parent / "mountinfo").write_text(f"22 27 0:21 / {home / mounted} rw - ext4 /dev/sda rw\n24 27 0:6 / /dev rw - devtmpfs x rw\n")
    monkeypatch.setattr(places, "MOUNTS", home.parent / "mountinfo")
    with pytest.raises(Conflict, match=f"{mounted.split('/')[0]} is a mount point, holds one, or .*unmount it"):
        restore(home, made.id, home)
    assert homes.tree(home) == before
    assert (restoring.waiting(home), (home / ".restore").exists()) == (None, False)
    without = homes.backups(home).create(NOW)
    if mounted != "before-restore":
        restore(home, without.id, home)


def test_mount_points_are_read_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_bytes(b"22 27 0:21 / /my\\040disk rw - ext4 x rw\nodd\n")
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "mountinfo")
    assert places.mount_points() == [Path("/my disk")]
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "nope")
    assert places.mount_points() == []


def test_a_rename_that_fails_for_good_is_put_back_and_can_be_cancelled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = homes.backups(home)
    made = found.create(NOW, outputs=True, keys=True)
    homes.add_credential(home, "later")
    holder = sqlite3.connect(home / "fleet.db")  # so that its log stays
    holder.execute("SELECT count(*) FROM credentials").fetchone()
    before = homes.tree(home)
    real, refused = Path.rename, ""

    def rename(self: Path, target: Any) -> Path:
        if refused in (str(self), str(target)) and Path(target).parent != home / ".restore":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    for refused in (str(home / "fleet.toml"), str(home / "vault"), str(home / ".restore" / "vault")):  # noqa: B007 - read by rename
        for _ in range(2):  # each try ends alike
            if restoring.waiting(home) is None:
                restoring.stage(home, lambda folder, going: found.unpack(made.id, folder, going))
            with pytest.raises(BackupFailed, match=r"Device or resource busy\. Everything is as it was before; .* fleet backup cancel"):
                restoring.at_start(home)
            assert {name: what for name, what in homes.tree(home).items() if not name.startswith((".restore", "restore.json"))} == before
            assert (home / "fleet.db-wal").exists()
            assert not (home / "before-restore").exists()
        assert restoring.cancel(home).backup_id == made.id
        assert homes.tree(home) == before
    monkeypatch.undo()
    holder.close()
    assert restore(home, made.id, home).backup_id == made.id
    assert homes.tree(home)["fleet.db"] == ["lab"]


def test_a_link_that_leads_nowhere_is_replaced_too(home: Path) -> None:
    made = homes.backups(home).create(NOW, outputs=True)
    shutil.rmtree(home / "outputs")
    (home / "outputs").symlink_to("/nowhere/at/all")
    plan = restore(home, made.id, home)
    assert (home / "outputs" / "image_0.png").is_file()
    assert (home / "before-restore" / plan.undo / "outputs").readlink() == Path("/nowhere/at/all")


def test_root_gives_links_away_and_not_what_they_lead_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = homes.backups(home).create(NOW, outputs=True, keys=True)
    (home.parent / "others").write_text("another's")
    (home / "outputs" / "linked").symlink_to(home.parent / "others")
    (home / "outputs" / "nowhere").symlink_to("/nowhere")
    given: dict[str, bool] = {}
    if os.geteuid() == 0:
        os.chown(home, 1234, 1235)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, _user, _group, follow_symlinks=True: given.update({Path(path).name: follow_symlinks}))
    restore(home, made.id, home)
    assert {"linked", "nowhere", "server.key", "fleet.db", "image_0.png"} <= set(given)
    assert set(given.values()) == {False}


def test_a_newer_schema_is_refused_and_nothing_changed(home: Path) -> None:
    connection = sqlite3.connect(home / "fleet.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    made = homes.backups(home).create(NOW)
    connection = sqlite3.connect(home / "fleet.db")
    connection.execute("UPDATE alembic_version SET version_num = ?", (HEAD,))
    connection.commit()
    connection.close()
    before = homes.tree(home)
    with pytest.raises(SchemaTooNew, match=r"has schema 9999, which this version does not know: Fleet Commander .* made it"):
        restore(home, made.id, home)
    assert homes.tree(home) == before
    assert HEAD in restoring.known_revisions()


def test_a_damaged_one_is_refused_and_nothing_changed(home: Path) -> None:
    made = homes.backups(home).create(NOW, outputs=True)
    path = home / "backups" / f"{made.id}{ARCHIVE}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = homes.tree(home)
    with pytest.raises(BackupDamaged):
        restore(home, made.id, home)
    assert homes.tree(home) == before
    with pytest.raises(NotFound):
        restore(home, "fleet-20200101T000000Z-0000", home)
    assert homes.tree(home) == before


def test_a_full_disk_leaves_what_was_there(home: Path) -> None:
    (home / "outputs" / "image_large.png").write_bytes(bytes(3_000_000))
    made = homes.backups(home).create(NOW, outputs=True)
    before = homes.tree(home)
    done = subprocess.run(
        [sys.executable, "-m", "fleet_api", "backup", "restore", made.id, "--home", str(home)], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
    )  # fmt: skip
    assert (done.returncode, "the disk is full. Free some space and try again." in " ".join(done.stderr.split())) == (6, True), done.stderr
    assert homes.tree(home) == before
    assert not (home / ".restore").exists()
    assert restoring.waiting(home) is None


def test_one_that_is_stopped_at_the_last_moment_does_not_wait(home: Path) -> None:
    made = homes.backups(home).create(NOW)
    found = homes.backups(home)

    def going() -> None:
        if (home / "restore.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restoring.stage(home, lambda folder, going: found.unpack(made.id, folder, going), going)
    assert restoring.waiting(home) is None
    assert not (home / ".restore").exists()


def test_nothing_is_exchanged_while_a_backup_is_made(home: Path) -> None:
    made = homes.backups(home).create(NOW)
    found = homes.backups(home)
    restoring.stage(home, lambda folder, going: found.unpack(made.id, folder, going))
    with making.working(home), pytest.raises(Conflict, match="made or restored already"):
        restoring.at_start(home)
    assert restoring.at_start(home) is not None


def test_one_that_waits_is_forgotten_when_asked(home: Path) -> None:
    made = homes.backups(home).create(NOW)
    found = homes.backups(home)
    restoring.stage(home, lambda folder, going: found.unpack(made.id, folder, going))
    assert restoring.waiting(home) is not None
    assert restoring.cancel(home).backup_id == made.id
    with pytest.raises(NotFound, match="No restore waits"):
        restoring.cancel(home)
    assert (restoring.waiting(home), restoring.apply(home)) == (None, None)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../outside", "vault/../../outside", "before-restore/x", "fleet.db/../../x", "api.lock", "backups/x"]
)
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        about = tarfile.TarInfo(name)
        about.size = 4
        tar.addfile(about, io.BytesIO(b"evil"))
    refused(path, tmp_path / "unpacked")


@pytest.mark.parametrize(("name", "link"), [("tls", "/etc"), ("tls/x", "/etc"), ("tls/x", "../.."), ("fleet.db", "fleet.toml")])
def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, link: str) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        about = tarfile.TarInfo(name)
        about.type, about.linkname = tarfile.SYMTYPE, link
        tar.addfile(about)
    refused(path, tmp_path / "unpacked")


def refused(path: Path, folder: Path) -> None:
    folder.mkdir()
    with path.open("rb") as file, pytest.raises(BackupDamaged):
        archive.read(archive.chunks_of(file), None, "evil", lambda: None, folder)
    assert list(folder.iterdir()) == []


def test_a_backup_is_read_by_its_archive_alone(home: Path, tmp_path: Path) -> None:
    made = homes.backups(home).create(NOW)
    with (home / "backups" / f"{made.id}{ARCHIVE}").open("rb") as file:
        found = archive.read(archive.chunks_of(file), None, "it", lambda: None)
    assert found == made
    assert isinstance(found, Manifest)
    assert all(isinstance(each, FileEntry) for each in found.files)
