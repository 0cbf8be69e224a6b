"""What is known of a machine from outside. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from netaddr import EUI
from netaddr.core import AddrFormatError, NotRegisteredError

from fleet_api.nodes.discovery.sweep import Found

SWARM_PORTS = frozenset({2377, 7946})
NAMES = re.compile(r"jetson|tegra|orin|xavier|\bagx|\bnano", re.IGNORECASE)
LOCAL_BIT = 0x02


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node of the fleet at some address. ``is_jetson`` is what its facts say; None before anybody has looked inside."""

    id: str
    hostname: str
    is_jetson: bool | None


@dataclass(frozen=True, slots=True)
class Device:
    """One machine of a scan; see :class:`fleet_api.nodes.discovery.schemas.DeviceView`."""

    ip: str
    hostname: str | None
    mac: str | None
    vendor: str | None
    is_jetson: bool | None
    likely_jetson: tuple[str, ...]
    in_swarm: bool
    ports: tuple[int, ...]
    banner: str | None
    node_id: str | None


def device(found: Found, nodes: Mapping[str, KnownNode]) -> Device:
    """Describe a machine. ``nodes`` are the fleet's, by address."""
    node = nodes.get(found.address)
    vendor = vendor_of(found.mac) if found.mac else None
    hostname = found.name or (node.hostname if node else None)
    return Device(
        ip=found.address, hostname=hostname, mac=found.mac, vendor=vendor, is_jetson=node.is_jetson if node else None,
        likely_jetson=likely(vendor, hostname), in_swarm=not SWARM_PORTS.isdisjoint(found.ports), ports=tuple(sorted(found.ports)),
        banner=found.banner, node_id=node.id if node else None,
    )  # fmt: skip


def likely(vendor: str | None, hostname: str | None) -> tuple[str, ...]:
    """Return why a machine may be a Jetson; nothing seen from outside proves it."""
    reasons = []
    if vendor and "nvidia" in vendor.lower():
        reasons.append("its network card is NVIDIA's")
    if hostname and NAMES.search(hostname.split(".")[0]):
        reasons.append("its name is like one")
    return tuple(reasons)


@lru_cache(4096)
def vendor_of(mac: str) -> str | None:
    """Return who a network card's address is registered to; None for addresses that a machine gave itself."""
    try:
        address = EUI(mac)
        if address.words[0] & LOCAL_BIT:
            return None
        return str(address.oui.registration()["org"])
    except (NotRegisteredError, AddrFormatError):
        return None
