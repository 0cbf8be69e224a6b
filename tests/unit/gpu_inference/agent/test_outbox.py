from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpu_inference.agent.files import StateDirLocked, lock_dir, write_private
from gpu_inference.agent.identity import Identity, load, save
from gpu_inference.agent.uploads import Outbox
from gpu_inference.protocol import Held

HELD = Held(job_id="../../etc/passwd", attempt=2)


def test_what_is_kept_is_found_by_the_next_run(tmp_path: Path) -> None:
    pending = Outbox(tmp_path).keep(HELD, "incarnation", b"png", {"seed": 1})
    assert pending.file.parent == tmp_path / "pending"
    found = Outbox(tmp_path).waiting()
    assert [one.message for one in found] == [pending.message]
    assert found[0].message.sha256 == hashlib.sha256(b"png").hexdigest()
    assert found[0].held == HELD
    assert oct(pending.file.stat().st_mode & 0o777) == "0o600"
    found[0].discard()
    found[0].discard()
    assert Outbox(tmp_path).waiting() == []
    assert list((tmp_path / "pending").iterdir()) == []


def test_what_a_power_cut_left_half_written_is_removed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    damaged, whole = outbox.keep(HELD, "i", b"one", {}), outbox.keep(Held(job_id="b", attempt=1), "i", b"two", {})
    damaged.file.write_bytes(b"on")
    (tmp_path / "pending" / "c.png.123.part").write_bytes(b"")
    (tmp_path / "pending" / "d.png").write_bytes(b"without its note")
    (tmp_path / "pending" / "e.json").write_text("{")
    assert [one.held for one in Outbox(tmp_path).waiting()] == [whole.held]
    assert sorted(path.name for path in (tmp_path / "pending").iterdir()) == sorted([whole.file.name, whole.note.name])


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_state_folder_has_one_owner(tmp_path: Path) -> None:
    with lock_dir(tmp_path / "state"), pytest.raises(StateDirLocked, match="already works on"):
        lock_dir(tmp_path / "state")
    lock_dir(tmp_path / "state").close()
    assert oct((tmp_path / "state").stat().st_mode & 0o777) == "0o700"


def test_an_identity_is_kept_and_each_start_is_another_incarnation(tmp_path: Path) -> None:
    identity = Identity("node-1", "credential", "digest")
    save(tmp_path, identity)
    again = load(tmp_path)
    assert again is not None
    assert (again.node_id, again.credential, again.token_digest) == ("node-1", "credential", "digest")
    assert again.incarnation != identity.incarnation
    assert "credential'" not in repr(identity)
    assert oct((tmp_path / "identity.json").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"node_id": "x"}'])
def test_an_identity_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    assert load(tmp_path) is None
    (tmp_path / "identity.json").write_text(content)
    assert load(tmp_path) is None
