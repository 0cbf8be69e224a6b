"""``fleet outputs``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import httpx
import pytest

from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from tests.support.agent import FakeAgent
from tests.support.command import Command
from tests.support.live import Live


@pytest.fixture(scope="module")
def names(served: Live) -> list[str]:
    http = httpx.Client(base_url=served.url, trust_env=False, timeout=30)
    token = served.call(create_token(served.fleet.db, SystemClock(), None))
    enrolled = http.post("/api/agents/enrol", json={"token": token, "hostname": "agx7", "machine_id": "agx7"}).json()
    agent = FakeAgent(http, enrolled["node_id"], enrolled["credential"])  # type: ignore[arg-type]
    agent.lease()
    found = []
    for prompt in ("a lantern fish", "a paper lantern", "a quiet harbour"):
        job = http.post("/api/vision/generate", json={"prompt": prompt}).json()["job_id"]
        agent.finish(agent.take())
        found.append(f"image_{job}.png")
    return found


def test_they_are_listed_and_searched(fleet: Command, served: Live, names: list[str]) -> None:
    shown = fleet("outputs", "list", "-q", "lantern", "--url", served.url).stdout
    assert all(name in shown for name in names[:2])
    assert names[2] not in shown
    first = fleet.json("outputs", "list", "-q", "lantern", "--limit", "1", "--url", served.url)
    assert first["images"][0]["filename"] == names[1]
    assert f"--cursor {first['next']}" in fleet("outputs", "list", "-q", "lantern", "--limit", "1", "--url", served.url).stdout
    last = fleet.json("outputs", "list", "-q", "lantern", "--limit", "1", "--cursor", str(first["next"]), "--url", served.url)
    assert (last["images"][0]["filename"], last["next"]) == (names[0], None)
    assert "There are no such outputs." in fleet("outputs", "list", "-q", "submarine", "--url", served.url).stdout
    assert fleet.json("outputs", "list", "--since", "2199-01-01", "--url", served.url)["total"] == 0


def test_they_are_brought_here(fleet: Command, served: Live, names: list[str], tmp_path: Path) -> None:
    one, both = tmp_path / "one.png", tmp_path / "both.zip"
    assert str(one) in fleet("outputs", "get", names[0], "-o", str(one), "--url", served.url).stdout
    assert one.read_bytes().startswith(b"\x89PNG")
    fleet("outputs", "get", names[0], names[1], "-o", str(both), "--url", served.url)
    with zipfile.ZipFile(both) as packed:
        assert packed.namelist() == names[:2]
    assert "Name the archive" in fleet("outputs", "get", names[0], names[1], "--url", served.url, code=2).stderr
    assert "There is no output 'nope.png'." in fleet("outputs", "get", "nope.png", "-o", str(one), "--url", served.url, code=4).stderr
    assert "cannot be written" in fleet("outputs", "get", names[0], "-o", str(tmp_path / "no" / "x"), "--url", served.url, code=4).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.zip", "one.png"], "nothing is left of what failed"


def test_stars_and_the_bin(fleet: Command, served: Live, names: list[str]) -> None:
    assert "has a star" in fleet("outputs", "star", names[2], "--url", served.url).stdout
    assert [each["filename"] for each in fleet.json("outputs", "list", "--starred", "--url", served.url)["images"]] == [names[2]]
    assert "no star" in fleet("outputs", "star", names[2], "--off", "--url", served.url).stdout
    assert f"to undo it: fleet outputs restore {names[2]}" in fleet("outputs", "delete", names[2], "--url", served.url).stdout
    assert names[2] in fleet("outputs", "list", "--deleted", "--url", served.url).stdout
    assert "restored" in fleet("outputs", "restore", names[2], "--url", served.url).stdout
    assert '"parameters"' in fleet("outputs", "show", names[2], "--url", served.url).stdout
    fleet("outputs", "delete", "--now", names[2], "--url", served.url)
    assert "There is no" in fleet("outputs", "restore", names[2], "--url", served.url, code=4).stderr


def test_without_an_s3_store_it_says_how_to_get_one(fleet: Command, served: Live, names: list[str]) -> None:
    shown = fleet("outputs", "stats", "--url", served.url).stdout
    assert "store     unset: The fleet has no S3 store" in shown
    assert "last sync never" in shown
    for command in (["sync"], ["cleanup", "--dry-run"], ["move"]):
        assert "run the playbook 'storage'" in fleet("outputs", *command, "--url", served.url, code=4).stderr
