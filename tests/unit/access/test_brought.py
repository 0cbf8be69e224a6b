"""A certificate from elsewhere: taken only if it can be served and trusted, kept, warned about; and the way back."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_api.access import certificates, listening
from fleet_api.access.certificate_files import place
from fleet_api.access.certificates import Certificate
from fleet_api.errors import InvalidValue, Unavailable

DAY = 86_400.0
NAMES = ["127.0.0.1", "localhost"]


def make(folder: Path, name: str, signer: str = "", names: str = "fleet.invalid", start: float = -1, days: float = 90) -> Path:
    """Write a certificate and its key; without a signer it is an authority of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = subject, key
    if signer:
        issuer = x509.load_pem_x509_certificate((folder / f"{signer}.crt").read_bytes()).subject
        loaded = serialization.load_pem_private_key((folder / f"{signer}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        issuer_key = loaded
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names and names != "-":
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(names)]), critical=False)
    made = builder.sign(issuer_key, hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    (folder / f"{name}.locked").write_bytes(locked)
    return folder / f"{name}.crt"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    for authority in ("root", "stranger"):
        make(folder, authority, names="")
    make(folder, "between", "root", names="")
    make(folder, "leaf", "between")
    (folder / "chain.crt").write_bytes((folder / "leaf.crt").read_bytes() + (folder / "between.crt").read_bytes())
    (folder / "bundle.crt").write_bytes((folder / "root.crt").read_bytes() + (folder / "stranger.crt").read_bytes())
    make(folder, "ended", "root", start=-30, days=-1)
    make(folder, "early", "root", start=1)
    make(folder, "nameless", "root", names="-")
    (folder / "rubbish.crt").write_text("rubbish")
    return folder


def bring(folder: Path, given: Path, certificate: str, key: str, authority: str = "") -> None:
    certificates.bring(folder, given / certificate, given / key, given / authority if authority else None, time.time())


def test_it_is_kept_and_renew_goes_back_to_the_fleets_own(tmp_path: Path, given: Path) -> None:
    now = time.time()
    own = certificates.ensure(tmp_path, NAMES, now)
    bring(tmp_path, given, "chain.crt", "leaf.key", "root.crt")
    served = certificates.ensure(tmp_path, ["another.invalid"], now + 89 * DAY)
    assert served.brought
    assert served.names == ("fleet.invalid",)
    assert served.ca_hash == x509.load_pem_x509_certificate((given / "root.crt").read_bytes()).fingerprint(hashes.SHA256()).hex()
    assert served.ca_hash == certificates.ca_hash(tmp_path)
    bring(tmp_path, given, "chain.crt", "leaf.key")
    served = certificates.ensure(tmp_path, NAMES, now)
    assert served.brought
    assert served.ca_hash == "", "agents are not told to trust an authority that signed something else"
    assert not (tmp_path / certificates.CA_FILE).exists()
    certificates.issue(tmp_path, NAMES, now)
    back = certificates.show(tmp_path)
    assert back is not None
    assert not back.brought
    assert back.fingerprint != own.fingerprint
    assert back.ca_hash == own.ca_hash, "the nodes that were enrolled before still trust it"


@pytest.mark.parametrize(
    ("certificate", "key", "authority", "sentence"),
    [
        ("ended.crt", "ended.key", "", "ended.crt is good from .* which is not now"),
        ("early.crt", "early.key", "", "early.crt is good from .* which is not now"),
        ("nameless.crt", "nameless.key", "", "nameless.crt names no host"),
        ("leaf.crt", "root.key", "", "root.key is not the key of .*leaf.crt"),
        ("between.crt", "leaf.key", "", "leaf.key is not the key of .*between.crt"),
        ("rubbish.crt", "leaf.key", "", "rubbish.crt is not a certificate"),
        ("leaf.crt", "rubbish.crt", "", "rubbish.crt is not a private key"),
        ("leaf.crt", "leaf.locked", "", "leaf.locked is not a private key in PEM form without a password"),
        ("none.crt", "leaf.key", "", "none.crt cannot be read: No such file"),
        ("chain.crt", "none.key", "", "none.key cannot be read: No such file"),
        ("chain.crt", "leaf.key", "none.crt", "none.crt cannot be read: No such file"),
        ("chain.crt", "leaf.key", "stranger.crt", "stranger.crt does not vouch for .*chain.crt"),
        ("leaf.crt", "leaf.key", "root.crt", "root.crt does not vouch for .*leaf.crt.*is a certificate between them missing"),
        ("chain.crt", "leaf.key", "bundle.crt", "bundle.crt holds 2 certificates"),
        ("chain.crt", "leaf.key", "rubbish.crt", "rubbish.crt is not a certificate"),
    ],
)
def test_what_could_not_be_trusted_changes_nothing(
    tmp_path: Path, given: Path, certificate: str, key: str, authority: str, sentence: str
) -> None:
    before = certificates.ensure(tmp_path, NAMES, time.time())
    files = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InvalidValue, match=sentence):
        bring(tmp_path, given, certificate, key, authority)
    assert certificates.show(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_a_damaged_one_is_not_replaced_and_says_which_file(tmp_path: Path, given: Path) -> None:
    bring(tmp_path, given, "chain.crt", "leaf.key")
    (tmp_path / certificates.KEY).write_bytes((given / "root.key").read_bytes())
    with pytest.raises(Unavailable, match=r"server\.key is not the key of .*'fleet tls use' or 'fleet tls renew' mends it"):
        certificates.ensure(tmp_path, NAMES, time.time())
    (place(tmp_path) / certificates.KEY).unlink()
    with pytest.raises(Unavailable, match=r"server\.key is missing"):
        certificates.ensure(tmp_path, NAMES, time.time())


@pytest.mark.parametrize(
    ("left", "brought", "sentence"),
    [(31, True, ""), (29, True, "ends at 2027-"), (-1, True, "ended at 2027-"), (29, False, "")],
    ids=["long", "soon", "over", "the fleet's own"],
)
def test_whoever_brought_it_is_warned(left: float, brought: bool, sentence: str) -> None:
    now = 1_800_000_000.0
    said = listening.ends_soon(Certificate(("fleet.invalid",), now + left * DAY, "", "", brought), now)
    assert said.startswith(f"The certificate brought from elsewhere {sentence}") if sentence else said == ""
    assert listening.ends_soon(None, now) == ""
