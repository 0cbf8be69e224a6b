"""Outputs go to a real S3 server and come back; no local file goes before its copy was read."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fleet_api.app import create_app
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.clock import ManualClock
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
    answer = api.post("/api/vault", json={"name": "s3", "username": KEY, "password": SECRET})
    assert answer.status_code == 201, answer.text
    return api


def make(agent: FakeAgent, *prompts: str, colour: str = "red") -> list[str]:
    """Make pictures, each of its own bytes; return their names, oldest first."""
    names = []
    for number, prompt in enumerate(prompts):
        job = agent.api.post("/api/vision/generate", json={"prompt": prompt}).json()["job_id"]
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (number % 256, len(prompt) % 256, hash(colour) % 256)).save(buffer, "PNG")
        agent.finish(agent.take(), buffer.getvalue())
        names.append(f"image_{job}.png")
    return names


def folder_of(api: TestClient) -> Path:
    return Path(api.app.state.fleet.settings.outputs)


def again_asked(api: TestClient) -> None:
    """Whether the store answers is asked again after a while."""
    api.app.state.fleet.storage._state = None


def test_outputs_reach_the_bucket_and_go_from_the_folder(stored: TestClient, agent: FakeAgent, s3: S3Server, clock: ManualClock) -> None:
    names = make(agent, "one", "two", "three")
    there = {name: (folder_of(stored) / name).read_bytes() for name in names}
    assert stored.get("/api/outputs/stats").json()["unsynced"]["count"] == 3
    assert stored.post("/api/outputs/cleanup?max_age_hours=0").json()["kept_unsynced"] == 3
    assert all((folder_of(stored) / name).exists() for name in names)

    report = stored.post("/api/outputs/sync").json()
    assert (report["uploaded"], report["failed"], report["bytes"]) == (3, 0, sum(map(len, there.values())))
    again = stored.post("/api/outputs/sync").json()
    assert (again["uploaded"], again["skipped"], again["failed"]) == (0, 3, 0)
    assert {path.name: path.read_bytes() for path in (s3.folder / BUCKET).iterdir()} == there

    assert stored.post("/api/outputs/cleanup").json()["deleted"] == 0, "none is a day old"
    clock.advance(86_401)
    dry = stored.post("/api/outputs/cleanup?dry_run=true").json()
    assert dry == {"dry_run": True, "deleted": 3, "freed_bytes": report["bytes"], "kept_unsynced": 0, "detail": None}
    assert all((folder_of(stored) / name).exists() for name in names)
    real = stored.post("/api/outputs/cleanup").json()
    assert (real["dry_run"], real["deleted"], real["freed_bytes"]) == (False, 3, report["bytes"])
    assert not any((folder_of(stored) / name).exists() for name in names)

    stats = stored.get("/api/outputs/stats").json()
    assert (stats["local"], stats["s3"]["count"], stats["unsynced"]["count"]) == ({"count": 0, "bytes": 0}, 3, 0)
    assert stats["store"] == {"status": "ok", "endpoint": s3.url, "detail": None}
    assert stats["last_sync"]
    listed = stored.get("/api/outputs/list?source=s3&limit=2").json()
    assert (listed["source"], listed["total"], len(listed["outputs"])) == ("s3", 3, 2)
    assert listed["outputs"][0]["public_url"] == f"{s3.url}/{BUCKET}/{names[2]}"
    assert stored.get("/api/outputs/list?source=local").json()["total"] == 0

    images = stored.get("/api/vision/gallery").json()["images"]
    assert [each["filename"] for each in images] == names[::-1], "the gallery still shows them"
    assert stored.get(images[0]["thumbnail_url"]).headers["content-type"] == "image/webp"
    for name in names:
        assert stored.get(f"/api/vision/outputs/{name}").content == there[name]
    assert stored.get(f"/api/vision/outputs/{names[0]}", headers={"Range": "bytes=1-3"}).content == b"PNG"


def test_move_all(stored: TestClient, agent: FakeAgent) -> None:
    names = make(agent, "one", "two")
    moved = stored.post("/api/outputs/move-all-to-s3").json()
    assert (moved["uploaded"], moved["deleted"], moved["kept_unsynced"], moved["detail"]) == (2, 2, 0, None)
    assert not any((folder_of(stored) / name).exists() for name in names)


def test_a_copy_that_was_changed_or_lost_keeps_the_local_file_and_is_sent_again(stored: TestClient, agent: FakeAgent, s3: S3Server) -> None:
    changed, lost, fine = make(agent, "one", "two", "three")
    stored.post("/api/outputs/sync")
    (s3.folder / BUCKET / changed).write_bytes(b"x" * (s3.folder / BUCKET / changed).stat().st_size)
    s3.store().remove(BUCKET, lost)
    report = stored.post("/api/outputs/cleanup?max_age_hours=0").json()
    assert (report["deleted"], report["kept_unsynced"]) == (1, 2)
    assert [(folder_of(stored) / name).exists() for name in (changed, lost, fine)] == [True, True, False]
    assert stored.post("/api/outputs/sync").json()["uploaded"] == 2
    assert stored.post("/api/outputs/cleanup?max_age_hours=0").json()["deleted"] == 2


def test_a_local_file_that_was_changed_is_not_sent(stored: TestClient, agent: FakeAgent, s3: S3Server) -> None:
    bad, good, gone = make(agent, "one", "two", "three")
    (folder_of(stored) / bad).write_bytes(b"x" * 99)
    (folder_of(stored) / gone).unlink()
    report = stored.post("/api/outputs/sync").json()
    assert (report["uploaded"], report["failed"]) == (1, 2)
    assert [path.name for path in (s3.folder / BUCKET).iterdir()] == [good]


def test_without_a_store_it_says_so(stored: TestClient, agent: FakeAgent, s3: S3Server) -> None:
    make(agent, "one")
    s3.stop()
    for path in ("sync", "move-all-to-s3"):
        answer = stored.post(f"/api/outputs/{path}")
        assert answer.status_code == 503
        assert f"object store at {s3.url} does not answer" in answer.json()["detail"]
    stats = stored.get("/api/outputs/stats").json()
    again_asked(stored)
    assert stored.get("/api/outputs/stats").json()["store"]["status"] == "away"
    assert "does not answer" in stats["trouble"]
    assert stored.get("/api/status").json()["storage"]["status"] == "away"
    make(agent, "two")
    assert stored.get("/api/vision/gallery").json()["total"] == 2, "nothing fails that can wait"
    s3.start()
    again_asked(stored)
    assert stored.post("/api/outputs/sync").json()["uploaded"] == 2
    assert stored.get("/api/outputs/stats").json()["store"]["status"] == "ok"
    assert stored.get("/api/outputs/stats").json()["trouble"] is None


def test_the_bucket_gone_and_the_secret_wrong(stored: TestClient, agent: FakeAgent, s3: S3Server) -> None:
    make(agent, "one")
    shutil.rmtree(s3.folder / BUCKET)
    answer = stored.post("/api/outputs/sync")
    assert answer.status_code == 503
    assert f"no bucket '{BUCKET}'" in answer.json()["detail"]
    (s3.folder / BUCKET).mkdir()
    [credential] = stored.get("/api/vault").json()
    stored.patch(f"/api/vault/{credential['id']}", json={"password": "another one, and wrong"})
    again_asked(stored)
    answer = stored.post("/api/outputs/sync")
    assert answer.status_code == 503
    assert "does not know the access key, or the secret is wrong" in answer.json()["detail"]
    stored.delete(f"/api/vault/{credential['id']}")
    assert "no credential 's3'" in stored.post("/api/outputs/sync").json()["detail"]
    assert len(list(folder_of(stored).glob("*.png"))) == 1


def test_no_store_at_all(tmp_path: Path, clock: ManualClock) -> None:
    plain = Settings(home=tmp_path / "plain", port=0)
    plain.home.mkdir()
    upgrade(plain.database)
    with client_of(create_app(plain, clock)) as api:
        for path in ("sync", "cleanup", "cleanup?dry_run=true", "move-all-to-s3"):
            answer = api.post(f"/api/outputs/{path}")
            assert (answer.status_code, "run the playbook 'storage'" in answer.json()["detail"]) == (503, True)
        assert api.get("/api/outputs/stats").json()["store"]["status"] == "unset"
        assert api.get("/api/outputs/list?source=s3").json() == {"source": "s3", "outputs": [], "total": 0}


@pytest.mark.parametrize(
    ("query", "word"),
    [("max_age_hours=-1", "max_age_hours"), ("max_age_hours=nan", "max_age_hours"), ("max_age_hours=x", "max_age_hours"),
     ("dry_run=perhaps", "dry_run")],
)  # fmt: skip
def test_bad_values_of_a_cleanup(api: TestClient, query: str, word: str) -> None:
    answer = api.post(f"/api/outputs/cleanup?{query}")
    assert (answer.status_code, word in answer.json()["detail"]) == (400, True)


def test_what_comfyui_wrote_is_an_output_too(stored: TestClient, agent: FakeAgent, s3: S3Server, clock: ManualClock) -> None:
    clock.advance(time.time() - clock.now())
    made = folder_of(stored) / "comfyui" / "cats" / "a cat_00001_.png"
    made.parent.mkdir(parents=True)
    graph = '{"3": {"class_type": "KSampler", "inputs": {"seed": 7}}, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}}'
    info = PngInfo()
    info.add_text("prompt", graph)
    Image.new("RGB", (40, 30)).save(made, pnginfo=info)
    for name in ("notes.txt", "half.png", ".hidden.png"):
        (made.parent / name).write_bytes(b"nothing")
    video = s3.folder / BUCKET / "animatediff" / "wave.mp4"
    video.parent.mkdir()
    video.write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"0" * 500)
    for path in (*made.parent.iterdir(), video):
        shutil.os.utime(path, (time.time() - 60, time.time() - 60))
    report = stored.post("/api/outputs/sync").json()
    assert (report["uploaded"], report["adopted"], report["failed"]) == (1, 2, 0)
    assert (s3.folder / BUCKET / "comfyui/cats/a cat_00001_.png").read_bytes() == made.read_bytes()
    clip, cat = stored.get("/api/vision/gallery").json()["images"]
    assert (cat["prompt"], cat["seed"], cat["width"], cat["height"]) == ("a cat", 7, 40, 30)
    assert re.fullmatch(r"animatediff_wave-[0-9a-f]{8}\.mp4", clip["filename"])
    assert clip["thumbnail_url"] is None
    assert stored.get(clip["url"]).headers["content-type"] == "video/mp4"
    assert stored.get(f"{clip['url']}?thumbnail=true").status_code == 404
    urls = {each["public_url"] for each in stored.get("/api/outputs/list?source=s3").json()["outputs"]}
    assert urls == {f"{s3.url}/{BUCKET}/animatediff/wave.mp4", f"{s3.url}/{BUCKET}/comfyui/cats/a%20cat_00001_.png"}
    assert stored.post("/api/outputs/sync").json()["adopted"] == 0
    assert stored.post("/api/outputs/cleanup?max_age_hours=0").json()["deleted"] == 1
    assert not made.exists()
    assert stored.get(cat["url"]).status_code == 200


def test_the_gallery_is_searched(stored: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    clock.advance(1)
    make(agent, "a red fox", "a blue circle", "Ein grüner Würfel", "red circles", "猫の絵")

    def found(query: str) -> list[str]:
        answer = stored.get(f"/api/vision/gallery?{query}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == len(answer.json()["images"])
        return [each["prompt"] for each in answer.json()["images"]]

    assert found("q=red") == ["red circles", "a red fox"]
    assert found("q=circ%20blue") == ["a blue circle"]
    assert found("q=wurfel") == ["Ein grüner Würfel"]
    assert found("q=猫") == ["猫の絵"]
    for nothing in ("q=%22%29", "q=red%20AND%20NOT", "q=*", "q=-", "model=none", "node=none", "lora=none", "starred=true", "deleted=true"):
        assert found(nothing) == [], nothing
    assert len(found("model=fleet-shapes&node=agx0")) == 5
    assert found("until=2000-01-01T00:00:00Z") == []
    assert len(found("since=2000-01-01T00:00:00Z")) == 5
    for bad in ("since=yesterday", "since=2026-01-01T00:00:00", "cursor=0", "cursor=x", "starred=maybe", "q=" + "x" * 501, "q=%00"):
        assert stored.get(f"/api/vision/gallery?{bad}").status_code == 400, bad


def test_pages_by_cursor_are_not_shifted_by_what_comes(stored: TestClient, agent: FakeAgent) -> None:
    names = make(agent, *(f"number {n}" for n in range(7)))
    first = stored.get("/api/vision/gallery?limit=3&q=number").json()
    make(agent, "number of a new one")
    second = stored.get(f"/api/vision/gallery?limit=3&q=number&cursor={first['next']}").json()
    third = stored.get(f"/api/vision/gallery?limit=3&cursor={second['next']}").json()
    shown = [each["filename"] for page in (first, second, third) for each in page["images"]]
    assert (shown, third["next"], second["total"]) == (names[::-1], None, 8)


def test_stars_the_bin_and_its_end(stored: TestClient, agent: FakeAgent, s3: S3Server, clock: ManualClock) -> None:
    one, two, three = make(agent, "one", "two", "three")
    assert stored.put(f"/api/vision/gallery/{one}/star").json()["image"]["starred"] is True
    assert [each["filename"] for each in stored.get("/api/vision/gallery?starred=true").json()["images"]] == [one]
    assert stored.delete(f"/api/vision/gallery/{one}/star").json()["image"]["starred"] is False
    stored.post("/api/outputs/sync")
    assert stored.delete(f"/api/vision/outputs/{one}").json() == {"deleted": 1}
    for refused in (
        stored.get(f"/api/vision/outputs/{one}"),
        stored.get(f"/api/vision/gallery/{one}"),
        stored.put(f"/api/vision/gallery/{one}/star"),
    ):
        assert refused.status_code == 404
    [binned] = stored.get("/api/vision/gallery?deleted=true").json()["images"]
    assert binned["deleted_at"]
    assert stored.get(binned["thumbnail_url"]).status_code == 200, "what one may want back is seen"
    assert stored.post(f"/api/vision/gallery/{one}/restore").status_code == 200
    assert stored.post(f"/api/vision/gallery/{one}/restore").status_code == 404
    assert stored.get(f"/api/vision/outputs/{one}").status_code == 200
    stored.delete(f"/api/vision/outputs/{one}")
    assert stored.delete(f"/api/vision/outputs/{two}?now=true").json() == {"deleted": 1}
    assert sorted(path.name for path in (s3.folder / BUCKET).iterdir()) == sorted([one, three])
    assert "0 deleted" in stored.post("/api/schedule/outputs_bin/run").json()["outcome"]
    clock.advance(86_401)
    s3.stop()
    assert "0 deleted" in stored.post("/api/schedule/outputs_bin/run").json()["outcome"], "its copy could not be deleted"
    s3.start()
    assert "1 deleted" in stored.post("/api/schedule/outputs_bin/run").json()["outcome"]
    assert [path.name for path in (s3.folder / BUCKET).iterdir()] == [three]
    assert not (folder_of(stored) / one).exists()
    assert stored.get("/api/vision/gallery?deleted=true").json()["total"] == 0


def test_a_selection_as_a_zip(stored: TestClient, agent: FakeAgent) -> None:
    names = make(agent, "one", "two", "three")
    stored.post("/api/outputs/move-all-to-s3")
    answer = stored.post("/api/vision/gallery/zip", json={"filenames": [names[2], names[0], names[2]]})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == [names[2], names[0]]
        assert packed.read(names[0]) == stored.get(f"/api/vision/outputs/{names[0]}").content
    for body, status in (({"filenames": []}, 400), ({"filenames": ["nope.png"]}, 404), ({"filenames": ["../fleet.db"]}, 400), ({}, 400)):
        assert stored.post("/api/vision/gallery/zip", json=body).status_code == status


def test_all_that_is_known_of_one(stored: TestClient, agent: FakeAgent, s3: S3Server) -> None:
    [name] = make(agent, "a fox")
    data = (folder_of(stored) / name).read_bytes()
    detail = stored.get(f"/api/vision/gallery/{name}").json()
    assert (detail["sha256"], detail["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (detail["seconds"], detail["image"]["node_id"], detail["parameters"]["prompt"]) == (0.5, "agx0", "a fox")
    assert (detail["local"], detail["public_url"]) == (True, None)
    assert detail["job_id"] in name
    shown = stored.get(detail["url"])
    assert shown.headers["content-disposition"].startswith("inline")
    assert shown.headers["etag"] == f'"{detail["sha256"]}"'
    assert stored.get(f"{detail['url']}?download=true").headers["content-disposition"] == f'attachment; filename="{name}"'


def test_a_copy_that_is_not_right_is_never_shown_nor_kept(stored: TestClient, agent: FakeAgent, s3: S3Server, tmp_path: Path) -> None:
    [name] = make(agent, "one")
    whole = (folder_of(stored) / name).read_bytes()
    stored.post("/api/outputs/move-all-to-s3")

    def store(data: bytes) -> None:
        (tmp_path / "file").write_bytes(data)
        s3.store().put(BUCKET, name, tmp_path / "file", hashlib.sha256(data).hexdigest())

    for wrong in (whole[:-1], whole + b"x", b"y" * len(whole), b""):
        store(wrong)
        answer = stored.get(f"/api/vision/outputs/{name}")
        assert (answer.status_code, "is not where it was stored" in answer.json()["detail"]) == (404, True)
        assert not list((folder_of(stored) / ".cache").iterdir())
    store(whole)
    assert stored.get(f"/api/vision/outputs/{name}").content == whole
