"""Where a request comes from and goes to: loopback, allowed hosts, allowed origins. Pure functions.

``Host`` is checked against DNS rebinding (a foreign name that points here), ``Origin`` against pages of other sites.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

REMEMBERED = 1_024  # answers for texts that were asked about lately: up to 8 us each without
FORWARDING = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"x-real-ip", b"via"}
)
"""Headers of proxies: who sends one speaks for somebody else, and is not taken for somebody on this machine."""


@lru_cache(REMEMBERED)
def is_loopback(address: str) -> bool:
    """Say whether an address or host name is this machine's loopback."""
    name = address.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return unmapped(name).is_loopback
    except ValueError:
        return False


@lru_cache(REMEMBERED)
def host_name(header: str) -> str:
    """Return the name in a ``Host`` header, without port, brackets or a closing dot, in lower case; empty if it is none."""
    try:
        parts = urlsplit(f"//{header}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return ""
        _ = parts.port  # raises where it is not a number
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".").lower()


def as_sent(name: str) -> str:
    """Return a host name as clients send it: lower case, and names with other letters than ASCII's in their coded form."""
    try:
        return name.strip().rstrip(".").lower().encode("idna").decode()
    except UnicodeError:
        return name.lower()


def host_allowed(name: str, reached_at: str, allowed: Collection[str]) -> bool:
    """Say whether a host name is this control plane's: the address reached, loopback if that was, or an allowed name."""
    if not name:
        return False
    if is_loopback(name):
        return is_loopback(reached_at)
    return name in allowed or "*" in allowed or same_address(name, reached_at)


def same_address(one: str, other: str) -> bool:
    """Say whether two texts are the same IP address; an IPv4 one mapped into IPv6 is the same as itself."""
    try:
        return unmapped(one) == unmapped(other)
    except ValueError:
        return False


def unmapped(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address, an IPv4 one mapped into IPv6 as itself. Raises ValueError."""
    address = ipaddress.ip_address(text.strip("[]"))
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def origin_allowed(origin: str, scheme: str, host: str, allowed: Collection[str]) -> bool:
    """Say whether an ``Origin`` header is the control plane's own page, or one of the allowed."""
    own = f"{scheme.replace('ws', 'http')}://{host}"
    return origin.lower() == own.lower() or origin.rstrip("/").lower() in allowed or "*" in allowed


def normal_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return origins as browsers write them. Raises ValueError for one that is none."""
    found = set()
    for text in origins:
        if text != "*":
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
                raise ValueError(f"{text!r} is not an origin; write it as https://app.example.invalid:3000")
        found.add(text.rstrip("/").lower())
    return frozenset(found)
