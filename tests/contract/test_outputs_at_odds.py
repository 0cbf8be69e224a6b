"""Outputs where things meet that should not: numbers used again, names alike, garbage in the bucket, a store that hangs."""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from fleet_api.outputs import repository
from fleet_api.outputs.sync.adopting import FROM_BUCKET
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent, png
from tests.support.clock import ManualClock
from tests.support.live import live
from tests.support.s3 import KEY, SECRET, S3Server

BUCKET = "fleet-outputs"


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3") as server:
        (server.folder / BUCKET).mkdir()
        yield server


@pytest.fixture
def settings(tmp_path: Path, s3: S3Server) -> Settings:
    return Settings(home=tmp_path / "home", port=0, s3_endpoint=s3.url, s3_credential="s3", s3_networks=["127.0.0.0/8"])


@pytest.fixture
def stored(api: TestClient) -> TestClient:
    assert api.post("/api/vault", json={"name": "s3", "username": KEY, "password": SECRET}).status_code == 201
    return api


def make(agent: FakeAgent) -> str:
    job = agent.api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
    agent.finish(agent.take())
    return f"image_{job}.png"


def lay(path: Path, data: bytes) -> None:
    """Lay a file down as of a minute ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - 60, time.time() - 60))


def bomb() -> bytes:
    """A PNG of a few bytes that says it is of 20,000 by 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)) + chunk(b"IEND", b"")


def test_a_delete_that_comes_late_leaves_the_picture_that_got_the_number(stored: TestClient, agent: FakeAgent) -> None:
    fleet = stored.app.state.fleet
    old = make(agent)
    row = stored.portal.call(fleet.outputs.get, old)
    assert stored.delete(f"/api/vision/outputs/{old}?now=true").status_code == 200
    new = make(agent)
    assert stored.portal.call(fleet.outputs.get, new).seq == row.seq, "SQLite gives a number again"
    stored.portal.call(fleet.db.write, lambda db: repository.remove(db, [row]))
    assert stored.portal.call(fleet.outputs._destroy, [row]) == 0
    assert stored.get(f"/api/vision/outputs/{new}").status_code == 200
    assert stored.get("/api/vision/gallery?q=x").json()["total"] == 1


def test_a_copy_that_a_cut_off_sync_did_not_note_goes_too(stored: TestClient, agent: FakeAgent, s3: S3Server, tmp_path: Path) -> None:
    name = make(agent)
    local = stored.app.state.fleet.settings.outputs / name
    s3.store().put(BUCKET, name, local, stored.get(f"/api/vision/gallery/{name}").json()["sha256"])
    assert stored.delete(f"/api/vision/outputs/{name}?now=true").status_code == 200
    assert s3.store().head(BUCKET, name) is None


def test_names_that_become_alike_and_a_picture_that_is_a_bomb_stop_nothing(stored: TestClient, s3: S3Server, clock: ManualClock) -> None:
    clock.advance(time.time() - clock.now())
    folder = stored.app.state.fleet.settings.outputs / "comfyui"
    for name in ("my pic.png", "my+pic.png", "a b.png", "a/b.png", "a_b.png"):
        lay(folder / name, png())
    lay(folder / "bomb.png", bomb())
    lay(folder / "broken.png", b"\x89PNG\r\n\x1a\nno")
    for name in ("(1).png", "trailing ./x.png"):
        lay(folder / name, png())
    report = stored.post("/api/outputs/sync")
    assert report.status_code == 200, report.text
    assert (report.json()["uploaded"], report.json()["failed"]) == (5, 0)
    names = [each["filename"] for each in stored.get("/api/vision/gallery").json()["images"]]
    assert len(set(names)) == 5
    assert stored.post("/api/outputs/cleanup?max_age_hours=0").json()["deleted"] == 5


