"""A backup holds one commit of the database and what was asked for, every byte of it proven; nothing else is ever listed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import structlog

from fleet_api.adapters.object_store import s3
from fleet_api.backups import targets, unfinished
from fleet_api.backups.making import Backups
from fleet_api.backups.manifest import ARCHIVE, NOTE, BackupDamaged, BackupFailed
from fleet_api.backups.targets import FolderTarget, StoreTarget
from fleet_api.errors import Conflict, InvalidValue, NotFound
from fleet_api.settings import Settings
from fleet_api.storage.buckets import BUCKETS
from tests.support import homes
from tests.support.s3 import S3Server

NOW = 1_767_225_600.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return homes.made(tmp_path / "home")


@pytest.fixture(params=["folder", "s3"])
def backups(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[Backups]:
    """At a folder, and at an S3 server with real signatures."""
    if request.param == "folder":
        yield homes.backups(home, tmp_path / "target", keep=3)
        return
    with S3Server(tmp_path / "s3") as server:
        yield Backups(home, StoreTarget(server.store(), "fleet-backups", "site/one"), 3)


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_made_listed_verified(backups: Backups) -> None:
    assert backups.all() == []
    made = backups.create(NOW)
    assert made.id.startswith("fleet-20260101T000000Z-")
    assert [each.path for each in made.files] == ["fleet.db", "fleet.toml", "storage/store.json"]
    assert backups.all() == [made.noted()]
    assert backups.verify(made.id) == made
    with pytest.raises(NotFound, match="There is no backup fleet-20260101T000000Z-ffff in"):
        backups.verify("fleet-20260101T000000Z-ffff")
    with pytest.raises(InvalidValue):
        backups.verify("../../etc/passwd")


def test_the_oldest_go_once_a_newer_one_is_verified(backups: Backups) -> None:
    made = [backups.create(NOW + number).id for number in range(5)]
    assert [each.id for each in backups.all()] == made[:1:-1]
    assert len(backups.target.names()) == 6


def test_outputs_only_when_asked_for(backups: Backups) -> None:
    made = backups.create(NOW, outputs=True)
    assert [each.path for each in made.files if each.path.startswith("outputs")] == [f"outputs/image_{number}.png" for number in range(3)]
    assert made.outputs


def test_what_opens_the_vault_only_by_name_and_to_a_folder(home: Path, tmp_path: Path) -> None:
    made = homes.backups(home).create(NOW)
    text = (home / "backups" / f"{made.id}{ARCHIVE}").read_bytes()
    assert homes.SECRET.encode() not in text
    assert not any(name.startswith(("vault", "tls", "registry")) for name in names(home / "backups" / f"{made.id}{ARCHIVE}"))
    keys = homes.backups(home).create(NOW, keys=True)
    assert any(name.startswith("vault/keys/") for name in names(home / "backups" / f"{keys.id}{ARCHIVE}"))
    assert {path.stat().st_mode & 0o777 for path in (home / "backups").iterdir()} == {0o600}
    with S3Server(tmp_path / "s3") as server, pytest.raises(InvalidValue, match="a folder of this machine alone"):
        Backups(home, StoreTarget(server.store(), "fleet-backups", ""), 3).create(NOW, keys=True)


def test_a_linked_file_is_stored_and_a_linked_folder_left_out(home: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (home / "fleet.toml").rename(away / "fleet.toml")
    (home / "fleet.toml").symlink_to("../away/fleet.toml")
    (away / "large.png").write_bytes(b"a picture")
    outputs = home / "outputs"
    for name, to in (("linked.png", away / "large.png"), ("same.png", "image_0.png"), ("comfyui", away), ("broken", away / "nope"),
                     ("loop", outputs / "loop"), ("key", home / "vault" / "current")):  # fmt: skip
        (outputs / name).symlink_to(to)
    found = homes.backups(home)
    made = found.create(NOW, outputs=True)
    assert found.verify(made.id).left_out == made.left_out
    assert [each.split(":")[0] for each in made.left_out] == ["outputs/broken", "outputs/comfyui", "outputs/key", "outputs/loop"]
    assert f"outputs/comfyui: it is a link to {away}, which is no file that can be read" in made.left_out
    assert "outputs/key: it is a link to a key" in made.left_out
    (tmp_path / "unpacked").mkdir()
    found.unpack(made.id, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "fleet.toml").read_text() == "keep_jobs = 5\n"
    assert not (tmp_path / "unpacked" / "fleet.toml").is_symlink()
    assert (tmp_path / "unpacked" / "outputs" / "linked.png").read_bytes() == b"a picture"
    assert (tmp_path / "unpacked" / "outputs" / "same.png").readlink() == Path("image_0.png")
    assert "outputs/key" in [each.path for each in found.create(NOW + 1, outputs=True, keys=True).files]


def test_a_name_that_is_no_text_is_left_out(home: Path) -> None:
    (home / "outputs" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (home / "outputs" / "link").symlink_to(os.fsdecode(b"caf\xe9.png"))
    found = homes.backups(home)
    made = found.create(NOW, outputs=True)
    assert found.all() == [made.noted()]
    assert made.left_out == ["outputs/caf\\xe9.png: its name is not UTF-8", "outputs/link: its name is not UTF-8"]
    for number in range(150):
        (home / "outputs" / os.fsdecode(b"\xff%d.png" % number)).write_bytes(b"x")
    assert found.create(NOW + 1, outputs=True).left_out[-1] == "and 52 more"


@pytest.mark.parametrize("at", [0.02, 0.3, 0.5, 0.8, 0.99])
def test_one_byte_changed_anywhere_is_seen(home: Path, at: float) -> None:
    found = homes.backups(home)
    made = found.create(NOW, outputs=True)
    path = home / "backups" / f"{made.id}{ARCHIVE}"
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x20
    path.write_bytes(data)
    with pytest.raises(BackupDamaged, match=r"is damaged: .*use another one"):
        found.verify(made.id)


def test_a_cut_off_archive_and_a_changed_note_are_seen(home: Path) -> None:
    found = homes.backups(home)
    made = found.create(NOW)
    path, note = home / "backups" / f"{made.id}{ARCHIVE}", home / "backups" / f"{made.id}{NOTE}"
    whole, text = path.read_bytes(), note.read_text()
    path.write_bytes(whole[:-100])
    with pytest.raises(BackupDamaged):
        found.verify(made.id)
    path.write_bytes(whole + b"more")
    with pytest.raises(BackupDamaged):
        found.verify(made.id)
    path.write_bytes(whole)
    note.write_text(text.replace('"revision":"', '"revision":"9'))
    with pytest.raises(BackupDamaged, match="its manifest is another one"):
        found.verify(made.id)
    note.write_text("{}")
    with pytest.raises(BackupDamaged, match="its note cannot be read"):
        found.verify(made.id)


def test_a_note_does_not_grow_with_the_files(home: Path) -> None:
    found = homes.backups(home)
    few = found.create(NOW, outputs=True)
    for number in range(500):
        (home / "outputs" / f"image_small{number}.png").write_bytes(b"x")
    many = found.create(NOW + 1, outputs=True)
    sizes = [(home / "backups" / f"{each.id}{NOTE}").stat().st_size for each in (few, many)]
    assert sizes[1] - sizes[0] < 20
    assert [each.count for each in found.all()] == [few.count + 500, few.count]
    assert not any(hasattr(each, "files") for each in found.all())
    assert found.verify(many.id) == many


def test_a_note_that_names_the_files_is_read_too(home: Path) -> None:
    found = homes.backups(home)
    made = found.create(NOW, outputs=True)
    (home / "backups" / f"{made.id}{NOTE}").write_text(made.model_dump_json(exclude={"count", "left_out"}))
    assert found.all() == [made.noted()]
    assert found.verify(made.id) == made


def test_what_a_killed_run_left_is_removed_by_the_next(backups: Backups, tmp_path: Path) -> None:
    made = backups.create(NOW)
    others = ["fleet-20260102T000000Z-0000.tar.gz.txt", "mine.tar.gz", "fleet-20270102T000000Z-ffff.tar.gz"]
    unfinished.begin(backups.home, "fleet-20260102T000000Z-0000")
    unfinished.begin(backups.home, made.id)
    for name in ["fleet-20260102T000000Z-0000.tar.gz", *others]:
        (tmp_path / "put").write_text("half")
        backups.target.put(tmp_path / "put", name, hashlib.sha256(b"half").hexdigest())
    assert backups.all() == [made.noted()]
    more = backups.create(NOW + 1)
    assert set(backups.target.names()) == {made.id + ARCHIVE, made.id + NOTE, more.id + ARCHIVE, more.id + NOTE, *others}, (
        "an archive that this data folder did not begin, and one that has its note, stay"
    )
    assert unfinished.read(backups.home) == set()


def test_an_upload_in_parts_ends_when_it_is_stopped(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sent = s3.S3Store._ask, 0

    def slowly(self: s3.S3Store, call: Any, *args: Any, **more: Any) -> Any:
        nonlocal sent
        if "PartNumber" in more:
            sent += 1
            time.sleep(0.1)
        return real(self, call, *args, **more)

    def going() -> None:
        if sent >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(s3.S3Store, "_ask", slowly)
    monkeypatch.setattr(s3, "MULTIPART_BYTES", 1)
    monkeypatch.setattr(s3, "PART_BYTES", 5_000_000)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(500_000_000)
    with S3Server(tmp_path / "s3") as server:
        target = StoreTarget(server.store(), "fleet-backups", "")
        target.workspace(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            target.put(tmp_path / "large", "large", "0" * 64, going)
        deadline = time.monotonic() + 10
        while any(each.name == "backup" for each in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert sent < 10
        assert target.names() == []


def test_stopped_at_the_last_moment_nothing_is_listed(backups: Backups, monkeypatch: pytest.MonkeyPatch) -> None:
    real, noted = targets.put_note, False

    def put_note(*args: Any) -> None:
        nonlocal noted
        real(*args)
        noted = True

    def going() -> None:
        if noted:
            raise KeyboardInterrupt

    monkeypatch.setattr(targets, "put_note", put_note)
    with pytest.raises(KeyboardInterrupt):
        backups.create(NOW, going=going)
    assert backups.target.names() == []


def test_a_note_that_cannot_be_read_hinders_no_other(backups: Backups, tmp_path: Path) -> None:
    made = [backups.create(NOW + number) for number in range(2)]
    for number, text in enumerate(("{}", "", "no JSON", made[0].model_dump_json(), "[1]")):
        other = f"fleet-2026010{number + 2}T000000Z-0000"
        for ending, content in ((ARCHIVE, "x"), (NOTE, text)):
            (tmp_path / "put").write_text(content)
            backups.target.put(tmp_path / "put", other + ending, hashlib.sha256(content.encode()).hexdigest())
    with structlog.testing.capture_logs() as logs:
        assert backups.all() == [each.noted() for each in made[::-1]]
    assert [(each["event"], each["log_level"]) for each in logs] == [("backup_not_listed", "warning")] * 5
    more = [backups.create(NOW + number) for number in range(2, 5)]
    assert backups.all() == [each.noted() for each in more[::-1]]
    assert "fleet-20260102T000000Z-0000" + ARCHIVE in backups.target.names(), "nobody knows what it is, so it stays"


def test_a_note_that_may_not_be_read_hinders_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = homes.backups(home)
    made = [found.create(NOW + number) for number in range(2)]
    real = FolderTarget.open

    def refused(self: FolderTarget, name: str) -> AbstractContextManager[Iterator[bytes]]:
        if name == made[1].id + NOTE:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(self, name)

    monkeypatch.setattr(FolderTarget, "open", refused)
    assert found.all() == [made[0].noted()]


def test_the_database_is_one_commit_of_it_while_others_write(home: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    first = sqlite3.connect(home / "fleet.db")
    first.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
    first.close()

    def write() -> None:
        connection = sqlite3.connect(home / "fleet.db", timeout=10, isolation_level=None)
        number = 0
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO pairs VALUES (?, 0)", (number,))
            connection.execute("UPDATE pairs SET b = (SELECT count(*) FROM pairs)")
            connection.execute("COMMIT")
            number += 1
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = homes.backups(home)
        for number in range(5):
            folder = tmp_path / str(number)
            folder.mkdir()
            found.unpack(found.create(NOW + number).id, folder)
            connection = sqlite3.connect(folder / "fleet.db")
            rows, least, most = connection.execute("SELECT count(*), min(b), max(b) FROM pairs").fetchone()
            connection.close()
            assert rows == 0 or (rows, least) == (most, most)
    finally:
        stop.set()
        thread.join()


def test_two_at_once(home: Path) -> None:
    found = homes.backups(home)
    with (home / "backup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="made or restored already"):
            found.create(NOW)
    found.create(NOW)


def test_a_full_disk_leaves_nothing_and_what_was_there(home: Path) -> None:
    found = homes.backups(home, keep=1)
    before = found.create(NOW)
    for number in range(30):
        (home / "outputs" / f"image_more{number}.png").write_bytes(os.urandom(100_000))
    program = (
        "import sys, signal; from pathlib import Path; from tests.support import homes\n"
        "homes.backups(Path(sys.argv[1]), keep=1).create(1767225700.0, outputs=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(home)], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
    )  # fmt: skip
    assert "BackupFailed" in done.stderr, done.stderr[-1500:]
    assert "the disk is full. Free some space and try again." in done.stderr
    assert found.all() == [before.noted()]
    assert sorted(path.name for path in (home / "backups").iterdir()) == [f"{before.id}{NOTE}", f"{before.id}{ARCHIVE}"]
    assert not (home / ".backup").exists()


def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackupFailed, match="is this the data folder"):
        homes.backups(tmp_path / "empty").create(NOW)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackupFailed, match="could not be written to"):
        homes.backups(home, tmp_path / "file" / "below").create(NOW)
    (home / "fleet.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(BackupFailed, match=r"cannot be copied|is damaged"):
        homes.backups(home).create(NOW)
    for text in ("backups", "s3://", "http://x"):
        with pytest.raises(InvalidValue):
            targets.check_target(text)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_the_fleets_own_buckets_are_no_target(bucket: str) -> None:
    for text in (f"s3://{bucket}", f"s3://{bucket}/", f"s3://{bucket}/backups"):
        with pytest.raises(InvalidValue, match=f"Backups cannot be kept in {bucket}: the fleet's own buckets"):
            targets.check_target(text)
        with pytest.raises(ValueError, match="must be a bucket for backups alone"):
            Settings(backup_target=text)
    assert targets.check_target(f"s3://{bucket}-backups/x") == f"s3://{bucket}-backups/x"
    assert Settings(backup_target=f"/srv/{bucket}").backup_target == f"/srv/{bucket}"
