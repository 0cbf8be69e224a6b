"""The certificate that is served: from the fleet's own authority, or brought from elsewhere.

The fleet's own is made anew when it comes to its end, when the machine got another address, and when one of its files is damaged,
missing or ill-dated. A certificate brought from elsewhere (``fleet tls use``) is kept, and never replaced by itself; the fleet's own
authority is kept beside it, for ``fleet tls renew`` to go back to. ``ca.crt`` is whom clients are to trust, whichever is served.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization

from fleet_api.access import authority as authorities
from fleet_api.access import certificate_files as files
from fleet_api.access.addresses import normal_names
from fleet_api.access.authority import date, fits, holds, read_certificate, read_key
from fleet_api.access.certificate_files import place
from fleet_api.errors import InvalidValue, Unavailable

log = structlog.get_logger()

CERTIFICATE, KEY, CA_FILE, BROUGHT = files.CERTIFICATE, files.KEY, files.CA_FILE, files.BROUGHT
RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is served: names, end (epoch seconds), SHA-256 of its DER bytes and of the authority's (empty where it is not known)."""

    names: tuple[str, ...]
    not_after: float
    fingerprint: str
    ca_hash: str
    brought: bool


def ensure(folder: Path, names: Iterable[str], now: float) -> Certificate:
    """Make anew what the fleet made itself and is not good now, and return what is served. Raises Unavailable, naming the file."""
    wanted, now = normal_names(names), date(now).timestamp()
    try:
        if not files.settled(folder) or _trouble(folder, wanted, now):
            with files.changing(folder):
                if reason := _trouble(folder, wanted, now):
                    if (place(folder) / CERTIFICATE).exists():
                        log.info("certificate_made_anew", reason=reason)
                    _issue(folder, wanted, now)
        found = show(folder)
    except OSError as error:
        raise Unavailable(f"The certificates in {folder} cannot be used: {error.filename or folder}: {error.strerror}.") from None
    if found is None:
        raise Unavailable(f"The certificate in {folder} was taken away while it was looked at; try again.")
    return found


def show(folder: Path) -> Certificate | None:
    """Return what is served; None if there is nothing yet. Raises Unavailable for a file that cannot be read as a certificate."""
    while True:
        served = place(folder)
        try:
            return _seen(served)
        except FileNotFoundError:
            if place(folder) == served:  # else another one was put in its place meanwhile
                return None


def ca_hash(folder: Path) -> str:
    """Return the SHA-256 of the DER bytes of whom clients are to trust, in hex."""
    return _hash(place(folder))


def issue(folder: Path, names: Iterable[str], now: float) -> None:
    """Serve a new certificate of the fleet's own for these names and addresses."""
    with files.changing(folder):
        _issue(folder, normal_names(names), date(now).timestamp())


def sign_for(folder: Path, names: Iterable[str], now: float) -> dict[str, bytes]:
    """Return a certificate of the fleet's own authority for another machine: ``certificate``, ``key`` and ``authority``, as PEM.

    What is served here stays as it is. Raises InvalidValue for what can be no name in a certificate, Unavailable.
    """
    given = list(names)
    wanted = normal_names(given)
    if len(wanted) < len(set(given)) or not wanted:
        raise InvalidValue(
            f"{', '.join(map(repr, given)) or 'No name'} cannot be in a certificate; give host names and IP addresses, each once."
        )
    with files.changing(folder):
        own = authorities.ready(folder, date(now).timestamp())
    return {**authorities.sign(own, wanted, date(now).timestamp()), "authority": authorities.pem(own.certificate)}


def bring(folder: Path, certificate: Path, key: Path, authority: Path | None, now: float) -> None:
    """Serve with a certificate from elsewhere. Raises InvalidValue, and changes nothing, unless it can be served and trusted now."""
    given = _given(certificate, key, authority, now)
    with files.changing(folder):
        made = files.prepare(folder, {**given, BROUGHT: b""})
        try:
            _try(made, certificate, authority)
        except InvalidValue:
            shutil.rmtree(made, ignore_errors=True)
            raise
        files.switch(folder, made)


