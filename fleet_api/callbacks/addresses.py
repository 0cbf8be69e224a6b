"""Which addresses a callback may go to. Pure: no name is looked up here.

An address is judged by itself and by every IPv4 address that it carries in IPv6's ways of doing so. What is never meant (this
machine, link-local neighbours, metadata services, groups) is refused; private networks are allowed unless that is switched off. The
setting ``callback_networks`` narrows all this down; a network in it that lies within a refused range opens that one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable, Iterator

from fleet_api.kit.allowed import Address, Network

SETTING, PRIVATE_SETTING = "FLEET_CALLBACK_NETWORKS", "FLEET_CALLBACK_PRIVATE"

_REFUSED = {
    "a metadata service": ("169.254.169.254", "192.0.0.192", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
    "an unspecified": ("0.0.0.0/8", "::/128"),
    "a loopback": ("127.0.0.0/8", "::1/128"),
    "a link-local": ("169.254.0.0/16", "fe80::/10"),
    "a multicast": ("224.0.0.0/4", "ff00::/8"),
    "a broadcast": ("255.255.255.255/32",),
    "a reserved": ("240.0.0.0/4", "192.0.0.0/24", "100::/64", "fec0::/10", "5f00::/16"),
}
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7")
REFUSED = [(kind, ipaddress.ip_network(text)) for kind, texts in _REFUSED.items() for text in texts]
PRIVATE = [ipaddress.ip_network(text) for text in _PRIVATE]
CARRIERS = [(ipaddress.ip_network(text), bits) for text, bits in (
    ("::ffff:0:0/96", 0), ("::ffff:0:0:0/96", 0), ("64:ff9b::/96", 0), ("64:ff9b:1::/48", 0), ("::/96", 0), ("2002::/16", 80),
)]  # fmt: skip
"""Networks whose addresses hold an IPv4 address, and how many bits stand after it."""

TEREDO = ipaddress.ip_network("2001::/32")
ISATAP = (0x5EFE, 0x0200_5EFE)


class CallbackRules:
    """The rules of one control plane. Never changes, but that ``own`` is asked each time which addresses this machine has."""

    def __init__(self, networks: Iterable[str], private: bool, ports: Collection[int], own: Callable[[], Collection[str]]) -> None:
        """``ports`` are those on which the API listens."""
        self._networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in networks]
        self._private = private
        self._ports = frozenset(ports)
        self._own = own

    @property
    def closed(self) -> bool:
        """Whether no address at all is allowed."""
        return not self._networks

    def check(self, text: str, port: int) -> None:
        """Raise ValueError, with the rule that is broken, unless a callback may go to this IP address."""
        address = ipaddress.ip_address(text.split("%")[0])
        plain = [*_forms(address)]
        if port in self._ports and any(self._is_own(form) for form in plain):
            raise ValueError("must not be this control plane's own address")
        for form in plain:
            kind, within = self._refused(form)
            if kind and not any(_holds(each, form) and _inside(each, within) for each in self._networks):
                raise ValueError(f"must not be {kind} address{f', as {form} is' if form != address else ''}")
        if not any(_holds(each, form) for each in self._networks for form in plain):
            raise ValueError(f"is in none of the networks that callbacks may go to; add its network to the setting {SETTING}")

    def check_host(self, host: str, port: int) -> None:
        """Raise ValueError for what can be told of a host without looking its name up: this machine's names, and addresses."""
        if host == "localhost" or host.endswith(".localhost"):
            if not any(each.is_loopback for each in self._networks):
                raise ValueError("must not point to this machine itself")
            return
        literal = _literal(host)
        if literal is not None:
            self.check(literal, port)

    def _refused(self, address: Address) -> tuple[str, Network]:
        for kind, network in REFUSED:
            if _holds(network, address):
                return kind, network
        if not self._private:
            for network in PRIVATE:
                if _holds(network, address):
                    return f"a private ({PRIVATE_SETTING} is off)", network
        return "", REFUSED[0][1]

    def _is_own(self, address: Address) -> bool:
        return address.is_loopback or address.is_unspecified or str(address) in self._own()


def _literal(host: str) -> str | None:
    """Return the IP address that a host is written as, also in the ways of old (``127.1``, ``0x7f000001``); None for a name."""
    bare = host.strip("[]").split("%")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(bare))
    except (OSError, UnicodeError):
        return None


def _forms(address: Address) -> Iterator[Address]:
    """Yield what an address is judged as: itself unless it is an IPv4 one mapped into IPv6, and each IPv4 address that it carries."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.ipv4_mapped is None:
        yield address
    number = int(address)
    for network, after in CARRIERS:
        carried = (number >> after) & 0xFFFF_FFFF
        if address in network and (carried > 1 or int(network.network_address)):  # :: and ::1 are themselves
            yield ipaddress.IPv4Address(carried)
    if address in TEREDO:
        yield ipaddress.IPv4Address((number >> 64) & 0xFFFF_FFFF)
        yield ipaddress.IPv4Address(~number & 0xFFFF_FFFF)
    if (number >> 32) & 0xFFFF_FFFF in ISATAP:
        yield ipaddress.IPv4Address(number & 0xFFFF_FFFF)


def _holds(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _inside(network: Network, of: Network) -> bool:
    return network.version == of.version and network.subnet_of(of)  # type: ignore[arg-type]
