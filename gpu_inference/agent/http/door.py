"""Who may come in at the agent's own door. Pure; the names of headers are in lower case.

Nobody needs a key where listener, caller and the name in ``Host`` are all this machine's loopback, no proxy stands between, and no page of
another site asks. All others show one: ``Authorization: Bearer`` with the agent's own credential or the key of the key file.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Iterable, Mapping, Optional
from urllib.parse import urlsplit

_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip", "via")
_LONGEST_KEY = 512


def is_loopback(name: str) -> bool:
    """Whether an address or host name is this machine's loopback."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_of(text: str) -> str:
    """The name in a ``Host`` header or an origin, in lower case; empty where there is none."""
    try:
        return (urlsplit(text if "://" in text else "//" + text).hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_local(listens_on: str, caller: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine, for this machine, by nobody else's doing."""
    if not (is_loopback(listens_on) and is_loopback(caller) and is_loopback(host_of(headers.get("host", "")))):
        return False
    if any(name in headers for name in _FORWARDING):
        return False
    origin = headers.get("origin")
    return origin is None or is_loopback(host_of(origin))


def shows_key(headers: Mapping[str, str], keys: Iterable[str]) -> Optional[bool]:
    """Whether the key that is shown is one of ``keys``; None where none is shown. The time it takes does not tell how near it was."""
    shown = headers.get("authorization")
    if shown is None:
        return None
    kind, _, key = shown.partition(" ")
    said = key.strip().encode("utf-8", "replace")
    found = False
    for each in keys:
        found |= bool(each) and hmac.compare_digest(said, each.encode("utf-8"))
    return found and kind.lower() == "bearer" and len(said) <= _LONGEST_KEY


def may_enter(listens_on: str, caller: str, headers: Mapping[str, str], keys: Iterable[str]) -> bool:
    """Whether the request is let in. A key that is shown must be good, also where none is wanted."""
    shown = shows_key(headers, keys)
    return is_local(listens_on, caller, headers) if shown is None else shown
