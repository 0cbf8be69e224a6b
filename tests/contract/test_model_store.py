"""The model store as callers see it: uploads in one go and in parts, hostile files, what is listed, and deletion."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.models import staging
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.models import HOSTILE, lora, one

LORAS, MODELS, GENERATE = "/api/vision/loras/upload", "/api/vision/models/upload", "/api/vision/generate"
NIGHT = lora("fleet-shapes")
PART_OF_A_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.safetensors"\r\n\r\nab'
LONG_FIELD = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"x" * 9000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def form(api: TestClient, data: bytes, row: str = LORAS, filename: str = "night.safetensors", **fields: str) -> Any:
    return api.post(row, files={"file": (filename, data)}, data=fields)


def begin(api: TestClient, data: bytes, row: str = LORAS, **changes: Any) -> dict[str, Any]:
    answer = api.post(row, json={"name": "night", "filename": "night.safetensors", "size": len(data), **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def send(api: TestClient, upload: dict[str, Any], data: bytes, offset: int = 0) -> Any:
    return api.patch(f"/api/vision/uploads/{upload['upload_id']}", params={"offset": offset}, content=data)


def files_left(settings: Settings) -> list[str]:
    """Every file below the folders of uploads and of the store."""
    return sorted(
        str(each.relative_to(settings.home))
        for folder in (settings.model_uploads, settings.models)
        for each in folder.rglob("*")
        if each.is_file()
    )


def detail(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    found: str = answer.json()["detail"]
    assert found.endswith(".")
    assert found.isprintable()
    return found


@pytest.fixture
def fetching(api: TestClient) -> FakeAgent:
    agent = FakeAgent.enrol(api, "agx0")
    agent.capabilities = {**agent.capabilities, "fetches": True}
    agent.lease()
    return agent


def test_a_lora_in_one_form(api: TestClient, settings: Settings) -> None:
    answer = form(api, NIGHT, name="night", source="my own")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["status"], answer.json()["sha256"], answer.json()["note"]) == ("stored", sha256(NIGHT), "")
    [found] = api.get("/api/vision/loras").json()["loras"]
    assert (found["name"], found["size_bytes"], found["base"], found["sha256"]) == ("night", len(NIGHT), "fleet-shapes", sha256(NIGHT))
    assert (found["stored"], found["source"], found["loaded_on"], found["on_nodes"]) == (True, "my own", [], [])
    assert files_left(settings) == ["models/fleet-loras/night/fleet.json", "models/fleet-loras/night/night.safetensors"]
    assert (settings.models / "fleet-loras/night/night.safetensors").read_bytes() == NIGHT


def test_the_name_is_the_files_own_where_none_is_given(api: TestClient) -> None:
    assert form(api, NIGHT, filename="dusk.safetensors").json()["name"] == "dusk"


def test_the_fields_of_a_form_may_come_after_the_file(api: TestClient) -> None:
    body = (
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.safetensors\"\r\n\r\n" + NIGHT
        + b"\r\n--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nlater\r\n--b--\r\n"
    )  # fmt: skip
    answer = api.post(LORAS, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.json()["name"] == "later", answer.text


def test_an_upload_in_parts(api: TestClient, settings: Settings) -> None:
    upload = begin(api, NIGHT, sha256=sha256(NIGHT))
    assert (upload["offset"], upload["status"]) == (0, "receiving")
    half = len(NIGHT) // 2
    assert send(api, upload, NIGHT[:half]).json()["offset"] == half
    assert begin(api, NIGHT, sha256=sha256(NIGHT))["offset"] == half, "the same words find the upload again"
    assert f"go on at {half}" in detail(send(api, upload, NIGHT), 409)
    stored = send(api, upload, NIGHT[half:], half).json()
    assert (stored["status"], stored["offset"]) == ("stored", len(NIGHT))
    assert send(api, upload, b"", len(NIGHT)).json() == stored, "a repeat is told the same"
    assert api.get(f"/api/vision/uploads/{upload['upload_id']}").json() == stored
    assert len(files_left(settings)) == 2


def test_a_restart_keeps_what_has_come(api: TestClient, settings: Settings) -> None:
    upload = begin(api, NIGHT)
    send(api, upload, NIGHT[:100])
    fleet = api.app.state.fleet
    api.portal.call(fleet.uploads.load)
    assert api.get(f"/api/vision/uploads/{upload['upload_id']}").json()["offset"] == 100
    assert send(api, upload, NIGHT[100:], 100).json()["status"] == "stored"


def test_an_upload_is_given_up(api: TestClient, settings: Settings) -> None:
    upload = begin(api, NIGHT)
    send(api, upload, NIGHT[:100])
    assert api.delete(f"/api/vision/uploads/{upload['upload_id']}").status_code == 204
    assert files_left(settings) == []
    assert "no upload" in detail(send(api, upload, NIGHT[100:], 100), 404)
    assert "no upload" in detail(api.delete(f"/api/vision/uploads/{upload['upload_id']}"), 404)


def test_what_is_left_for_a_day_is_swept(api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send(api, begin(api, NIGHT), NIGHT[:100])
    api.portal.call(api.app.state.fleet.uploads.sweep)
    assert len(files_left(settings)) == 2
    real = staging.time.time()
    monkeypatch.setattr(staging.time, "time", lambda: real + staging.KEPT_SECONDS + 60)
    api.portal.call(api.app.state.fleet.uploads.sweep)
    assert files_left(settings) == []


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("row", [LORAS, MODELS])
def test_hostile_files(api: TestClient, settings: Settings, case: str, row: str) -> None:
    data, words = HOSTILE[case]
    assert words in detail(form(api, data, row, name="night"), 400)
    upload = begin(api, data, row)
    assert words in detail(send(api, upload, data), 400)
    assert files_left(settings) == []
    assert api.get("/api/vision/loras").json() == {"loras": []}
    assert api.get(f"/api/vision/uploads/{upload['upload_id']}").status_code == 404


def test_an_empty_file(api: TestClient, settings: Settings) -> None:
    assert detail(form(api, b"", name="night"), 400) == "file: it is empty."
    assert "from 1 to" in detail(api.post(LORAS, json={"name": "x", "filename": "x.safetensors", "size": 0}), 400)
    assert files_left(settings) == []


def test_a_pickle_is_refused_before_all_of_it_has_come(api: TestClient, settings: Settings) -> None:
    upload = begin(api, b"x" * 10_000_000)
    assert "pickle" in detail(send(api, upload, HOSTILE["pickle"][0]), 400)
    assert files_left(settings) == []


def test_more_than_was_announced(api: TestClient, settings: Settings) -> None:
    assert "more came" in detail(send(api, begin(api, NIGHT), NIGHT + b"x"), 400)
    assert files_left(settings) == []


def test_another_checksum_than_announced(api: TestClient, settings: Settings) -> None:
    assert f"sha256: the file that came has {sha256(NIGHT)}" in detail(send(api, begin(api, NIGHT, sha256="0" * 64), NIGHT), 400)
    assert "was announced" in detail(form(api, NIGHT, name="night", sha256="1" * 64), 400)
    assert files_left(settings) == []


def test_too_large(api: TestClient, settings: Settings) -> None:
    words = {"name": "big", "filename": "big.safetensors", "size": 100 * 10**9}
    assert "100,000,000,000 bytes are more than the 42,949,672,960" in detail(api.post(MODELS, json=words), 413)
    assert files_left(settings) == []


def test_no_room(api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "RESERVE_BYTES", 2**60)
    words = {"name": "big", "filename": "big.safetensors", "size": 10**9}
    assert "1,000,000,000 are wanted" in detail(api.post(MODELS, json=words), 503)
    assert "are kept free" in detail(form(api, NIGHT, name="night"), 503)
    assert files_left(settings) == []


@pytest.mark.parametrize("name", ["nächtlich", "夜", "../night", "a/b", ".hidden", "a\nb", "x" * 151, "night ", "‮night", "a\\b"])
def test_names_that_are_none(api: TestClient, settings: Settings, name: str) -> None:
    assert "name: " in detail(form(api, NIGHT, name=name), 400)
    assert "name: " in detail(api.post(LORAS, json={"name": name, "filename": "x.safetensors", "size": 5}), 400)
    assert files_left(settings) == []


@pytest.mark.parametrize("filename", ["night.ckpt", "night.pt", "night", ".safetensors", "a/b.safetensors", "nächtlich.safetensors"])
def test_file_names_that_are_none(api: TestClient, settings: Settings, filename: str) -> None:
    assert ".safetensors" in detail(form(api, NIGHT, filename=filename, name="night"), 400)
    assert ".safetensors" in detail(api.post(LORAS, json={"name": "night", "filename": filename, "size": 5}), 400)
    assert files_left(settings) == []


def test_one_name_twice(api: TestClient, fetching: FakeAgent, settings: Settings) -> None:
    first, second = begin(api, NIGHT), begin(api, NIGHT)
    assert first["upload_id"] != second["upload_id"]
    assert send(api, first, NIGHT).status_code == 200
    assert "a LoRA 'night' already" in detail(send(api, second, NIGHT), 409)
    assert "a LoRA 'night' already" in detail(form(api, NIGHT, name="night"), 409)
    assert "came with the agents' own software" in detail(form(api, one(), MODELS, name="fleet-shapes"), 409)
    assert len(files_left(settings)) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", b"x", "boundary"),
        ("multipart/form-data; boundary=b", b"--c\r\n", "could not be read"),
        ("multipart/form-data; boundary=b", b"", "file is required"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "file is required"),
        ("multipart/form-data; boundary=b", PART_OF_A_FILE, "read"),
        ("multipart/form-data; boundary=b", LONG_FIELD, "4096 bytes"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X" * 20_000, ""),
        ("multipart/form-data; boundary=" + "b" * 5000, b"x", "boundary of the form is too long"),
        ("application/json", b"[]", "JSON object"),
        ("application/json", b"{", "JSON"),
        ("text/plain", b"hello", "JSON"),
    ],
)
def test_bodies_that_are_none(api: TestClient, settings: Settings, content_type: str, body: bytes, words: str) -> None:
    assert words in detail(api.post(LORAS, content=body, headers={"Content-Type": content_type}), 400)
    assert files_left(settings) == []


def test_a_checkpoint_is_stored_and_nobody_can_run_it_yet(api: TestClient, fetching: FakeAgent) -> None:
    assert form(api, one(), MODELS, name="sdxl-base", filename="sdxl.safetensors").status_code == 201
    [found] = [each for each in api.get("/api/vision/models/available").json()["models"] if each["name"] == "sdxl-base"]
    assert "import it with 'fleet models import'" in found["note"]
    assert "'sdxl-base' cannot be used" in detail(api.post(GENERATE, json={"prompt": "x", "model": "sdxl-base"}), 503)


def test_a_lora_that_nobody_can_use_says_why(api: TestClient, fetching: FakeAgent) -> None:
    assert "which model it is for" in form(api, lora(), name="nobodys").json()["note"]
    assert "which model" in detail(api.post(GENERATE, json={"prompt": "x", "lora": "nobodys"}), 503)


def test_a_job_with_a_stored_lora_waits_for_a_node_that_fetches_it(api: TestClient, fetching: FakeAgent) -> None:
    form(api, NIGHT, name="night")
    job = api.post(GENERATE, json={"prompt": "x", "lora": "night"})
    assert job.status_code == 201, job.text
    assert fetching.lease()["lease"] is None, "it has not fetched it yet"
    said = api.get(f"/api/queue/jobs/{job.json()['job_id']}", params={"explain": True}).json()
    assert "fetched from the model store by one of agx0" in str(said)
    api.portal.call(api.app.state.fleet.fetching.plan)
    beat = {"incarnation": fetching.incarnation, "cache": {}}
    reply = api.post("/api/agents/beat", headers=fetching.headers, json=beat).json()
    [wanted] = reply["wanted"]
    assert (wanted["name"], wanted["base"], wanted["files"][0]["sha256"]) == ("night", "fleet-shapes", sha256(NIGHT))
    held = {"held": [{"type": "lora", "name": "night", "sha256": sha256(NIGHT)}], "files": [sha256(NIGHT)]}
    fetching.capabilities = {**fetching.capabilities, "loras": [{"name": "night", "base_model": "fleet-shapes"}]}
    api.post("/api/agents/beat", headers=fetching.headers, json={**beat, "cache": held, "capabilities": fetching.capabilities})
    assert fetching.take()["payload"]["lora"] == "night"
    assert api.get("/api/vision/loras").json()["loras"][0]["on_nodes"] == ["agx0"]


def test_nobody_fetches_what_no_job_wants_and_old_agents_fetch_nothing(api: TestClient, agent: FakeAgent) -> None:
    form(api, NIGHT, name="night")
    assert "has the LoRA 'night'" in detail(api.post(GENERATE, json={"prompt": "x", "lora": "night"}), 503)
    reply = api.post("/api/agents/beat", headers=agent.headers, json={"incarnation": agent.incarnation}).json()
    assert (reply["wanted"], reply["drop"]) == ([], [])


def test_deletion(api: TestClient, fetching: FakeAgent, settings: Settings) -> None:
    form(api, NIGHT, name="night")
    held = {"held": [{"type": "lora", "name": "night", "sha256": sha256(NIGHT)}]}
    beat = {"incarnation": fetching.incarnation, "cache": held}
    assert api.post("/api/agents/beat", headers=fetching.headers, json=beat).json()["drop"] == []
    assert api.delete("/api/vision/loras/night").json() == {"deleted": 1}
    assert files_left(settings) == []
    assert api.post("/api/agents/beat", headers=fetching.headers, json=beat).json()["drop"] == [{"type": "lora", "name": "night"}]
    assert "no LoRA 'night' in the store" in detail(api.delete("/api/vision/loras/night"), 404)
    assert "cannot be deleted" in detail(api.delete("/api/vision/models/fleet-shapes"), 409)


def test_files_are_given_to_agents_from_any_byte_on(api: TestClient, fetching: FakeAgent) -> None:
    form(api, NIGHT, name="night")
    path = "/api/agents/models/lora/night/night.safetensors"
    assert api.get(path, headers=fetching.headers).content == NIGHT
    part = api.get(path, headers={**fetching.headers, "Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, NIGHT[100:])
    assert part.headers["content-range"] == f"bytes 100-{len(NIGHT) - 1}/{len(NIGHT)}"
    for wrong in (f"bytes={len(NIGHT)}-", "bytes=0-1", "lines=1-", "bytes=-5"):
        assert "Range" in detail(api.get(path, headers={**fetching.headers, "Range": wrong}), 400)
    assert api.get(path).status_code == 401
    assert api.get(path + "x", headers=fetching.headers).status_code == 404
    assert api.get("/api/agents/models/lora/night/fleet.json", headers=fetching.headers).status_code == 404


def test_sources(api: TestClient, fetching: FakeAgent) -> None:
    """One that shares fetches from the store; whoever comes meanwhile waits, and then fetches from it."""
    form(api, NIGHT, name="night")
    ask = {"type": "lora", "name": "night", "sha256": sha256(NIGHT), "incarnation": "x"}
    others = [FakeAgent.enrol(api, f"agx{number}") for number in (1, 2, 3, 4)]

    def source(agent: FakeAgent, **more: Any) -> dict[str, Any]:
        api.post("/api/agents/beat", headers=agent.headers, json={"incarnation": agent.incarnation, "cache": {"share_port": 9999}})
        found: dict[str, Any] = api.post("/api/agents/models/source", headers=agent.headers, json={**ask, **more}).json()
        return found

    assert source(fetching)["kind"] == "store"
    assert [source(each)["kind"] for each in others] == ["wait"] * 4
    held = {"share_port": 9999, "files": [sha256(NIGHT)]}
    api.post("/api/agents/beat", headers=fetching.headers, json={"incarnation": fetching.incarnation, "cache": held})
    found = [source(each) for each in others]
    assert [each["kind"] for each in found] == ["neighbour", "neighbour", "wait", "wait"], "one serves two at once"
    assert found[0]["url"] == f"http://127.0.0.1:9999/files/{sha256(NIGHT)}"
    assert found[0]["ticket"]
    assert source(others[0], failed=["agx0"])["kind"] == "wait", "another is at it, and will share"
    assert detail(api.post("/api/agents/models/source", headers=fetching.headers, json={**ask, "sha256": "0" * 64}), 404)


@pytest.fixture
def old(settings: Settings) -> Any:
    """Write files into the store's folders by hand, as of an hour ago."""
    import os
    import time

    def write(path: str, data: bytes) -> Path:
        target = settings.models / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, (time.time() - 3600, time.time() - 3600))
        return target

    return write


