"""Which subnet a lab gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from fleet_api.lab.errors import LabFailed

RANGE = IPv4Network("10.214.0.0/16")
FIRST_NODE = 11
MOST_NODES = 200


def free_subnets(taken: Iterable[str]) -> list[IPv4Network]:
    """Return the /24 subnets of the labs' range that overlap none of ``taken``. Raises LabFailed when there is none."""
    used = [IPv4Network(text, strict=False) for text in taken if ":" not in text]
    used = [network for network in used if network.prefixlen > 0]
    free = [subnet for subnet in RANGE.subnets(new_prefix=24) if not any(subnet.overlaps(network) for network in used)]
    if not free:
        raise LabFailed(f"Every subnet of {RANGE} is in use on this machine; take a lab down with 'fleet lab down'.")
    return free


def node_address(subnet: IPv4Network, number: int) -> IPv4Address:
    """Return the address of node ``number``, counted from 1."""
    return subnet.network_address + FIRST_NODE - 1 + number


def routed(table: str) -> list[str]:
    """Return the destinations in ``/proc/net/route``, as CIDR texts."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:
            destination, mask = (IPv4Address(int.from_bytes(bytes.fromhex(fields[at]), "little")) for at in (1, 7))
            found.append(f"{destination}/{mask}")
    return found
