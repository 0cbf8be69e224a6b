"""Which addresses may be called."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from pydantic import ValidationError

from fleet_api.kit.allowed import AddressNotAllowed, AllowedNetworks, NameUnknown
from fleet_api.settings import Settings


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.255.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.182",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ],
)
def test_private_ones(address: str) -> None:
    assert AllowedNetworks().check(address) == str(ipaddress.ip_address(address.removeprefix("::ffff:")))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "192.0.2.1", "100.64.0.1", "0.0.0.0", "224.0.0.1", "2001:db8::1", "::", "::ffff:8.8.8.8", "64:ff9b::a00:1"],
)
def test_others(address: str) -> None:
    with pytest.raises(
        AddressNotAllowed, match=r"is in none of the networks that may be called; add its network to .* FLEET_ALLOWED_NETWORKS"
    ):
        AllowedNetworks().check(address)


def test_whole_networks() -> None:
    allowed = AllowedNetworks(["10.0.0.0/16"])
    assert allowed.covers(ipaddress.ip_network("10.0.3.0/24"))
    assert not allowed.covers(ipaddress.ip_network("10.0.0.0/15"))
    assert not allowed.covers(ipaddress.ip_network("::/120"))
    assert "10.1.0.1" not in allowed


async def test_names_are_resolved_once_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, list[str]] = {"both": ["8.8.8.8", "10.0.0.7"], "outside": ["8.8.8.8"], "decimal": ["8.8.8.8"]}

    async def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in answers:
            raise socket.gaierror(-2, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in answers[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    allowed = AllowedNetworks()
    assert await allowed.resolve("both") == "10.0.0.7", "what is connected to is what was checked"
    assert await allowed.resolve("10.0.0.8") == "10.0.0.8"
    with pytest.raises(AddressNotAllowed):
        await allowed.resolve("outside")
    with pytest.raises(NameUnknown, match="No address is known for the host name 'nowhere'"):
        await allowed.resolve("nowhere")


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_ALLOWED_NETWORKS", "192.0.2.7/24, 127.0.0.1")
    assert Settings().allowed_networks == ["192.0.2.0/24", "127.0.0.1/32"]
    monkeypatch.setenv("FLEET_ALLOWED_NETWORKS", "192.0.2.0/33")
    with pytest.raises(ValidationError, match="must be networks such as"):
        Settings()
    monkeypatch.delenv("FLEET_ALLOWED_NETWORKS")
    assert "192.168.0.0/16" in Settings().allowed_networks
    monkeypatch.setenv("FLEET_SCAN_PORTS", "22, 8080")
    assert Settings().scan_ports == [22, 8080]
    for wrong in ("", "0", "x", "70000"):
        monkeypatch.setenv("FLEET_SCAN_PORTS", wrong)
        with pytest.raises(ValidationError):
            Settings()
