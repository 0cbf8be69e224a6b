"""The fleet's own certificate authority: made once, kept, and used to sign what is served."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_api.access.certificate_files import OWN_CA, OWN_CA_KEY, write
from fleet_api.errors import Unavailable

log = structlog.get_logger()

CA_DAYS = 3650
DAYS = 397  # the longest that browsers take
BACKDATED = datetime.timedelta(hours=1)  # for machines whose clocks are behind
OLDEST = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
"""No clock that is right says less. Authorities hold from then on, so that one made while the clock was wrong is good all the same."""


class Authority(NamedTuple):
    """Its certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Unusable(Exception):
    """There is an authority, but it cannot be used; the message says why."""


def ready(folder: Path, now: float) -> Authority:
    """Return the authority; made if there is none, or put aside and made anew if it cannot be used."""
    try:
        found = _find(folder, now)
        if found is not None:
            return found
    except Unusable as error:
        aside = _put_aside(folder, now)
        log.warning(
            "AUTHORITY REPLACED",
            what=f"{error} A new one was made: other machines must trust it, and nodes be enrolled again. The old is kept as {aside}.",
        )
    return _make(folder, now)


def sign(authority: Authority, names: list[str], now: float) -> dict[str, bytes]:
    """Return a certificate for these names and addresses and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = date(now)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleet Commander")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(start + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return {"certificate": pem(certificate), "key": _pem_key(key)}


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a file. Raises FileNotFoundError, and Unavailable where it holds none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise Unavailable(f"{path} is not a certificate in PEM form; 'fleet tls renew' makes a new one.") from None


def read_key(path: Path) -> PrivateKeyTypes:
    """Return the private key of a file. Raises FileNotFoundError, and Unavailable where it holds none."""
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        raise Unavailable(f"{path} is not a private key in PEM form without a password; 'fleet tls renew' makes a new one.") from None


def fits(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Say whether this is the certificate's key."""
    return bool(key.public_key() == certificate.public_key())


def holds(certificate: x509.Certificate, now: float) -> bool:
    """Say whether a certificate is good at this time."""
    return certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp()


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def date(now: float) -> datetime.datetime:
    """Return a time as a date; :data:`OLDEST` where the clock is plainly wrong."""
    return max(datetime.datetime.fromtimestamp(now, datetime.UTC), OLDEST)


def _find(folder: Path, now: float) -> Authority | None:
    paths = folder / OWN_CA, folder / OWN_CA_KEY
    missing = [path for path in paths if not path.exists()]
    if len(missing) == 2:
        return None
    if missing:
        raise Unusable(f"{missing[0]} is missing.")
    try:
        certificate, key = read_certificate(paths[0]), read_key(paths[1])
    except Unavailable as error:
        raise Unusable(error.detail.split(";")[0] + ".") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not fits(key, certificate):
        raise Unusable(f"{paths[1]} is not the key of {paths[0]}.")
    if not holds(certificate, date(now).timestamp()):
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        raise Unusable(f"{paths[0]} is good from {since:%Y-%m-%d} to {until:%Y-%m-%d} and today is {date(now):%Y-%m-%d}.")
    return Authority(certificate, key)


def _put_aside(folder: Path, now: float) -> Path:
    aside = folder / f"own-ca-until-{date(now):%Y%m%dT%H%M%S}"
    for name in (OWN_CA_KEY, OWN_CA):
        if (folder / name).exists():
            (folder / name).replace(aside.with_suffix(Path(name).suffix))
    return aside.with_suffix(".crt")


def _make(folder: Path, now: float) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleet Commander authority")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(OLDEST)
        .not_valid_after(date(now) + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_signing_only(), critical=True)
        .sign(key, hashes.SHA256())
    )
    write(folder / OWN_CA_KEY, _pem_key(key))
    write(folder / OWN_CA, pem(certificate))
    return Authority(certificate, key)


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
