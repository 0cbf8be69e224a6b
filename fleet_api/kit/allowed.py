"""Which addresses this machine may call: every outgoing edge asks here first, and connects to the address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

from fleet_api.errors import InvalidValue, Timeout

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SETTING = "FLEET_ALLOWED_NETWORKS"
PRIVATE = (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10",
)  # fmt: skip
"""Loopback, RFC 1918, unique local and link-local networks."""

RESOLVE_SECONDS = 5.0


class AddressNotAllowed(InvalidValue):
    """The address is in none of the allowed networks."""


class NameUnknown(Timeout):
    """No address was found for a host name."""


class AllowedNetworks:
    """The networks of one setting. Never changes."""

    def __init__(self, networks: Iterable[str] = PRIVATE) -> None:
        """Raises ValueError for a text that is no network."""
        self.networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in networks)

    def __contains__(self, address: str) -> bool:
        """Say whether an IP address is in an allowed network."""
        found = plain_address(address)
        return any(found in network for network in self.networks if network.version == found.version)

    def covers(self, network: Network) -> bool:
        """Say whether every address of a network is allowed."""
        return any(network.version == each.version and network.subnet_of(each) for each in self.networks)  # type: ignore[arg-type]

    def check(self, address: str) -> str:
        """Return an IP address in its usual form. Raises AddressNotAllowed, and ValueError for what is no address."""
        if address not in self:
            raise AddressNotAllowed(
                f"{plain_address(address)} is in none of the networks that may be called; add its network to the setting {SETTING}."
            )
        return str(plain_address(address))

    async def resolve(self, host: str) -> str:
        """Return the address to connect to for a host name or an address.

        Raises:
            AddressNotAllowed: none of its addresses is allowed.
            NameUnknown: the name has no address, or nobody told within :data:`RESOLVE_SECONDS`.
        """
        try:
            return self.check(host)
        except ValueError:
            pass
        found = await _addresses(host)
        allowed = [address for address in found if address in self]
        return allowed[0] if allowed else self.check(found[0])


def plain_address(text: str) -> Address:
    """Return an IP address, an IPv4 one mapped into IPv6 as itself. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


async def _addresses(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise NameUnknown(f"No address is known for the host name {host!r}; give an IP address, or mend the name's DNS entry.") from None
    return [str(address[0]) for *_, address in found]