def test_what_is_put_into_the_bucket_by_hand_is_found(api: TestClient, old: Any) -> None:
    from tests.support.checkout import ROOT

    for file in (ROOT / "gpu_inference/builtin/model_pastel").iterdir():
        old(f"fleet-models/{_manifest_name(ROOT)}/{file.name}", file.read_bytes())
    old("fleet-loras/by hand/x.safetensors", NIGHT)
    old("fleet-loras/pickle/x.safetensors", HOSTILE["pickle"][0])
    old("fleet-models/bare/model.ckpt", b"x")
    old("fleet-loras/nächtlich/x.safetensors", NIGHT)
    old("fleet-loras/stray.safetensors", NIGHT)
    found = api.post("/api/vision/models/scan").json()
    assert found["found"] == [_manifest_name(ROOT), "by hand"]
    reasons = {each["name"]: each["reason"] for each in found["refused"]}
    assert set(reasons) == {"pickle", "bare", "nächtlich"}
    assert "pickle" in reasons["pickle"]
    [lora_found] = api.get("/api/vision/loras").json()["loras"]
    assert lora_found["sha256"] == sha256(NIGHT)
    model = next(each for each in api.get("/api/vision/models/available").json()["models"] if each["name"] == _manifest_name(ROOT))
    assert (model["stored"], model["note"], model["native_size"]) == (True, "", 128)
    again = api.post("/api/vision/models/scan").json()
    assert (again["found"], again["gone"], len(again["refused"])) == ([], [], 3)


