"""Addresses that callers want to be called at: checked and stored when the job comes. Nothing is delivered yet,
and the job says so with ``callback: not_sent``."""

from __future__ import annotations

from urllib.parse import urlsplit

from fleet_api.access.origin import unmapped

NOT_SENT = "not_sent"


def checked_url(value: str) -> str:
    """Return a callback address that may be stored. Raises ValueError with the rule that it breaks.

    A name is resolved and checked again at delivery; here literal addresses of this machine and of link-local,
    multicast and metadata services are refused.
    """
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be an http or https URL") from None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or port == 0 or any(c.isspace() for c in value):
        raise ValueError("must be an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password")
    if host == "localhost" or host.endswith(".localhost"):
        raise ValueError("must not point to this machine itself")
    try:
        address = unmapped(host)
    except ValueError:
        return value
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        raise ValueError("must not be a loopback, link-local, multicast or unspecified address")
    return value
