from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.fleet.commander.plugins.module_utils.lock import Held, Lock


def lock(path: Path, boot_id: str = "boot-1", max_age: int = 7200) -> Lock:
    return Lock(str(path / "run" / "lock.json"), boot_id, max_age)


def test_another_is_refused_by_name_and_the_same_is_let_in(tmp_path: Path) -> None:
    assert lock(tmp_path).take("operation 1") is None
    with pytest.raises(Held, match="operation 1 has held it since 20"):
        lock(tmp_path).take("alice@manager")
    assert lock(tmp_path).take("operation 1") is None
    assert lock(tmp_path).free("alice@manager") is False
    assert lock(tmp_path).free("operation 1") is True
    assert lock(tmp_path).take("alice@manager") is None


def test_a_lock_of_another_boot_is_taken_over_with_a_warning(tmp_path: Path) -> None:
    lock(tmp_path).take("operation 1")
    warning = lock(tmp_path, boot_id="boot-2").take("alice@manager")
    assert warning is not None
    assert "was taken over: the node was started again since" in warning


def test_an_old_lock_is_taken_over_with_a_warning(tmp_path: Path) -> None:
    lock(tmp_path).take("operation 1")
    path = tmp_path / "run" / "lock.json"
    path.write_text(json.dumps({"owner": "operation 1", "boot_id": "boot-1", "since": "2020-01-01T00:00:00Z"}))
    assert "longer than 7200 s ago" in (lock(tmp_path).take("alice@manager") or "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "x"}', "\x00"])
def test_a_lock_that_cannot_be_understood_holds_until_it_is_old(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run" / "lock.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(Held, match="somebody has held it since"):
        lock(tmp_path).take("alice@manager")
    os.utime(path, (time.time() - 10_000,) * 2)
    assert lock(tmp_path).take("alice@manager") is not None


def test_checking_takes_nothing(tmp_path: Path) -> None:
    lock(tmp_path).take("operation 1", checking=True)
    assert lock(tmp_path).read() is None


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    got: list[str] = []
    start = threading.Barrier(8)

    def come(owner: str) -> None:
        start.wait()
        try:
            lock(tmp_path).take(owner)
        except Held:
            return
        got.append(owner)

    threads = [threading.Thread(target=come, args=(f"run {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert (lock(tmp_path).read() or {})["owner"] == got[0]
