"""Who opens the object store: made once, in the vault alone; beside an API that runs; a pair that everybody knows is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.service import VaultService
from fleet_api.errors import Conflict, FleetError, InvalidValue
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.kit.home import give_to_owner
from fleet_api.migrate import upgrade
from fleet_api.storage import identity, known
from fleet_api.storage.identity import Wanted

WANTED = Wanted("http://192.0.2.10:9010")


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[VaultService]:
    upgrade(tmp_path / "fleet.db")
    db = Database(tmp_path / "fleet.db")
    yield VaultService(db, SystemClock(), Keyring(tmp_path / "vault"))
    await db.close()


async def test_made_once_and_in_no_file(vault: VaultService, tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    assert await identity.missing(vault, folder, WANTED) == ["credential", "note"]
    assert not folder.exists()
    assert await identity.ensure(vault, folder, WANTED) == ["credential", "note"]
    secret = await vault.open("object-storage")
    assert await identity.ensure(vault, folder, WANTED) == []
    assert (await vault.open("object-storage")).password == secret.password
    assert len(secret.password or "") >= 40
    assert known.read(folder) == known.KnownStore(endpoint="http://192.0.2.10:9010", credential="object-storage")
    text = (secret.password or "").encode()
    assert holding(tmp_path, text) == []


async def test_root_gives_links_away_and_not_what_they_lead_to(
    vault: VaultService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given: dict[Path, bool] = {}

    def chown(path: Path, _user: int, _group: int, *, follow_symlinks: bool = True) -> None:
        given[Path(path)] = follow_symlinks

    others = tmp_path_factory.mktemp("others")
    (others / "theirs").write_text("another's")
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "linked").symlink_to(others / "theirs")
    (tmp_path / "storage" / "nowhere").symlink_to("/nowhere")
    (tmp_path / "fleet.db-linked").symlink_to(others / "theirs")
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, 1235)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    await identity.ensure(vault, tmp_path / "storage", WANTED)
    assert {"linked", "nowhere", "fleet.db-linked", "store.json", "fleet.db"} <= {path.name for path in given}
    assert set(given.values()) == {False}
    given.clear()
    give_to_owner(tmp_path, [others, tmp_path / "gone"])
    (tmp_path / "led").symlink_to(others)
    give_to_owner(tmp_path, [tmp_path / "led"])
    assert set(given) == {others, others / "theirs", tmp_path / "gone", tmp_path / "led"}, "a linked folder is not gone into"


async def test_a_store_that_moves_keeps_its_credential(vault: VaultService, tmp_path: Path) -> None:
    await identity.ensure(vault, tmp_path / "storage", WANTED)
    before = await vault.open("object-storage")
    assert await identity.ensure(vault, tmp_path / "storage", Wanted("http://192.0.2.11:9010", region="eu-1")) == ["note"]
    assert (await vault.open("object-storage")).password == before.password


@pytest.mark.parametrize(
    ("access_key", "secret_key"),
    [("minioadmin", "minioadmin123"), ("minioadmin", "minioadmin"), ("fleet", "MinioAdmin123"), ("a-key-of-ours", "a-key-of-ours")],
)
async def test_a_pair_that_everybody_knows_is_refused(vault: VaultService, tmp_path: Path, access_key: str, secret_key: str) -> None:
    await vault.add("object-storage", access_key, {"password": secret_key})
    for work in (identity.missing, identity.ensure):
        with pytest.raises(Conflict, match="everybody knows"):
            await work(vault, tmp_path / "storage", WANTED)
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("secret", ["short", 'quotes"in-it', "dollar$HOME", "two words here", "back\\slash-ed"])
async def test_a_secret_that_no_file_of_settings_can_hold_is_refused(vault: VaultService, tmp_path: Path, secret: str) -> None:
    await vault.add("object-storage", "fleet", {"password": secret})
    with pytest.raises(InvalidValue):
        await identity.missing(vault, tmp_path / "storage", WANTED)


@pytest.mark.parametrize(
    "given",
    [
        {"endpoint": "192.0.2.10:9010"}, {"endpoint": "ftp://192.0.2.10"}, {"endpoint": "http://x:99999"}, {"endpoint": "http://u:p@x"},
        {"endpoint": "http://x/path"}, {"endpoint": "http://x", "region": "EU 1"}, {"endpoint": "http://x", "credential": "../x"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_sentence(given: dict[str, Any]) -> None:
    with pytest.raises(FleetError, match="is not allowed"):
        Wanted(**given)


def test_what_root_makes_is_the_control_planes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 1234, 1235)
    fleet(home, "storage", "identity", "http://192.0.2.10:9010")
    made = [home / "storage" / "store.json", home / "vault" / "current", home / "fleet.db", *(home / "vault" / "keys").iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 1235)}


def test_the_command_says_what_it_did_and_shows_no_secret(tmp_path: Path) -> None:
    words = ("storage", "identity", "http://192.0.2.10:9010", "--json")
    assert json.loads(fleet(tmp_path / "home", *words, "--check"))["made"] == ["credential", "note"]
    assert not (tmp_path / "home").exists()
    first = fleet(tmp_path / "home", *words)
    assert json.loads(first)["made"] == ["credential", "note"]
    assert json.loads(fleet(tmp_path / "home", *words))["made"] == []
    handed = handing(tmp_path / "home")
    assert (handed["endpoint"], handed["region"]) == ("http://192.0.2.10:9010", "us-east-1")
    assert handed["secret_key"] not in first


def test_a_home_without_a_store_hands_nothing_out(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "fleet_api.storage.handing", "--home", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "run the playbook 'storage'" in done.stderr


def holding(folder: Path, text: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def handing(home: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fleet_api.storage.handing", "--home", str(home)], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def fleet(home: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    done = subprocess.run(
        [sys.executable, "-m", "fleet_api", *words], env={**environment, "FLEET_HOME": str(home)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
