"""``fleet vault`` on a data folder: secrets come in by standard input and files, and never out."""

from __future__ import annotations

import subprocess
from pathlib import Path

from typer.testing import CliRunner

from fleet_api.cli.main import app
from tests.support.command import Command

CANARY = "canary-5d1e"


def given(fleet: Command, text: str, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["vault", *words], env=fleet._env, input=text)
    assert done.exit_code == code, (done.output, done.exception)
    assert CANARY not in done.output
    return done.output


def test_added_listed_changed_and_removed(fleet: Command) -> None:
    assert "The vault is empty." in fleet("vault", "list").stdout
    said = given(fleet, f"{CANARY}\n{CANARY}2\n", "add", "lab", "-u", "jetson", "--password", "--become")
    assert said == "lab: kept, for user jetson, with password, become_password\n"
    (listed,) = fleet.json("vault", "list")
    assert (listed["name"], listed["username"], listed["kinds"]) == ("lab", "jetson", ["password", "become_password"])
    assert "lab" in fleet("vault", "list").stdout
    given(fleet, f"{CANARY}3\n", "change", "lab", "--password", "-u", "ubuntu")
    assert fleet.json("vault", "list")[0]["username"] == "ubuntu"
    assert "--username, --password, --key or --become" in fleet("vault", "change", "lab", code=2).stderr
    before = fleet.json("vault", "rotate")
    assert before["rewrapped"] == 1
    assert f"removed: {before['key_id']}" in fleet("vault", "rotate").stdout
    assert fleet("vault", "remove", "lab").stdout == "lab: removed\n"
    assert "There is no credential 'lab'" in fleet("vault", "remove", "lab", code=4).stderr
    rows = [entry[4] for entry in fleet.audited()]
    assert rows[0] == "fleet vault add"
    assert rows[-1] == "fleet vault remove"
    assert CANARY not in repr(fleet.audited())
    for path in fleet.home.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


def test_keys(fleet: Command, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", CANARY, "-f", str(key)], check=True)
    given(fleet, f"{CANARY}\n", "add", "locked", "-u", "jetson", "--key", str(key))
    assert fleet.json("vault", "list")[0]["kinds"] == ["private_key", "passphrase"]
    assert "passphrase: it does not open the private key." in given(fleet, "no\n", "add", "l2", "-u", "j", "--key", str(key), code=2)
    assert "private_key: it is no private key" in given(fleet, "", "add", "l2", "-u", "j", "--key", str(key) + ".pub", code=2)
    assert "No such file" in given(fleet, "", "add", "l2", "-u", "j", "--key", str(tmp_path / "none"), code=6)
    assert "standard input has no line for it" in given(fleet, "", "add", "l2", "-u", "j", code=2)
    assert "username: " in given(fleet, "x\n", "add", "l2", "-u", "a b", code=2)
    assert "already" in given(fleet, "x\n", "add", "locked", "-u", "j", code=4)
