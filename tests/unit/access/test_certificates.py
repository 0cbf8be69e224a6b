"""The certificate authority: made once; certificates made anew when they must be, and never when they were brought."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from fleet_api.access import addresses, authority, certificates
from fleet_api.access.certificate_files import OWN_CA, OWN_CA_KEY, place
from fleet_api.errors import Unavailable
from tests.support.tls import handshake

DAY = 86_400.0
NAMES = ["127.0.0.1", "::1", "localhost", "manager.invalid"]


def test_made_once_and_kept(tmp_path: Path) -> None:
    folder, now = tmp_path / "tls", time.time()
    first = certificates.ensure(folder, NAMES, now)
    assert first.names == tuple(sorted(NAMES))
    assert 396 * DAY < first.not_after - now < 398 * DAY
    assert first.ca_hash == certificates.ca_hash(folder)
    assert certificates.ensure(folder, NAMES, now + DAY) == first
    for name, mode in ((OWN_CA_KEY, 0o600), (certificates.KEY, 0o600), (certificates.CA_FILE, 0o644)):
        assert (folder / name).stat().st_mode & 0o777 == mode
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("later", "more"), [(368 * DAY, []), (0, ["192.0.2.7"])], ids=["near its end", "another address"])
def test_renewed_under_the_same_authority(tmp_path: Path, later: float, more: list[str]) -> None:
    now = time.time()
    first = certificates.ensure(tmp_path, NAMES, now)
    second = certificates.ensure(tmp_path, [*NAMES, *more], now + later)
    assert second.fingerprint != first.fingerprint
    assert second.ca_hash == first.ca_hash
    assert set(second.names) == {*NAMES, *more}


def test_an_address_that_is_gone_renews_nothing(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path, [*NAMES, "192.0.2.7"], time.time())
    assert certificates.ensure(tmp_path, NAMES, time.time()) == first


def test_the_chain_holds_and_a_client_that_trusts_the_authority_connects(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NAMES, time.time())
    client, server = ssl.create_default_context(cafile=str(tmp_path / certificates.CA_FILE)), certificates.context(tmp_path)
    assert handshake(client, server, "manager.invalid")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        handshake(client, server, "evil.invalid")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ssl.create_default_context(), server, "manager.invalid")


@pytest.mark.parametrize("name", [certificates.CERTIFICATE, certificates.KEY, certificates.CA_FILE])
@pytest.mark.parametrize("how", ["rubbish", "missing", "a stranger's"])
def test_a_damaged_file_is_mended_under_the_same_authority(tmp_path: Path, name: str, how: str) -> None:
    folder, other, now = tmp_path / "tls", tmp_path / "other", time.time()
    first, stranger = certificates.ensure(folder, NAMES, now), certificates.ensure(other, NAMES, now)
    if how == "missing":
        (place(folder) / name).unlink()
    else:
        (folder / name).write_bytes(b"rubbish" if how == "rubbish" else (other / name).read_bytes())
    mended = certificates.ensure(folder, NAMES, now)
    assert mended.fingerprint not in (first.fingerprint, stranger.fingerprint)
    assert mended.ca_hash == first.ca_hash
    assert handshake(ssl.create_default_context(cafile=str(folder / certificates.CA_FILE)), certificates.context(folder), "localhost")


def test_a_damaged_file_that_is_only_looked_at_is_a_sentence(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NAMES, time.time())
    (tmp_path / certificates.CERTIFICATE).write_text("rubbish")
    with pytest.raises(Unavailable, match=r"server\.crt is not a certificate.*fleet tls renew"):
        certificates.show(tmp_path)


@pytest.mark.parametrize("wrong", [0.0, 86_400.0, time.time() + 12 * 365 * DAY], ids=["1970", "a day later", "in twelve years"])
def test_a_clock_that_was_wrong_at_first_costs_the_certificate_alone(tmp_path: Path, wrong: float) -> None:
    first = certificates.ensure(tmp_path, NAMES, wrong)
    now = time.time()
    second = certificates.ensure(tmp_path, NAMES, now)
    assert second.fingerprint != first.fingerprint
    assert second.ca_hash == first.ca_hash
    assert handshake(ssl.create_default_context(cafile=str(tmp_path / certificates.CA_FILE)), certificates.context(tmp_path), "localhost")
    assert certificates.ensure(tmp_path, NAMES, now + 5) == second
    assert certificates.ensure(tmp_path, NAMES, 0.0).ca_hash == first.ca_hash, "nor does a machine that forgets the time lose it"


@pytest.mark.parametrize("how", ["key missing", "key damaged", "certificate missing", "key of another", "ended"])
def test_only_an_authority_that_cannot_be_used_is_replaced_loudly_and_kept(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other, now = tmp_path / "tls", tmp_path / "other", time.time()
    first = certificates.ensure(folder, NAMES, now)
    certificates.ensure(other, NAMES, now)
    said: list[str] = []
    monkeypatch.setattr(authority.log, "warning", lambda event, **more: said.append(f"{event} {more['what']}"), raising=False)
    match how:
        case "key missing":
            (folder / OWN_CA_KEY).unlink()
        case "key damaged":
            (folder / OWN_CA_KEY).write_text("rubbish")
        case "certificate missing":
            (folder / OWN_CA).unlink()
        case "key of another":
            (folder / OWN_CA_KEY).write_bytes((other / OWN_CA_KEY).read_bytes())
        case "ended":
            now += 3651 * DAY
    if how != "ended":
        assert certificates.ensure(folder, NAMES, now) == first, "what it signed is good all the same"
        assert not said
        now += 370 * DAY
    second = certificates.ensure(folder, NAMES, now)
    assert second.ca_hash != first.ca_hash
    assert len(said) == 1
    assert said[0].startswith("AUTHORITY REPLACED")
    assert str(folder / "own-ca") in said[0]
    assert len(list(folder.glob("own-ca-until-*"))) == (1 if "missing" in how else 2)
    assert certificates.ensure(folder, NAMES, now + 5) == second


def test_names_are_brought_to_one_form(tmp_path: Path) -> None:
    now, odd = time.time(), ["2001:db8:0::1", "2001:DB8::2", "bücher.example", "Manager.Invalid.", "not a name", "-x", "*", "a" * 64, ""]
    first = certificates.ensure(tmp_path, odd, now)
    assert set(first.names) == {"2001:db8::1", "2001:db8::2", "xn--bcher-kva.example", "manager.invalid"}
    assert certificates.ensure(tmp_path, odd, now) == first


def test_what_cannot_be_served_leaves_a_context_as_it_was(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NAMES, time.time())
    client, server = ssl.create_default_context(cafile=str(tmp_path / certificates.CA_FILE)), certificates.context(tmp_path)
    (tmp_path / certificates.KEY).write_text("rubbish")
    with pytest.raises(Unavailable, match=r"server\.key cannot be served"):
        certificates.load(server, tmp_path)
    assert handshake(client, server, "localhost")


def test_the_authority_may_sign_and_nothing_else(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NAMES, time.time())
    found = x509.load_pem_x509_certificate((tmp_path / certificates.CA_FILE).read_bytes())
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    served = x509.load_pem_x509_certificate((tmp_path / certificates.CERTIFICATE).read_bytes())
    assert not served.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_own_names_hold_loopback_and_no_wildcards() -> None:
    found = addresses.own_names(["manager.invalid", "*", "*.invalid", ""])
    assert {"127.0.0.1", "::1", "localhost", "manager.invalid"} <= set(found)
    assert not any("*" in name or "%" in name or not name for name in found)
