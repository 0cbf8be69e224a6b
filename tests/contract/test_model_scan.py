"""The buckets while others use them: what scans and uploads let be, and files that cannot be read."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.adapters.object_store.folder import FolderStore
from fleet_api.adapters.object_store.types import StoreAway, StoredObject, StoreFull
from fleet_api.models import store
from fleet_api.settings import Settings
from tests.support.models import lora

LORAS, SCAN = "/api/vision/loras/upload", "/api/vision/models/scan"
NIGHT = lora("fleet-shapes")
HOUR = 3600.0


def by_hand(settings: Settings, name: str, data: bytes = NIGHT, file: str = "x.safetensors") -> Path:
    """Lay a LoRA into its bucket as of an hour ago."""
    path = settings.models / "fleet-loras" / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - HOUR,) * 2)
    return path


def upload(api: TestClient, name: str, data: bytes = NIGHT) -> Any:
    return api.post(LORAS, files={"file": ("night.safetensors", data)}, data={"name": name})


def names(api: TestClient) -> list[str]:
    return [each["name"] for each in api.get("/api/vision/loras").json()["loras"]]


def scan(api: TestClient) -> dict[str, Any]:
    answer = api.post(SCAN)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have something done once, in the middle of the next scan: the first time that a file is read."""
    real, left = FolderStore.open, [do]

    @contextmanager
    def opened(self: FolderStore, bucket: str, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        if left:
            left.pop()()
        with real(self, bucket, key, start) as chunks:
            yield chunks

    monkeypatch.setattr(FolderStore, "open", opened)


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As a file whose rights do not let the control plane in, which root's do."""
    real = Path.open

    def opened(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", opened)


def test_what_is_uploaded_during_a_scan_stays_listed(api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(settings, "by hand")
    meanwhile(monkeypatch, lambda: upload(api, "new"))
    assert scan(api) == {"found": ["by hand"], "gone": [], "refused": []}
    assert names(api) == ["by hand", "new"]


def test_what_is_deleted_and_uploaded_anew_during_a_scan_stays_listed(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(api, "night")
    by_hand(settings, "by hand")

    def anew() -> None:
        api.delete("/api/vision/loras/night")
        assert upload(api, "night", lora("fleet-shapes", rank=4)).status_code == 201

    meanwhile(monkeypatch, anew)
    assert scan(api) == {"found": ["by hand"], "gone": [], "refused": []}
    assert names(api) == ["by hand", "night"]


def test_a_folder_that_vanishes_during_a_scan_does_not_end_it(api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, _ = by_hand(settings, "a"), by_hand(settings, "b")
    meanwhile(monkeypatch, lambda: shutil.rmtree(gone.parent))
    assert scan(api) == {"found": ["b"], "gone": [], "refused": []}


def test_a_file_that_cannot_be_read_is_told_of_and_the_others_are_found(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut, _ = by_hand(settings, "a"), by_hand(settings, "b")
    with monkeypatch.context() as patched:
        unreadable(patched, shut)
        for found in (["b"], []):
            told = scan(api)
            assert told["found"] == found
            [refused] = told["refused"]
            assert refused == {"name": "a", "reason": "The object fleet-loras/a/x.safetensors cannot be read: Permission denied."}
    assert scan(api)["found"] == ["a"], "it is looked at again, as its rights may be set right"


def test_a_store_that_goes_away_during_a_scan_ends_it_and_nothing_is_forgotten(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(api, "night")
    by_hand(settings, "a")

    def away(*_: object) -> None:
        raise StoreAway("The store is away.")

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "open", away)
        patched.setattr(FolderStore, "check", away)
        answer = api.post(SCAN)
    assert (answer.status_code, answer.json()["detail"]) == (503, "The store is away.")
    assert names(api) == ["night"]
    assert scan(api)["found"] == ["a"]


def test_a_store_that_hangs_or_a_long_scan_does_not_make_the_control_plane_unwell(api: TestClient, settings: Settings) -> None:
    assert "model_scan" not in {each.name for each in api.app.state.fleet.services}, "they are what /health tells of"
    by_hand(settings, "a")
    assert api.post("/api/schedule/model_scan/run").json()["outcome"] == "1 found, 0 gone, 0 refused."
    jobs = {each["name"]: each["when"] for each in api.get("/api/schedule").json()}
    assert jobs["model_scan"] == "every 60 s"


def test_what_vanishes_while_a_folder_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FolderStore(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "bucket" / name).mkdir(parents=True)
        (tmp_path / "bucket" / name / "x").write_bytes(b"x")
    (tmp_path / "bucket" / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "bucket" / "pipe")
    assert [each.key for each in folder.list("bucket")] == ["a/x", "b/x"]
    assert (folder.head("bucket", "a"), folder.head("bucket", "a/y"), folder.head("bucket", "a/x/y")) == (None, None, None)
    found: list[StoredObject] = []
    for each in folder.list("bucket"):
        found.append(each)
        shutil.rmtree(tmp_path / "bucket" / "b", ignore_errors=True)
    assert [each.key for each in found] == ["a/x"]


@pytest.mark.parametrize("file", ["night.safetensors", "x.safetensors", "sub/x.safetensors"])
def test_what_lies_in_the_bucket_unlisted_is_not_overwritten_by_an_upload(api: TestClient, settings: Settings, file: str) -> None:
    path = by_hand(settings, "night", b"somebody is copying this", file)
    answer = upload(api, "night")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        f"name: the bucket fleet-loras has 'night/{file}' already; take it out, or choose another name.",
    )
    assert path.read_bytes() == b"somebody is copying this"
    assert list(path.parent.iterdir()) == [path]
    assert upload(api, "night 2").status_code == 201, "another name is free"


def test_a_failed_upload_leaves_nothing_and_takes_nothing_that_was_there(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFull("The store is full.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put_index", full)
        assert upload(api, "night").json()["detail"] == "The store is full."
        assert not [each for each in settings.models.rglob("*") if each.is_file()]
        there, index = by_hand(settings, "night", file="night.safetensors"), by_hand(settings, "night", b"{}", "fleet.json")
        assert upload(api, "night").json()["detail"] == "The store is full."
        assert (there.read_bytes(), index.read_bytes()) == (NIGHT, b"{}")
    assert upload(api, "night").status_code == 201, "the same bytes are no other file: a try before may have left them"
