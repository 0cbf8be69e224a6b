"""Scans: one at a time, shared by all who ask for the same, kept for a minute."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fleet_api.adapters.scan import Prober
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.clock import Clock
from fleet_api.nodes.discovery.devices import Device, KnownNode, device
from fleet_api.nodes.discovery.subnets import Subnet, default, hosts, parsed
from fleet_api.nodes.discovery.sweep import sweep

KEPT_SECONDS = 60.0
KEPT_SCANS = 32
ROUTES = Path("/proc/net/route")


@dataclass(frozen=True, slots=True)
class Scan:
    """What one scan found, by address. Times are epoch seconds."""

    subnet: Subnet
    devices: tuple[Device, ...]
    ended_at: float
    seconds: float


@dataclass(slots=True)
class Status:
    """How far the scan is that runs, or how the last one went."""

    running: bool = False
    subnet: str | None = None
    scanned: int = 0
    total: int = 0
    found: int = 0
    started_at: float | None = None
    finished_at: float | None = None


class Scanner:
    """One instance a process, used on the event loop only. ``nodes`` tells the fleet's nodes, by address."""

    def __init__(
        self, prober: Prober, clock: Clock, allowed: AllowedNetworks, ports: Sequence[int], nodes: Callable[[], dict[str, KnownNode]]
    ) -> None:
        self.status = Status()
        self._prober = prober
        self._clock = clock
        self._allowed = allowed
        self._ports = list(ports)
        self._nodes = nodes
        self._one_at_a_time = asyncio.Lock()
        self._running: dict[tuple[Subnet, bool], asyncio.Task[Scan]] = {}
        self._kept: dict[tuple[Subnet, bool], tuple[Scan, float]] = {}
        self._last: Scan | None = None

    async def scan(self, subnet: str | None = None, refresh: bool = False, thorough: bool = False) -> tuple[Scan, bool]:
        """Return a scan, and whether it was kept from before; a thorough one will do for who asks for a quick one.

        Raises SubnetRefused. A caller who leaves does not end a scan.
        """
        network = parsed(subnet, self._allowed) if subnet else default(_interfaces(), _default_route(), self._allowed)
        keys = [(network, True)] if thorough else [(network, False), (network, True)]
        for key in keys:
            if key in self._running:
                return await asyncio.shield(self._running[key]), False
            kept = self._kept.get(key)
            if kept is not None and not refresh and self._clock.monotonic() - kept[1] < KEPT_SECONDS:
                return kept[0], True
        task = asyncio.get_running_loop().create_task(self._scan(network, thorough), name=f"scan of {network}")
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # so that nobody has to be waiting for it
        self._running[network, thorough] = task
        return await asyncio.shield(task), False

    def last(self) -> Scan | None:
        """Return the scan that ended last."""
        return self._last

    async def close(self) -> None:
        """End what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._prober.close()

    async def _scan(self, subnet: Subnet, thorough: bool) -> Scan:
        try:
            async with self._one_at_a_time:
                addresses, started = hosts(subnet), self._clock.monotonic()
                self.status = Status(True, str(subnet), 0, len(addresses), 0, self._clock.now())
                try:
                    found = await sweep(self._prober, addresses, self._ports, thorough, self._told)
                finally:
                    self.status.running, self.status.finished_at = False, self._clock.now()
                nodes, now = self._nodes(), self._clock.monotonic()
                scan = Scan(subnet, tuple(device(each, nodes) for each in found), self._clock.now(), now - started)
                self._keep((subnet, thorough), scan, now)
                return scan
        finally:
            self._running.pop((subnet, thorough), None)

    def _told(self, scanned: int, found: int) -> None:
        self.status.scanned = scanned
        if found >= 0:
            self.status.found = found

    def _keep(self, key: tuple[Subnet, bool], scan: Scan, now: float) -> None:
        self._last = scan
        self._kept.pop(key, None)
        self._kept[key] = (scan, now)
        while len(self._kept) > KEPT_SCANS:
            del self._kept[next(iter(self._kept))]


def _interfaces() -> list[tuple[str, str, str]]:
    return [
        (name, address.address, address.netmask)
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET and address.netmask
    ]


def _default_route() -> str | None:
    try:
        lines = ROUTES.read_text().splitlines()[1:]
    except OSError:
        return None
    return next((fields[0] for fields in map(str.split, lines) if len(fields) > 1 and fields[1] == "00000000"), None)
