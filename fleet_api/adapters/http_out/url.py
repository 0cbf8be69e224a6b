"""The one reading of a caller's address, which checks and connections share: two readers that differ would be a way around the check."""

from __future__ import annotations

import re

import httpx

PORTS = {"http": 80, "https": 443}


def parts_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises ValueError, with the rule that is broken."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must be an http or https URL")
    try:
        read = httpx.URL(url)
        host, port = read.raw_host.decode("ascii").rstrip(".").lower(), read.port
    except (httpx.InvalidURL, ValueError):
        raise ValueError("must be an http or https URL") from None
    if read.scheme not in PORTS or not host or not (port is None or 1 <= port <= 65_535):
        raise ValueError("must be an http or https URL")
    if read.userinfo or "@" in re.split(r"[/?#]", url.split("//", 1)[1])[0]:
        raise ValueError("must not hold a user name or password")
    return read.scheme, host, port or PORTS[read.scheme]
