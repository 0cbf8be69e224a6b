"""Folders of earlier versions, copies without links, and stops at any moment."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_api.access import certificate_files as files
from fleet_api.access import certificates
from fleet_api.access.certificate_files import OWN_CA, OWN_CA_KEY, place
from fleet_api.errors import Unavailable
from tests.support.tls import handshake

NAMES = ["127.0.0.1", "localhost"]
STEPS = 60  # more than a change takes


class Stopped(BaseException):
    """The process ended here."""


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / certificates.CA_FILE))


def former_layout(folder: Path, now: float) -> certificates.Certificate:
    """Make a folder as the first version did: plain files, and the authority's key beside what clients trust."""
    made = folder.with_name("made")
    found = certificates.ensure(made, NAMES, now)
    folder.mkdir(mode=0o700)
    for name in (certificates.CERTIFICATE, certificates.KEY, certificates.CA_FILE):
        (folder / name).write_bytes((made / name).read_bytes())
    (folder / "ca.key").write_bytes((made / OWN_CA_KEY).read_bytes())
    shutil.rmtree(made)
    return found


def test_a_folder_of_the_first_version_goes_on(tmp_path: Path) -> None:
    folder, now = tmp_path / "tls", time.time()
    before = former_layout(folder, now)
    assert certificates.show(folder) == before
    assert certificates.ensure(folder, NAMES, now) == before
    assert not (folder / "ca.key").exists()
    assert (folder / OWN_CA_KEY).stat().st_mode & 0o777 == 0o600
    assert (folder / certificates.KEY).stat().st_mode & 0o777 == 0o600
    certificates.issue(folder, NAMES, now)
    after = certificates.show(folder)
    assert after is not None
    assert after.fingerprint != before.fingerprint
    assert after.ca_hash == before.ca_hash


def test_one_that_was_brought_to_the_first_version_stays(tmp_path: Path) -> None:
    folder, now = tmp_path / "tls", time.time()
    before = former_layout(folder, now)
    for name in ("ca.key", "ca.crt"):
        (folder / name).unlink()
    (folder / "brought").touch()
    after = certificates.ensure(folder, ["another.invalid"], now)
    assert (after.fingerprint, after.brought, after.ca_hash) == (before.fingerprint, True, "")


def test_a_copy_without_links_goes_on(tmp_path: Path) -> None:
    folder, now = tmp_path / "tls", time.time()
    before = certificates.ensure(folder, NAMES, now)
    shutil.copytree(folder, tmp_path / "copy")  # follows links
    assert certificates.ensure(tmp_path / "copy", NAMES, now) == before
    certificates.issue(tmp_path / "copy", NAMES, now)
    assert handshake(trusting(tmp_path / "copy"), certificates.context(tmp_path / "copy"), "localhost")


@pytest.mark.parametrize("what", ["bring", "issue", "migrate"])
def test_a_stop_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, other, start = time.time(), tmp_path / "other", tmp_path / "start"
    brought = certificates.ensure(other, ["fleet.invalid"], now)
    old = former_layout(start, now) if what == "migrate" else certificates.ensure(start, NAMES, now)
    steps = {"left": 0}

    def stopping(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            steps["left"] -= 1
            if steps["left"] < 0:
                raise Stopped
            return real(*arguments, **named)

        return step

    seen = set()
    for stop in range(STEPS):
        folder = tmp_path / f"at-{stop}"
        shutil.copytree(start, folder, symlinks=True)
        steps["left"] = stop
        with monkeypatch.context() as patch:
            for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "symlink_to"), (Path, "mkdir"), (files.os, "fsync")):
                patch.setattr(owner, name, stopping(getattr(owner, name)))
            try:
                match what:
                    case "bring":
                        paths = (other / certificates.CERTIFICATE, other / certificates.KEY, other / certificates.CA_FILE)
                        certificates.bring(folder, *paths, now)
                    case "issue":
                        certificates.issue(folder, NAMES, now)
                    case "migrate":
                        certificates.ensure(folder, NAMES, now)
                ended = True
            except Stopped:
                ended = False
        assert handshake(trusting(folder), certificates.context(folder), "fleet.invalid" if served_brought(folder) else "localhost")
        found = certificates.ensure(folder, NAMES, now)  # what the server does five seconds later
        seen.add(found.fingerprint == old.fingerprint)
        assert found.ca_hash in (old.ca_hash, brought.ca_hash)
        assert found.brought == (found.fingerprint == brought.fingerprint)
        certificates.issue(folder, NAMES, now)
        back = certificates.show(folder)
        assert back is not None
        assert back.ca_hash == old.ca_hash, "the own authority is never lost"
        if ended:
            break
    else:
        raise AssertionError("more steps than were tried")
    assert seen == ({True} if what == "migrate" else {True, False})


def served_brought(folder: Path) -> bool:
    found = certificates.show(folder)
    assert found is not None
    return found.brought


def test_what_is_served_is_forgotten_when_another_is(tmp_path: Path) -> None:
    for _ in range(3):
        certificates.issue(tmp_path, NAMES, time.time())
    assert [path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()] == [place(tmp_path)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink()) == ["lock", OWN_CA, OWN_CA_KEY]


def test_two_programs_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with files.changing(tmp_path), pytest.raises(Unavailable, match="Another program is changing"):
        certificates.issue(tmp_path, NAMES, time.time())
    certificates.issue(tmp_path, NAMES, time.time())