def context(folder: Path) -> ssl.SSLContext:
    """Return the server's TLS context. Raises Unavailable."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    load(found, folder)
    return found


def load(into: ssl.SSLContext, folder: Path) -> None:
    """Let a context serve what is in the folder now. Raises Unavailable, and leaves it as it was, where that cannot be served."""
    pair = place(folder) / CERTIFICATE, place(folder) / KEY
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)  # a pair that does not fit would spoil a context in use
        into.load_cert_chain(*pair)
    except OSError as error:
        raise Unavailable(f"{pair[0]} and {pair[1]} cannot be served: {error.strerror or error}.") from None


def _seen(served: Path) -> Certificate:
    certificate = read_certificate(served / CERTIFICATE)
    return Certificate(
        names=_names(certificate),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        ca_hash=_hash(served) if (served / CA_FILE).exists() else "",
        brought=(served / BROUGHT).exists(),
    )


def _issue(folder: Path, names: list[str], now: float) -> None:
    own = authorities.ready(folder, now)
    signed = authorities.sign(own, names, now)
    made = {CERTIFICATE: signed["certificate"], KEY: signed["key"], CA_FILE: authorities.pem(own.certificate)}
    files.switch(folder, files.prepare(folder, made))


def _trouble(folder: Path, wanted: list[str], now: float) -> str:
    """Return why the fleet's own certificate must be made anew; empty if it is good. Raises Unavailable where that is not ours to do."""
    served = place(folder)
    brought = (served / BROUGHT).exists()
    try:
        certificate, key = read_certificate(served / CERTIFICATE), read_key(served / KEY)
        if not fits(key, certificate):
            raise Unavailable(f"{served / KEY} is not the key of {served / CERTIFICATE}; 'fleet tls use' or 'fleet tls renew' mends it.")
        return "" if brought else _unfit(certificate, served, wanted, now)
    except (Unavailable, FileNotFoundError) as error:
        reason = error.detail if isinstance(error, Unavailable) else f"{error.filename} is missing."
        if brought:
            raise Unavailable(reason) from None
        return reason


def _unfit(certificate: x509.Certificate, served: Path, wanted: list[str], now: float) -> str:
    signer = read_certificate(served / CA_FILE)
    if not (holds(certificate, now) and holds(certificate, now + RENEW_DAYS * 86_400)):
        return "It is near its end, or not good now."
    if not holds(signer, now):
        return "Its authority is not good now."
    if not set(wanted) <= set(_names(certificate)):
        return "It lacks a name or address of this machine."
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return "Its authority did not sign it."
    return ""


def _given(certificate: Path, key: Path, authority: Path | None, now: float) -> dict[str, bytes]:
    try:
        chain, secret = certificate.read_bytes(), key.read_bytes()
        trusted = authority.read_bytes() if authority else b""
    except OSError as error:
        raise InvalidValue(f"{error.filename} cannot be read: {error.strerror}.") from None
    leaf = _parsed(chain, certificate)[0]
    try:
        fitting = fits(serialization.load_pem_private_key(secret, None), leaf)
    except (ValueError, TypeError):
        raise InvalidValue(f"{key} is not a private key in PEM form without a password.") from None
    if not fitting:
        raise InvalidValue(f"{key} is not the key of {certificate}, whose own certificate must come first in the file.")
    since, until = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not holds(leaf, now):
        raise InvalidValue(f"{certificate} is good from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC, which is not now.")
    if not _names(leaf):
        raise InvalidValue(f"{certificate} names no host or address (subject alternative names), so that nobody would trust it.")
    if authority is None:
        return {CERTIFICATE: chain, KEY: secret}
    found = _parsed(trusted, authority)
    if len(found) != 1:
        raise InvalidValue(f"{authority} holds {len(found)} certificates; name a file with the one authority that is to be trusted.")
    return {CERTIFICATE: chain, KEY: secret, CA_FILE: authorities.pem(found[0])}


def _parsed(content: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise InvalidValue(f"{path} is not a certificate in PEM form.") from None


def _try(made: Path, certificate: Path, authority: Path | None) -> None:
    """Serve it in memory, to a client that trusts the authority alone where one is given. Raises InvalidValue."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        server.load_cert_chain(made / CERTIFICATE, made / KEY)
        if authority is None:
            return
        client = ssl.create_default_context(cafile=made / CA_FILE)
        client.check_hostname = False  # it has names; which of them clients call is theirs to know
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        raise InvalidValue(
            f"{authority} does not vouch for {certificate}: {error.verify_message}; is a certificate between them missing from the file?"
        ) from None
    except OSError as error:
        raise InvalidValue(f"{certificate} cannot be served: {error.strerror or error}.") from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(sorted([*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]))


def _hash(served: Path) -> str:
    return read_certificate(served / CA_FILE).fingerprint(hashes.SHA256()).hex()
