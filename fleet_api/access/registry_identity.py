"""Who the fleet's registry is: its certificate and its password, made once in the data folder and kept there.

``registry/`` holds what the registry's machine gets (``registry.crt``, ``registry.key``, ``htpasswd``), what others trust it by
(``ca.crt``), and the sign-in, for this control plane (``login.json``) and for engines (``docker.json``). The authority's key does not
leave ``tls/``.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, Field, ValidationError

from fleet_api.access import certificates
from fleet_api.access.addresses import normal_names
from fleet_api.access.authority import holds, read_certificate
from fleet_api.access.certificate_files import OWN_CA, write_private
from fleet_api.errors import InvalidValue, Unavailable
from fleet_api.kit.home import give_to_owner

RENEW_DAYS = 30
ROUNDS = 10
USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}")
ADDRESS = re.compile(r"[A-Za-z0-9.-]{1,253}:[0-9]{1,5}")
LOGIN, HTPASSWD, DOCKER, CA_FILE, CERTIFICATE, KEY = "login.json", "htpasswd", "docker.json", "ca.crt", "registry.crt", "registry.key"


class Login(BaseModel):
    """Where the registry is, and how one signs in."""

    address: str
    username: str
    password: str = Field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the registry shall be called."""

    address: str
    names: tuple[str, ...]
    username: str

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        if not ADDRESS.fullmatch(self.address) or not 0 < int(self.address.rpartition(":")[2]) < 65_536:
            raise InvalidValue(f"address: {self.address[:60]!r} is not allowed; it must be a host and a port, such as 192.0.2.10:5000.")
        if not USER.fullmatch(self.username):
            raise InvalidValue(f"username: {self.username[:60]!r} is not allowed; use up to 31 lower-case letters, digits and ._-.")


def login(folder: Path) -> Login | None:
    """Return the registry's address and sign-in; None before there is one. Raises Unavailable for a file that cannot be read."""
    try:
        return Login.model_validate_json((folder / LOGIN).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise Unavailable(f"{folder / LOGIN} cannot be read; remove it and run the playbook 'registry' again.") from None


def missing(folder: Path, tls: Path, wanted: Wanted, now: float) -> list[str]:
    """Return what :func:`ensure` would make: ``certificate``, ``login``."""
    try:
        known = login(folder)
    except Unavailable:
        known = None
    found = [] if _certified(folder, tls, wanted, now) else ["certificate"]
    same = known is not None and (known.address, known.username) == (wanted.address, wanted.username)
    whole = all((folder / name).is_file() for name in (HTPASSWD, DOCKER))
    return found if same and whole else [*found, "login"]


def ensure(folder: Path, tls: Path, wanted: Wanted, now: float) -> list[str]:
    """Make what is missing, and return it. A password that is there stays, whatever else changes. Raises InvalidValue, Unavailable."""
    todo = missing(folder, tls, wanted, now)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if "certificate" in todo:
        made = certificates.sign_for(tls, wanted.names, now)
        for name, part in ((KEY, "key"), (CA_FILE, "authority"), (CERTIFICATE, "certificate")):
            write_private(folder / name, made[part])
    if "login" in todo:
        _write_login(folder, wanted)
    give_to_owner(folder.parent, [folder])
    return todo


def _write_login(folder: Path, wanted: Wanted) -> None:
    try:
        known = login(folder)
    except Unavailable:
        known = None
    password = known.password if known else secrets.token_urlsafe(24)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    token = base64.b64encode(f"{wanted.username}:{password}".encode()).decode()
    write_private(folder / HTPASSWD, f"{wanted.username}:{hashed}\n".encode())
    write_private(folder / DOCKER, json.dumps({"auths": {wanted.address: {"auth": token}}}).encode())
    found = Login(address=wanted.address, username=wanted.username, password=password)
    write_private(folder / LOGIN, found.model_dump_json().encode())  # last: with it, all of it is there


def _certified(folder: Path, tls: Path, wanted: Wanted, now: float) -> bool:
    try:
        certificate, authority = read_certificate(folder / CERTIFICATE), read_certificate(folder / CA_FILE)
        if not (folder / KEY).is_file() or authority != read_certificate(tls / OWN_CA):
            return False
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        held = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
        certificate.verify_directly_issued_by(authority)
    except (OSError, Unavailable, x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return set(normal_names(wanted.names)) <= held and holds(certificate, now) and holds(certificate, now + RENEW_DAYS * 86_400)
