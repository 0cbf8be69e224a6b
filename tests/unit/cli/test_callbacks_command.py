"""``fleet webhook-secret``, and ``fleet jobs --deliveries``."""

from __future__ import annotations

import base64
import shutil
import sqlite3
import time
from contextlib import closing

import httpx

from tests.support.agent import FakeAgent
from tests.support.command import Command
from tests.support.live import Live


def test_the_secret_is_made_shown_replaced_and_audited(fleet: Command) -> None:
    secret = fleet.json("webhook-secret", "show")["secret"]
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert fleet("webhook-secret", "show").stdout == secret + "\n"
    new = fleet("webhook-secret", "rotate").stdout.splitlines()[0]
    assert new.startswith("whsec_")
    assert new != secret
    assert fleet.json("webhook-secret", "show") == {"secret": new}
    assert fleet.json("webhook-secret", "rotate")["secret"] != new
    words = ["show", "show", "rotate", "show", "rotate"]
    assert [entry[4] for entry in fleet.audited()] == [f"fleet webhook-secret {word}" for word in words]
    assert {entry[5] for entry in fleet.audited()} == {"webhook secret"}
    assert fleet("vault", "rotate").stdout.startswith("3 credentials are under")
    assert fleet.json("webhook-secret", "show")["secret"] != new
    for path in fleet.home.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()


def test_a_secret_that_does_not_open_is_a_sentence_and_can_be_replaced(fleet: Command) -> None:
    before = fleet.json("webhook-secret", "show")
    with closing(sqlite3.connect(fleet.home / "fleet.db")) as db, db:
        db.execute("UPDATE webhook_secrets SET id = 'moved'")
    assert "'fleet webhook-secret rotate'" in fleet("webhook-secret", "show", code=6).stderr
    assert fleet.json("webhook-secret", "rotate") != before
    shutil.rmtree(fleet.home / "vault")
    assert "'fleet webhook-secret rotate'" in fleet("webhook-secret", "show", code=6).stderr
    after = fleet.json("webhook-secret", "rotate")
    assert fleet.json("webhook-secret", "show") == after


def test_deliveries_and_replay(fleet: Command, served: Live) -> None:
    assert "No deliveries" in fleet("jobs", "--deliveries", _job(served, None), "--url", served.url).stdout
    job_id = _job(served, "http://app.invalid/hook")
    (delivery,) = fleet.json("jobs", "--deliveries", job_id, "--url", served.url)["deliveries"]
    shown = fleet("jobs", "--deliveries", job_id, "--url", served.url).stdout
    assert delivery["id"] in shown
    assert "job.cancelled" in shown
    replayed = fleet("jobs", "--deliveries", job_id, "--replay", delivery["id"], "--url", served.url)
    assert replayed.stdout == f"{delivery['id']}: pending, it is sent again now\n"
    assert "no delivery 'nope'" in fleet("jobs", "--deliveries", job_id, "--replay", "nope", "--url", served.url, code=4).stderr
    assert "--deliveries JOB_ID" in fleet("jobs", "--replay", "nope", code=2).stderr
    assert "one of them" in fleet("jobs", "--cancel", "a", "--deliveries", "b", code=2).stderr
    assert "one of them" in fleet("jobs", "--explain", "a", "--follow", "b", code=2).stderr


def _job(served: Live, url: str | None) -> str:
    with httpx.Client(base_url=served.url, trust_env=False) as http:
        if not http.get("/api/nodes").json()["nodes"]:
            token = http.post("/api/agents/tokens", json={"node_id": "agx0"}).json()["token"]
            enrolled = http.post("/api/agents/enrol", json={"token": token, "hostname": "agx0", "machine_id": "agx0"}).json()
            FakeAgent(http, enrolled["node_id"], enrolled["credential"]).lease()  # type: ignore[arg-type]
        body = {"job_type": "image_gen", "payload": {"prompt": "x"}, "callback_url": url}
        job_id = str(http.post("/api/queue/jobs", json=body).json()["job_id"])
        http.delete(f"/api/queue/jobs/{job_id}")
        while url and not http.get(f"/api/queue/jobs/{job_id}/deliveries").json()["deliveries"][0]["attempts"]:
            time.sleep(0.02)
        return job_id
