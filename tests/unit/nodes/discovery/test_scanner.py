"""Scans of a made-up network: who is found, with how many calls, and who waits for whom."""

from __future__ import annotations

import asyncio
import resource

import pytest

from fleet_api.adapters.scan import Neighbour, neighbours_of_arp, neighbours_of_ip
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.nodes.discovery import service, subnets, sweep
from fleet_api.nodes.discovery.devices import KnownNode, vendor_of
from fleet_api.nodes.discovery.service import Scanner
from fleet_api.nodes.discovery.subnets import SubnetRefused, default, hosts, parsed
from tests.support.clock import ManualClock
from tests.support.fake_network import FakeNetwork, Machine

PORTS = [22, 8080, 2377]
NVIDIA = "48:b0:2d:00:00:01"


def scanner(network: FakeNetwork, nodes: dict[str, KnownNode] | None = None, clock: ManualClock | None = None) -> Scanner:
    return Scanner(network, clock or ManualClock(), AllowedNetworks(), PORTS, lambda: nodes or {})


async def test_what_is_found_of_a_machine() -> None:
    network = FakeNetwork(
        {
            "10.9.0.1": Machine({22, 8080, 2377}, banner="SSH-2.0-OpenSSH_8.2p1", name="agx0.lan", mac=NVIDIA),
            "10.9.0.2": Machine(mac="02:42:ac:11:00:02"),
            "10.9.0.3": Machine({22}, filtered={8080, 2377}),
        }
    )
    nodes = {"10.9.0.1": KnownNode("agx0", "agx0", True), "10.9.0.3": KnownNode("box", "box", False)}
    scan, kept = await scanner(network, nodes).scan("10.9.0.0/29")
    assert not kept
    first, second, third = scan.devices
    assert (first.ip, first.hostname, first.ports, first.in_swarm, first.banner) == (
        "10.9.0.1", "agx0.lan", (22, 2377, 8080), True, "SSH-2.0-OpenSSH_8.2p1",
    )  # fmt: skip
    assert (first.mac, first.vendor, first.is_jetson, first.node_id) == (NVIDIA, "NVIDIA Corporation", True, "agx0")
    assert first.likely_jetson == ("its network card is NVIDIA's", "its name is like one")
    assert (second.ip, second.ports, second.vendor, second.is_jetson, second.likely_jetson) == ("10.9.0.2", (), None, None, ())
    assert (third.hostname, third.is_jetson, third.in_swarm) == ("box", False, False)


async def test_the_silent_are_called_once() -> None:
    network = FakeNetwork({"10.9.0.5": Machine({8080})})
    scan, _ = await scanner(network).scan("10.9.0.0/24")
    assert [device.ports for device in scan.devices] == [(8080,)]
    assert len(network.probes) == 254 + 2


async def test_who_drops_calls_to_ssh() -> None:
    hidden = Machine({8080}, filtered={22})
    network = FakeNetwork({"10.9.0.5": hidden})
    assert (await scanner(network).scan("10.9.0.0/28"))[0].devices == ()
    thorough, _ = await scanner(network).scan("10.9.0.0/28", thorough=True)
    assert [device.ports for device in thorough.devices] == [(8080,)]
    hidden.mac = NVIDIA
    near, _ = await scanner(network).scan("10.9.0.0/28")
    assert [device.ports for device in near.devices] == [(8080,)], "the kernel knows it as a neighbour"


async def test_a_neighbour_of_old_is_not_there() -> None:
    network = FakeNetwork({})
    network.stale = {"10.9.0.5": Neighbour(NVIDIA, fresh=False)}
    assert (await scanner(network).scan("10.9.0.0/28"))[0].devices == ()
    assert ("10.9.0.5", 8080) in network.probes


async def test_kept_for_a_minute() -> None:
    network, clock = FakeNetwork({"10.9.0.1": Machine({22})}), ManualClock()
    scans = scanner(network, clock=clock)
    first, _ = await scans.scan("10.9.0.0/30")
    calls = len(network.probes)
    assert await scans.scan("10.9.0.2/30") == (first, True), "the same subnet"
    assert len(network.probes) == calls
    assert (await scans.scan("10.9.0.0/30", refresh=True))[1] is False
    clock.advance(61)
    assert (await scans.scan("10.9.0.0/30"))[1] is False
    assert len(network.probes) == 3 * calls
    assert scans.last() is not None


async def test_two_callers_share_one_scan() -> None:
    network = FakeNetwork({"10.9.0.1": Machine({22})}, delay=0.05)
    scans = scanner(network)
    first = asyncio.create_task(scans.scan("10.9.0.0/30", refresh=True))
    second = asyncio.create_task(scans.scan("10.9.0.0/30", refresh=True))
    await asyncio.sleep(0.02)
    assert (scans.status.running, scans.status.subnet, scans.status.total) == (True, "10.9.0.0/30", 2)
    first.cancel()
    (scan, kept) = await second
    assert (len(scan.devices), kept) == (1, False)
    assert len(network.probes) == 2 + 2
    status = scans.status
    assert (status.running, status.scanned, status.total, status.found) == (False, 2, 2, 1)
    assert status.finished_at is not None


