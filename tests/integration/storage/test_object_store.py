"""The two stores do the same: a folder, and S3 as rclone's server speaks it."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_api.adapters.object_store.folder import FolderStore
from fleet_api.adapters.object_store.s3 import MULTIPART_BYTES, S3Store
from fleet_api.adapters.object_store.types import (
    BucketMissing,
    ObjectDiffers,
    ObjectMissing,
    ObjectStore,
    S3Access,
    Shown,
    StoreAway,
    StoreRefuses,
)
from fleet_api.adapters.object_store.verified import fetch, verify
from fleet_api.errors import InvalidValue
from fleet_api.kit.allowed import AllowedNetworks
from tests.support.s3 import LOOPBACK, S3Server

BUCKET = "fleet-models"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("served") / "s3") as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        found: ObjectStore = FolderStore(tmp_path / "buckets")
    else:
        found = request.getfixturevalue("server").store()
        if BUCKET in found.buckets():
            for each in list(found.list(BUCKET)):
                found.remove(BUCKET, each.key)
    found.make_bucket(BUCKET)
    return found


def a_file(folder: Path, content: bytes, name: str = "source") -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def read(store: ObjectStore, key: str, start: int = 0) -> bytes:
    with store.open(BUCKET, key, start) as chunks:
        return b"".join(chunks)


def test_what_is_put_is_there(store: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    path, sha256 = a_file(tmp_path, content)
    made = store.put(
        BUCKET, "sdxl/a model (1).safetensors", path, sha256, Shown("application/octet-stream", 'inline; filename="a"', "max-age=1")
    )
    assert made.size == len(content)
    found = store.head(BUCKET, "sdxl/a model (1).safetensors")
    assert found is not None
    assert found.size == len(content)
    assert read(store, "sdxl/a model (1).safetensors") == content
    assert read(store, "sdxl/a model (1).safetensors", 2_999_990) == content[-10:]
    verify(store, BUCKET, "sdxl/a model (1).safetensors", len(content), sha256)
    fetch(store, BUCKET, "sdxl/a model (1).safetensors", tmp_path / "copy", len(content), sha256)
    assert (tmp_path / "copy").read_bytes() == content
    store.remove(BUCKET, "sdxl/a model (1).safetensors")
    store.remove(BUCKET, "sdxl/a model (1).safetensors")
    assert store.head(BUCKET, "sdxl/a model (1).safetensors") is None
    assert list(store.list(BUCKET)) == []


def test_an_empty_object(store: ObjectStore, tmp_path: Path) -> None:
    path, sha256 = a_file(tmp_path, b"")
    store.put(BUCKET, "empty", path, sha256)
    assert read(store, "empty") == b""
    verify(store, BUCKET, "empty", 0, sha256)


def test_a_file_that_is_not_what_it_should_be_is_not_stored(store: ObjectStore, tmp_path: Path) -> None:
    path, _ = a_file(tmp_path, b"one")
    with pytest.raises(ObjectDiffers, match="is not what it should be"):
        store.put(BUCKET, "x", path, hashlib.sha256(b"two").hexdigest())
    assert store.head(BUCKET, "x") is None


def test_a_copy_that_differs_is_not_kept(store: ObjectStore, tmp_path: Path) -> None:
    path, sha256 = a_file(tmp_path, b"content")
    store.put(BUCKET, "x", path, sha256)
    for size, wrong in ((7, "0" * 64), (6, sha256), (8, sha256)):
        with pytest.raises(ObjectDiffers):
            verify(store, BUCKET, "x", size, wrong)
        with pytest.raises(ObjectDiffers):
            fetch(store, BUCKET, "x", tmp_path / "copy", size, wrong)
        assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["source"]


def test_many_objects_are_listed_in_order(store: ObjectStore, tmp_path: Path) -> None:
    path, sha256 = a_file(tmp_path, b"x")
    keys = [f"a/{number:04}" for number in range(1005)] if isinstance(store, FolderStore) else [f"a/{number:04}" for number in range(30)]
    for key in [*keys, "b/1"]:
        store.put(BUCKET, key, path, sha256)
    assert [each.key for each in store.list(BUCKET, "a/")] == keys
    assert [each.key for each in store.list(BUCKET, "a/", after=keys[-3])] == keys[-2:]
    assert [each.key for each in store.list(BUCKET, "b/")] == ["b/1"]
    assert list(store.list(BUCKET, "c/")) == []


def test_what_is_not_there_is_said(store: ObjectStore, tmp_path: Path) -> None:
    path, sha256 = a_file(tmp_path, b"x")
    with pytest.raises(ObjectMissing, match="no object fleet-models/nope"):
        read(store, "nope")
    for ask in (
        lambda: store.head("fleet-nowhere", "x"), lambda: list(store.list("fleet-nowhere")),
        lambda: store.put("fleet-nowhere", "x", path, sha256),
    ):  # fmt: skip
        with pytest.raises(BucketMissing, match="no bucket 'fleet-nowhere'"):
            ask()


@pytest.mark.parametrize(
    "key", ["", "/", "../x", "a/../b", "a//b", ".hidden", "a/.b", "x\x00", "x\n", "a\\b", "x" * 1000, "trailing.", "café", "a/"]
)
def test_names_that_some_system_would_not_take_are_refused(store: ObjectStore, tmp_path: Path, key: str) -> None:
    path, sha256 = a_file(tmp_path, b"x")
    with pytest.raises(InvalidValue, match="key: "):
        store.put(BUCKET, key, path, sha256)
    with pytest.raises(InvalidValue, match="bucket: "):
        store.make_bucket("../" + key)


def test_a_large_file_goes_in_parts_and_one_that_changed_leaves_none(server: S3Server, tmp_path: Path) -> None:
    store = server.store()
    store.make_bucket(BUCKET)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MULTIPART_BYTES + 5)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    store.put(BUCKET, "large", path, digest)
    verify(store, BUCKET, "large", MULTIPART_BYTES + 5, digest)
    with pytest.raises(ObjectDiffers):
        store.put(BUCKET, "other", path, "0" * 64)
    assert store.head(BUCKET, "other") is None
    assert store.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_an_address_that_is_not_allowed_is_not_called(server: S3Server) -> None:
    store = S3Store(server.access, AllowedNetworks(["192.0.2.0/24"]))
    with pytest.raises(StoreRefuses, match="in none of the networks that may be called; see FLEET_S3_NETWORKS"):
        store.check()
    nowhere = S3Store(S3Access("http://nowhere.invalid:9010", "k", "s"), AllowedNetworks(LOOPBACK))
    with pytest.raises(StoreAway, match="No address is known"):
        nowhere.check()


def test_a_redirect_to_elsewhere_is_refused_and_what_is_no_store_is_said() -> None:
    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.2:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            store = S3Store(S3Access(f"http://127.0.0.1:{listening.server_port}", "k", "s"), AllowedNetworks(LOOPBACK))
            with pytest.raises((StoreRefuses, StoreAway), match="object store at"):
                store.check()
        finally:
            listening.shutdown()
            thread.join()


def test_a_presigned_address_opens_one_object(server: S3Server, tmp_path: Path) -> None:
    store = server.store()
    store.make_bucket(BUCKET)
    path, sha256 = a_file(tmp_path, b"signed")
    store.put(BUCKET, "signed", path, sha256)
    url = store.presign(BUCKET, "signed", 60)
    with httpx.Client(trust_env=False) as anybody:
        assert anybody.get(url).content == b"signed"
        assert anybody.get(url.replace("/signed?", "/other?")).status_code == 403
        assert anybody.get(url.split("?")[0]).status_code in (400, 403)
    with pytest.raises(InvalidValue, match="no URL of their own"):
        FolderStore(tmp_path / "f").presign(BUCKET, "x", 60)


def test_a_file_may_not_vanish_between(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(BUCKET, "x", tmp_path / "missing", "0" * 64)
    assert store.head(BUCKET, "x") is None
