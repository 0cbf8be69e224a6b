"""The rows of backups: made, listed, verified and made ready to restore as operations; the next start restores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.app import create_app
from fleet_api.backups import archive, restoring
from fleet_api.backups.manifest import Manifest
from fleet_api.backups.sources import Source
from fleet_api.settings import Settings
from tests.support import homes
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.s3 import LOOPBACK, S3Server


def ended(api: TestClient, answer: Any) -> dict[str, Any]:
    """Return the operation of an answer, once it has ended."""
    assert answer.status_code == 201, answer.text
    deadline = time.monotonic() + 30
    while True:
        row: dict[str, Any] = api.get(f"/api/operations/{answer.json()['id']}").json()
        if row["state"] not in ("queued", "running"):
            return row
        assert time.monotonic() < deadline, row
        time.sleep(0.02)


def test_made_verified_and_restored_at_the_next_start(api: TestClient, settings: Settings, clock: ManualClock) -> None:
    api.post("/api/vault", json={"name": "before", "username": "me", "password": "secret-of-mine"})
    assert api.get("/api/backups").json() == {"backups": [], "total": 0, "target": str(settings.home / "backups"), "waiting": None}
    row = ended(api, api.post("/api/backups"))
    assert (row["kind"], row["state"], row["progress"]) == ("backup", "succeeded", 100.0)
    backup_id = row["result"]["backup_id"]
    [found] = api.get("/api/backups").json()["backups"]
    assert (found["id"], found["outputs"], found["keys"], found["sha256"]) == (backup_id, False, False, row["result"]["sha256"])
    assert ended(api, api.post(f"/api/backups/{backup_id}/verify"))["state"] == "succeeded"

    api.post("/api/vault", json={"name": "after", "username": "me", "password": "secret-of-mine"})
    row = ended(api, api.post(f"/api/backups/{backup_id}/restore"))
    assert (row["state"], row["result"]) == ("succeeded", {"backup_id": backup_id, "applied": False})
    assert api.get("/api/backups").json()["waiting"] == backup_id
    assert {each["name"] for each in api.get("/api/vault").json()} == {"before", "after"}, "nothing is changed while it runs"
    api.__exit__(None, None, None)
    assert restoring.at_start(settings.home) is not None
    with client_of(create_app(settings, clock)) as again:
        assert [each["name"] for each in again.get("/api/vault").json()] == ["before"]
        assert again.get("/api/backups").json()["waiting"] is None
    api.__enter__()


def test_a_restore_that_waits_is_taken_back(api: TestClient, settings: Settings) -> None:
    answer = api.delete("/api/backups/restore")
    assert (answer.status_code, answer.json()["detail"]) == (404, "No restore waits; 'fleet backup list' shows the backups.")
    backup_id = ended(api, api.post("/api/backups"))["result"]["backup_id"]
    for _ in range(2):
        ended(api, api.post(f"/api/backups/{backup_id}/restore"))
        assert api.get("/api/backups").json()["waiting"] == backup_id
        answer = api.delete("/api/backups/restore")
        assert (answer.status_code, answer.json()) == (200, {"backup_id": backup_id})
        assert api.get("/api/backups").json()["waiting"] is None
        assert not (settings.home / ".restore").exists()
    assert restoring.at_start(settings.home) is None
    ended(api, api.post(f"/api/backups/{backup_id}/restore"))
    assert f"{backup_id} is not restored" in fleet(settings.home, "backup", "cancel"), "the command does it while the API runs"
    assert "No restore waits" in fleet(settings.home, "backup", "cancel", code=4)
    assert "No restore waits" in fleet(settings.home / "none", "backup", "cancel", code=4)
    assert not (settings.home / "none").exists()
    assert api.get("/api/backups").json()["waiting"] is None


def test_what_is_not_there_or_damaged_is_said(api: TestClient, settings: Settings) -> None:
    for verb in ("verify", "restore"):
        answer = api.post(f"/api/backups/fleet-20260101T000000Z-0000/{verb}")
        assert (answer.status_code, "There is no backup" in answer.json()["detail"]) == (404, True)
        answer = api.post(f"/api/backups/..%2F..%2Fetc/{verb}")
        assert answer.status_code in (400, 404)
        answer = api.post(f"/api/backups/nope/{verb}")
        assert (answer.status_code, "is no backup's id" in answer.json()["detail"]) == (400, True)
    backup_id = ended(api, api.post("/api/backups", json={"outputs": True}))["result"]["backup_id"]
    path = settings.home / "backups" / f"{backup_id}.tar.gz"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    for verb in ("verify", "restore"):
        row = ended(api, api.post(f"/api/backups/{backup_id}/{verb}"))
        assert (row["state"], "is damaged" in row["reason"]) == ("failed", True)
    assert restoring.waiting(settings.home) is None


def test_two_at_once_both_end_and_one_is_made(api: TestClient) -> None:
    answers = [api.post("/api/backups") for _ in range(3)]
    rows = [ended(api, answer) for answer in answers]
    assert {row["state"] for row in rows} <= {"succeeded", "failed"}
    made = [row for row in rows if row["state"] == "succeeded"]
    assert made
    assert all("already; wait for its end" in row["reason"] for row in rows if row["state"] == "failed")
    assert api.get("/api/backups").json()["total"] == len(made)


def test_the_clock_makes_them_and_the_oldest_go(tmp_path: Path, clock: ManualClock) -> None:
    settings = Settings(home=tmp_path / "home", port=0, backup_keep=2, backup_target=str(tmp_path / "target"))
    homes.made(settings.home)
    with client_of(create_app(settings, clock)) as api:
        jobs = {each["name"]: each for each in api.get("/api/schedule").json()}
        assert jobs["backup"]["next_run"].endswith("T03:30:00.000Z")
        for _ in range(4):
            clock.advance(10)
            outcome = api.post("/api/schedule/backup/run").json()["outcome"]
            deadline = time.monotonic() + 30
            while api.get(f"/api/operations/{outcome.removeprefix('Operation ')}").json()["state"] != "succeeded":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert api.get("/api/backups").json()["total"] == 2
        assert len(list((tmp_path / "target").iterdir())) == 4
    with client_of(create_app(settings.model_copy(update={"backup_schedule": "off"}), clock)) as api:
        assert "backup" not in {each["name"] for each in api.get("/api/schedule").json()}


def test_to_a_store_and_without_one(tmp_path: Path, clock: ManualClock) -> None:
    with S3Server(tmp_path / "s3") as server:
        settings = Settings(
            home=tmp_path / "home", port=0, backup_target="s3://fleet-backups/site", s3_endpoint=server.url, s3_credential="store",
            s3_networks=list(LOOPBACK),
        )  # fmt: skip
        homes.made(settings.home)
        with client_of(create_app(settings, clock)) as api:
            assert api.get("/api/backups").status_code == 503
            answer = api.post("/api/backups")
            row = ended(api, answer)
            assert row["state"] == "failed"
            assert "The vault has no credential 'store'" in row["reason"]
            api.post("/api/vault", json={"name": "store", "username": server.key, "password": server.secret})
            backup_id = ended(api, api.post("/api/backups", json={"outputs": True}))["result"]["backup_id"]
            assert api.get("/api/backups").json()["target"] == "s3://fleet-backups/site/"
            assert ended(api, api.post(f"/api/backups/{backup_id}/verify"))["state"] == "succeeded"
            assert ended(api, api.post(f"/api/backups/{backup_id}/restore"))["state"] == "succeeded"
            server.stop()
            assert api.get("/api/backups").status_code == 503
            assert ended(api, api.post("/api/backups"))["state"] == "failed"
    assert not (settings.home / ".backup").exists()


@pytest.mark.parametrize("target", ["backups", "s3://", "s3://Up/x", "ftp://x"])
def test_a_target_that_is_none_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(ValueError, match="must be an absolute folder"):
        Settings(home=tmp_path, backup_target=target)


def fleet(home: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "fleet_api", *words, "--home", str(home)], capture_output=True, text=True)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_command_does_all_of_it_without_the_api(tmp_path: Path) -> None:
    home = homes.made(tmp_path / "home")
    assert "It opens no secret: keep a copy of" in fleet(home, "backup", "create")
    made = json.loads(fleet(home, "backup", "create", "--outputs", "--with-keys", "--target", str(tmp_path / "safe"), "--json"))
    assert made["id"] in fleet(home, "backup", "list", "--target", str(tmp_path / "safe"))
    assert "whole" in fleet(home, "backup", "verify", made["id"], "--target", str(tmp_path / "safe"))
    fresh = tmp_path / "fresh"
    assert "is restored." in fleet(fresh, "backup", "restore", str(tmp_path / "safe" / f"{made['id']}.tar.gz"))
    assert homes.opened(fresh, "lab") == homes.SECRET
    assert "There is no file" in fleet(fresh, "backup", "restore", str(tmp_path / "nope.tar.gz"), code=4)
    again = fleet(home, "backup", "restore", made["id"], "--target", str(tmp_path / "safe"))
    assert f"What was there before is in {home}/before-restore/" in again
    shutil.rmtree(fresh)


def test_the_command_keeps_them_in_a_store_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = homes.made(tmp_path / "home")
    with S3Server(tmp_path / "s3") as server:
        monkeypatch.setenv("FLEET_S3_ENDPOINT", server.url)
        monkeypatch.setenv("FLEET_S3_CREDENTIAL", "store")
        words = ("--target", "s3://fleet-backups/site")
        assert "The vault has no credential 'store'" in fleet(home, "backup", "create", *words, code=6)
        for folder in (home, tmp_path / "fresh"):
            add = [sys.executable, "-m", "fleet_api", "vault", "add", "store", "-u", server.key, "--home", str(folder)]
            subprocess.run(add, input=f"{server.secret}\n", text=True, check=True, capture_output=True)
        made = json.loads(fleet(home, "backup", "create", *words, "--json"))
        assert made["id"] in fleet(home, "backup", "list", *words)
        assert "whole" in fleet(home, "backup", "verify", made["id"], *words)
        assert "is restored." in fleet(tmp_path / "fresh", "backup", "restore", made["id"], *words)
    assert homes.credentials(tmp_path / "fresh" / "fleet.db") == ["lab", "store"]


def test_a_backup_that_is_cancelled_leaves_nothing(api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = archive.write

    def slowly(path: Path, manifest: Manifest, sources: list[Source], going: archive.Going) -> Manifest:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            going()
            time.sleep(0.01)
        return real(path, manifest, sources, going)

    monkeypatch.setattr(archive, "write", slowly)
    started = api.post("/api/backups")
    while api.get(f"/api/operations/{started.json()['id']}").json()["step"] != "write the archive":
        time.sleep(0.01)
    assert api.post(f"/api/operations/{started.json()['id']}/cancel").status_code == 200
    row = ended(api, started)
    assert row["state"] == "cancelled"
    assert not (settings.home / ".backup").exists()
    monkeypatch.undo()
    assert api.get("/api/backups").json()["total"] == 0
    assert ended(api, api.post("/api/backups"))["state"] == "succeeded"


@pytest.mark.parametrize("ending", ["cancelled", "stopped"])
@pytest.mark.parametrize("hangs", ["put", "open"])
def test_nobody_waits_for_a_store_that_hangs(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, hangs: str, ending: str
) -> None:
    real, hanging, goes_on = getattr(S3Store, hangs), threading.Event(), threading.Event()

    def hang(*args: Any, **more: Any) -> Any:
        if args[2].endswith(".tar.gz"):
            hanging.set()
            goes_on.wait(60)
        return real(*args, **more)

    with S3Server(tmp_path / "s3") as server:
        settings = Settings(
            home=tmp_path / "home", port=0, backup_target="s3://fleet-backups/site", s3_endpoint=server.url, s3_credential="store",
            s3_networks=list(LOOPBACK),
        )  # fmt: skip
        homes.made(settings.home)
        with client_of(create_app(settings, clock)) as api:
            api.post("/api/vault", json={"name": "store", "username": server.key, "password": server.secret})
            monkeypatch.setattr(S3Store, hangs, hang)
            started = api.post("/api/backups")
            assert hanging.wait(20)
            began = time.monotonic()
            if ending == "cancelled":
                assert api.post(f"/api/operations/{started.json()['id']}/cancel").status_code == 200
                assert ended(api, started)["state"] == "cancelled"
                assert time.monotonic() - began < 8
                assert api.get("/api/backups").json()["total"] == 0
        assert time.monotonic() - began < 10
        with client_of(create_app(settings, clock)) as api:
            assert api.get("/api/backups").json()["total"] == 0
            goes_on.set()
            monkeypatch.undo()
            deadline = time.monotonic() + 30
            while ended(api, api.post("/api/backups"))["state"] != "succeeded":  # once the one that hung is done with its lock
                assert time.monotonic() < deadline
            assert api.get("/api/backups").json()["total"] == 1


def test_it_does_not_restore_under_a_running_control_plane(tmp_path: Path) -> None:
    from fleet_api.kit.home import claim

    home = homes.made(tmp_path / "home")
    made = json.loads(fleet(home, "backup", "create", "--json"))
    with claim(home, "api.lock"):
        assert "already runs on" in fleet(home, "backup", "restore", made["id"], code=5)
        fleet(home, "backup", "create")