def test_garbage_in_the_bucket_does_not_keep_what_comes_after_it_out(stored: TestClient, s3: S3Server, clock: ManualClock) -> None:
    clock.advance(time.time() - clock.now())
    for number in range(FROM_BUCKET):
        lay(s3.folder / BUCKET / "comfyui" / f"a{number:03}.png", b"no picture")
    lay(s3.folder / BUCKET / "comfyui" / "z.png", png())
    assert [stored.post("/api/outputs/sync").json()["adopted"] for _ in range(3)] == [0, 1, 0]


def test_a_file_that_its_program_wrote_anew_is_sent_anew_and_one_that_it_deleted_is_forgotten(
    stored: TestClient, s3: S3Server, clock: ManualClock
) -> None:
    clock.advance(time.time() - clock.now())
    folder = stored.app.state.fleet.settings.outputs / "comfyui"
    lay(folder / "again.png", png("red"))
    lay(folder / "gone.png", png("red"))
    s3.stop()
    assert stored.post("/api/outputs/sync").status_code == 503
    lay(folder / "again.png", png("blue"))
    (folder / "gone.png").unlink()
    s3.start()
    assert stored.get("/api/vision/gallery").json()["total"] == 2
    assert stored.post("/api/outputs/sync").json()["failed"] == 2
    report = stored.post("/api/outputs/sync").json()
    assert (report["uploaded"], report["failed"]) == (1, 0)
    assert (s3.folder / BUCKET / "comfyui" / "again.png").read_bytes() == png("blue")
    assert stored.get("/api/vision/gallery").json()["total"] == 1


def test_a_file_that_its_program_wrote_anew_after_it_was_sent_is_not_deleted_for_the_old_copy(
    stored: TestClient, s3: S3Server, clock: ManualClock
) -> None:
    clock.advance(time.time() - clock.now())
    path = stored.app.state.fleet.settings.outputs / "comfyui" / "again.png"
    lay(path, png("red"))
    assert stored.post("/api/outputs/sync").json()["uploaded"] == 1
    lay(path, png("blue"))
    cleaned = stored.post("/api/outputs/cleanup?max_age_hours=0").json()
    assert (cleaned["deleted"], cleaned["kept_unsynced"]) == (0, 1)
    assert path.read_bytes() == png("blue")
    assert [stored.post("/api/outputs/sync").json()["uploaded"] for _ in range(2)] == [0, 1]
    assert stored.post("/api/outputs/cleanup?max_age_hours=0").json()["deleted"] == 1
    assert (s3.folder / BUCKET / "comfyui" / "again.png").read_bytes() == png("blue")


def test_a_store_that_hangs_holds_up_nothing_else(tmp_path: Path, s3: S3Server) -> None:
    settings = Settings(home=tmp_path / "live", port=0, s3_endpoint=s3.url, s3_credential="s3", s3_networks=["127.0.0.0/8"])
    with live(settings) as served, httpx.Client(base_url=served.url, trust_env=False, timeout=120) as http:
        http.post("/api/vault", json={"name": "s3", "username": KEY, "password": SECRET})
        path = settings.outputs / "comfyui"
        for number in range(12):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (number, 0, 0)).save(buffer, "PNG")
            lay(path / f"{number}.png", buffer.getvalue())
        assert http.post("/api/outputs/move-all-to-s3").json()["deleted"] == 12
        urls = [each["url"] for each in http.get("/api/vision/gallery").json()["images"]]
        assert s3.process is not None
        os.kill(s3.process.pid, signal.SIGSTOP)
        try:
            answers: list[int] = []
            askers = [
                threading.Thread(
                    target=lambda url=url: answers.append(httpx.get(served.url + url, trust_env=False, timeout=100).status_code)
                )
                for url in urls * 3
            ]
            for asker in askers:
                asker.start()
            time.sleep(1)
            for asked in ("/api/status", "/api/vision/gallery", "/health", "/api/outputs/stats"):
                begun = time.monotonic()
                assert http.get(asked).status_code == 200, asked
                assert time.monotonic() - begun < 3, asked
        finally:
            os.kill(s3.process.pid, signal.SIGCONT)
        for asker in askers:
            asker.join(60)
        assert set(answers) == {200}, "and when it goes on, so do those who waited"
