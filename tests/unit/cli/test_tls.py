"""``fleet tls``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_api.access import certificates
from tests.support.command import Command


def test_before_there_is_one(fleet: Command) -> None:
    assert fleet("tls", "show").stdout.startswith("No certificate yet. It is made at the first start on another address than loopback")
    assert fleet.json("tls", "show") is None
    assert not fleet.home.exists()


def test_renewed_in_a_fresh_home(fleet: Command) -> None:
    assert fleet("tls", "renew").stdout == "Renewed. A control plane that runs serves it within seconds.\n"
    assert fleet.home.stat().st_mode & 0o777 == 0o700
    folder = fleet.home / "tls"
    secret = [path for path in folder.rglob("*.key") if not path.is_symlink()]
    assert {path.name for path in secret} == {"server.key", "own-ca.key"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secret)
    found = fleet.json("tls", "show")
    assert {"127.0.0.1", "::1", "localhost"} <= set(found["names"])
    assert (found["certificate"], found["authority"]) == (str(folder / "server.crt"), str(folder / "ca.crt"))
    assert found["authority_sha256"] == certificates.ca_hash(folder)
    assert found["brought"] is False
    shown = fleet("tls", "show").stdout
    assert "(396 days); it is renewed by itself" in shown
    for text in (str(folder / "server.crt"), "localhost", found["sha256"], found["authority_sha256"]):
        assert text in shown


def test_one_from_elsewhere_and_back(fleet: Command, tmp_path: Path) -> None:
    other = Command(tmp_path / "other")
    other("tls", "renew")
    fleet("tls", "renew")
    before = fleet.json("tls", "show")
    given = [str(tmp_path / "other" / "tls" / name) for name in ("server.crt", "server.key", "ca.crt")]
    assert fleet("tls", "use", "--cert", given[0], "--key", given[1]).stdout.startswith("In use.")
    shown = fleet("tls", "show").stdout
    assert ", brought from elsewhere" in shown
    assert "authority    not known here" in shown
    assert fleet.json("tls", "show")["authority"] is None
    fleet("tls", "use", "--cert", given[0], "--key", given[1], "--ca", given[2])
    assert fleet.json("tls", "show")["authority_sha256"] == other.json("tls", "show")["authority_sha256"]
    fleet("tls", "renew")
    assert fleet.json("tls", "show")["authority_sha256"] == before["authority_sha256"]


@pytest.mark.parametrize(("number", "sentence"), [(0, "none.pem cannot be read: No such file or directory."), (1, "is not the key of")])
def test_what_cannot_be_used(fleet: Command, tmp_path: Path, number: int, sentence: str) -> None:
    fleet("tls", "renew")
    folder = fleet.home / "tls"
    cert, key = (tmp_path / "none.pem", folder / "server.key") if number == 0 else (folder / "server.crt", folder / "own-ca.key")
    assert sentence in fleet("tls", "use", "--cert", str(cert), "--key", str(key), code=2).stderr


def test_a_damaged_file_is_named_and_mended(fleet: Command) -> None:
    fleet("tls", "renew")
    (fleet.home / "tls" / "server.crt").write_text("rubbish")
    assert "server.crt is not a certificate in PEM form; 'fleet tls renew' makes a new one." in fleet("tls", "show", code=6).stderr
    fleet("tls", "renew")
    fleet("tls", "show")


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    assert f"The data folder {home} cannot be used" in Command(home)("tls", "renew", code=6).stderr