async def test_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    assert sweep.in_flight() == 44
    network = FakeNetwork({}, delay=0.001)
    await scanner(network).scan("10.9.0.0/24")
    assert network.most_at_once == 44
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert sweep.in_flight() == sweep.MOST_IN_FLIGHT


async def test_a_scan_that_breaks_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FakeNetwork({})
    scans = scanner(network)

    async def broken() -> dict[str, Neighbour]:
        raise RuntimeError("broken")

    monkeypatch.setattr(network, "neighbours", broken)
    with pytest.raises(RuntimeError):
        await scans.scan("10.9.0.0/30")
    assert scans.status.running is False
    monkeypatch.undo()
    assert (await scans.scan("10.9.0.0/30"))[1] is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "subnet: 'x' is not allowed; it must be an IPv4 network such as 192.0.2.0/24."),
        ("10.0.0.0/8", "it must have a prefix from /20 to /32, so at most 4,096 addresses."),
        ("8.8.8.0/24", "subnet: 8.8.8.0/24 is not allowed; it must be in the networks of the setting FLEET_ALLOWED_NETWORKS."),
        ("fd00::/120", "as one of IPv6 has too many addresses."),
        ("10.0.0.0/24\n; rm -rf /", "must be an IPv4 network"),
    ],
)
def test_subnets_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(SubnetRefused) as caught:
        parsed(text, AllowedNetworks())
    assert sentence in str(caught.value)


def test_subnets_that_are_taken() -> None:
    assert len(hosts(parsed("10.0.0.0/20", AllowedNetworks()))) == 4094
    assert hosts(parsed("127.0.0.5", AllowedNetworks())) == ["127.0.0.5"]
    assert str(parsed("203.0.113.0/24", AllowedNetworks(["203.0.113.0/24"]))) == "203.0.113.0/24"


def test_this_machines_own_subnet() -> None:
    found = [
        ("lo", "127.0.0.1", "255.0.0.0"), ("docker0", "172.17.0.1", "255.255.0.0"), ("eth1", "10.1.2.3", "255.0.0.0"),
        ("eth0", "192.168.7.9", "255.255.255.0"), ("wan", "203.0.113.9", "255.255.255.0"),
    ]  # fmt: skip
    everywhere = AllowedNetworks([*subnets_of_all()])
    assert str(default(found, "eth0", everywhere)) == "192.168.7.0/24"
    assert str(default(found, None, everywhere)) == "10.1.2.0/24", "narrowed to its own /24"
    assert str(default(found, "eth0", AllowedNetworks(["10.0.0.0/8"]))) == "10.1.2.0/24"
    with pytest.raises(SubnetRefused, match=r"name one, such as 192\.0\.2\.0/24"):
        default(found, "eth0", AllowedNetworks(["127.0.0.0/8"]))


def subnets_of_all() -> list[str]:
    return ["0.0.0.0/0"]


def test_tables_of_neighbours() -> None:
    text = (
        "10.0.0.1 dev eth0 lladdr 48:B0:2D:00:00:01 REACHABLE\n10.0.0.2 dev eth0 FAILED\n10.0.0.3 dev eth0  INCOMPLETE\n"
        "10.0.0.4 dev eth0 lladdr 00:04:4b:00:00:02 STALE\n\n10.0.0.5 dev eth0 lladdr 00:04:4b:00:00:03 router FAILED\n"
    )
    assert neighbours_of_ip(text) == {
        "10.0.0.1": Neighbour("48:b0:2d:00:00:01", True), "10.0.0.4": Neighbour("00:04:4b:00:00:02", False),
    }  # fmt: skip
    table = (
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.0.0.1         0x1         0x2         48:b0:2d:00:00:01     *        eth0\n"
        "10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
    )
    assert neighbours_of_arp(table) == {"10.0.0.1": Neighbour("48:b0:2d:00:00:01", False)}


def test_vendors() -> None:
    assert vendor_of("00:04:4b:12:34:56") == "NVIDIA"
    assert vendor_of("02:42:ac:11:00:02") is None
    assert vendor_of("ff:ff:ff:00:00:00") is None
    assert vendor_of("nonsense") is None


def test_the_kept_scans_are_bounded() -> None:
    scans = scanner(FakeNetwork({}))
    for number in range(service.KEPT_SCANS + 5):
        subnet = subnets.Subnet(f"10.0.{number}.0/24")
        scans._keep((subnet, False), service.Scan(subnet, (), 0, 0), 0)
    assert len(scans._kept) == service.KEPT_SCANS