def _manifest_name(root: Path) -> str:
    import json

    name: str = json.loads((root / "gpu_inference/builtin/model_pastel/manifest.json").read_text())["name"]
    return name


def test_what_is_taken_out_by_hand_is_gone_and_what_is_being_copied_is_let_be(api: TestClient, old: Any, settings: Settings) -> None:
    path = old("fleet-loras/x/x.safetensors", NIGHT)
    api.post("/api/vision/models/scan")
    path.unlink()
    assert api.post("/api/vision/models/scan").json()["gone"] == ["x"]
    path.write_bytes(NIGHT)
    assert api.post("/api/vision/models/scan").json() == {"found": [], "gone": [], "refused": []}
    path.write_bytes(NIGHT[:50])
    old("fleet-loras/x/x.safetensors", NIGHT[:50])
    assert api.post("/api/vision/models/scan").json()["refused"][0]["name"] == "x"


def test_the_table_can_be_made_from_the_buckets_alone(api: TestClient) -> None:
    form(api, lora(), name="night", base="fleet-shapes", source="here")
    fleet = api.app.state.fleet
    api.portal.call(fleet.models.forget, "lora", "night")
    assert api.post("/api/vision/models/scan").json()["found"] == ["night"]
    [found] = api.get("/api/vision/loras").json()["loras"]
    assert (found["base"], found["source"], found["note"]) == ("fleet-shapes", "here", "")
