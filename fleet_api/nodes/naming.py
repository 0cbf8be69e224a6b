"""Node ids: hostname-like slugs."""

from __future__ import annotations

import re
from collections.abc import Container

RESERVED = frozenset({"jetpack", "heartbeats", "localhost", "all", "nodes", "ungrouped", "manager"})
"""Words of the API's paths, and names that mean something else in an inventory: groups, and the control plane's own machine."""


def reserved(name: str | None) -> bool:
    """Return whether no node may have this id."""
    return name in RESERVED


def slug(hostname: str) -> str:
    """Return the hostname's first label in lower case, letters, digits and hyphens only; ``node`` if nothing is left."""
    label = hostname.split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", label).strip("-")[:48] or "node"


def free_id(hostname: str, taken: Container[str]) -> str:
    """Return the slug, with ``-2``, ``-3`` and so on while it is taken or reserved."""
    base = slug(hostname)
    candidate, number = base, 1
    while candidate in taken or reserved(candidate):
        number += 1
        candidate = f"{base}-{number}"
    return candidate
