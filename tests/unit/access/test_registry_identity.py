"""The registry's certificate and password, made once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import bcrypt
import pytest

from fleet_api.access import certificates, registry_identity
from fleet_api.access.authority import read_certificate
from fleet_api.access.registry_identity import Wanted, ensure, login, missing
from fleet_api.errors import InvalidValue, Unavailable
from fleet_api.kit.clock import SystemClock

NOW = SystemClock().now()
WANTED = Wanted("192.0.2.10:5000", ("192.0.2.10", "registry.invalid"), "fleet")


def test_made_once_and_private(tmp_path: Path) -> None:
    folder, tls = tmp_path / "registry", tmp_path / "tls"
    assert login(folder) is None
    assert missing(folder, tls, WANTED, NOW) == ["certificate", "login"]
    assert not folder.exists()
    assert ensure(folder, tls, WANTED, NOW) == ["certificate", "login"]
    assert ensure(folder, tls, WANTED, NOW) == []
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    found = login(folder)
    assert found is not None
    assert found.password not in repr(found)
    user, hashed = (folder / "htpasswd").read_text().strip().split(":")
    assert user == "fleet"
    assert bcrypt.checkpw(found.password.encode(), hashed.encode())
    assert set(json.loads((folder / "docker.json").read_text())["auths"]) == {"192.0.2.10:5000"}
    read_certificate(folder / "registry.crt").verify_directly_issued_by(read_certificate(tls / "own-ca.crt"))


def test_what_root_makes_is_the_control_planes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    others, nowhere = tmp_path.parent / "others", tmp_path / "registry" / "nowhere"
    others.mkdir()
    (others / "file").write_text("root's")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "linked").symlink_to(others / "file")
    (tmp_path / "registry" / "folder").symlink_to(others)
    nowhere.symlink_to("/nowhere")
    os.chown(tmp_path, 1234, 1235)
    ensure(tmp_path / "registry", tmp_path / "tls", WANTED, NOW)
    for path in (tmp_path / "registry", *(tmp_path / "registry").iterdir()):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 1235)
    assert {others.stat().st_uid, (others / "file").stat().st_uid} == {0}, "what a link leads to stays another's"


def test_another_address_keeps_the_password(tmp_path: Path) -> None:
    folder, tls = tmp_path / "registry", tmp_path / "tls"
    ensure(folder, tls, WANTED, NOW)
    before = login(folder)
    moved = Wanted("192.0.2.11:5000", ("192.0.2.11",), "fleet")
    assert ensure(folder, tls, moved, NOW) == ["certificate", "login"]
    after = login(folder)
    assert before is not None
    assert after is not None
    assert (after.password, after.address) == (before.password, "192.0.2.11:5000")


def test_a_certificate_near_its_end_or_of_another_authority_is_made_anew(tmp_path: Path) -> None:
    folder, tls = tmp_path / "registry", tmp_path / "tls"
    ensure(folder, tls, WANTED, NOW)
    assert missing(folder, tls, WANTED, NOW + 370 * 86_400) == ["certificate"]
    assert missing(folder, tmp_path / "other", WANTED, NOW) == ["certificate"]
    (folder / "registry.key").unlink()
    assert ensure(folder, tls, WANTED, NOW) == ["certificate"]
    (folder / "registry.crt").write_text("rubbish")
    assert ensure(folder, tls, WANTED, NOW) == ["certificate"]


def test_a_damaged_login_is_said_and_mended(tmp_path: Path) -> None:
    folder, tls = tmp_path / "registry", tmp_path / "tls"
    ensure(folder, tls, WANTED, NOW)
    (folder / "login.json").write_text("{")
    with pytest.raises(Unavailable, match="run the playbook 'registry' again"):
        login(folder)
    assert ensure(folder, tls, WANTED, NOW) == ["login"]


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:70000", "ho st:5000", "host:5000/x", "-:x", "a:5000:5000\n"])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InvalidValue, match=r"such as 192.0.2.10:5000"):
        Wanted(address, ("a",), "fleet")


@pytest.mark.parametrize("name", ["", "Fleet", "a:b", "x" * 40, "-x"])
def test_bad_users(name: str) -> None:
    with pytest.raises(InvalidValue, match="lower-case letters"):
        Wanted("a:5000", ("a",), name)


def test_certificates_for_others_want_names(tmp_path: Path) -> None:
    for names in ([], ["a b"], ["ok", ""]):
        with pytest.raises(InvalidValue, match="cannot be in a certificate"):
            certificates.sign_for(tmp_path, names, NOW)
    assert registry_identity.LOGIN == "login.json"
