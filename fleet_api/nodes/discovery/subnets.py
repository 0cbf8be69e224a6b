"""Which subnets may be scanned, and which one is, where none is named. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fleet_api.errors import InvalidValue
from fleet_api.kit.allowed import SETTING, AllowedNetworks
from fleet_api.kit.validation import shown

WIDEST = 20
NARROWED = 24
VIRTUAL = ("lo", "docker", "br-", "veth", "virbr", "fleet", "cni", "tun", "tap")

Subnet = ipaddress.IPv4Network
Interface = tuple[str, str, str]
"""Name, address and netmask."""


class SubnetRefused(InvalidValue):
    """The subnet is none, too large or not allowed."""


def parsed(text: str, allowed: AllowedNetworks) -> Subnet:
    """Return the subnet that a caller names. Raises SubnetRefused."""
    try:
        subnet = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SubnetRefused(f"subnet: {shown(text)} is not allowed; it must be an IPv4 network such as 192.0.2.0/24.") from None
    if not isinstance(subnet, ipaddress.IPv4Network):
        raise SubnetRefused(f"subnet: {shown(text)} is not allowed; it must be an IPv4 network, as one of IPv6 has too many addresses.")
    if subnet.prefixlen < WIDEST:
        raise SubnetRefused(
            f"subnet: {subnet} is not allowed; it must have a prefix from /{WIDEST} to /32, so at most {2 ** (32 - WIDEST):,} addresses."
        )
    if not allowed.covers(subnet):
        raise SubnetRefused(f"subnet: {subnet} is not allowed; it must be in the networks of the setting {SETTING}.")
    return subnet


def hosts(subnet: Subnet) -> list[str]:
    """Return the addresses of a subnet, without those that are no machine's."""
    return [str(address) for address in subnet.hosts()]


def default(interfaces: Iterable[Interface], first: str | None, allowed: AllowedNetworks) -> Subnet:
    """Return the subnet of this machine's own network: ``first`` names the interface of its default route.

    One that is too large is narrowed to the machine's own /24. Raises SubnetRefused where there is none.
    """
    found: list[tuple[bool, Subnet]] = []
    for name, address, netmask in interfaces:
        subnet = ipaddress.IPv4Network(f"{address}/{netmask}", strict=False)
        if subnet.prefixlen < WIDEST:
            subnet = ipaddress.IPv4Network(f"{address}/{NARROWED}", strict=False)
        if name != first and name.startswith(VIRTUAL):
            continue
        if subnet.is_private and not subnet.is_loopback and not subnet.is_link_local and subnet.prefixlen < 31 and allowed.covers(subnet):
            found.append((name != first, subnet))
    if not found:
        raise SubnetRefused(
            f"subnet: this machine has no network of its own that may be scanned ({SETTING}); name one, such as 192.0.2.0/24."
        )
    return min(found, key=lambda each: each[0])[1]
