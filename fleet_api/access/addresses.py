"""The names and addresses of this machine, as its certificate lists them."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache

import psutil
import structlog

log = structlog.get_logger()

LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
LONGEST = 253
IP = (socket.AF_INET, socket.AF_INET6)


def own_names(more: Iterable[str]) -> list[str]:
    """Return loopback, every address of this machine that is not link-local, and ``more`` (wildcards left out)."""
    found = {"localhost", "127.0.0.1", "::1", *(name for name in more if name and "*" not in name)}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in IP and "%" not in address.address:
                found.add(address.address)
    return normal_names(found)


def own_addresses() -> frozenset[str]:
    """Return every IP address of this machine's interfaces."""
    return frozenset(address.address.split("%")[0] for each in psutil.net_if_addrs().values() for address in each if address.family in IP)


def normal_names(names: Iterable[str]) -> list[str]:
    """Return names and addresses in the one form that certificates hold; those that cannot be in one are left out, and logged."""
    return sorted({form for form in map(_normal, names) if form})


def main_address() -> str:
    """Return an address by which others may reach this machine: the first that is not loopback, else loopback."""
    for name in psutil.net_if_addrs().values():
        for address in name:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    return "127.0.0.1"


@lru_cache(maxsize=1024)  # a name that is left out is logged once
def _normal(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        form = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        form = ""
    if len(form) > LONGEST or not all(LABEL.fullmatch(label) for label in form.split(".")):
        log.warning("name_left_out", name=name, reason="It can be no host name in a certificate.")
        return ""
    return form
